//! Unpacking one layer of an image with as few rights as that takes.
//!
//! ```text
//!  hangar-launch unpack           PID 1 of its own namespaces, without network
//!  ───────────────────────────    ──────────────────────────────────────────────
//!  stage (root)
//!  clone3 ──────────────────────▶ wait
//!  map ids ─────────────────────▶ become root inside, stage (others), pivot onto the stage,
//!                                 drop what is not needed, read the archive, print the answer
//!  wait, exit ◀──────────────────
//! ```
//!
//! On the stage are the destination and, read-only, the layers beneath; nothing else of the host
//! can be named, whatever an archive makes the unpacker do.

mod apply;
mod guard;
mod tree;

use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use oci_spec::runtime::Capability;
use rustix::fs::{CWD, Mode};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};
use rustix::process::{Resource, Rlimit, Signal, WaitId, WaitIdOptions, setrlimit, waitid};
use rustix::thread::{Gid, Uid, UnshareFlags};
use sandbox::base::handover::{Answer, Order};
use sandbox::container::handover::{Area, Failure};

use crate::failure::{Doing, Outcome, invalid};
use crate::kernel::{self, Cloned};
use crate::privileges;

/// Longer than the largest layer that is allowed takes on a slow disk.
const SECONDS: u32 = 3600;
/// What the unpacker itself needs, decompression included, many times over.
const MEMORY_BYTES: u64 = 2 << 30;
/// Owners, modes and times of what is unpacked; and to reach into directories closed to root.
const CAPABILITIES: [Capability; 4] =
    [Capability::Chown, Capability::DacOverride, Capability::Fowner, Capability::Fsetid];
/// The stage covers this directory of the private mount namespace; every Linux has it.
const PLACE: &str = "/tmp";
/// Names on the stage.
const NEW: &str = "new";

/// Unpacks standard input as the order says, and prints the answer.
pub(crate) fn run(order: &str) -> Outcome<()> {
    kernel::end_after(SECONDS);
    let order: Order = serde_json::from_str(order).map_err(|_| invalid("understand the order"))?;
    let staged = order.count > 1;
    if staged {
        kernel::unshare(UnshareFlags::NEWNS)
            .doing(Area::UserNamespaces, || "make a private mount namespace".into())?;
        stage(&order)?;
    }
    let (turn, theirs) =
        UnixStream::pair().doing(Area::Other, || "make a pair of sockets".into())?;
    let cloned = kernel::clone_into_namespaces()
        .doing(Area::UserNamespaces, || "make the namespaces".into())?;
    let (pid, pidfd) = match cloned {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop(turn);
            let answer = inside(&order, theirs, staged).unwrap_or_else(Answer::Failed);
            say(&answer);
            std::process::exit(0)
        }
    };
    drop(theirs);
    let mapped = map_ids(pid, &order, staged)
        .and_then(|()| (&turn).write_all(&[1]).doing(Area::Other, || "let it go on".into()));
    if let Err(failure) = mapped {
        let _it_is_gone_already = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
        return Err(failure);
    }
    let ended = waitid(WaitId::PidFd(std::os::fd::AsFd::as_fd(&pidfd)), WaitIdOptions::EXITED)
        .doing(Area::Other, || "wait for the unpacker".into())?;
    match ended.and_then(|status| status.exit_status()) {
        Some(0) => Ok(()),
        _ => Err(Failure {
            step: "unpack: the unpacker was ended, perhaps for want of memory".into(),
            errno: libc::ENOMEM,
            area: Area::Other,
        }),
    }
}

fn say(answer: &Answer) {
    println!("{}", serde_json::to_string(answer).unwrap_or_default());
}

fn map_ids(pid: i32, order: &Order, by_root: bool) -> Outcome<()> {
    let write = |name: &str, text: String| {
        std::fs::write(format!("/proc/{pid}/{name}"), &text)
            .doing(Area::UserNamespaces, || format!("write {text:?} to {name}"))
    };
    if !by_root {
        write("setgroups", "deny".into())?;
    }
    write("uid_map", format!("0 {} {}\n", order.uid, order.count))?;
    write("gid_map", format!("0 {} {}\n", order.gid, order.count))
}

