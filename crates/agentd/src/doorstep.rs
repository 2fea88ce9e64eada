//! Where the host reaches agentd, and how it lets go of the host so that its processes can be put away.
//!
//! ```text
//!   awake ──── POST /v1/sleep ────▶ no socket, no connection; the file `asleep` lies there
//!     ▲                                  │        (here the host may put all processes away)
//!     └── the host removed the file ─────┘
//! ```
//!
//! A kernel of its own can be written down with everything that runs in it, but not the other ends of
//! its sockets, which are the host's.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use protocol::layout;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Between two looks whether the host has removed the file; nothing tells of it.
const PAUSE: Duration = Duration::from_millis(20);

/// A directory shared with the host that nobody else in the sandbox can reach.
#[derive(Debug)]
pub(crate) struct Doorstep {
    directory: PathBuf,
    socket: PathBuf,
    asked: Notify,
}

impl Doorstep {
    /// The directory of a socket's path. With `enter`, it may be covered afterwards: this process is in
    /// it, and starts no other there.
    ///
    /// It is not held by a descriptor, because gVisor lets every process of the same user open what
    /// `/proc` lists of another's descriptors, but not its working directory.
    pub(crate) fn open(socket: &Path, enter: bool) -> io::Result<Self> {
        let mut directory = socket.parent().ok_or(io::ErrorKind::InvalidInput)?;
        if enter {
            rustix::process::chdir(directory)?;
            directory = Path::new(".");
        }
        let name = socket.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self { directory: directory.into(), socket: name.into(), asked: Notify::new() })
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.join(name)
    }

    /// Listens at the socket's path, whatever was there.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let path = self.path(&self.socket);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => UnixListener::bind(path),
        }
    }

    /// Asks for sleep; it begins when whoever serves lets go.
    pub(crate) fn ask(&self) {
        self.asked.notify_one();
    }

    /// Resolves when somebody asked.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Says that nothing is open to the host any more, and resolves when the host wants to be served.
    pub(crate) async fn sleep(&self) -> io::Result<()> {
        match std::fs::remove_file(self.path(&self.socket)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mark = self.path(layout::ASLEEP);
        drop(std::fs::File::create(&mark)?);
        while mark.try_exists()? {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// Everything that has a connection to the host.
#[derive(Debug)]
pub(crate) struct Held(Mutex<Option<JoinSet<()>>>);

impl Default for Held {
    fn default() -> Self {
        Self(Mutex::new(Some(JoinSet::new())))
    }
}

impl Held {
    /// Runs something that has a connection until it ends or all are let go. In sleep it does not begin.
    pub(crate) fn hold(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(set) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            while set.try_join_next().is_some() {}
            set.spawn(work);
        }
    }

    /// Ends all of it, and resolves when nothing is left.
    pub(crate) async fn let_go(&self) {
        let set = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut set) = set {
            set.shutdown().await;
        }
    }

    /// Takes connections again.
    pub(crate) fn wake(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(JoinSet::new());
    }
}
