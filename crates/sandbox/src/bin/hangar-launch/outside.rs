//! The launcher's own process: everything that is done with the host's rights.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, openat, renameat};
use rustix::process::{Signal, pidfd_send_signal};
use rustix::thread::UnshareFlags;
use sandbox::container::handover::{self, Area, Failure, Started};

use crate::bundle::Bundle;
use crate::failure::{Doing, Outcome, invalid};
use crate::inside::{self, Handed};
use crate::kernel::{self, Cloned};
use crate::stage;

/// Longer than any start on a loaded machine; whoever waits for this lock waits as long.
const SECONDS: u32 = 60;

/// Starts the sandbox of a bundle.
pub(crate) fn run(path: &Path) -> Outcome<()> {
    kernel::end_after(SECONDS);
    let directory = open_directory(path)?;
    rustix::process::fchdir(&directory)
        .doing(Area::Other, || format!("enter {}", path.display()))?;
    let _held_until_the_end = lock()?;
    let text = std::fs::read(handover::CONFIG)
        .doing(Area::Other, || format!("read {}", handover::CONFIG))?;
    let bundle = Bundle::parse(&text)?;
    let inherits = bundle.world.as_ref().is_none_or(|world| world.passes_listener);
    let listener = inherits.then(listen).transpose()?;
    let log = log()?;
    let staged = bundle.has_range;
    if staged {
        kernel::unshare(UnshareFlags::NEWNS)
            .doing(Area::UserNamespaces, || "make a private mount namespace".into())?;
        stage::build(&bundle)?;
    }
    let (turn, theirs) =
        UnixStream::pair().doing(Area::Other, || "make a pair of sockets".into())?;
    let (failed, their_failed) = std::io::pipe().doing(Area::Other, || "make a pipe".into())?;
    let (uid_map, gid_map) = (bundle.uid_map.clone(), bundle.gid_map.clone());
    let groups = open_groups(&bundle.groups)?;
    let cloned = kernel::clone_into_namespaces()
        .doing(Area::UserNamespaces, || "make the namespaces".into())?;
    let (pid, pidfd) = match cloned {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop((turn, failed));
            let handed = Handed { bundle, turn: theirs, groups, listener, log, staged };
            inside::run(handed, their_failed)
        }
    };
    drop((theirs, their_failed, listener, log, groups));
    let child = Child { pid, turn, failed };
    let outcome = child
        .map_ids(&uid_map, &gid_map, staged)
        .and_then(|()| child.record(&directory))
        .and_then(|()| child.go_on());
    match outcome.and_then(|()| child.started()).and_then(|()| still_there(&pidfd)) {
        Ok(()) => Ok(()),
        Err(failure) => {
            // What PID 1 itself said comes before what the launcher saw of it.
            let _it_is_gone_already = pidfd_send_signal(&pidfd, Signal::KILL);
            let told = child.started().err().unwrap_or(failure);
            let _reaped = kernel::wait_for(pid);
            let _not_recorded =
                rustix::fs::unlinkat(&directory, handover::STATE, rustix::fs::AtFlags::empty());
            Err(told)
        }
    }
}

/// A program that could not even begin closes the pipe as well.
fn still_there(pidfd: &OwnedFd) -> Outcome<()> {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(pidfd)), options) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Failure {
            step: format!("keep PID 1's program running (its last words are in {})", handover::LOG),
            errno: libc::ECHILD,
            area: Area::Program,
        }),
        Err(errno) => Err(errno).doing(Area::Other, || "look after PID 1".into()),
    }
}

fn open_directory(path: &Path) -> Outcome<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .doing(Area::Other, || format!("open the bundle {}", path.display()))
}

fn lock() -> Outcome<File> {
    let step = || format!("lock {}", handover::LOCK);
    let file = File::create(handover::LOCK).doing(Area::Other, step)?;
    flock(&file, FlockOperation::LockExclusive).doing(Area::Other, step)?;
    Ok(file)
}

/// Bound by a relative name: the whole path may be longer than a socket's address.
fn listen() -> Outcome<UnixListener> {
    let step = || format!("listen on {}", handover::SOCKET);
    match std::fs::remove_file(handover::SOCKET) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).doing(Area::Other, step)
        }
        _ => UnixListener::bind(handover::SOCKET).doing(Area::Other, step),
    }
}

/// The files through which PID 1 moves itself into its groups, opened with the host's rights: the
/// kernel asks who opened them.
///
/// Moving another process takes a lock over all processes of the machine, which was measured at 8 ms
/// and more; a process that moves itself by `tasks`, which only version 1 has, takes none.
fn open_groups(groups: &[std::path::PathBuf]) -> Outcome<Vec<File>> {
    let open = |group: &std::path::PathBuf| {
        let tasks = group.join("tasks");
        let path = if tasks.exists() { tasks } else { group.join("cgroup.procs") };
        File::options()
            .write(true)
            .open(&path)
            .doing(Area::Groups, || format!("open {}", path.display()))
    };
    groups.iter().map(open).collect()
}

fn log() -> Outcome<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::APPEND | OFlags::WRONLY | OFlags::CLOEXEC;
    rustix::fs::open(handover::LOG, flags, Mode::from(0o600))
        .doing(Area::Other, || format!("open {}", handover::LOG))
}

/// PID 1 as the launcher holds it.
struct Child {
    pid: i32,
    turn: UnixStream,
    failed: PipeReader,
}

impl Child {
    fn map_ids(&self, uids: &str, gids: &str, by_root: bool) -> Outcome<()> {
        let write = |name: &str, text: &str| {
            std::fs::write(format!("/proc/{}/{name}", self.pid), text)
                .doing(Area::UserNamespaces, || format!("write {:?} to {name}", text.trim_end()))
        };
        if !by_root {
            // The kernel's condition for an unprivileged group map.
            write("setgroups", "deny")?;
        }
        write("uid_map", uids)?;
        write("gid_map", gids)
    }

    /// Writes down who PID 1 is before it does anything, so that no crash can leave it unknown.
    fn record(&self, directory: &OwnedFd) -> Outcome<()> {
        let step = || format!("record PID 1 in {}", handover::STATE);
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).doing(Area::Other, step)?;
        let boot =
            std::fs::read_to_string("/proc/sys/kernel/random/boot_id").doing(Area::Other, step)?;
        let (start_time, _) = handover::start_time(&stat).ok_or_else(|| invalid(step()))?;
        let pid = u32::try_from(self.pid).map_err(|_| invalid(step()))?;
        let state = Started { pid, start_time, boot: boot.trim().to_owned() };
        let text = serde_json::to_vec(&state).map_err(|_| invalid(step()))?;
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::CLOEXEC;
        let file =
            openat(directory, "state.new", flags, Mode::from(0o600)).doing(Area::Other, step)?;
        File::from(file).write_all(&text).doing(Area::Other, step)?;
        renameat(directory, "state.new", directory, handover::STATE).doing(Area::Other, step)
    }

    fn go_on(&self) -> Outcome<()> {
        (&self.turn).write_all(&[1]).doing(Area::Other, || "let PID 1 go on".into())
    }

    /// Waits until PID 1's program runs, which closes the pipe, or until it says what failed.
    fn started(&self) -> Outcome<()> {
        let mut told = Vec::new();
        (&self.failed)
            .read_to_end(&mut told)
            .doing(Area::Other, || "wait for PID 1's program".into())?;
        if told.is_empty() {
            return Ok(());
        }
        Err(serde_json::from_slice::<Failure>(&told)
            .unwrap_or_else(|_| invalid("understand what PID 1 said")))
    }
}
