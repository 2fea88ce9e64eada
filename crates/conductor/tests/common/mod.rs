//! A whole Hangar in one process: real forge and gateway, journal in memory, simulated sandboxes.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use conductor::{Hangar, KeySource, Parts, ServerSettings, Subscription, Update};
use protocol::agentd::{CommitRequest, Ending, PushRequest, Report, SyncRequest};
use protocol::client::{CreateSession, RegisterRepository, SendPrompt};
use protocol::repository::RepositoryName;
use protocol::sandbox::{Isolation, LimitRequest, Limits};
use protocol::session::{Author, Delivery, Dialect, ModelChoice, SessionView};
use protocol::{Envelope, Event, RequestId, SessionId, UserId};
use sandbox::simulated::{Script, Simulated, Turn};
use tempfile::TempDir;

/// Longer than anything here takes on a loaded machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Everything that outlives one `Hangar` of a test.
pub struct World {
    pub directory: TempDir,
    pub backend: Arc<Simulated>,
    pub journal: Arc<journal::Memory>,
    pub index: Arc<journal::Index>,
    pub forge: Arc<forge::Local>,
    pub user: Author,
}

/// What simulated agents do, by the first word of the prompt.
#[derive(Debug)]
struct Agent {
    forge: PathBuf,
    /// What was cloned last.
    cloned: Mutex<PathBuf>,
}

#[async_trait]
impl Script for Agent {
    async fn prompt(&self, turn: &Turn) -> Ending {
        let text = turn.request.text.clone();
        match text.split_whitespace().next() {
            Some("wait") => {
                turn.message("Waiting.");
                turn.cancelled().await;
                Ending::Cancelled
            }
            Some("fail") => Ending::Failed { reason: "the agent cannot".to_owned() },
            Some("nothing") => {
                turn.message("Nothing to do.");
                Ending::Completed
            }
            Some("flood") => {
                for _ in 0..50_000 {
                    turn.report(Report::Notice {
                        prompt: Some(turn.request.prompt),
                        text: "x".into(),
                    });
                }
                Ending::Completed
            }
            _ => match turn.write("/workspace/CHANGED.md", format!("{text}\n")) {
                Ok(()) => {
                    turn.message("Written.");
                    Ending::Completed
                }
                Err(reason) => Ending::Failed { reason },
            },
        }
    }

    async fn sync(&self, request: &SyncRequest) -> Result<(), String> {
        let name = request.remote.trim_start_matches("/git/local/");
        *self.cloned.lock().expect("no panic") = self.forge.join(name);
        Ok(())
    }

    /// A real commit, straight among the forge's objects; the push then moves the branch to it.
    fn commit(&self, request: &CommitRequest) -> Option<String> {
        let repository = self.cloned.lock().expect("no panic").clone();
        let message = request.prompt.to_string();
        let made = ["commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", &message];
        Some(git(&repository, &made).expect("a commit"))
    }

    async fn push(&self, request: &PushRequest) -> Result<(), String> {
        let name = request.remote.trim_start_matches("/git/local/");
        let branch = format!("refs/heads/{}", request.branch);
        git(&self.forge.join(name), &["update-ref", &branch, &request.commit]).map(drop)
    }
}

