//! The stage: one small tree in a private mount namespace under which every host path that the
//! sandbox needs is found.
//!
//! Inside its user namespace PID 1 is a stranger to the host's directories, and one of those above
//! a source may be closed to strangers (`/root`, a data directory of mode 0700). So whoever may
//! open the sources does it, and puts them where PID 1 can reach them. Short relative names also
//! keep the overlay's option text far from its limit of one page.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};
use sandbox::container::handover::Area;

use crate::bundle::{Bundle, Kind};
use crate::failure::{Doing, Outcome, invalid};

/// Directories that exist on every Linux and can be entered by everyone; the stage covers one of
/// them in the private namespace, where nobody looks for its real content.
const PLACES: [&str; 4] = ["/mnt", "/tmp", "/var/tmp", "/run"];

/// Name of the overlay's mount point on the stage.
pub(crate) const ROOT: &str = "root";
/// Name of the mount point of an OCI runtime's own root on the stage.
pub(crate) const WORLD: &str = "world";
/// Name of the directory with the overlay's `upper` and `work`.
pub(crate) const FILES: &str = "files";

/// Name of the lower directory of this number.
pub(crate) fn lower(index: usize) -> String {
    format!("l{index}")
}

/// Name of the source of the mount of this number.
pub(crate) fn source(index: usize) -> String {
    format!("m{index}")
}

/// Builds the stage and makes it the working directory. The mount namespace must be private to
/// this process already.
pub(crate) fn build(bundle: &Bundle) -> Outcome<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(Area::UserNamespaces, || "separate the mounts from the host's".into())?;
    let mut props = vec![open(FILES.into(), &bundle.upper)?];
    for (index, path) in bundle.lower.iter().enumerate() {
        props.push(open(lower(index), path)?);
    }
    for (index, mount) in bundle.all_mounts() {
        if let Kind::Bind { source: path } = &mount.kind {
            props.push(open(source(index), path)?);
        }
    }
    let place = place()?;
    mount("hangar-stage", place, "tmpfs", MountFlags::NODEV | MountFlags::NOSUID, c"mode=0755")
        .doing(Area::Other, || format!("mount a tmpfs at {place}"))?;
    rustix::process::chdir(place).doing(Area::Other, || format!("enter {place}"))?;
    for name in [ROOT, WORLD] {
        rustix::fs::mkdir(name, Mode::from(0o755)).doing(Area::Other, || "make the root".into())?;
    }
    props.into_iter().try_for_each(put)
}

/// A host path, opened as a mount of its own.
struct Prop {
    name: String,
    path: PathBuf,
    tree: OwnedFd,
}

fn open(name: String, path: &Path) -> Outcome<Prop> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, path, flags)
        .doing(Area::Other, || format!("open {} for the sandbox", path.display()))?;
    Ok(Prop { name, path: path.to_owned(), tree })
}

fn put(prop: Prop) -> Outcome<()> {
    let Prop { name, path, tree } = prop;
    let step = || format!("bind {} for the sandbox", path.display());
    let stat = rustix::fs::fstat(&tree).doing(Area::Other, step)?;
    if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        rustix::fs::mkdir(&*name, Mode::from(0o755)).doing(Area::Other, step)?;
    } else {
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::open(&*name, flags, Mode::from(0o644)).doing(Area::Other, step)?;
    }
    move_mount(tree, "", CWD, &*name, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing(Area::Other, step)
}

fn place() -> Outcome<&'static str> {
    use std::os::unix::fs::PermissionsExt as _;
    let open_to_all = |path: &&str| {
        std::fs::symlink_metadata(path)
            .is_ok_and(|found| found.is_dir() && found.permissions().mode() & 0o005 == 0o005)
    };
    PLACES
        .into_iter()
        .find(open_to_all)
        .ok_or_else(|| invalid(format!("find a directory to mount at among {PLACES:?}")))
}
