//! What people do with sessions.

use std::time::Duration;

use protocol::client::{CreateSession, EditPrompt, Page, PromptAccepted, SendPrompt};
use protocol::session::{Author, Delivery, SessionSummary, SessionView};
use protocol::{Envelope, Event, PromptId, Refusal, RequestId, SessionId};
use session::{Command, Create};
use tokio::sync::oneshot;

use crate::directory::Directory;
use crate::effective::{self, Asked};
use crate::shared::Shared;
use crate::subscription::Subscription;
use crate::task::{Handle, Message};
use crate::{Error, Hangar, wording};

/// Bytes of a diff at most.
const DIFF_BYTES: usize = 8 * 1024 * 1024;
/// Sessions in one page of a list at most.
const PAGE: usize = 200;

impl Hangar {
    /// Creates a session, with its first prompt if one is given. The repository gets an image first
    /// if it has none, which may take long.
    pub async fn create_session(
        &self,
        author: &Author,
        request: CreateSession,
    ) -> Result<SessionView, Error> {
        let shared = &self.shared;
        let repository = self.repository(author, &request.repository).await?;
        let agent = request.agent.unwrap_or_else(|| shared.settings.default_agent.clone());
        shared.require_agent(&agent)?;
        let model = request.model.unwrap_or_else(|| shared.settings.default_model.clone());
        let base_branch = request.branch.unwrap_or(repository.default_branch);
        let base_commit = shared.resolve(&request.repository, &base_branch).await?;
        let asked = Asked { limits: request.limits, isolation: request.isolation };
        let without = shared.effective(&request.repository, &base_commit, Asked::default()).await?;
        effective::check(&shared.settings, &without, asked)?;
        if let Some(prompt) = &request.prompt {
            check_prompt(prompt)?;
        }
        let known = shared.secrets.redaction().current();
        // The branch is named after it, and nothing strikes a name out of Git's again.
        let title = known.text(request.prompt.as_deref().unwrap_or_default());
        let title = session::title(&title);
        let (id, handle) = self.session_of_request(request.request).await?;
        let branch = wording::branch(id, &title);
        let created = handle
            .decide(Command::Create(Create {
                by: author.clone(),
                title,
                repository: request.repository,
                agent,
                model,
                base_branch,
                base_commit,
                branch,
                limits: asked.limits,
                isolation: asked.isolation,
            }))
            .await;
        match created {
            // The same request again: what it asked for is there.
            Ok(_) | Err(Error::Refused(Refusal::AlreadyCreated)) => {}
            Err(error) => return Err(error),
        }
        if let Some(text) = request.prompt {
            let send = SendPrompt { request: request.request, text, delivery: Delivery::default() };
            self.send_prompt(author, id, send).await?;
        }
        view(&handle).await
    }

    /// The session a request creates: a new one the first time, the same one again.
    async fn session_of_request(&self, request: RequestId) -> Result<(SessionId, Handle), Error> {
        let shared = &self.shared;
        let key = format!("session_of_{request}");
        let failed = |error: crate::error::BoxError| {
            Error::failed(format!("looking up the request {request}"), error)
        };
        let known = shared.index.setting(&key).await.map_err(|error| failed(error.into()))?;
        if let Some(id) = known.and_then(|text| text.parse().ok()) {
            return Ok((id, Directory::get_or_create(shared, id).await?));
        }
        let id = SessionId::new();
        let noted = shared.index.set_setting(&key, &id.to_string()).await;
        noted.map_err(|error| failed(error.into()))?;
        Ok((id, Directory::get_or_create(shared, id).await?))
    }

    /// Adds a prompt; when this returns, the prompt is recorded and will not be lost.
    pub async fn send_prompt(
        &self,
        author: &Author,
        session: SessionId,
        request: SendPrompt,
    ) -> Result<PromptAccepted, Error> {
        let handle = Directory::get(&self.shared, session).await?;
        let prompt = PromptId::new();
        let done = handle
            .decide(Command::SendPrompt {
                prompt,
                request: request.request,
                author: author.clone(),
                text: request.text,
                delivery: request.delivery,
            })
            .await?;
        match done.already {
            None => Ok(PromptAccepted { prompt, sequence: done.sequence }),
            // The same request again gets the same answer.
            Some(prompt) => {
                let sequence = self.accepted_at(session, prompt).await?;
                Ok(PromptAccepted { prompt, sequence })
            }
        }
    }

    /// The number of the event that recorded a prompt.
    async fn accepted_at(&self, session: SessionId, wanted: PromptId) -> Result<u64, Error> {
        let mut after = 0;
        loop {
            let page = self.shared.journal.read(session, after, 1000).await;
            let page =
                page.map_err(|error| Error::failed(format!("reading events of {session}"), error))?;
            let Some(last) = page.last().map(|last| last.sequence) else {
                return Err(Error::NotFound { what: format!("prompt {wanted}") });
            };
            let found = page.iter().find(|envelope| {
                matches!(&envelope.event, Event::PromptAccepted { prompt, .. } if *prompt == wanted)
            });
            if let Some(found) = found {
                return Ok(found.sequence);
            }
            after = last;
        }
    }

