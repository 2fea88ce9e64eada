//! A door in memory: sessions whose every event the test records itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::door::{Door, Registered, Updates};
use async_trait::async_trait;
use axum::body::Body;
use conductor::{Error, Update};
use futures_util::StreamExt;
use futures_util::stream;
use protocol::client::{
    BaseImage, CreateSession, Delta, DeltaKind, EditPrompt, Page, PromptAccepted, PullRequest,
    RegisterRepository, SendPrompt, ServerDescription,
};
use protocol::repository::{Image, ImageState, Repository, RepositoryName};
use protocol::sandbox::{Isolation, LevelReport, LimitName, LimitRequest, Limits};
use protocol::secret::{
    PutSecret, SecretDescription, SecretName, SecretPhase, SecretScope, SecretStored,
    SecretsRotated,
};
use protocol::session::{
    Actor, Author, Dialect, DiffStat, ModelChoice, PullRequestState, SessionStatus, SessionSummary,
    SessionView,
};
use protocol::settings::RepositorySettings;
use protocol::{
    Envelope, Event, ImageId, PromptId, PullRequestId, Refusal, SessionId, Timestamp, UserId,
};
use tokio::sync::{Notify, broadcast};

/// Updates kept for a subscriber that is behind.
pub(crate) const BUFFERED: usize = 256;

#[derive(Debug)]
pub(crate) struct MemoryDoor {
    user: Author,
    sessions: Mutex<BTreeMap<SessionId, Session>>,
    settings: Mutex<RepositorySettings>,
    secrets: Mutex<Vec<SecretDescription>>,
    /// The title of everything that has one.
    pub(crate) title: String,
    /// What images wait for.
    pub(crate) build: Build,
}

/// A build that ends when the test says so.
#[derive(Debug, Default)]
pub(crate) struct Build {
    pub(crate) begun: Notify,
    pub(crate) go_on: Notify,
    pub(crate) ended: Notify,
}

#[derive(Debug)]
struct Session {
    events: Vec<Envelope>,
    live: broadcast::Sender<Update>,
}

impl MemoryDoor {
    pub(crate) fn new(title: &str) -> Self {
        let user = Author {
            user: UserId::new(),
            name: "Ada <i>".to_owned(),
            email: "ada@example.org".to_owned(),
        };
        Self {
            user,
            sessions: Mutex::default(),
            settings: Mutex::default(),
            secrets: Mutex::default(),
            title: title.to_owned(),
            build: Build::default(),
        }
    }

    fn with<T>(
        &self,
        session: SessionId,
        work: impl FnOnce(&mut Session) -> T,
    ) -> Result<T, Error> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let found = sessions.get_mut(&session);
        found.map(work).ok_or_else(|| Error::NotFound { what: format!("session {session}") })
    }

    pub(crate) fn new_session(&self) -> SessionId {
        let id = SessionId::new();
        let (live, _) = broadcast::channel(BUFFERED);
        let session = Session { events: Vec::new(), live };
        self.sessions.lock().expect("no panic").insert(id, session);
        id
    }

    /// Records an event with a text and tells subscribers.
    pub(crate) fn record(&self, session: SessionId, text: &str) {
        let recorded = self.with(session, |it| {
            let envelope = Envelope {
                session,
                sequence: it.events.len() as u64 + 1,
                at: Timestamp(1),
                actor: Actor::Agent,
                report: None,
                event: Event::Notice { prompt: None, text: text.to_owned() },
            };
            it.events.push(envelope.clone());
            // Nobody may be listening.
            let _ = it.live.send(Update::Event(Arc::new(envelope)));
        });
        recorded.expect("the session exists");
    }

    pub(crate) fn delta(&self, session: SessionId, prompt: PromptId, text: &str) {
        let kind = DeltaKind::Message;
        let delta = Delta { session, prompt, kind, text: text.to_owned() };
        let sent = self.with(session, |it| drop(it.live.send(Update::Delta(Arc::new(delta)))));
        sent.expect("the session exists");
    }

    pub(crate) fn recorded(&self, session: SessionId) -> Vec<Envelope> {
        self.with(session, |it| it.events.clone()).expect("the session exists")
    }

    fn summary(&self, session: SessionId) -> SessionSummary {
        SessionSummary {
            id: session,
            title: self.title.clone(),
            repository: "local/x".parse().expect("a name"),
            status: SessionStatus::Idle,
            agent: "built-in".to_owned(),
            created_at: Timestamp(1),
            updated_at: Timestamp(2),
            last_sequence: 0,
        }
    }

    fn view(&self, session: SessionId) -> SessionView {
        SessionView {
            summary: self.summary(session),
            model: model(),
            base_branch: "main".to_owned(),
            base_commit: "0".repeat(40),
            branch: "hangar/x".to_owned(),
            limits: LimitRequest::default(),
            isolation: None,
            prompts: Vec::new(),
            sandbox: None,
            pull_request: None,
        }
    }

    fn pull(&self, name: &RepositoryName) -> PullRequest {
        PullRequest {
            id: PullRequestId::new(),
            number: 1,
            repository: name.clone(),
            session: None,
            title: self.title.clone(),
            body: String::new(),
            author: self.user.clone(),
            base_branch: "main".to_owned(),
            branch: "hangar/x".to_owned(),
            commit: "0".repeat(40),
            state: PullRequestState::Open,
            diff_stat: DiffStat { files: 1, added: 2, removed: 3 },
            created_at: Timestamp(1),
            updated_at: Timestamp(2),
        }
    }
}