fn inside(order: &Order, mut turn: UnixStream, staged: bool) -> Outcome<Answer> {
    turn.read_exact(&mut [0]).doing(Area::Other, || "wait for the launcher".into())?;
    let step = || "become root inside".to_owned();
    if staged {
        rustix::thread::set_thread_groups(&[]).doing(Area::UserNamespaces, step)?;
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .doing(Area::UserNamespaces, step)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        .doing(Area::UserNamespaces, step)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(Area::Other, || "end with the launcher".into())?;
    rustix::process::umask(Mode::empty());
    if !staged {
        stage(order)?;
    }
    let step = || "enter the stage".to_owned();
    // Mounts that came with the namespace are locked in their place; a copy of the stage is not.
    let copy = open_tree(
        CWD,
        ".",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_RECURSIVE,
    )
    .doing(Area::Other, step)?;
    move_mount(&copy, "", CWD, PLACE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing(Area::Other, step)?;
    rustix::process::fchdir(&copy).doing(Area::Other, step)?;
    rustix::process::pivot_root(".", ".").doing(Area::Other, step)?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).doing(Area::Other, step)?;
    rustix::process::chdir("/").doing(Area::Other, step)?;
    limit()?;
    let new = open(Path::new(NEW))?;
    let below = (0..order.below.len())
        .map(|index| open(Path::new(&format!("b{index}"))))
        .collect::<Outcome<Vec<OwnedFd>>>()?;
    apply::unpack(std::io::stdin().lock(), tree::Tree::new(new, below, order.count), order.bounds)
}

fn open(path: &Path) -> Outcome<OwnedFd> {
    let flags = rustix::fs::OFlags::PATH
        | rustix::fs::OFlags::DIRECTORY
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .doing(Area::Other, || format!("open {}", path.display()))
}

fn limit() -> Outcome<()> {
    let set = |resource, value| {
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        setrlimit(resource, limit).doing(Area::Other, || format!("set a limit of {value}"))
    };
    set(Resource::As, MEMORY_BYTES)?;
    set(Resource::Core, 0)?;
    set(Resource::Nofile, 256)?;
    // It starts no process.
    set(Resource::Nproc, 0)?;
    privileges::limit(&CAPABILITIES)?;
    let mut kept = rustix::thread::CapabilitySet::empty();
    kept |= rustix::thread::CapabilitySet::CHOWN | rustix::thread::CapabilitySet::DAC_OVERRIDE;
    kept |= rustix::thread::CapabilitySet::FOWNER | rustix::thread::CapabilitySet::FSETID;
    let sets = rustix::thread::CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: rustix::thread::CapabilitySet::empty(),
    };
    rustix::thread::set_capabilities(None, sets).doing(Area::Other, || "drop capabilities".into())
}

/// A small root with the destination and the layers beneath, as the working directory.
fn stage(order: &Order) -> Outcome<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(Area::UserNamespaces, || "separate the mounts from the host's".into())?;
    let mut props = vec![(NEW.to_owned(), tree(&order.destination)?)];
    for (index, path) in order.below.iter().enumerate() {
        let below = tree(path)?;
        kernel::set_mount_attributes(&below, libc::MOUNT_ATTR_RDONLY, false)
            .doing(Area::Other, || format!("write-protect {}", path.display()))?;
        props.push((format!("b{index}"), below));
    }
    mount("hangar-unpack", PLACE, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, c"mode=0755")
        .doing(Area::Other, || format!("mount a tmpfs at {PLACE}"))?;
    rustix::process::chdir(PLACE).doing(Area::Other, || format!("enter {PLACE}"))?;
    for (name, tree) in props {
        let step = || format!("put {name} on the stage");
        rustix::fs::mkdir(&*name, Mode::from(0o755)).doing(Area::Other, step)?;
        move_mount(tree, "", CWD, &*name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .doing(Area::Other, step)?;
    }
    Ok(())
}

fn tree(path: &Path) -> Outcome<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(CWD, path, flags).doing(Area::Other, || format!("open {}", path.display()))
}
