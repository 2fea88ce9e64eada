//! Failures that name the step, so that the backend can say what to try.

use rustix::io::Errno;
use sandbox::container::handover::{Area, Failure};

pub(crate) type Outcome<T> = Result<T, Failure>;

/// Adds what was being done to an error of the system.
pub(crate) trait Doing<T> {
    fn doing(self, area: Area, step: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T> Doing<T> for Result<T, Errno> {
    fn doing(self, area: Area, step: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|errno| Failure { step: step(), errno: errno.raw_os_error(), area })
    }
}

impl<T> Doing<T> for std::io::Result<T> {
    fn doing(self, area: Area, step: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure {
            step: step(),
            errno: error.raw_os_error().unwrap_or(libc::EIO),
            area,
        })
    }
}

/// A failure of ours, not of the system.
pub(crate) fn invalid(step: impl Into<String>) -> Failure {
    Failure { step: step.into(), errno: libc::EINVAL, area: Area::Other }
}
