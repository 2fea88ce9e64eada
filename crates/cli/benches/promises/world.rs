//! A whole Hangar in this process, of the parts that `hangar serve` has, with a model of ours.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use conductor::{Hangar, Parts, ServerSettings, Subscription, Update};
use gateway::Provider;
use journal::{Index, Journal, NewEvent, Sqlite};
use protocol::client::{CreateSession, PromptAccepted, RegisterRepository, SendPrompt};
use protocol::repository::RepositoryName;
use protocol::sandbox::{Isolation, LimitRequest, Limits};
use protocol::session::{Author, Delivery, Dialect, ModelChoice};
use protocol::{Envelope, Event, RequestId, SessionId, UserId};
use sandbox::Backend as _;
use sandbox::container::{Config, Container};
use secrecy::SecretString;

use crate::model::{ANSWERS, Model};

/// Longer than any single step takes on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);
/// Files of the repository: enough to be one, few enough that making it is not what takes long.
const FILES: usize = 200;
/// The built-in model, and the provider of that name.
pub(crate) const REHEARSAL: &str = "rehearsal";

/// Everything that is measured in this process.
pub(crate) struct World {
    pub(crate) hangar: Hangar,
    pub(crate) user: Author,
    pub(crate) container: Container,
    pub(crate) journal: Arc<Watched>,
    pub(crate) repository: RepositoryName,
    pub(crate) toolkit: PathBuf,
    pub(crate) model: Model,
    pub(crate) data: PathBuf,
}

impl World {
    /// Puts it together below a directory and builds the image of a small repository.
    pub(crate) async fn open(directory: &Path) -> anyhow::Result<Self> {
        let data = directory.join("data");
        let model = Model::start().await?;
        let container = Container::open(container(&data)?).context("opening the sandboxes")?;
        let journal = Sqlite::open(&data.join("sessions"), journal::Options::default())?;
        let journal = Arc::new(Watched { journal, recorded: Mutex::default() });
        let user = Author {
            user: UserId::new(),
            name: "Ada Lovelace".to_owned(),
            email: "ada@example.org".to_owned(),
        };
        let toolkit = cli::programs::assemble(&data)?;
        let mut gateway = gateway::Config::new(&data);
        let key = SecretString::from("none");
        gateway.providers.anthropic = Some(Provider::anthropic(key, Some(model.base_url.clone())));
        let hangar = Hangar::open(Parts {
            settings: ServerSettings {
                user: user.clone(),
                default_agent: "built-in".to_owned(),
                default_model: choice(ANSWERS),
                toolkit: toolkit.clone(),
                limits: Limits::default(),
                maximum_limits: Limits::MOST,
                isolation: Isolation::Namespaces,
            },
            journal: Arc::clone(&journal) as Arc<dyn Journal>,
            index: Arc::new(Index::open(&data.join("index.db"))?),
            backend: Arc::new(container.clone()),
            bases: None,
            forge: Arc::new(forge::Local::open(data.join("forge")).await?),
            gateway,
            secret_keys: conductor::KeySource::File(data.join("secret-keys")),
        })
        .await?;
        let repository = repository(&hangar, &user, &directory.join("project")).await?;
        Ok(Self { hangar, user, container, journal, repository, toolkit, model, data })
    }

    /// A session with a model and a first prompt, and its events.
    pub(crate) async fn session(&self, model: &str) -> anyhow::Result<(SessionId, Subscription)> {
        let request = CreateSession {
            request: RequestId::new(),
            repository: self.repository.clone(),
            prompt: Some("Look around.".to_owned()),
            agent: None,
            model: Some(choice(model)),
            branch: None,
            limits: LimitRequest::default(),
            isolation: None,
        };
        let id = self.hangar.create_session(&self.user, request).await?.summary.id;
        Ok((id, self.hangar.subscribe(&self.user, id, 0).await?))
    }

    /// A follow-up.
    pub(crate) async fn prompt(&self, session: SessionId) -> anyhow::Result<PromptAccepted> {
        // A script for the rehearsal model; other models read it as any text.
        let text = "@@ say Nothing to change. @@END".to_owned();
        let request = SendPrompt { request: RequestId::new(), text, delivery: Delivery::Queue };
        Ok(self.hangar.send_prompt(&self.user, session, request).await?)
    }

