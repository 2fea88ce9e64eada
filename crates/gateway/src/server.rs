//! Listens: one Unix socket, one accept loop and one connection limit per sandbox.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use protocol::{SandboxId, SessionId, Timestamp};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::account::Account;
use crate::audit::Audit;
use crate::denials::{Advice, Denials};
use crate::egress::live::Live;
use crate::egress::meter::{Flow, Throttled};
use crate::git::GitUpstream;
use crate::handler::handle;
use crate::intercept::authority::{self, Authority};
use crate::model::Clients;
use crate::outside::trust::{self, Trust};
use crate::outside::{Proxy, UnreadableTrust};
use crate::rehearsal::Rehearsal;
use crate::{
    Binding, Config, Connector, Denial, Egress, Limits, Names, Observation, Observed, Observer,
    Providers,
};

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
    /// The certificate authority cannot be used.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The operator's certificates cannot be used.
    #[error(transparent)]
    Trust(#[from] UnreadableTrust),
    /// TLS to the outside cannot be prepared.
    #[error("preparing TLS to other hosts")]
    Tls(#[from] rustls::Error),
    /// No client for a provider can be made.
    #[error("preparing the connection to the model provider {provider}")]
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
    pub(crate) authority: Authority,
    pub(crate) trust: Trust,
    /// How to speak TLS as a client, for requests that are judged one by one.
    pub(crate) tls: Arc<rustls::ClientConfig>,
    pub(crate) proxy: Proxy,
    pub(crate) limits: Limits,
    pub(crate) names: Arc<dyn Names>,
    pub(crate) connector: Arc<dyn Connector>,
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
    /// What it sends and receives.
    pub(crate) flow: Arc<Flow>,
    /// Its connections to hosts.
    pub(crate) live: Live,
}

impl Slot {
    fn new(sandbox: SandboxId) -> Self {
        Self {
            sandbox,
            binding: RwLock::default(),
            denials: Mutex::new(Denials::new()),
            flow: Arc::new(Flow::new(Instant::now())),
            live: Live::default(),
        }
    }

    pub(crate) fn binding(&self) -> Option<Arc<Binding>> {
        self.binding.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces what it may reach, and then ends what it may not reach any more: a connection that
    /// is being made looks at the binding after it was listed.
    fn bind(&self, binding: Binding) {
        let binding = Arc::new(binding);
        self.flow.set(&binding.egress);
        *self.binding.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&binding));
        self.live.keep_allowed(&binding.egress);
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
        let authority = Authority::open(&config.authority, SystemTime::now())?;
        let trust = Trust::read(config.trust.as_deref())?;
        let tls = Arc::new(trust.client(&[b"http/1.1"])?);
        let clients = Clients::new(&config.providers, &config.limits, &config.proxy, &trust)?;
        let all = CancellationToken::new();
        let shared = Shared {
            providers: config.providers,
            clients,
            rehearsal: Rehearsal::new(config.rehearsal),
            git,
            observer,
            audit,
            authority,
            trust,
            tls,
            proxy: config.proxy,
            limits: config.limits,
            names: config.names,
            connector: config.connector,
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
        let failed = |source| Error::Listen { sandbox, socket: socket.to_owned(), source };
        // Before the socket, so that who can connect can also trust.
        self.write_trust(socket).map_err(failed)?;
        let (listener, inode) = listen(socket).map_err(failed)?;
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = match doors.remove(&sandbox) {
            Some(door) => {
                door.closing.cancel();
                door.slot
            }
            None => Arc::new(Slot::new(sandbox)),
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

    /// Writes the certificates that programs in the sandbox trust beside its socket.
    fn write_trust(&self, socket: &Path) -> io::Result<()> {
        let directory = std::fs::File::open(socket.parent().unwrap_or(Path::new(".")))?;
        let bundle = self.shared.trust.bundle(self.shared.authority.certificates());
        trust::write_bundle(&directory, trust::file_name(), &bundle)
    }

    /// Gives a sandbox to a session: from now on its model, and its repository, can be reached.
    /// Doing so twice for the same session replaces the binding.
    pub fn bind(&self, sandbox: SandboxId, binding: Binding) -> Result<(), Error> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let door = doors.get(&sandbox).ok_or(Error::NotOpen(sandbox))?;
        match door.slot.binding() {
            Some(bound) if bound.session != binding.session => {
                Err(Error::BoundToAnother { sandbox, bound: bound.session, asked: binding.session })
            }
            _ => {
                door.slot.bind(binding);
                Ok(())
            }
        }
    }

    /// Changes what a bound sandbox may reach besides models and its repository. Connections that
    /// would not be allowed any more are closed at once; the others stay.
    pub fn set_egress(&self, sandbox: SandboxId, egress: Egress) -> Result<(), Error> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let door = doors.get(&sandbox).ok_or(Error::NotOpen(sandbox))?;
        let bound = door.slot.binding().ok_or(Error::NotBound(sandbox))?;
        door.slot.bind(Binding { egress, ..Binding::clone(&bound) });
        Ok(())
    }

    /// Ends a sandbox's connections at once and removes its socket. Closing twice does nothing.
    pub fn close(&self, sandbox: SandboxId) {
        let door = self.doors.lock().unwrap_or_else(PoisonError::into_inner).remove(&sandbox);
        if let Some(door) = door {
            door.closing.cancel();
            remove_own(&door.socket, door.inode);
            let bundle = door.socket.with_file_name(trust::file_name());
            if let Err(error) = std::fs::remove_file(&bundle)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(bundle = %bundle.display(), %error, "certificates stay behind");
            }
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

/// What a connection does after its last answer: carry a tunnel.
#[derive(Default)]
pub(crate) struct Afterwards(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Afterwards {
    pub(crate) fn put(&self, tunnel: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(tunnel));
    }

    fn take(&self) -> Option<Pin<Box<dyn Future<Output = ()> + Send>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

async fn serve(stream: UnixStream, shared: Arc<Shared>, slot: Arc<Slot>) {
    let afterwards = Afterwards::default();
    let service = service_fn(|request| {
        let (shared, slot, afterwards) = (Arc::clone(&shared), Arc::clone(&slot), &afterwards);
        async move { Ok::<_, Infallible>(handle(shared, slot, request, afterwards).await) }
    });
    let stream = throttled(stream, &shared, &slot);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.head_time)
        .max_buf_size(shared.limits.head_bytes.max(8192))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Some(tunnel) = afterwards.take() {
        // On the same task: it keeps the connection's place and ends with the sandbox.
        tunnel.await;
    }
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

/// The connection at the rate its sandbox may send.
fn throttled(stream: UnixStream, shared: &Arc<Shared>, slot: &Arc<Slot>) -> Throttled<UnixStream> {
    let (of, to) = (Arc::clone(slot), Arc::clone(shared));
    let tell = move |tried, maximum| {
        to.observer.observed(Observation {
            sandbox: of.sandbox,
            session: of.binding().map(|binding| binding.session),
            at: Timestamp::from_system(SystemTime::now()),
            what: Observed::Throttled { tried, maximum },
        });
    };
    Throttled::new(stream, Arc::clone(&slot.flow), Box::new(tell))
}
