//! What takes a process's rights away, and the few system calls no safe wrapper exists for.
#![expect(unsafe_code, reason = "inherited descriptors and mount_setattr have no safe wrapper")]

mod calls;
mod domain;
mod filter;

pub(crate) use domain::enter as enter_domain;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::own_kernel;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags};

/// The capability that keeps git's processes out of the agent's reach while the gate is closed.
///
/// A process may look into another only if it holds every capability the other holds. The agent
/// holds none, so one inert capability is a wall: this one is asked for only in the machine's first
/// user namespace and gives nothing at all inside a sandbox.
const WALL: CapabilitySet = CapabilitySet::WAKE_ALARM;

/// Takes ownership of an inherited descriptor and hides it from programs started later.
///
/// Call it once for a descriptor, before anything else could have opened one with its number.
pub(crate) fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads; a number that is not open is answered with EBADF.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (checked above) and nothing in this process owns it: it was
    // inherited, and callers adopt it once, before any other descriptor was opened.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fcntl_setfd(&owned, FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Lets go of what this process was started with to read from and write to, which is the host's:
/// gVisor lets every process of the same user open another's descriptors.
pub(crate) fn leave_streams() -> io::Result<()> {
    let nothing = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    for stream in 0..3 {
        // SAFETY: nothing owns the standard streams' numbers, and what stands behind them may change.
        if unsafe { libc::dup2(nothing.as_raw_fd(), stream) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Makes a read-only mount writable in the caller's mount namespace and changes nothing else of it.
///
/// Clearing needs no quiet moment: a process that waits inside the mount writes at its next attempt.
pub(crate) fn make_writable(path: &Path) -> io::Result<()> {
    let target = CString::new(path.as_os_str().as_bytes())?;
    let opened = set_mount(&target, 0, &Attributes { attr_clr: libc::MOUNT_ATTR_RDONLY, ..NONE });
    or_in_own_kernel(opened, || own_kernel::open_gate(path))
}

/// Does it the other way in a kernel that does not know `mount_setattr`; none of those has Landlock.
fn or_in_own_kernel(
    done: io::Result<()>,
    otherwise: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => otherwise(),
        done => done,
    }
}

type Attributes = libc::mount_attr;

/// Changes nothing.
const NONE: Attributes = Attributes { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 };

fn set_mount(target: &CStr, flags: libc::c_int, attributes: &Attributes) -> io::Result<()> {
    // SAFETY: the path is a C string and the attributes a structure of the size given, both alive
    // for the duration of the call, which writes to neither.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling process, which must have one thread, its own writable view of a mount.
pub(crate) fn private_writable_view(path: &Path) -> io::Result<()> {
    // SAFETY: the only flag is NEWNS; no descriptor table is unshared, and the process has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    // Not `mount`, which a Landlock domain forbids.
    let private = Attributes { propagation: libc::MS_PRIVATE, ..NONE };
    or_in_own_kernel(set_mount(c"/", libc::AT_RECURSIVE, &private), own_kernel::keep_mounts_apart)?;
    make_writable(path)
}

/// Takes every capability and every way to get one from the calling process, for good.
///
/// With `walled`, the process keeps one inert capability so that the agent cannot look into it.
pub(crate) fn drop_rights(walled: bool) -> io::Result<()> {
    if walled {
        // While the bounding set still holds it: nothing outside that set becomes inheritable.
        let sets = rustix::thread::capabilities(None)?;
        rustix::thread::set_capabilities(None, CapabilitySets { inheritable: WALL, ..sets })?;
    }
    let ambient = knows_ambient_capabilities();
    // The kernel knows up to 64 capabilities; it answers EINVAL from the first unknown one on.
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if walled && !ambient && one == WALL {
            // Without ambient sets it is the bounding set that root's programs get theirs from.
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let kept = if walled { WALL } else { CapabilitySet::empty() };
    if ambient {
        rustix::thread::clear_ambient_capability_set()?;
        if walled {
            rustix::thread::configure_capability_in_ambient_set(WALL, true)?;
        }
        rustix::thread::set_capabilities_secure_bits(
            CapabilitiesSecureBits::NO_ROOT
                | CapabilitiesSecureBits::NO_ROOT_LOCKED
                | CapabilitiesSecureBits::NO_SETUID_FIXUP
                | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
                | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
                | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
                | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
        )?;
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: kept },
    )?;
    Ok(())
}

/// gVisor's kernel has neither ambient capabilities nor secure bits. What they guard against needs a
/// bounding set to draw from, and that is empty afterwards, or holds the inert capability alone.
fn knows_ambient_capabilities() -> bool {
    rustix::thread::capabilities_secure_bits().is_ok()
}

/// Installs the filter for the calling process and all it starts; `no_new_privs` must be set.
pub(crate) fn filter_system_calls() -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter(&filter::program())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_descriptor_is_not_adopted() {
        let error = adopt(9_999).expect_err("nothing is open there");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}
