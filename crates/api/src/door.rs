//! What the API needs of Hangar: the methods of [`conductor::Hangar`], so that tests can stand in
//! for it with sessions whose every moment they control.

use async_trait::async_trait;
use axum::body::Body;
use conductor::{Error, Hangar, Subscription, Update};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use protocol::client::{
    BaseImage, CreateSession, EditPrompt, Page, PromptAccepted, PullRequest, RegisterRepository,
    SendPrompt, ServerDescription,
};
use protocol::repository::{Image, Repository, RepositoryName};
use protocol::sandbox::LevelReport;
use protocol::secret::{
    PutSecret, SecretDescription, SecretName, SecretPhase, SecretScope, SecretStored,
    SecretsRotated,
};
use protocol::session::{Author, SessionSummary, SessionView};
use protocol::settings::RepositorySettings;
use protocol::{Envelope, PromptId, SessionId};
use serde::{Deserialize, Serialize};

/// What a subscriber gets, until it ends.
pub type Updates = BoxStream<'static, Result<Update, Error>>;

type Answer<T> = Result<T, Error>;

/// Answer of `POST /v1/repositories`: the repository, and what did not come along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// The repository.
    #[serde(flatten)]
    pub repository: Repository,
    /// Things that are there and do not come along: submodules, large files kept elsewhere.
    #[serde(default)]
    pub notices: Vec<String>,
}

/// Everything a client can ask for. Each method names the person who acts and decides whether they
/// may; see [`conductor::Hangar`] for what each does.
#[async_trait]
pub trait Door: std::fmt::Debug + Send + Sync + 'static {
    fn local_user(&self) -> Author;
    fn description(&self, user: &Author) -> ServerDescription;
    async fn levels(&self, user: &Author) -> Vec<LevelReport>;

    async fn bases(&self, user: &Author) -> Answer<Vec<BaseImage>>;
    async fn pull_base(&self, user: &Author, reference: &str) -> Answer<BaseImage>;
    async fn remove_base(&self, user: &Author, reference: &str) -> Answer<()>;

    async fn register_repository(
        &self,
        user: &Author,
        request: RegisterRepository,
    ) -> Answer<Registered>;
    async fn repositories(&self, user: &Author) -> Answer<Vec<Repository>>;
    async fn repository(&self, user: &Author, name: &RepositoryName) -> Answer<Repository>;
    async fn repository_settings(
        &self,
        user: &Author,
        name: &RepositoryName,
    ) -> Answer<RepositorySettings>;
    async fn put_repository_settings(
        &self,
        user: &Author,
        name: &RepositoryName,
        settings: RepositorySettings,
    ) -> Answer<RepositorySettings>;
    async fn build_image(&self, user: &Author, name: &RepositoryName) -> Answer<Image>;
    async fn pull_requests(
        &self,
        user: &Author,
        name: &RepositoryName,
        cursor: Option<String>,
        limit: usize,
    ) -> Answer<Page<PullRequest>>;
    async fn pull_request(
        &self,
        user: &Author,
        name: &RepositoryName,
        number: u32,
    ) -> Answer<PullRequest>;
    async fn pull_request_diff(
        &self,
        user: &Author,
        name: &RepositoryName,
        number: u32,
    ) -> Answer<String>;
    async fn serve_repository(
        &self,
        user: &Author,
        name: &RepositoryName,
        request: http::Request<Body>,
    ) -> Answer<http::Response<Body>>;

    async fn secrets(
        &self,
        user: &Author,
        scope: Option<&SecretScope>,
    ) -> Answer<Vec<SecretDescription>>;
    async fn put_secret(
        &self,
        user: &Author,
        scope: SecretScope,
        phase: SecretPhase,
        name: SecretName,
        request: PutSecret,
    ) -> Answer<SecretStored>;
    async fn remove_secret(
        &self,
        user: &Author,
        scope: &SecretScope,
        phase: SecretPhase,
        name: &SecretName,
    ) -> Answer<()>;
    async fn rotate_secrets(&self, user: &Author) -> Answer<SecretsRotated>;

    async fn create_session(&self, user: &Author, request: CreateSession) -> Answer<SessionView>;
    async fn sessions(
        &self,
        user: &Author,
        cursor: Option<String>,
        limit: usize,
    ) -> Answer<Page<SessionSummary>>;
    async fn session(&self, user: &Author, session: SessionId) -> Answer<SessionView>;
    async fn send_prompt(
        &self,
        user: &Author,
        session: SessionId,
        request: SendPrompt,
    ) -> Answer<PromptAccepted>;
    async fn edit_prompt(
        &self,
        user: &Author,
        session: SessionId,
        prompt: PromptId,
        request: EditPrompt,
    ) -> Answer<()>;
    async fn withdraw_prompt(
        &self,
        user: &Author,
        session: SessionId,
        prompt: PromptId,
    ) -> Answer<()>;
    async fn stop(&self, user: &Author, session: SessionId) -> Answer<()>;
    async fn events(
        &self,
        user: &Author,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Answer<Vec<Envelope>>;
    async fn subscribe(&self, user: &Author, session: SessionId, after: u64) -> Answer<Updates>;
    async fn session_diff(&self, user: &Author, session: SessionId) -> Answer<String>;
}

#[async_trait]
impl Door for Hangar {
    fn local_user(&self) -> Author {
        Hangar::local_user(self).clone()
    }

    fn description(&self, user: &Author) -> ServerDescription {
        Hangar::description(self, user)
    }

    async fn levels(&self, user: &Author) -> Vec<LevelReport> {
        Hangar::levels(self, user).await
    }

