//! A connection to a sandbox's agentd, which is never one to something else.

use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use tokio::net::UnixStream;

use super::{handover, runtime};

/// Connects to the socket in a sandbox's directory.
pub(super) async fn connect(directory: &Path) -> std::io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::open(directory, flags | OFlags::DIRECTORY, Mode::empty())?;
    // A directory that is shared with a sandbox may hold anything, a link elsewhere included.
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let shared = format!("{}/{}/{}", runtime::DIRECTORY, runtime::AGENTD, handover::SOCKET);
    let open = |path: &str| rustix::fs::openat2(&opened, path, flags, Mode::empty(), within);
    let socket = match open(&shared) {
        Err(rustix::io::Errno::NOENT) => open(handover::SOCKET)?,
        found => found?,
    };
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&socket)?.st_mode);
    if kind != FileType::Socket {
        return Err(std::io::Error::other("what lies there is no socket"));
    }
    // By descriptor, because the whole path may be longer than a socket's address.
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}