    /// Rewrites a prompt that still waits.
    pub async fn edit_prompt(
        &self,
        author: &Author,
        session: SessionId,
        prompt: PromptId,
        request: EditPrompt,
    ) -> Result<(), Error> {
        let handle = Directory::get(&self.shared, session).await?;
        let by = author.clone();
        handle.decide(Command::EditPrompt { prompt, by, text: request.text }).await.map(drop)
    }

    /// Takes back a prompt that still waits.
    pub async fn withdraw_prompt(
        &self,
        author: &Author,
        session: SessionId,
        prompt: PromptId,
    ) -> Result<(), Error> {
        let handle = Directory::get(&self.shared, session).await?;
        handle.decide(Command::WithdrawPrompt { prompt, by: author.clone() }).await.map(drop)
    }

    /// Stops the running prompt; the queue stays.
    pub async fn stop(&self, author: &Author, session: SessionId) -> Result<(), Error> {
        let handle = Directory::get(&self.shared, session).await?;
        handle.decide(Command::Stop { by: author.clone() }).await.map(drop)
    }

    /// One session, whole.
    pub async fn session(
        &self,
        _author: &Author,
        session: SessionId,
    ) -> Result<SessionView, Error> {
        view(&Directory::get(&self.shared, session).await?).await
    }

    /// Sessions, the one that changed last first.
    pub async fn sessions(
        &self,
        _author: &Author,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<Page<SessionSummary>, Error> {
        self.shared
            .index
            .sessions(journal::index::Order::Updated, cursor.as_deref(), limit.clamp(1, PAGE))
            .await
            .map_err(|error| match error {
                journal::Error::Cursor { .. } => Error::Invalid {
                    what: error.to_string(),
                    hint: "begin again without a cursor".to_owned(),
                },
                error => Error::failed("listing sessions", error),
            })
    }

    /// Recorded events after a number.
    pub async fn events(
        &self,
        _author: &Author,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Envelope>, Error> {
        Directory::get(&self.shared, session).await?;
        self.shared
            .journal
            .read(session, after, limit.clamp(1, protocol::limits::PAGE_EVENTS))
            .await
            .map_err(|error| Error::failed(format!("reading events of {session}"), error))
    }

    /// Everything after a number, then everything as it happens.
    pub async fn subscribe(
        &self,
        _author: &Author,
        session: SessionId,
        after: u64,
    ) -> Result<Subscription, Error> {
        let handle = Directory::get(&self.shared, session).await?;
        let (reply, answer) = oneshot::channel();
        handle.ask(Message::Subscribe { after, reply }, answer).await
    }

    /// What the session's branch changes: from its pull request if it has one, else from the
    /// sandbox's files as they are.
    pub async fn session_diff(&self, author: &Author, session: SessionId) -> Result<String, Error> {
        let view = self.session(author, session).await?;
        if let Some(pull_request) = &view.pull_request {
            return self
                .pull_request_diff(author, &view.summary.repository, pull_request.number)
                .await;
        }
        match &view.sandbox {
            Some(sandbox) => {
                let diff = self.shared.client(sandbox.id).diff(&view.base_commit, DIFF_BYTES).await;
                diff.map(|bytes| without_secrets(&self.shared, &bytes)).map_err(|error| {
                    Error::failed(format!("reading the changes of {session}"), error)
                })
            }
            None => Ok(String::new()),
        }
    }

    /// Stops the sandboxes of all idle sessions and waits until they are gone, before the server
    /// ends. Sandboxes with work go on without the server and are taken up by the next one.
    pub async fn park(&self) {
        let parking = self.shared.directory.sessions().into_iter().map(|(id, handle)| async move {
            if let Err(error) = park_one(&handle).await {
                tracing::info!(session = %id, error = error.chain(), "not parked");
            }
        });
        futures_util::future::join_all(parking).await;
    }
}

/// How long an idle sandbox may take to be gone when the server ends.
const PARKING: Duration = Duration::from_secs(20);

async fn park_one(handle: &Handle) -> Result<(), Error> {
    let done = handle.decide(Command::Park).await?;
    let (reply, answer) = oneshot::channel();
    let mut news = handle.ask(Message::Subscribe { after: done.sequence, reply }, answer).await?;
    let gone = async {
        while view(handle).await?.sandbox.is_some() {
            if news.next().await?.is_none() {
                break;
            }
        }
        Ok(())
    };
    tokio::time::timeout(PARKING, gone).await.unwrap_or(Ok(()))
}

/// What is wrong with a first prompt, before a session is created for it.
fn check_prompt(text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::EmptyPrompt);
    }
    let limit = protocol::limits::PROMPT_BYTES;
    if text.len() > limit {
        return Err(Refusal::PromptTooLong { bytes: text.len(), limit });
    }
    Ok(())
}

/// What a sandbox says, without the secrets it may hold.
fn without_secrets(shared: &Shared, bytes: &[u8]) -> String {
    shared.secrets.redaction().text(&String::from_utf8_lossy(bytes)).into_owned()
}

async fn view(handle: &Handle) -> Result<SessionView, Error> {
    let (reply, answer) = oneshot::channel();
    handle
        .ask(Message::View { reply }, answer)
        .await?
        .ok_or_else(|| Error::NotFound { what: "such session".to_owned() })
}