    async fn bases(&self, user: &Author) -> Answer<Vec<BaseImage>> {
        Hangar::bases(self, user)
    }

    async fn pull_base(&self, user: &Author, reference: &str) -> Answer<BaseImage> {
        Hangar::pull_base(self, user, reference).await
    }

    async fn remove_base(&self, user: &Author, reference: &str) -> Answer<()> {
        Hangar::remove_base(self, user, reference).await
    }

    async fn register_repository(
        &self,
        user: &Author,
        request: RegisterRepository,
    ) -> Answer<Registered> {
        let conductor::Registered { repository, notices } =
            Hangar::register_repository(self, user, request).await?;
        Ok(Registered { repository, notices })
    }

    async fn repositories(&self, user: &Author) -> Answer<Vec<Repository>> {
        Hangar::repositories(self, user).await
    }

    async fn repository(&self, user: &Author, name: &RepositoryName) -> Answer<Repository> {
        Hangar::repository(self, user, name).await
    }

    async fn repository_settings(
        &self,
        user: &Author,
        name: &RepositoryName,
    ) -> Answer<RepositorySettings> {
        Hangar::repository_settings(self, user, name).await
    }

    async fn put_repository_settings(
        &self,
        user: &Author,
        name: &RepositoryName,
        settings: RepositorySettings,
    ) -> Answer<RepositorySettings> {
        Hangar::put_repository_settings(self, user, name, settings).await
    }

    async fn build_image(&self, user: &Author, name: &RepositoryName) -> Answer<Image> {
        Hangar::build_image(self, user, name).await
    }

    async fn pull_requests(
        &self,
        user: &Author,
        name: &RepositoryName,
        cursor: Option<String>,
        limit: usize,
    ) -> Answer<Page<PullRequest>> {
        Hangar::pull_requests(self, user, name, cursor, limit).await
    }

    async fn pull_request(
        &self,
        user: &Author,
        name: &RepositoryName,
        number: u32,
    ) -> Answer<PullRequest> {
        Hangar::pull_request(self, user, name, number).await
    }

    async fn pull_request_diff(
        &self,
        user: &Author,
        name: &RepositoryName,
        number: u32,
    ) -> Answer<String> {
        Hangar::pull_request_diff(self, user, name, number).await
    }

    async fn serve_repository(
        &self,
        user: &Author,
        name: &RepositoryName,
        request: http::Request<Body>,
    ) -> Answer<http::Response<Body>> {
        Hangar::serve_repository(self, user, name, request)
            .await
            .map(|answer| answer.map(Body::new))
    }

    async fn secrets(
        &self,
        user: &Author,
        scope: Option<&SecretScope>,
    ) -> Answer<Vec<SecretDescription>> {
        Ok(Hangar::secrets(self, user, scope))
    }

    async fn put_secret(
        &self,
        user: &Author,
        scope: SecretScope,
        phase: SecretPhase,
        name: SecretName,
        request: PutSecret,
    ) -> Answer<SecretStored> {
        Hangar::put_secret(self, user, scope, phase, name, request).await
    }

    async fn remove_secret(
        &self,
        user: &Author,
        scope: &SecretScope,
        phase: SecretPhase,
        name: &SecretName,
    ) -> Answer<()> {
        Hangar::remove_secret(self, user, scope, phase, name).await
    }

    async fn rotate_secrets(&self, user: &Author) -> Answer<SecretsRotated> {
        Hangar::rotate_secrets(self, user).await
    }

    async fn create_session(&self, user: &Author, request: CreateSession) -> Answer<SessionView> {
        Hangar::create_session(self, user, request).await
    }

    async fn sessions(
        &self,
        user: &Author,
        cursor: Option<String>,
        limit: usize,
    ) -> Answer<Page<SessionSummary>> {
        Hangar::sessions(self, user, cursor, limit).await
    }

    async fn session(&self, user: &Author, session: SessionId) -> Answer<SessionView> {
        Hangar::session(self, user, session).await
    }

    async fn send_prompt(
        &self,
        user: &Author,
        session: SessionId,
        request: SendPrompt,
    ) -> Answer<PromptAccepted> {
        Hangar::send_prompt(self, user, session, request).await
    }

    async fn edit_prompt(
        &self,
        user: &Author,
        session: SessionId,
        prompt: PromptId,
        request: EditPrompt,
    ) -> Answer<()> {
        Hangar::edit_prompt(self, user, session, prompt, request).await
    }

    async fn withdraw_prompt(
        &self,
        user: &Author,
        session: SessionId,
        prompt: PromptId,
    ) -> Answer<()> {
        Hangar::withdraw_prompt(self, user, session, prompt).await
    }

    async fn stop(&self, user: &Author, session: SessionId) -> Answer<()> {
        Hangar::stop(self, user, session).await
    }

    async fn events(
        &self,
        user: &Author,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Answer<Vec<Envelope>> {
        Hangar::events(self, user, session, after, limit).await
    }

    async fn subscribe(&self, user: &Author, session: SessionId, after: u64) -> Answer<Updates> {
        Hangar::subscribe(self, user, session, after).await.map(updates)
    }

    async fn session_diff(&self, user: &Author, session: SessionId) -> Answer<String> {
        Hangar::session_diff(self, user, session).await
    }
}

/// A subscription as a stream, which ends after its first error.
fn updates(subscription: Subscription) -> Updates {
    stream::unfold(Some(subscription), |subscription| async {
        let mut subscription = subscription?;
        match subscription.next().await {
            Ok(update) => update.map(|update| (Ok(update), Some(subscription))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}
