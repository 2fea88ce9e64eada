//! The new process, from its first instruction to PID 1's program.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::{Gid, Uid, UnshareFlags};
use sandbox::container::handover::Area;

use crate::bundle::Bundle;
use crate::failure::{Doing, Outcome};
use crate::{filter, kernel, privileges, root, stage, world};

/// What the new process needs of the old one.
#[derive(Debug)]
pub(crate) struct Handed {
    pub(crate) bundle: Bundle,
    /// Says when ids are mapped, by a byte.
    pub(crate) turn: UnixStream,
    /// Where it writes itself into its limit groups.
    pub(crate) groups: Vec<File>,
    /// agentd's socket, where it is inherited.
    pub(crate) listener: Option<UnixListener>,
    /// Where standard output and error go.
    pub(crate) log: OwnedFd,
    /// Whether the stage was built by root already.
    pub(crate) staged: bool,
}

/// Becomes PID 1, or says on the pipe why not. Never returns.
pub(crate) fn run(mut handed: Handed, mut failed: std::io::PipeWriter) -> ! {
    let failure = match prepare(&mut handed) {
        Ok(()) => start(&handed),
        Err(failure) => failure,
    };
    let text = serde_json::to_vec(&failure).unwrap_or_default();
    let _the_launcher_is_gone = failed.write_all(&text);
    std::process::exit(1)
}

fn prepare(handed: &mut Handed) -> Outcome<()> {
    wait_for_turn(&mut handed.turn)?;
    join(&handed.groups)?;
    become_root(handed.staged)?;
    rustix::process::setsid().doing(Area::Other, || "start a session".into())?;
    rustix::process::umask(Mode::from(0o022));
    if !handed.staged {
        stage::build(&handed.bundle)?;
    }
    let root = root::build(&handed.bundle)?;
    if handed.bundle.world.is_some() {
        root::enter(&world::build(&handed.bundle, &root)?)?;
    } else {
        root::enter(&root)?;
        root::protect(&handed.bundle)?;
    }
    name_and_network(&handed.bundle)?;
    descriptors(handed)?;
    // After joining, so that the joined groups are the roots of what `/proc/self/cgroup` shows.
    kernel::unshare(UnshareFlags::NEWCGROUP)
        .doing(Area::UserNamespaces, || "make the cgroup namespace".into())?;
    kernel::join_new_keyring().doing(Area::Other, || "leave the host's keyring".into())?;
    limit_resources(&handed.bundle)?;
    if handed.bundle.world.is_some() {
        // It needs what root inside may do, and takes the rest from what it starts.
        return privileges::forbid_new();
    }
    privileges::limit(&handed.bundle.capabilities)?;
    handed.bundle.filter.as_ref().map_or(Ok(()), filter::install)
}

fn start(handed: &Handed) -> sandbox::container::handover::Failure {
    let Bundle { arguments, environment, world, .. } = &handed.bundle;
    let arguments = world.as_ref().map_or(arguments, |world| &world.arguments);
    let Some(program) = arguments.first() else {
        return crate::failure::invalid("find PID 1's program");
    };
    let errno = kernel::execute(program, arguments, environment);
    sandbox::container::handover::Failure {
        step: format!("run {}", program.to_string_lossy()),
        errno: errno.raw_os_error(),
        area: Area::Program,
    }
}

fn wait_for_turn(turns: &mut UnixStream) -> Outcome<()> {
    turns.read_exact(&mut [0]).doing(Area::Other, || "wait for the launcher".into())
}

/// `0` is whoever writes it.
fn join(groups: &[File]) -> Outcome<()> {
    groups.iter().try_for_each(|mut group| {
        group.write_all(b"0").doing(Area::Groups, || "join the limit groups".into())
    })
}

fn become_root(started_by_root: bool) -> Outcome<()> {
    let step = || "become root inside".to_owned();
    if started_by_root {
        // An ordinary user may not change groups, and has only its own to lose.
        rustix::thread::set_thread_groups(&[]).doing(Area::UserNamespaces, step)?;
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .doing(Area::UserNamespaces, step)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        .doing(Area::UserNamespaces, step)
}

fn name_and_network(bundle: &Bundle) -> Outcome<()> {
    rustix::system::sethostname(bundle.hostname.as_bytes())
        .doing(Area::Other, || "set the host name".into())?;
    let step = || "bring the loopback interface up".to_owned();
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .doing(Area::Other, step)?;
    kernel::loopback_up(&socket).doing(Area::Other, step)
}

fn descriptors(handed: &Handed) -> Outcome<()> {
    let step = || "arrange the descriptors".to_owned();
    // The listener first: its number may be one of those to be replaced.
    let mut first_closed = 3;
    if let Some(listener) = &handed.listener {
        kernel::duplicate_to(listener, protocol::layout::AGENTD_LISTENER_FD)
            .doing(Area::Other, step)?;
        first_closed = 4;
    }
    kernel::duplicate_to(empty_input(handed)?, 0).doing(Area::Other, step)?;
    kernel::duplicate_to(&handed.log, 1).doing(Area::Other, step)?;
    kernel::duplicate_to(&handed.log, 2).doing(Area::Other, step)?;
    kernel::close_on_exec_from(first_closed).doing(Area::Other, step)
}

/// Something to read that has ended. Runtimes are given a pipe: some give what they find as standard
/// input to another owner, which the host's `/dev/null` must not become.
fn empty_input(handed: &Handed) -> Outcome<OwnedFd> {
    let step = || "arrange the descriptors".to_owned();
    if handed.bundle.world.is_some() {
        return std::io::pipe().map(|(reader, _)| reader.into()).doing(Area::Other, step);
    }
    rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing(Area::Other, step)
}

fn limit_resources(bundle: &Bundle) -> Outcome<()> {
    let step = || "limit resources".to_owned();
    let fixed = |value| Rlimit { current: Some(value), maximum: Some(value) };
    // A dump would go wherever the host's core pattern points.
    setrlimit(Resource::Core, fixed(0)).doing(Area::Other, step)?;
    match bundle.processes {
        Some(limit) => setrlimit(Resource::Nproc, fixed(limit)).doing(Area::Other, step),
        None => Ok(()),
    }
}
