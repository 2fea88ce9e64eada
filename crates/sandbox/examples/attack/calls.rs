//! The kernel's own interface, and how attempts are told.

use std::ffi::CString;
use std::os::fd::{FromRawFd as _, OwnedFd};

/// What came of an attack: the effect, or every refusal.
pub(crate) type Attempted = Result<String, Vec<String>>;

/// Calls the kernel; on an error the name of the call and of the error.
pub(crate) fn call<const N: usize>(
    name: &str,
    number: libc::c_long,
    arguments: [usize; N],
) -> Result<usize, Vec<String>> {
    let mut six = [0; 6];
    six[..N].copy_from_slice(&arguments);
    let [a, b, c, d, e, f] = six;
    // SAFETY: callers pass numbers, and addresses of values that live for the call.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(answer).map_err(|_| refused(name))
}

/// The last error, with what was tried.
pub(crate) fn refused(name: &str) -> Vec<String> {
    let error = std::io::Error::last_os_error();
    let number = error.raw_os_error().unwrap_or_default();
    let known = [
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EACCES, "EACCES"),
        (libc::EROFS, "EROFS"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EINVAL, "EINVAL"),
        (libc::EIO, "EIO"),
        (libc::ETXTBSY, "ETXTBSY"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
        (libc::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENXIO, "ENXIO"),
    ];
    let text = known.iter().find(|(it, _)| *it == number).map(|(_, text)| (*text).to_owned());
    vec![format!("{name} {}", text.unwrap_or_else(|| number.to_string()))]
}

/// The same for the standard library's errors.
pub(crate) fn told<T>(name: &str, result: std::io::Result<T>) -> Result<T, Vec<String>> {
    result.map_err(|error| vec![format!("{name} {}", short(&error))])
}

fn short(error: &std::io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |number| format!("errno {number}"))
}

/// Descriptors from [`call`].
pub(crate) fn descriptor(number: usize) -> OwnedFd {
    // SAFETY: the kernel has just returned it, and nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(number).unwrap_or(-1)) }
}

/// A C string of an argument.
pub(crate) fn text(value: &str) -> CString {
    CString::new(value).unwrap_or_default()
}

/// The first that is done, else all refusals.
pub(crate) fn any(attempts: impl IntoIterator<Item = Attempted>) -> Attempted {
    let mut refusals = Vec::new();
    for attempt in attempts {
        match attempt {
            Ok(detail) => return Ok(detail),
            Err(more) => refusals.extend(more),
        }
    }
    Err(refusals)
}

/// An argument of the attack.
pub(crate) fn argument(arguments: &[String], index: usize) -> &str {
    arguments.get(index).map_or("", String::as_str)
}
