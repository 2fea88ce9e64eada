//! PID 1 of a sandbox, seen from the host: who it is, whether it lives, and its end.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::files::failed;
use super::handover::{self, Started};
use crate::Error;

/// What is recorded about a sandbox's PID 1; none when it was never started.
pub(super) fn recorded(directory: &Path) -> Result<Option<Started>, Error> {
    let path = directory.join(handover::STATE);
    match std::fs::read(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", &path)(error)),
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|error| failed("understand", &path)(error.into())),
    }
}

/// A living PID 1.
#[derive(Debug)]
pub(super) struct Process {
    pidfd: OwnedFd,
}

impl Process {
    /// The recorded process, unless it is gone: its number may belong to another by now.
    pub(super) fn find(started: &Started) -> Option<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        if boot.trim() != started.boot {
            return None;
        }
        let pid = Pid::from_raw(i32::try_from(started.pid).ok()?)?;
        // First the descriptor, then the look: what is seen afterwards is what it refers to.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", started.pid)).ok()?;
        let (start_time, state) = handover::start_time(&stat)?;
        let lives = start_time == started.start_time && !matches!(state, 'Z' | 'X');
        lives.then_some(Self { pidfd })
    }

    /// Kills it, and with it everything in its namespace.
    pub(super) fn kill(&self) {
        let _it_is_gone_already = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }

    /// Resolves when it and everything in its namespace has ended: the kernel lets PID 1 end last.
    pub(super) async fn ended(self) -> std::io::Result<()> {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; an OwnedFd keeps what both ask for"
        )]
        let watched = AsyncFd::with_interest(self.pidfd, Interest::READABLE)?;
        watched.readable().await.map(|mut ready| ready.retain_ready())
    }

    /// The same, but at most so long; whether it ended.
    pub(super) async fn ended_within(self, patience: Duration) -> bool {
        matches!(tokio::time::timeout(patience, self.ended()).await, Ok(Ok(())))
    }
}