fn model() -> ModelChoice {
    let provider = "rehearsal".to_owned();
    ModelChoice { provider, name: "rehearsal".to_owned(), dialect: Dialect::Anthropic }
}

fn repository(name: &RepositoryName) -> Repository {
    Repository {
        name: name.clone(),
        source: "/x".to_owned(),
        default_branch: "main".to_owned(),
        registered_at: Timestamp(1),
        image: None,
    }
}

/// `local/missing` is the one repository that is not there.
fn known(name: &RepositoryName) -> Result<(), Error> {
    if name.name() == "missing" {
        return Err(Error::NotFound { what: format!("repository {name}") });
    }
    Ok(())
}

type Answer<T> = Result<T, Error>;

fn base_image(reference: &str) -> BaseImage {
    BaseImage {
        reference: reference.to_owned(),
        digest: format!("sha256:{}", "0".repeat(64)),
        layers: 1,
        bytes: 1,
        notes: Vec::new(),
    }
}

#[async_trait]
impl Door for MemoryDoor {
    fn local_user(&self) -> Author {
        self.user.clone()
    }

    fn description(&self, user: &Author) -> ServerDescription {
        ServerDescription {
            version: protocol::VERSION,
            release: "0.0.0".to_owned(),
            user: user.clone(),
            agents: vec!["built-in".to_owned()],
            default_model: model(),
            default_agent: "built-in".to_owned(),
            isolation: Isolation::Simulated,
            limits: Limits::default(),
            maximum_limits: Limits::MOST,
        }
    }

    async fn levels(&self, _: &Author) -> Vec<LevelReport> {
        let reason = Some("there is no program runsc".to_owned());
        vec![LevelReport {
            isolation: Isolation::Gvisor,
            works: false,
            runtime: None,
            start_milliseconds: None,
            reason,
            hint: Some("install it".to_owned()),
            limits: Vec::new(),
        }]
    }

    async fn bases(&self, _: &Author) -> Answer<Vec<BaseImage>> {
        Ok(vec![base_image("registry.example/tools:1")])
    }

    async fn pull_base(&self, _: &Author, reference: &str) -> Answer<BaseImage> {
        Ok(base_image(reference))
    }

    async fn remove_base(&self, _: &Author, reference: &str) -> Answer<()> {
        if reference == "registry.example/tools:1" {
            return Ok(());
        }
        Err(Error::NotFound { what: format!("base image {reference}") })
    }