    /// Ends every sandbox and deletes it.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.hangar.park().await;
        self.container.reap(&[]).await.context("removing the sandboxes")?;
        Ok(())
    }
}

/// Reads until an event fits, and gives its number.
pub(crate) async fn until(
    events: &mut Subscription,
    fits: impl Fn(&Event) -> bool,
) -> anyhow::Result<u64> {
    let reading = async {
        loop {
            match events.next().await?.context("the session's events ended")? {
                Update::Event(envelope) if fits(&envelope.event) => {
                    return Ok(envelope.sequence);
                }
                Update::Lagged { after } => anyhow::bail!("too slow after event {after}"),
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.context("an event did not come")?
}

/// Whether a prompt has ended.
pub(crate) fn finished(event: &Event) -> bool {
    matches!(event, Event::PromptFinished { .. })
}

/// The rehearsal model by its own route, a model of ours by the route of a real provider.
fn choice(name: &str) -> ModelChoice {
    let provider = if name == REHEARSAL { REHEARSAL } else { "anthropic" };
    ModelChoice {
        provider: provider.to_owned(),
        name: name.to_owned(),
        dialect: Dialect::Anthropic,
    }
}

/// As `hangar serve` runs containers.
fn container(data: &Path) -> anyhow::Result<Config> {
    let mut config = Config::new(data, cli::programs::require("hangar-launch")?);
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from);
    if let Some(runsc) = variable("RUNSC") {
        config.runtimes.insert(Isolation::Gvisor, runsc.to_string_lossy().into_owned());
    }
    let (rustup, cargo) = (variable("RUSTUP_HOME"), variable("CARGO_HOME"));
    Ok(match variable("HOME") {
        Some(home) => config.with_rust_toolchains(&home, rustup.as_deref(), cargo.as_deref()),
        None => config,
    })
}

async fn repository(hangar: &Hangar, user: &Author, path: &Path) -> anyhow::Result<RepositoryName> {
    git(path.parent().context("a parent")?, &["init", "-q", "-b", "main", "project"])?;
    for number in 0..FILES {
        let directory = path.join(format!("part_{}", number % 10));
        std::fs::create_dir_all(&directory)?;
        let text = format!("This is file {number}.\n").repeat(100);
        std::fs::write(directory.join(format!("file_{number}.txt")), text)?;
    }
    git(path, &["add", "."])?;
    git(path, &["commit", "-q", "-m", "First"])?;
    let request = RegisterRepository { path: path.to_string_lossy().into_owned(), name: None };
    let name = hangar.register_repository(user, request).await?.repository.name;
    let image = hangar.build_image(user, &name).await?;
    let ready = image.state == protocol::repository::ImageState::Ready;
    ensure!(ready, "the image is not ready: {:?}", image.state);
    Ok(name)
}

fn git(directory: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let mut command = Command::new("git");
    command.current_dir(directory).env("GIT_CONFIG_GLOBAL", "/dev/null");
    command.args(["-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org"]);
    let status = command.args(arguments).status().context("running git")?;
    ensure!(status.success(), "git {arguments:?}: {status}");
    Ok(())
}

/// The journal on disk, noting the moment at which each event was safe.
#[derive(Debug)]
pub(crate) struct Watched {
    journal: Sqlite,
    recorded: Mutex<HashMap<(SessionId, u64), Instant>>,
}

impl Watched {
    /// When an event was recorded.
    pub(crate) fn recorded(&self, session: SessionId, sequence: u64) -> anyhow::Result<Instant> {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        let at = recorded.get(&(session, sequence)).copied();
        at.with_context(|| format!("event {sequence} of {session} was not recorded"))
    }
}

#[async_trait]
impl Journal for Watched {
    async fn create(&self, session: SessionId) -> Result<(), journal::Error> {
        self.journal.create(session).await
    }

    async fn append(
        &self,
        session: SessionId,
        expected_last: u64,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Envelope>, journal::Error> {
        let placed = self.journal.append(session, expected_last, events).await?;
        let now = Instant::now();
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        recorded.extend(placed.iter().map(|one| ((session, one.sequence), now)));
        drop(recorded);
        Ok(placed)
    }

    async fn read(
        &self,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Envelope>, journal::Error> {
        self.journal.read(session, after, limit).await
    }

    async fn last(&self, session: SessionId) -> Result<u64, journal::Error> {
        self.journal.last(session).await
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, journal::Error> {
        self.journal.sessions().await
    }
}
