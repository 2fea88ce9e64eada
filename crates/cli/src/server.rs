//! The server in this process: the one place where all of Hangar's rooms are put together.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use api::Api;
use api::access::Access;
use conductor::{Hangar, Parts, ServerSettings};
use journal::{Index, Sqlite};
use protocol::UserId;
use protocol::sandbox::{Isolation, Limits};
use protocol::session::{Author, ModelChoice};
use rustix::fs::{FlockOperation, flock};
use sandbox::Backend;
use secrecy::ExposeSecret as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::data::{Data, Running};
use crate::failure::{Exit, Failure};
use crate::models::Models;
use crate::{person, programs};

/// Time for requests under way when the server ends.
const ENDING: Duration = Duration::from_secs(5);

/// What a server is started with.
#[derive(Debug)]
pub(crate) struct Options<'a> {
    /// Where it listens; port 0 takes any free one.
    pub(crate) listen: SocketAddr,
    /// The model used when none is named, if not the environment's.
    pub(crate) model: Option<ModelChoice>,
    /// Where to ask Git who the local person is.
    pub(crate) whereabouts: &'a Path,
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    hangar: Hangar,
    access: Arc<Access>,
    shutdown: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
    address: String,
    data: Data,
    /// Held for as long as the server runs: two on one directory would be two writers.
    _lock: File,
}

impl Server {
    /// Takes up what an earlier server left on the data directory, and listens.
    pub(crate) async fn start(data: &Data, options: Options<'_>) -> anyhow::Result<Self> {
        data.prepare()?;
        let lock = lock(data)?;
        // Listening comes first: a port that is taken is the commonest trouble, and cheap to find.
        let listener = api::bind::bind(options.listen).await?;
        let address = format!("http://{}", listener.local_addr().context("asking for the port")?);
        let token = api::token::read_or_create(&data.root().join("token"))?;
        let access = Arc::new(Access::new(token));
        let hangar = Hangar::open(parts(data, &options).await?)
            .await
            .with_context(|| format!("taking up {}", data.root().display()))?;
        let shutdown = CancellationToken::new();
        let door = Api {
            door: Arc::new(hangar.clone()),
            access: Arc::clone(&access),
            hosts: Arc::from([]),
            shutdown: shutdown.clone(),
        };
        let serving = tokio::spawn(api::serve(listener, door));
        data.announce(&Running { address: address.clone(), pid: std::process::id() })?;
        let data = data.clone();
        Ok(Self { hangar, access, shutdown, serving, address, data, _lock: lock })
    }

    /// The base address of its API.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A link that signs one browser in.
    pub(crate) fn link(&self) -> anyhow::Result<String> {
        let code = self.access.issue_code(Instant::now()).context("making a sign-in link")?;
        Ok(format!("{}/sign-in?code={}", self.address, code.expose_secret()))
    }

    /// Ends it: no new requests, idle sandboxes stopped. Those with work go on, and the next server
    /// takes them up.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.cancel();
        match tokio::time::timeout(ENDING, self.serving).await {
            Ok(Ok(served)) => served.context("serving")?,
            Ok(Err(panic)) => return Err(panic).context("serving"),
            Err(_) => tracing::warn!("requests under way were cut off at the end of the server"),
        }
        self.hangar.park().await;
        self.data.withdraw().context("removing server.json")
    }
}

async fn parts(data: &Data, options: &Options<'_>) -> anyhow::Result<Parts> {
    let root = data.root();
    let toolkit = programs::assemble(root)?;
    let index = Index::open(&root.join("index.db")).context("opening the index")?;
    let journal = Sqlite::open(&root.join("sessions"), journal::Options::default())
        .context("opening the sessions")?;
    let forge =
        forge::Local::open(root.join("forge")).await.context("opening the local Git host")?;
    let models = Models::from_environment();
    let mut gateway = gateway::Config::new(root.join("audit"));
    gateway.providers = models.providers;
    Ok(Parts {
        settings: ServerSettings {
            user: local_user(&index, options.whereabouts).await?,
            default_agent: "built-in".to_owned(),
            default_model: options.model.clone().unwrap_or(models.default),
            toolkit,
            limits: Limits::default(),
            maximum_limits: Limits::MOST,
            isolation: Isolation::Namespaces,
        },
        journal: Arc::new(journal),
        index: Arc::new(index),
        backend: backend(root)?,
        forge: Arc::new(forge),
        gateway,
    })
}

/// The backend that runs sandboxes on this machine.
pub(crate) fn backend(data: &Path) -> anyhow::Result<Arc<dyn Backend>> {
    let mut config = sandbox::container::Config::new(data, programs::require("hangar-launch")?);
    let variable = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    if let Some(home) = variable("HOME") {
        let (rustup, cargo) = (variable("RUSTUP_HOME"), variable("CARGO_HOME"));
        config = config.with_rust_toolchains(&home, rustup.as_deref(), cargo.as_deref());
    }
    let container = sandbox::container::Container::open(config).context("opening the sandboxes")?;
    Ok(Arc::new(container))
}

/// The person of this data directory: the same id every time, the name Git has for them today.
async fn local_user(index: &Index, whereabouts: &Path) -> anyhow::Result<Author> {
    let known = index.users().await.context("reading the users")?;
    let user = known.first().map_or_else(UserId::new, |author| author.user);
    Ok(person::at(whereabouts, user).await)
}

fn lock(data: &Data) -> anyhow::Result<File> {
    let path = data.root().join("server.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("opening {}", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let root = data.root().display();
            let text = format!("another server runs on the data directory {root}");
            Err(Failure::new(Exit::Failed, text)
                .hint("talk to it with `hangar run`, or choose another directory with --data")
                .into())
        }
        Err(error) => Err(error).with_context(|| format!("locking {}", path.display())),
    }
}