    async fn register_repository(
        &self,
        _: &Author,
        request: RegisterRepository,
    ) -> Answer<Registered> {
        assert!(!request.path.contains("panic"), "a test asked for a panic");
        if !request.path.starts_with('/') {
            let hint = "write the whole path".to_owned();
            return Err(Error::Invalid { what: "not an absolute path".to_owned(), hint });
        }
        let name = "local/x".parse().expect("a name");
        Ok(Registered { repository: repository(&name), notices: vec!["a submodule".to_owned()] })
    }

    async fn repositories(&self, _: &Author) -> Answer<Vec<Repository>> {
        Ok(vec![repository(&"local/x".parse().expect("a name"))])
    }

    async fn repository(&self, _: &Author, name: &RepositoryName) -> Answer<Repository> {
        known(name).map(|()| repository(name))
    }

    async fn repository_settings(
        &self,
        _: &Author,
        name: &RepositoryName,
    ) -> Answer<RepositorySettings> {
        known(name)?;
        Ok(self.settings.lock().expect("no panic").clone())
    }

    async fn put_repository_settings(
        &self,
        _: &Author,
        name: &RepositoryName,
        settings: RepositorySettings,
    ) -> Answer<RepositorySettings> {
        known(name)?;
        let maximum = Limits::MOST.pids.into();
        if let Some(asked) = settings.limits.get(LimitName::Pids).filter(|it| *it > maximum) {
            let limit = LimitName::Pids;
            return Err(Refusal::LimitTooHigh { limit, asked, maximum }.into());
        }
        self.settings.lock().expect("no panic").clone_from(&settings);
        Ok(settings)
    }

    async fn secrets(
        &self,
        _: &Author,
        scope: Option<&SecretScope>,
    ) -> Answer<Vec<SecretDescription>> {
        let kept = self.secrets.lock().expect("no panic").clone();
        Ok(kept.into_iter().filter(|one| scope.is_none_or(|scope| one.scope == *scope)).collect())
    }

    async fn put_secret(
        &self,
        _: &Author,
        scope: SecretScope,
        phase: SecretPhase,
        name: SecretName,
        request: PutSecret,
    ) -> Answer<SecretStored> {
        let PutSecret { delivery, hosts, .. } = request;
        let (key, updated_at) = ("k1".to_owned(), Timestamp(1));
        let secret = SecretDescription { name, scope, phase, delivery, hosts, key, updated_at };
        self.secrets.lock().expect("no panic").push(secret.clone());
        Ok(SecretStored { secret, warnings: Vec::new() })
    }

    async fn remove_secret(
        &self,
        _: &Author,
        scope: &SecretScope,
        phase: SecretPhase,
        name: &SecretName,
    ) -> Answer<()> {
        let mut kept = self.secrets.lock().expect("no panic");
        let before = kept.len();
        kept.retain(|one| (&one.scope, one.phase, &one.name) != (scope, phase, name));
        let gone = kept.len() < before;
        gone.then_some(()).ok_or_else(|| Error::NotFound { what: format!("secret {name}") })
    }

    async fn rotate_secrets(&self, _: &Author) -> Answer<SecretsRotated> {
        Ok(SecretsRotated { key: "k2".to_owned(), secrets: 1, unreadable: Vec::new() })
    }

    async fn build_image(&self, _: &Author, name: &RepositoryName) -> Answer<Image> {
        known(name)?;
        if name.name() == "slow" {
            self.build.begun.notify_one();
            self.build.go_on.notified().await;
            self.build.ended.notify_one();
        }
        Ok(Image {
            id: ImageId::new(),
            commit: "0".repeat(40),
            base: "host".to_owned(),
            state: ImageState::Ready,
            started_at: Timestamp(1),
            milliseconds: Some(1),
        })
    }

    async fn pull_requests(
        &self,
        _: &Author,
        name: &RepositoryName,
        _: Option<String>,
        _: usize,
    ) -> Answer<Page<PullRequest>> {
        known(name).map(|()| Page { items: vec![self.pull(name)], next: None })
    }

