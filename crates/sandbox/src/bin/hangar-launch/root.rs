//! The sandbox's root: an overlay, and the mounts beneath it.
//!
//! The upper directory may come from an earlier sandbox and hold anything, so a mount point is
//! never found by a path that the host would follow: every one is resolved within the root.

use std::ffi::CString;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, move_mount, open_tree,
};
use sandbox::container::handover::Area;

use crate::bundle::{Bundle, Kind, Mount};
use crate::failure::{Doing, Outcome, invalid};
use crate::{kernel, stage};

/// Links that programs expect in `/dev`.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Mounts the root and everything beneath it; the working directory is the stage.
pub(crate) fn build(bundle: &Bundle) -> Outcome<OwnedFd> {
    let root = overlay(bundle)?;
    fill(&root, bundle.all_mounts().take(bundle.mounts.len()))?;
    if let Some(path) = &bundle.gated {
        gate(&root, path)?;
    }
    Ok(root)
}

/// Mounts everything beneath a root.
pub(crate) fn fill<'a>(
    root: &OwnedFd,
    mounts: impl Iterator<Item = (usize, &'a Mount)>,
) -> Outcome<()> {
    let mut sealed = Vec::new();
    let mut devices = false;
    for (index, mount) in mounts {
        let step = || format!("mount {}", mount.destination);
        let mounted = match &mount.kind {
            Kind::Bind { .. } => bind(index, mount),
            Kind::FileSystem { name } => file_system(name, mount),
        }?;
        let is_directory = rustix::fs::fstat(&mounted)
            .map(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir())
            .doing(Area::Other, step)?;
        let target = target(root, &mount.destination, is_directory)?;
        attach(&mounted, &target).doing(Area::Other, step)?;
        if matches!(mount.kind, Kind::FileSystem { .. }) && mount.has("ro") {
            sealed.push(mounted);
        }
        devices |= mount.destination == "/dev";
    }
    if devices {
        link_devices(root)?;
    }
    for mounted in sealed {
        kernel::set_mount_attributes(&mounted, libc::MOUNT_ATTR_RDONLY, false)
            .doing(Area::Other, || "seal a mount".into())?;
    }
    Ok(())
}

/// Makes the root the root, and leaves nothing of the host's tree behind.
pub(crate) fn enter(root: &OwnedFd) -> Outcome<()> {
    let step = || "enter the root".to_owned();
    rustix::process::fchdir(root).doing(Area::Other, step)?;
    rustix::process::pivot_root(".", ".").doing(Area::Other, step)?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).doing(Area::Other, step)?;
    rustix::process::chdir("/").doing(Area::Other, step)
}

/// Hides and write-protects what the bundle says, from inside the root.
pub(crate) fn protect(bundle: &Bundle) -> Outcome<()> {
    let empty = ["mode=0555", "ro", "nosuid", "nodev", "noexec"].map(str::to_owned);
    let empty = file_system_named("tmpfs", &empty)?;
    for path in &bundle.masked {
        cover(path, &empty).doing(Area::Other, || format!("mask {path}"))?;
    }
    for path in &bundle.read_only {
        write_protect(path).doing(Area::Other, || format!("write-protect {path}"))?;
    }
    Ok(())
}

fn overlay(bundle: &Bundle) -> Outcome<OwnedFd> {
    let lower: Vec<String> = (0..bundle.lower.len()).map(stage::lower).collect();
    let lower = lower.join(":");
    let files = stage::FILES;
    // userxattr: the marks of deletions are extended attributes that this user may set.
    // volatile: the files matter as long as this machine runs; what a session must not lose is
    // pushed. Without it every end of a sandbox waits for the disk.
    let options =
        format!("lowerdir={lower},upperdir={files}/upper,workdir={files}/work,userxattr,volatile");
    let options = CString::new(options).map_err(|_| invalid("use the layers' names"))?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount("hangar", stage::ROOT, "overlay", flags, &*options)
        .doing(Area::Overlay, || format!("mount an overlay of {} layers", bundle.lower.len()))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(stage::ROOT, flags, Mode::empty())
        .doing(Area::Overlay, || "open the mounted root".into())
}

