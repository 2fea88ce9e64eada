//! What agentd arranges by itself in a sandbox with a kernel of its own, where the host cannot.
//!
//! It is the first process and does this before any other exists.

use std::io;
use std::path::Path;

use rustix::mount::{
    MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount,
};

/// Makes the workspace a mount of its own that nobody can write to until the gate opens.
pub(crate) fn close_gate(workspace: &Path) -> io::Result<()> {
    mount_bind(workspace, workspace)?;
    mount_remount(workspace, MountFlags::BIND | MountFlags::RDONLY, c"")?;
    Ok(())
}

/// Opens what [`close_gate`] closed, in a kernel that does not know how to change one attribute alone.
pub(crate) fn open_gate(workspace: &Path) -> io::Result<()> {
    Ok(mount_remount(workspace, MountFlags::BIND, c"")?)
}

/// Keeps what changes in this process's mounts from all others.
pub(crate) fn keep_mounts_apart() -> io::Result<()> {
    Ok(mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

/// Covers a directory with an empty one, so that nobody can put another socket in the place of ours.
pub(crate) fn hide(directory: &Path) -> io::Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    Ok(mount(c"none", directory, c"tmpfs", flags, c"mode=0555")?)
}
