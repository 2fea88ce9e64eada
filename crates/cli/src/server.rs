//! The server in this process: the one place where all of Hangar's rooms are put together.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use api::Api;
use api::access::Access;
use conductor::{Hangar, KeySource, Parts, ServerSettings};
use journal::{Index, Sqlite};
use protocol::sandbox::{Isolation, LimitName, Limits};
use protocol::session::{Author, ModelChoice};
use protocol::{Refusal, UserId};
use rustix::fs::{FlockOperation, flock};
use sandbox::Backend;
use secrecy::ExposeSecret as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::arguments::{LimitOptions, Maximum, RuntimeChoice};
use crate::data::{Data, Running};
use crate::failure::{Exit, Failure};
use crate::models::Models;
use crate::{person, programs, proxy, toolkit};

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
    /// Certificates to trust besides the system's.
    pub(crate) trust: Option<PathBuf>,
    /// Programs that make the walls.
    pub(crate) runtimes: Vec<RuntimeChoice>,
    /// What sandboxes get.
    pub(crate) sandboxes: Sandboxes,
}

/// What sandboxes of a server get, and what anybody may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sandboxes {
    isolation: Isolation,
    limits: Limits,
    maximum_limits: Limits,
}

impl Sandboxes {
    /// From the options of a server. A usual limit above the usual maximum raises the maximum;
    /// above a maximum that was named it is a mistake.
    pub(crate) fn new(
        isolation: Isolation,
        usual: &LimitOptions,
        maximum: &[Maximum],
    ) -> anyhow::Result<Self> {
        let (mut limits, mut maximum_limits) = (Limits::default(), Limits::MOST);
        for Maximum { limit, amount } in maximum {
            maximum_limits.set(*limit, *amount);
        }
        let usual = usual.request();
        for limit in LimitName::ALL {
            let named = maximum.iter().any(|maximum| maximum.limit == limit);
            let (least, most) = (Limits::LEAST.get(limit), maximum_limits.get(limit));
            // A maximum below the usual amount says what is usual, unless somebody said that too.
            let amount = usual.get(limit).unwrap_or(limits.get(limit).min(most));
            if amount.min(most) < least {
                let asked = amount.min(most);
                return Err(usage(&Refusal::LimitTooLow { limit, asked, minimum: least }));
            }
            if named && amount > most {
                let refusal = Refusal::LimitTooHigh { limit, asked: amount, maximum: most };
                return Err(usage(&refusal));
            }
            limits.set(limit, amount);
            maximum_limits.set(limit, most.max(amount));
        }
        Ok(Self { isolation, limits, maximum_limits })
    }
}

fn usage(refusal: &Refusal) -> anyhow::Error {
    let hint = "see `hangar serve --help` about limits and --maximum";
    Failure::new(Exit::Usage, refusal.to_string()).hint(hint).into()
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
            .map_err(with_hint)
            .with_context(|| format!("taking up {}", data.root().display()))?;
        crate::log::redact(hangar.redaction());
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
    let mut gateway = gateway::Config::new(root);
    gateway.providers = models.providers;
    gateway.trust.clone_from(&options.trust);
    gateway.proxy = proxy::from_environment().context("reading the host's proxy settings")?;
    Ok(Parts {
        settings: ServerSettings {
            user: local_user(&index, options.whereabouts).await?,
            default_agent: "built-in".to_owned(),
            default_model: options.model.clone().unwrap_or(models.default),
            toolkit,
            limits: options.sandboxes.limits,
            maximum_limits: options.sandboxes.maximum_limits,
            isolation: options.sandboxes.isolation,
        },
        journal: Arc::new(journal),
        index: Arc::new(index),
        backend: backend(root, &options.runtimes)?,
        bases: Some(bases(root, options.trust.as_deref())?),
        forge: Arc::new(forge),
        gateway,
        secret_keys: secret_keys(root),
    })
}

