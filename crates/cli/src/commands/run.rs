//! `hangar run`: start a session on the running server.

use std::path::Path;

use anyhow::Context as _;
use protocol::client::CreateSession;
use protocol::repository::RepositoryName;
use protocol::{PromptId, RequestId, SessionId};

use crate::arguments::{RepositoryReference, Run, Setup};
use crate::client::Client;
use crate::commands::{repository, session};
use crate::context::{Context, prompt_text};

/// Carries out `hangar run`.
pub(crate) async fn run(context: &Context, run: Run) -> anyhow::Result<()> {
    let client = context.client()?;
    let text = prompt_text(&run.prompt)?;
    let repository = match RepositoryReference::of(&run.repository, Path::exists) {
        RepositoryReference::Name(name) => name,
        RepositoryReference::Path(path) => {
            repository::register(context, &client, &path, None).await?.name
        }
    };
    context.output.wait("starting the session");
    let created = create(&client, repository, text, run.setup).await;
    context.output.wait_for(None);
    let (session, prompt) = created?;
    if run.watch {
        return session::watch_prompt(context, &client, session, prompt, 0).await;
    }
    session::told(context, session, prompt)
}

/// Starts a session with its first prompt, from which it takes its title and branch.
pub(crate) async fn create(
    client: &Client,
    repository: RepositoryName,
    prompt: String,
    setup: Setup,
) -> anyhow::Result<(SessionId, PromptId)> {
    let request = CreateSession {
        request: RequestId::new(),
        repository,
        prompt: Some(prompt),
        agent: setup.agent,
        model: setup.model,
        branch: setup.branch,
        limits: setup.limits.request(),
        isolation: setup.isolation,
    };
    let view = client.create(&request).await?;
    let session = view.summary.id;
    let first = view.prompts.first();
    let prompt = first.with_context(|| format!("{session} was created without its prompt"))?.id;
    Ok((session, prompt))
}