fn bind(index: usize, mount: &Mount) -> Outcome<OwnedFd> {
    let step = || format!("bind {}", mount.destination);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = open_tree(CWD, stage::source(index), flags).doing(Area::Other, step)?;
    let flags = mount.attributes();
    if !flags.is_empty() {
        kernel::set_mount_attributes(&tree, u64::from(flags.bits()), true)
            .doing(Area::Other, step)?;
    }
    Ok(tree)
}

fn file_system(name: &str, mount: &Mount) -> Outcome<OwnedFd> {
    // Read-only ones are sealed when everything that belongs into them is there.
    let options: Vec<String> =
        mount.options.iter().filter(|option| *option != "ro").cloned().collect();
    file_system_named(name, &options)
}

pub(crate) fn file_system_named(name: &str, options: &[String]) -> Outcome<OwnedFd> {
    let area = if name == "proc" { Area::Proc } else { Area::Other };
    let step = || format!("make a {name} file system");
    let context = fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC).doing(area, step)?;
    for option in options {
        if let Some((key, value)) = option.split_once('=') {
            fsconfig_set_string(&context, key, value)
                .doing(area, || format!("set {option} for a {name} file system"))?;
        }
    }
    fsconfig_create(&context).doing(area, step)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes(options)).doing(area, step)
}

impl Mount {
    fn has(&self, option: &str) -> bool {
        self.options.iter().any(|one| one == option)
    }

    fn attributes(&self) -> MountAttrFlags {
        attributes(&self.options)
    }
}

fn attributes(options: &[String]) -> MountAttrFlags {
    options.iter().fold(MountAttrFlags::empty(), |flags, option| {
        flags
            | match option.as_str() {
                "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
                "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
                "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
                "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
                _ => MountAttrFlags::empty(),
            }
    })
}

fn resolve(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), within)
}

/// The mount point, made where it does not exist.
pub(crate) fn target(root: &OwnedFd, path: &str, directory: bool) -> Outcome<OwnedFd> {
    let step = || format!("find the mount point {path}");
    match resolve(root, path) {
        Err(Errno::NOENT) => {}
        found => return found.doing(Area::Other, step),
    }
    let (parent, name) =
        path.rsplit_once('/').ok_or_else(|| invalid(format!("use the mount point {path}")))?;
    let parent = target(root, if parent.is_empty() { "/" } else { parent }, true)?;
    let step = || format!("make the mount point {path}");
    if directory {
        mkdirat(&parent, name, Mode::from(0o755)).doing(Area::Other, step)?;
    } else {
        // Reopened by descriptor: a path descriptor cannot carry the creation of a file.
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&parent, name, flags | OFlags::WRONLY, Mode::from(0o644))
            .doing(Area::Other, step)?;
    }
    resolve(root, path).doing(Area::Other, step)
}

pub(crate) fn attach(mounted: &OwnedFd, target: &OwnedFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mounted, "", target, "", flags)
}

fn link_devices(root: &OwnedFd) -> Outcome<()> {
    let step = || "link the standard devices".to_owned();
    let devices = resolve(root, "/dev").doing(Area::Other, step)?;
    DEVICE_LINKS.into_iter().try_for_each(|(name, to)| {
        rustix::fs::symlinkat(to, &devices, name).doing(Area::Other, step)
    })
}

/// Makes a directory its own mount, read-only until PID 1 opens it.
fn gate(root: &OwnedFd, path: &str) -> Outcome<()> {
    let step = || format!("close the gate of {path}");
    let directory = target(root, path, true)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    let tree = open_tree(&directory, "", flags).doing(Area::Other, step)?;
    kernel::set_mount_attributes(&tree, libc::MOUNT_ATTR_RDONLY, false).doing(Area::Other, step)?;
    attach(&tree, &directory).doing(Area::Other, step)
}

fn cover(path: &str, empty: &OwnedFd) -> Result<(), Errno> {
    let stat = match rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT | Errno::ACCESS) => return Ok(()),
        stat => stat?,
    };
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir() {
        open_tree(empty, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?
    } else {
        open_tree(CWD, "/dev/null", flags)?
    };
    move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

fn write_protect(path: &str) -> Result<(), Errno> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    let tree = match open_tree(CWD, path, flags) {
        Err(Errno::NOENT) => return Ok(()),
        tree => tree?,
    };
    kernel::set_mount_attributes(&tree, libc::MOUNT_ATTR_RDONLY, true)?;
    move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}
