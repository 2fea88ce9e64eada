//! A client of Hangar's API: one method for each thing a person can ask for.
//!
//! Everything here works over HTTP like any other client, also when the server is in this very
//! process: so `try` tests what everybody uses.

mod secrets;
mod stream;

pub use stream::{News, Stream};

use std::time::Duration;

use anyhow::Context as _;
use api::door::Registered;
use protocol::client::{
    BaseImage, CreateSession, EditPrompt, Page, PromptAccepted, PullBase, PullRequest,
    RegisterRepository, SendPrompt, ServerDescription,
};
use protocol::problem::Problem;
use protocol::repository::{Image, Repository, RepositoryName};
use protocol::session::{SessionSummary, SessionView};
use protocol::settings::RepositorySettings;
use protocol::{Envelope, PromptId, SessionId};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};

use serde::de::DeserializeOwned;

use crate::failure::{Exit, Failure};

/// Time for a connection to a server.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for an answer that needs no work.
const ANSWER: Duration = Duration::from_mins(1);
/// Time for an answer that needs a repository to be read or an image to be built.
const WORK: Duration = Duration::from_hours(1);

/// A server's address, and what proves to it who we are.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: SecretString,
}

impl Client {
    /// A client of the server at `address`, as in `http://127.0.0.1:7171`.
    pub fn new(address: &str, token: SecretString) -> anyhow::Result<Self> {
        let base = address.trim_end_matches('/').to_owned();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            let text = format!("`{base}` is no address of a server");
            let failure = Failure::new(Exit::Usage, text);
            return Err(failure.hint("write it as in http://127.0.0.1:7171").into());
        }
        // Whoever was first has chosen; the choice is the same everywhere.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            // A server of ours never redirects, and a redirect must not carry the token elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("setting up HTTP")?;
        Ok(Self { http, base, token })
    }

    /// The address it talks to.
    pub fn address(&self) -> &str {
        &self.base
    }

    /// What the server is and who we are to it.
    pub async fn server(&self) -> anyhow::Result<ServerDescription> {
        self.get("/v1/server").await.context("asking the server what it is")
    }

    /// Every base image.
    pub async fn bases(&self) -> anyhow::Result<Vec<BaseImage>> {
        let page: Page<BaseImage> = self.get("/v1/bases").await.context("listing base images")?;
        Ok(page.items)
    }

    /// Fetches a base image and waits until it is unpacked.
    pub async fn pull_base(&self, reference: &str) -> anyhow::Result<BaseImage> {
        let request = PullBase { reference: reference.to_owned() };
        let call = self.request(Method::POST, "/v1/bases").timeout(WORK).json(&request);
        read(call).await.with_context(|| format!("pulling {reference}"))
    }

    /// Forgets a base image.
    pub async fn remove_base(&self, reference: &str) -> anyhow::Result<()> {
        let call = self.request(Method::DELETE, "/v1/bases").query(&[("reference", reference)]);
        answer(call).await.map(drop).with_context(|| format!("removing {reference}"))
    }

    /// Every registered repository.
    pub async fn repositories(&self) -> anyhow::Result<Vec<Repository>> {
        let page: Page<Repository> =
            self.get("/v1/repositories").await.context("listing repositories")?;
        Ok(page.items)
    }

    /// Imports a repository from a path on the server's machine; again, it is brought up to date.
    pub async fn register(&self, request: &RegisterRepository) -> anyhow::Result<Registered> {
        let call = self.request(Method::POST, "/v1/repositories").timeout(WORK).json(request);
        read(call).await.with_context(|| format!("registering {}", request.path))
    }

    /// What people decided about a repository.
    pub async fn repository_settings(
        &self,
        repository: &RepositoryName,
    ) -> anyhow::Result<RepositorySettings> {
        let path = format!("/v1/repositories/{repository}/settings");
        self.get(&path).await.with_context(|| format!("reading the settings of {repository}"))
    }

    /// Replaces what was decided about a repository.
    pub async fn put_repository_settings(
        &self,
        repository: &RepositoryName,
        settings: &RepositorySettings,
    ) -> anyhow::Result<RepositorySettings> {
        let path = format!("/v1/repositories/{repository}/settings");
        let call = self.request(Method::PUT, &path).json(settings);
        read(call).await.with_context(|| format!("changing the settings of {repository}"))
    }

    /// Builds the image of a repository and waits until it is ready or failed.
    pub async fn build_image(&self, repository: &RepositoryName) -> anyhow::Result<Image> {
        let path = format!("/v1/repositories/{repository}/image");
        let call = self.request(Method::POST, &path).timeout(WORK);
        read(call).await.with_context(|| format!("building the image of {repository}"))
    }

    /// The diff of a pull request, as a patch.
    pub async fn pull_request_diff(
        &self,
        repository: &RepositoryName,
        number: u32,
    ) -> anyhow::Result<String> {
        let path = format!("/v1/repositories/{repository}/pulls/{number}/diff");
        self.text(&path)
            .await
            .with_context(|| format!("reading the diff of {repository} #{number}"))
    }

    /// The pull requests of a repository, newest first.
    pub async fn pull_requests(
        &self,
        repository: &RepositoryName,
    ) -> anyhow::Result<Vec<PullRequest>> {
        let path = format!("/v1/repositories/{repository}/pulls");
        let page: Page<PullRequest> = self
            .get(&path)
            .await
            .with_context(|| format!("listing pull requests of {repository}"))?;
        Ok(page.items)
    }

    /// A page of sessions, newest first.
    pub async fn sessions(
        &self,
        after: Option<&str>,
        limit: usize,
    ) -> anyhow::Result<Page<SessionSummary>> {
        let mut call = self.request(Method::GET, "/v1/sessions").query(&[("limit", limit)]);
        if let Some(after) = after {
            call = call.query(&[("cursor", after)]);
        }
        read(call).await.context("listing sessions")
    }

    /// A session as it is now.
    pub async fn session(&self, session: SessionId) -> anyhow::Result<SessionView> {
        let path = format!("/v1/sessions/{session}");
        self.get(&path).await.with_context(|| format!("reading {session}"))
    }

    /// Everything recorded of a session after an event's number.
    pub async fn events(&self, session: SessionId, after: u64) -> anyhow::Result<Vec<Envelope>> {
        let mut events: Vec<Envelope> = Vec::new();
        loop {
            let after = events.last().map_or(after, |last| last.sequence);
            let path = format!("/v1/sessions/{session}/events?after={after}");
            let page: Vec<Envelope> =
                self.get(&path).await.with_context(|| format!("reading events of {session}"))?;
            if page.is_empty() {
                return Ok(events);
            }
            events.extend(page);
        }
    }

    /// The changes of a session against its base, as a patch.
    pub async fn session_diff(&self, session: SessionId) -> anyhow::Result<String> {
        let path = format!("/v1/sessions/{session}/diff");
        self.text(&path).await.with_context(|| format!("reading the diff of {session}"))
    }

    /// Starts a session.
    pub async fn create(&self, request: &CreateSession) -> anyhow::Result<SessionView> {
        let call = self.request(Method::POST, "/v1/sessions").timeout(WORK).json(request);
        read(call).await.with_context(|| format!("starting a session on {}", request.repository))
    }

    /// Sends a prompt; when this returns, the prompt is recorded.
    pub async fn send(
        &self,
        session: SessionId,
        request: &SendPrompt,
    ) -> anyhow::Result<PromptAccepted> {
        let path = format!("/v1/sessions/{session}/prompts");
        let call = self.request(Method::POST, &path).json(request);
        read(call).await.with_context(|| format!("sending a prompt to {session}"))
    }

    /// Rewrites a waiting prompt.
    pub async fn edit(
        &self,
        session: SessionId,
        prompt: PromptId,
        text: &str,
    ) -> anyhow::Result<()> {
        let path = format!("/v1/sessions/{session}/prompts/{prompt}");
        let call = self.request(Method::PUT, &path).json(&EditPrompt { text: text.to_owned() });
        answer(call).await.map(drop).with_context(|| format!("rewriting {prompt}"))
    }

    /// Takes back a waiting prompt.
    pub async fn withdraw(&self, session: SessionId, prompt: PromptId) -> anyhow::Result<()> {
        let path = format!("/v1/sessions/{session}/prompts/{prompt}");
        let call = self.request(Method::DELETE, &path);
        answer(call).await.map(drop).with_context(|| format!("withdrawing {prompt}"))
    }

    /// Asks to stop the running prompt.
    pub async fn stop(&self, session: SessionId) -> anyhow::Result<()> {
        let call = self.request(Method::POST, &format!("/v1/sessions/{session}/stop"));
        answer(call).await.map(drop).with_context(|| format!("stopping {session}"))
    }

    /// What happens in a session from after an event's number on; reconnects by itself.
    pub async fn stream(&self, session: SessionId, after: u64) -> anyhow::Result<Stream> {
        Stream::open(&self.base, self.token.clone(), session, after).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let call = self.http.request(method, format!("{}{path}", self.base)).timeout(ANSWER);
        call.bearer_auth(self.token.expose_secret())
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        read(self.request(Method::GET, path)).await
    }

    async fn text(&self, path: &str) -> anyhow::Result<String> {
        let answer = answer(self.request(Method::GET, path).timeout(WORK)).await?;
        // A patch may hold bytes that are no UTF-8; for people they are replaced.
        let bytes = answer.bytes().await.context("reading the answer")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

async fn read<T: DeserializeOwned>(call: RequestBuilder) -> anyhow::Result<T> {
    let bytes = answer(call).await?.bytes().await.context("reading the answer")?;
    serde_json::from_slice(&bytes).context("the server's answer was not understood: is it newer?")
}

/// Sends a request; anything but success becomes a [`Failure`] with the server's own advice.
async fn answer(call: RequestBuilder) -> anyhow::Result<Response> {
    let answer = call.send().await.map_err(unreachable_server)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let bytes = answer.bytes().await.unwrap_or_default();
    Err(refused(status, &bytes).into())
}

fn unreachable_server(error: reqwest::Error) -> anyhow::Error {
    if !error.is_connect() {
        return error.without_url().into();
    }
    let address = error.url().map(|url| url.origin().ascii_serialization()).unwrap_or_default();
    let failure = Failure::new(Exit::NoServer, format!("no server answers at {address}"));
    failure.hint("start one with `hangar serve`, or do a whole job with `hangar try`").into()
}

/// The failure that a problem document, or another answer that is no success, describes.
fn refused(status: StatusCode, body: &[u8]) -> Failure {
    let exit = match status {
        StatusCode::UNAUTHORIZED => Exit::NoServer,
        _ => Exit::Failed,
    };
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => {
            let exit = if problem.code == api::MACHINE_LACKS { Exit::Machine } else { exit };
            Failure { exit, text: problem.detail, hint: problem.hint }
        }
        Err(_) => Failure::new(exit, format!("the server answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_document_becomes_the_error_and_its_hint() {
        let problem = Problem {
            kind: "/errors/queue_full".to_owned(),
            title: "Refused".to_owned(),
            status: 409,
            detail: "50 prompts are waiting already".to_owned(),
            code: "queue_full".to_owned(),
            hint: Some("withdraw one".to_owned()),
        };
        let failure = refused(StatusCode::CONFLICT, &serde_json::to_vec(&problem).expect("JSON"));
        assert_eq!(failure.text, "50 prompts are waiting already");
        assert_eq!(failure.hint.as_deref(), Some("withdraw one"));
        assert_eq!(failure.exit, Exit::Failed);
    }

    #[test]
    fn another_answer_is_told_as_it_is() {
        let failure = refused(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(failure.text, "the server answered 502 Bad Gateway");
        assert_eq!(refused(StatusCode::UNAUTHORIZED, b"").exit, Exit::NoServer);
    }
}