    async fn pull_request(
        &self,
        _: &Author,
        name: &RepositoryName,
        number: u32,
    ) -> Answer<PullRequest> {
        known(name)?;
        if number != 1 {
            return Err(Error::NotFound { what: format!("pull request {number} of {name}") });
        }
        Ok(self.pull(name))
    }

    async fn pull_request_diff(&self, _: &Author, name: &RepositoryName, _: u32) -> Answer<String> {
        known(name).map(|()| "diff --git a/x b/x\n".to_owned())
    }

    async fn serve_repository(
        &self,
        _: &Author,
        name: &RepositoryName,
        request: http::Request<Body>,
    ) -> Answer<http::Response<Body>> {
        known(name)?;
        assert_eq!(request.uri().query(), Some("service=git-upload-pack"));
        let reference = format!("{} refs/heads/hangar/x\0agent=git/2\n", "1".repeat(40));
        let body = format!(
            "001e# service=git-upload-pack\n0000{:04x}{reference}0000",
            reference.len() + 4
        );
        let kind = "application/x-git-upload-pack-advertisement";
        let response = http::Response::builder().header("content-type", kind).body(body.into());
        Ok(response.expect("a response"))
    }

    async fn create_session(&self, _: &Author, _: CreateSession) -> Answer<SessionView> {
        Ok(self.view(self.new_session()))
    }

    async fn sessions(
        &self,
        _: &Author,
        _: Option<String>,
        _: usize,
    ) -> Answer<Page<SessionSummary>> {
        let sessions = self.sessions.lock().expect("no panic");
        Ok(Page { items: sessions.keys().map(|id| self.summary(*id)).collect(), next: None })
    }

    async fn session(&self, _: &Author, session: SessionId) -> Answer<SessionView> {
        self.with(session, |_| ()).map(|()| self.view(session))
    }

    async fn send_prompt(
        &self,
        _: &Author,
        session: SessionId,
        request: SendPrompt,
    ) -> Answer<PromptAccepted> {
        if request.text.is_empty() {
            return Err(Refusal::EmptyPrompt.into());
        }
        self.record(session, &request.text);
        let sequence = self.recorded(session).len() as u64;
        Ok(PromptAccepted { prompt: PromptId::new(), sequence })
    }

    async fn edit_prompt(
        &self,
        _: &Author,
        _: SessionId,
        prompt: PromptId,
        _: EditPrompt,
    ) -> Answer<()> {
        Err(Refusal::NotTheAuthor { prompt }.into())
    }

    async fn withdraw_prompt(&self, _: &Author, _: SessionId, prompt: PromptId) -> Answer<()> {
        Err(Refusal::UnknownPrompt { prompt }.into())
    }

    async fn stop(&self, _: &Author, _: SessionId) -> Answer<()> {
        Err(Refusal::NothingToStop.into())
    }

    async fn events(
        &self,
        _: &Author,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Answer<Vec<Envelope>> {
        self.with(session, |it| {
            let later = it.events.iter().filter(|envelope| envelope.sequence > after);
            later.take(limit).cloned().collect()
        })
    }

    async fn subscribe(&self, _: &Author, session: SessionId, after: u64) -> Answer<Updates> {
        let (history, live) = self.with(session, |it| {
            let later = it.events.iter().filter(|envelope| envelope.sequence > after);
            let history: Vec<Envelope> = later.cloned().collect();
            (history, it.live.subscribe())
        })?;
        let last = history.last().map_or(after, |envelope| envelope.sequence);
        let recorded = history.into_iter().map(|envelope| Ok(Update::Event(Arc::new(envelope))));
        let caught_up = Ok(Update::CaughtUp { sequence: last });
        let live = stream::unfold(Some(live), |live| async {
            let mut live = live?;
            match live.recv().await {
                Ok(update) => Some((Ok(update), Some(live))),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    Some((Ok(Update::Lagged { after: 0 }), None))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        });
        Ok(stream::iter(recorded.chain([caught_up])).chain(live).boxed())
    }

    async fn session_diff(&self, _: &Author, session: SessionId) -> Answer<String> {
        self.with(session, |_| "diff --git a/x b/x\n".to_owned())
    }
}
