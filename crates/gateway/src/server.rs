//! Listens: one Unix socket, one accept loop and one connection limit per sandbox.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use protocol::{SandboxId, SessionId};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::account::Account;
use crate::audit::Audit;
use crate::denials::{Advice, Denials};
use crate::git::GitUpstream;
use crate::handler::handle;
use crate::model::Clients;
use crate::rehearsal::Rehearsal;
use crate::{Binding, Config, Denial, Egress, Limits, Observer, Providers};

/// What can go wrong while a gateway is set up. Requests never fail with these.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The audit file cannot be opened.
    #[error("opening the audit file in {}: check that the directory can be written", directory.display())]
    Audit {
        /// The audit directory.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No client for a provider can be made.
    #[error(
        "preparing the connection to the model provider {provider}: check that the system's CA certificates are installed (Debian: ca-certificates)"
    )]
    Client {
        /// Which one.
        provider: crate::ProviderName,
        /// Why.
        source: reqwest::Error,
    },
    /// A provider's address is none.
    #[error(
        "the address `{address}` of the model provider {provider} cannot be used: write http(s)://host[:port][/path]"
    )]
    Address {
        /// Which provider.
        provider: crate::ProviderName,
        /// The address as configured, without user and password.
        address: String,
    },
    /// A sandbox's socket cannot be bound.
    #[error("listening for sandbox {sandbox} on {}: check that its directory exists and can be written", socket.display())]
    Listen {
        /// Whose socket.
        sandbox: SandboxId,
        /// Where.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A binding for a sandbox that was not opened, or was closed.
    #[error("sandbox {0} is not open in the gateway: open its socket first")]
    NotOpen(SandboxId),
    /// Something about a sandbox that no session has claimed.
    #[error("sandbox {0} belongs to no session: bind it first")]
    NotBound(SandboxId),
    /// A second session for the same sandbox.
    #[error("sandbox {sandbox} belongs to session {bound} and cannot be given to {asked}")]
    BoundToAnother {
        /// The sandbox.
        sandbox: SandboxId,
        /// Its session.
        bound: SessionId,
        /// The other session.
        asked: SessionId,
    },
}

/// The gateway of a server. A clone is the same gateway; when the last one is dropped, all
/// sockets close.
#[derive(Debug, Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
    doors: Arc<Mutex<HashMap<SandboxId, Door>>>,
    all: CancellationToken,
    _close_on_drop: Arc<DropGuard>,
}

/// What all sandboxes' connections use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) providers: Providers,
    pub(crate) clients: Clients,
    pub(crate) rehearsal: Rehearsal,
    pub(crate) git: Arc<dyn GitUpstream>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) audit: Audit,
    pub(crate) limits: Limits,
    requests: AtomicU64,
}

impl Shared {
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// One sandbox as its connections see it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) sandbox: SandboxId,
    binding: RwLock<Option<Arc<Binding>>>,
    denials: Mutex<Denials>,
}

impl Slot {
    pub(crate) fn binding(&self) -> Option<Arc<Binding>> {
        self.binding.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn note_denial(&self, host: &str, now: Instant) -> Advice {
        self.denials.lock().unwrap_or_else(PoisonError::into_inner).note(host, now)
    }
}

/// A listening socket and how to close it.
#[derive(Debug)]
struct Door {
    slot: Arc<Slot>,
    socket: PathBuf,
    /// Which file the socket is, so that only our own is ever removed.
    inode: u64,
    closing: CancellationToken,
}

impl Gateway {
    /// Prepares the audit file and the clients of configured providers; listens nowhere yet.
    pub fn new(
        config: Config,
        git: Arc<dyn GitUpstream>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, Error> {
        let audit = Audit::open(&config.audit)
            .map_err(|source| Error::Audit { directory: config.audit.clone(), source })?;
        let clients = Clients::new(&config.providers, &config.limits)?;
        let all = CancellationToken::new();
        let shared = Shared {
            providers: config.providers,
            clients,
            rehearsal: Rehearsal::new(config.rehearsal),
            git,
            observer,
            audit,
            limits: config.limits,
            requests: AtomicU64::new(0),
        };
        Ok(Self {
            shared: Arc::new(shared),
            doors: Arc::default(),
            _close_on_drop: Arc::new(all.clone().drop_guard()),
            all,
        })
    }

    /// Listens for a sandbox at a path, taking the place of a socket an ended server left there.
    ///
    /// Opened again, the sandbox keeps its binding. Must be called within a Tokio runtime. The
    /// socket can be dialled by every user who can reach its directory, because the sandbox's
    /// root is an unprivileged user here: the directory's parents must be private.
    pub fn open(&self, sandbox: SandboxId, socket: &Path) -> Result<(), Error> {
        let (listener, inode) = listen(socket).map_err(|source| Error::Listen {
            sandbox,
            socket: socket.to_owned(),
            source,
        })?;
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match doors.remove(&sandbox) {
            Some(door) => {
                door.closing.cancel();
                door.slot
            }
            None => Arc::new(Slot {
                sandbox,
                binding: RwLock::default(),
                denials: Mutex::new(Denials::new()),
            }),
        };
        let closing = self.all.child_token();
        tokio::spawn(accept(
            listener,
            Arc::clone(&self.shared),
            Arc::clone(&slot),
            closing.clone(),
        ));
        doors.insert(sandbox, Door { slot, socket: socket.to_owned(), inode, closing });
        Ok(())
    }

    /// Gives a sandbox to a session: from now on its model, and its repository, can be reached.
    /// Doing so twice for the same session replaces the binding.
    pub fn bind(&self, sandbox: SandboxId, binding: Binding) -> Result<(), Error> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let door = doors.get(&sandbox).ok_or(Error::NotOpen(sandbox))?;
        let mut place = door.slot.binding.write().unwrap_or_else(PoisonError::into_inner);
        match place.as_ref() {
            Some(bound) if bound.session != binding.session => {
                Err(Error::BoundToAnother { sandbox, bound: bound.session, asked: binding.session })
            }
            _ => {
                *place = Some(Arc::new(binding));
                Ok(())
            }
        }
    }