/// Runs git and gives its output's first line.
pub fn git(directory: &Path, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .args(["-c", "user.name=Test", "-c", "user.email=test@localhost"])
        .args(arguments)
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl World {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let forge = directory.path().join("forge");
        let backend = Simulated::new(
            directory.path().join("sandboxes"),
            Agent { forge: forge.clone(), cloned: Mutex::default() },
        );
        let toolkit = directory.path().join("toolkit/bin");
        std::fs::create_dir_all(&toolkit).expect("a toolkit");
        std::fs::write(toolkit.join("hangar-agent"), "").expect("an agent");
        Self {
            backend: Arc::new(backend),
            journal: Arc::new(journal::Memory::default()),
            index: Arc::new(journal::Index::memory().expect("an index")),
            forge: Arc::new(forge::Local::open(forge).await.expect("a forge")),
            user: Author {
                user: UserId::new(),
                name: "Ada".to_owned(),
                email: "ada@localhost".to_owned(),
            },
            directory,
        }
    }

    pub async fn open(&self) -> Hangar {
        self.open_with(Limits::default()).await
    }

    pub async fn open_with(&self, limits: Limits) -> Hangar {
        Hangar::open(Parts {
            settings: ServerSettings {
                user: self.user.clone(),
                default_agent: "built-in".to_owned(),
                default_model: ModelChoice {
                    provider: "rehearsal".to_owned(),
                    name: "rehearsal".to_owned(),
                    dialect: Dialect::Anthropic,
                },
                toolkit: self.directory.path().join("toolkit"),
                limits,
                maximum_limits: Limits::MOST,
                isolation: Isolation::Simulated,
            },
            journal: Arc::clone(&self.journal) as Arc<dyn journal::Journal>,
            index: Arc::clone(&self.index),
            backend: Arc::clone(&self.backend) as Arc<dyn sandbox::Backend>,
            bases: None,
            forge: Arc::clone(&self.forge),
            gateway: gateway::Config::new(self.directory.path()),
            secret_keys: KeySource::File(self.directory.path().join("secret-keys")),
        })
        .await
        .expect("Hangar opens")
    }

    /// A registered repository with one commit.
    pub async fn repository(&self, hangar: &Hangar) -> RepositoryName {
        let path = self.directory.path().join("project");
        std::fs::create_dir_all(&path).expect("a directory");
        git(&path, &["init", "-q", "-b", "main"]).expect("a repository");
        std::fs::write(path.join("README.md"), "# Project\n").expect("a file");
        git(&path, &["add", "."]).expect("added");
        git(&path, &["commit", "-q", "-m", "first"]).expect("a commit");
        let request = RegisterRepository { path: path.to_string_lossy().into_owned(), name: None };
        let registered = hangar.register_repository(&self.user, request).await.expect("registered");
        registered.repository.name
    }

    /// The same repository as it is now.
    pub async fn repository_again(&self, hangar: &Hangar) {
        let path = self.directory.path().join("project").to_string_lossy().into_owned();
        let request = RegisterRepository { path, name: None };
        hangar.register_repository(&self.user, request).await.expect("registered");
    }

    pub async fn session(
        &self,
        hangar: &Hangar,
        repository: &RepositoryName,
        prompt: &str,
    ) -> SessionView {
        let request = CreateSession {
            request: RequestId::new(),
            repository: repository.clone(),
            prompt: Some(prompt.to_owned()),
            agent: None,
            model: None,
            branch: None,
            limits: LimitRequest::default(),
            isolation: None,
        };
        hangar.create_session(&self.user, request).await.expect("a session")
    }
}

/// A prompt as a client sends it.
pub fn prompt(text: &str) -> SendPrompt {
    SendPrompt { request: RequestId::new(), text: text.to_owned(), delivery: Delivery::Queue }
}

/// Reads until an event fits; gives every event read, that one last.
pub async fn until(
    subscription: &mut Subscription,
    fits: impl Fn(&Event) -> bool,
) -> Vec<Envelope> {
    let mut seen = Vec::new();
    let reading = async {
        loop {
            match subscription.next().await.expect("readable") {
                Some(Update::Event(envelope)) => {
                    let found = fits(&envelope.event);
                    seen.push(Envelope::clone(&envelope));
                    if found {
                        return;
                    }
                }
                Some(Update::Lagged { after }) => panic!("lagged after {after}"),
                Some(_) => {}
                None => panic!("ended before the event came: {seen:#?}"),
            }
        }
    };
    let came = tokio::time::timeout(PATIENCE, reading).await.is_ok();
    assert!(came, "the event did not come: {seen:#?}");
    seen
}

/// Every event of a session, from the journal.
pub async fn events(hangar: &Hangar, user: &Author, session: SessionId) -> Vec<Envelope> {
    hangar.events(user, session, 0, 1000).await.expect("readable")
}

pub fn finished(event: &Event) -> bool {
    matches!(event, Event::PromptFinished { .. })
}
