//! The few system calls that no safe wrapper has. Every unsafe block of the launcher is here.
#![expect(unsafe_code, reason = "clone3, mount_setattr, fork and exec have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

/// What [`clone_into_namespaces`] returns in the two processes.
pub(crate) enum Cloned {
    /// In the new process, which is PID 1 of its namespace.
    Child,
    /// In the old one.
    Parent { pid: i32, pidfd: OwnedFd },
}

/// The namespaces of every sandbox. The cgroup namespace follows when the groups are joined.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS;

fn result(returned: libc::c_long) -> Result<libc::c_long, Errno> {
    if returned >= 0 {
        return Ok(returned);
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

/// Forks into new namespaces, with everything copied as `fork` does.
pub(crate) fn clone_into_namespaces() -> Result<Cloned, Errno> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero is a valid value of this plain structure of integers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (NAMESPACES | libc::CLONE_PIDFD) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.pidfd = &raw mut pidfd as u64;
    // SAFETY: without CLONE_VM and without a stack the child is a copy, as after fork; this
    // process has one thread, so no lock is held in the copy. `pidfd` outlives the call.
    let pid = result(unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    })?;
    if pid == 0 {
        return Ok(Cloned::Child);
    }
    // SAFETY: the kernel stored a new descriptor there, which nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Cloned::Parent { pid: i32::try_from(pid).unwrap_or(i32::MAX), pidfd })
}

/// Leaves a namespace for a new one.
pub(crate) fn unshare(namespaces: rustix::thread::UnshareFlags) -> Result<(), Errno> {
    // SAFETY: only the table of open files would be dangerous to leave, and nobody asks for that.
    unsafe { rustix::thread::unshare_unsafe(namespaces) }
}

/// Sets mount attributes; `recursive` for everything mounted beneath as well.
pub(crate) fn set_mount_attributes(
    mount: impl AsFd,
    set: u64,
    recursive: bool,
) -> Result<(), Errno> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string and the structure is valid for its stated size.
    result(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Brings the loopback interface up.
pub(crate) fn loopback_up(socket: impl AsFd) -> Result<(), Errno> {
    // SAFETY: all-zero is a valid value of this plain structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (into, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *into = libc::c_char::from_ne_bytes([*byte]);
    }
    #[expect(clippy::cast_possible_truncation, reason = "IFF_UP is 1, IFF_RUNNING 64")]
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    }
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: the request names an interface and carries flags, as SIOCSIFFLAGS reads.
    result(libc::c_long::from(unsafe {
        libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request)
    }))
    .map(drop)
}

/// Leaves the session keyring of the host behind.
pub(crate) fn join_new_keyring() -> Result<(), Errno> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let joined = result(unsafe {
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>())
    });
    match joined {
        // Without keyrings in the kernel there is none to leave.
        Ok(_) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Ends this process by a signal after so many seconds, whatever it hangs in.
pub(crate) fn end_after(seconds: u32) {
    // SAFETY: alarm only sets a timer.
    unsafe { libc::alarm(seconds) };
}

/// Waits until a child has ended.
pub(crate) fn wait_for(pid: i32) -> Result<(), Errno> {
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    result(libc::c_long::from(unsafe { libc::waitpid(pid, &raw mut status, 0) })).map(drop)
}

/// Forks; none in the new process. This process has one thread.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: with one thread no lock is held in the copy.
    let pid = result(libc::c_long::from(unsafe { libc::fork() }))?;
    Ok(i32::try_from(pid).ok().filter(|pid| *pid > 0))
}

/// Waits until a child has ended; whether it ended well.
pub(crate) fn succeeds(pid: i32) -> Result<bool, Errno> {
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    result(libc::c_long::from(unsafe { libc::waitpid(pid, &raw mut status, 0) }))?;
    Ok(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
}

/// Makes `from` descriptor number `to`, which stays open over `exec`.
pub(crate) fn duplicate_to(from: impl AsFd, to: i32) -> Result<(), Errno> {
    let from = from.as_fd().as_raw_fd();
    if from == to {
        // dup2 of a descriptor onto itself would leave its close-on-exec flag.
        // SAFETY: fcntl with F_SETFD takes an integer.
        return result(libc::c_long::from(unsafe { libc::fcntl(from, libc::F_SETFD, 0) }))
            .map(drop);
    }
    // SAFETY: both are numbers; whatever `to` was is not used again by this process.
    result(libc::c_long::from(unsafe { libc::dup2(from, to) })).map(drop)
}

/// Marks every descriptor from `first` on to be closed by `exec`.
pub(crate) fn close_on_exec_from(first: u32) -> Result<(), Errno> {
    // SAFETY: only flags of descriptors change.
    result(unsafe {
        libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })
    .map(drop)
}

/// Replaces this program; returns only if that failed.
pub(crate) fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let pointers = |texts: &[CString]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: the default action of a signal is no code of ours. The Rust runtime ignores this one,
    // which would be inherited.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: both arrays end in a null pointer and point into strings that live on.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    result(-1).err().unwrap_or(Errno::INVAL)
}