    /// Changes what a bound sandbox may reach besides models and its repository, from now on.
    pub fn set_egress(&self, sandbox: SandboxId, egress: Egress) -> Result<(), Error> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let door = doors.get(&sandbox).ok_or(Error::NotOpen(sandbox))?;
        let mut place = door.slot.binding.write().unwrap_or_else(PoisonError::into_inner);
        let bound = place.as_ref().ok_or(Error::NotBound(sandbox))?;
        *place = Some(Arc::new(Binding { egress, ..Binding::clone(bound) }));
        Ok(())
    }

    /// Ends a sandbox's connections at once and removes its socket. Closing twice does nothing.
    pub fn close(&self, sandbox: SandboxId) {
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).remove(&sandbox);
        if let Some(door) = door {
            door.closing.cancel();
            remove_own(&door.socket, door.inode);
            self.shared.rehearsal.forget(sandbox);
        }
    }
}

fn remove_own(socket: &Path, inode: u64) {
    if std::fs::symlink_metadata(socket).is_ok_and(|found| found.ino() == inode)
        && let Err(error) = std::fs::remove_file(socket)
    {
        tracing::warn!(socket = %socket.display(), %error, "a closed sandbox's socket stays behind");
    }
}

/// Binds beside the wanted name and renames, so that there is always a socket at the path.
///
/// The address of a Unix socket holds 107 bytes and data directories can be deep, so the directory
/// is opened and named by its descriptor. The sandbox may be able to write to the directory: what
/// was bound is therefore held by a descriptor, and no link in it is followed.
fn listen(socket: &Path) -> io::Result<(UnixListener, u64)> {
    let unusable = || io::Error::from(io::ErrorKind::InvalidInput);
    let directory = std::fs::File::open(socket.parent().ok_or_else(unusable)?)?;
    let name = socket.file_name().ok_or_else(unusable)?;
    let beside = format!(".{}.new", std::process::id());
    match rustix::fs::unlinkat(&directory, &beside, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error.into()),
    }
    let listener = UnixListener::bind(descriptor(&directory).join(&beside))?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let bound = rustix::fs::openat(&directory, &beside, flags, Mode::empty())?;
    let found = rustix::fs::fstat(&bound)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(io::Error::other("the socket was replaced while it was bound"));
    }
    std::fs::set_permissions(descriptor(&bound), std::fs::Permissions::from_mode(0o666))?;
    rustix::fs::renameat(&directory, &beside, &directory, name)?;
    Ok((listener, found.st_ino))
}

fn descriptor(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

async fn accept(
    listener: UnixListener,
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    closing: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(shared.limits.connections));
    loop {
        // A place first: connections over the limit wait in the socket's own queue.
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, stream) = tokio::select! {
            () = closing.cancelled() => return,
            accepted = accepted => accepted,
        };
        match stream {
            Ok((stream, _)) => {
                let connection = serve(stream, Arc::clone(&shared), Arc::clone(&slot));
                let closing = closing.clone();
                tokio::spawn(async move {
                    let _place = place;
                    tokio::select! {
                        () = closing.cancelled() => {}
                        () = connection => {}
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: they come back when other connections end.
                tracing::warn!(sandbox = %slot.sandbox, %error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, shared: Arc<Shared>, slot: Arc<Slot>) {
    let service = service_fn(|request| {
        let (shared, slot) = (Arc::clone(&shared), Arc::clone(&slot));
        async move { Ok::<_, Infallible>(handle(shared, slot, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.head_time)
        .max_buf_size(shared.limits.head_bytes.max(8192))
        .serve_connection(TokioIo::new(stream), service)
        .await;
    // A head that hyper refused reached no handler, and is a decision all the same.
    if let Err(error) = served
        && error.is_parse()
    {
        let session = slot.binding().map(|binding| binding.session);
        let mut account = Account::open(Arc::clone(&shared), Arc::clone(&slot), session, "", "");
        account.denied(&Denial::UnreadableHead);
        account.failed(error.to_string());
    }
}