/// What an operator can do about it stays with the error.
fn with_hint(error: conductor::Error) -> anyhow::Error {
    match error {
        conductor::Error::Unavailable { what, hint } => {
            Failure::new(Exit::Failed, what).hint(hint).into()
        }
        other => other.into(),
    }
}

/// The keys that secrets are encrypted with: the operator's, else a file of our own.
fn secret_keys(data: &Path) -> KeySource {
    match std::env::var("HANGAR_SECRET_KEYS") {
        Ok(given) if !given.trim().is_empty() => KeySource::Given(given.into()),
        _ => KeySource::File(data.join("secret-keys")),
    }
}

/// The backend that runs sandboxes on this machine.
pub(crate) fn backend(data: &Path, runtimes: &[RuntimeChoice]) -> anyhow::Result<Arc<dyn Backend>> {
    let mut config = sandbox::container::Config::new(data, programs::require("hangar-launch")?);
    config.toolkit = Some(programs::assemble(data)?);
    for choice in runtimes {
        config.runtimes.insert(choice.isolation, choice.program.clone());
    }
    config.search.push(toolkit::runtimes(data));
    config.search.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let variable = |name: &str| std::env::var_os(name).map(std::path::PathBuf::from);
    if let Some(home) = variable("HOME") {
        let (rustup, cargo) = (variable("RUSTUP_HOME"), variable("CARGO_HOME"));
        config = config.with_rust_toolchains(&home, rustup.as_deref(), cargo.as_deref());
    }
    let container = sandbox::container::Container::open(config).context("opening the sandboxes")?;
    Ok(Arc::new(container))
}

/// The store of base images, which reaches registries as everything on this machine does.
fn bases(data: &Path, trust: Option<&Path>) -> anyhow::Result<sandbox::base::Store> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let configuration = variable("DOCKER_CONFIG")
        .or_else(|| variable("HOME").map(|home| home.join(".docker")))
        .map(|directory| directory.join("config.json"));
    let text = |names: [&str; 2]| {
        let mut values = names.iter().filter_map(|name| std::env::var(name).ok());
        values.find(|value| !value.trim().is_empty())
    };
    let certificates = trust.map(std::fs::read).transpose().context("reading certificates")?;
    let insecure = std::env::var("HANGAR_INSECURE_REGISTRIES").unwrap_or_default();
    let registries = sandbox::base::Registries {
        docker_configuration: configuration,
        https_proxy: text(["https_proxy", "HTTPS_PROXY"]),
        http_proxy: text(["http_proxy", "HTTP_PROXY"]),
        no_proxy: text(["no_proxy", "NO_PROXY"]),
        insecure: insecure
            .split([',', ' '])
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect(),
        certificates: certificates.into_iter().collect(),
    };
    let launcher = programs::require("hangar-launch")?;
    let settings = sandbox::base::Settings { data: data.to_owned(), launcher, registries };
    sandbox::base::Store::open(settings).context("opening the base images")
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pids(usual: Option<u32>, maximum: Option<u64>) -> anyhow::Result<(u32, u32)> {
        let usual = LimitOptions { pids: usual, ..LimitOptions::default() };
        let limit = LimitName::Pids;
        let maximum: Vec<_> = maximum.map(|amount| Maximum { limit, amount }).into_iter().collect();
        let sandboxes = Sandboxes::new(Isolation::Namespaces, &usual, &maximum)?;
        Ok((sandboxes.limits.pids, sandboxes.maximum_limits.pids))
    }

    #[test]
    fn the_usual_limits_stay_below_the_maximum() {
        let usual = |usual, maximum| pids(usual, maximum).expect("they fit");
        assert_eq!(usual(None, None), (512, Limits::MOST.pids));
        assert_eq!(usual(Some(9000), None), (9000, 9000));
        assert_eq!(usual(None, Some(100)), (100, 100));
        assert_eq!(usual(Some(50), Some(100)), (50, 100));
        assert!(pids(Some(200), Some(100)).is_err());
        assert!(pids(Some(1), None).is_err());
        assert!(pids(None, Some(1)).is_err());
    }
}
