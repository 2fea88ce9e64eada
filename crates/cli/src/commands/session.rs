//! `hangar session`: look at sessions and take part in them.

use protocol::client::{Page, SendPrompt};
use protocol::sandbox::{LimitName, Limits, SandboxDescription};
use protocol::session::{
    Delivery, Prompt, PromptOutcome, PromptState, SessionStatus, SessionSummary, SessionView,
};
use protocol::{PromptId, RequestId, SessionId, Timestamp};
use serde_json::json;

use crate::arguments::{SessionCommand, SessionReference};
use crate::client::Client;
use crate::context::{Context, find_session, prompt_text};
use crate::failure::{Exit, Failure};
use crate::follow::{End, Form, Until, follow};
use crate::style::{Style, Tone};
use crate::watch::Watch;
use crate::{escape, format, summary};

/// Characters of a title in a list.
const TITLE: usize = 60;

/// Carries out `hangar session …`.
pub(crate) async fn session(context: &Context, command: SessionCommand) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        SessionCommand::List { limit, after } => {
            let page = client.sessions(after.as_deref(), limit).await?;
            let now = Timestamp::from_system(std::time::SystemTime::now());
            list(context, &page, now)
        }
        SessionCommand::Show { session, diff } => show(context, &client, &session, diff).await,
        SessionCommand::Watch { session, after, until_idle } => {
            let session = find_session(&client, &session).await?;
            let until = if until_idle { Until::Idle } else { Until::Interrupted };
            watch(context, &client, session, after, until).await
        }
        SessionCommand::Prompt { session, prompt, insert, watch } => {
            let session = find_session(&client, &session).await?;
            let delivery = if insert { Delivery::Insert } else { Delivery::Queue };
            let text = prompt_text(&prompt)?;
            let request = SendPrompt { request: RequestId::new(), text, delivery };
            send(context, &client, session, &request, watch).await
        }
        SessionCommand::Edit { session, prompt, text } => {
            let session = find_session(&client, &session).await?;
            client.edit(session, prompt, &prompt_text(&text)?).await?;
            done(context, session, "rewritten")
        }
        SessionCommand::Withdraw { session, prompt } => {
            let session = find_session(&client, &session).await?;
            client.withdraw(session, prompt).await?;
            done(context, session, "withdrawn")
        }
        SessionCommand::Stop { session } => {
            let session = find_session(&client, &session).await?;
            client.stop(session).await?;
            done(context, session, "stop requested")
        }
    }
}

fn done(context: &Context, session: SessionId, what: &str) -> anyhow::Result<()> {
    if context.output.is_json() {
        return Ok(context.output.document(&json!({"session": session, "done": what}))?);
    }
    Ok(context.output.talk(&[what])?)
}

fn list(context: &Context, page: &Page<SessionSummary>, now: Timestamp) -> anyhow::Result<()> {
    if context.output.is_json() {
        return Ok(context.output.document(page)?);
    }
    if page.items.is_empty() {
        return Ok(context.output.talk(&["no session yet", "hint: hangar run 'What to do'"])?);
    }
    context.output.lines(&list_lines(&page.items, now))?;
    if let Some(next) = &page.next {
        let next = escape::line(next);
        context.output.talk(&[format!("more: hangar session list --after {next}")])?;
    }
    Ok(())
}

/// One line for each session.
pub(crate) fn list_lines(sessions: &[SessionSummary], now: Timestamp) -> Vec<String> {
    let row = |session: &SessionSummary| {
        vec![
            session.id.short(),
            status(session.status).to_owned(),
            session.repository.to_string(),
            escape::line(&session.agent),
            format::ago(session.updated_at, now),
            escape::cut(&escape::line(&session.title), TITLE),
        ]
    };
    format::table(&sessions.iter().map(row).collect::<Vec<_>>())
}

fn status(status: SessionStatus) -> &'static str {
    match status {
        SessionStatus::Idle => "idle",
        SessionStatus::Preparing => "preparing",
        SessionStatus::Running => "running",
        SessionStatus::Stopping => "stopping",
        SessionStatus::Publishing => "publishing",
        SessionStatus::Failed => "failed",
    }
}

async fn show(
    context: &Context,
    client: &Client,
    reference: &SessionReference,
    diff: bool,
) -> anyhow::Result<()> {
    let session = find_session(client, reference).await?;
    let view = client.session(session).await?;
    let patch = if diff { Some(client.session_diff(session).await?) } else { None };
    if context.output.is_json() {
        let mut document = serde_json::to_value(&view)?;
        if let Some(patch) = patch {
            document["diff"] = patch.into();
        }
        return Ok(context.output.document(&document)?);
    }
    let style = context.output.style();
    context.output.lines(&view_lines(style, &view))?;
    if let Some(patch) = patch {
        context.output.lines(&summary::diff(style, &patch, usize::MAX, ""))?;
    }
    Ok(())
}

/// A whole session for people.
pub(crate) fn view_lines(style: Style, view: &SessionView) -> Vec<String> {
    let mut rows = vec![
        row("session", view.summary.id.to_string()),
        row("status", status(view.summary.status).to_owned()),
        row("repository", view.summary.repository.to_string()),
        row("agent", escape::line(&view.summary.agent)),
        row("model", summary::model_name(&view.model)),
        row(
            "started from",
            format!("{} at {}", escape::line(&view.base_branch), format::commit(&view.base_commit)),
        ),
        row("branch", escape::line(&view.branch)),
        row("sandbox", view.sandbox.as_ref().map_or("none now".to_owned(), sandbox)),
    ];
    rows.extend(view.sandbox.as_ref().map(|it| row("limits", limits(&it.limits))));
    if let Some(request) = &view.pull_request {
        let (title, stat) = (escape::line(&request.title), summary::diff_stat(request.diff_stat));
        rows.push(row("pull request", format!("#{} {title} ({stat})", request.number)));
    }
    let mut lines = vec![style.paint(Tone::Strong, &escape::line(&view.summary.title))];
    lines.extend(format::table(&rows).iter().map(|line| format!("  {line}")));
    lines.extend(view.prompts.iter().flat_map(prompt_lines));
    lines
}

fn row(name: &str, value: String) -> Vec<String> {
    vec![name.to_owned(), value]
}

fn sandbox(sandbox: &SandboxDescription) -> String {
    format!("{}, isolation {}", sandbox.id.short(), sandbox.isolation.as_str())
}

fn limits(limits: &Limits) -> String {
    LimitName::ALL.map(|limit| format!("{limit} {}", limit.show(limits.get(limit)))).join(", ")
}

fn prompt_lines(prompt: &Prompt) -> Vec<String> {
    let state = match &prompt.state {
        PromptState::Queued => format!("waits, {}", prompt.id),
        PromptState::Running => "runs".to_owned(),
        PromptState::Publishing => "is being published".to_owned(),
        PromptState::Withdrawn => "withdrawn".to_owned(),
        PromptState::Finished { outcome } => match outcome {
            PromptOutcome::Completed => "done".to_owned(),
            PromptOutcome::Stopped { by } => format!("stopped by {}", escape::line(&by.name)),
            PromptOutcome::Superseded => "ended for an inserted prompt".to_owned(),
            PromptOutcome::Failed { reason } => format!("failed: {}", escape::line(reason)),
        },
    };
    let mut lines = vec![format!("{} ({state}):", escape::line(&prompt.author.name))];
    let text = escape::text(prompt.text.trim());
    lines.extend(text.lines().map(|line| format!("  > {line}")));
    lines
}

/// Shows a session's events; a plain end of `--until-idle` tells how its last prompt went.
async fn watch(
    context: &Context,
    client: &Client,
    session: SessionId,
    after: u64,
    until: Until,
) -> anyhow::Result<()> {
    let mut watch = Watch::new(context.output.style());
    let mut stream = client.stream(session, after).await?;
    let form = if context.output.is_json() { Form::Records } else { Form::Lines };
    follow(&context.output, &mut stream, &mut watch, until, form).await.map(drop)
}

/// Sends a prompt and, if asked for, watches it.
pub(crate) async fn send(
    context: &Context,
    client: &Client,
    session: SessionId,
    request: &SendPrompt,
    watched: bool,
) -> anyhow::Result<()> {
    let accepted = client.send(session, request).await?;
    if !watched {
        return told(context, session, accepted.prompt);
    }
    watch_prompt(context, client, session, accepted.prompt, accepted.sequence - 1).await
}

/// Says that a prompt is recorded, and how to see what becomes of it.
pub(crate) fn told(context: &Context, session: SessionId, prompt: PromptId) -> anyhow::Result<()> {
    if context.output.is_json() {
        return Ok(context.output.document(&json!({"session": session, "prompt": prompt}))?);
    }
    context.output.lines(&[session.to_string()])?;
    let hint = format!("watch it with `hangar session watch {}`", session.short());
    Ok(context.output.talk(&[hint])?)
}

/// Watches one prompt; how it ended decides how the program ends.
pub(crate) async fn watch_prompt(
    context: &Context,
    client: &Client,
    session: SessionId,
    prompt: PromptId,
    after: u64,
) -> anyhow::Result<()> {
    let mut watch = Watch::new(context.output.style());
    let mut stream = client.stream(session, after).await?;
    let form = if context.output.is_json() { Form::Records } else { Form::Lines };
    let until = Until::Finished(prompt);
    let end = follow(&context.output, &mut stream, &mut watch, until, form).await?;
    if end == End::Interrupted {
        let text = "the session goes on without you";
        let hint = format!("hangar session watch {0}, hangar session stop {0}", session.short());
        return Err(Failure::new(Exit::Interrupted, text).hint(hint).into());
    }
    verdict(watch.outcome(prompt))
}

/// An error for every outcome but a completed one.
pub(crate) fn verdict(outcome: Option<&PromptOutcome>) -> anyhow::Result<()> {
    let text = match outcome {
        None | Some(PromptOutcome::Completed) => return Ok(()),
        Some(PromptOutcome::Stopped { by }) => format!("the prompt was stopped by {}", by.name),
        Some(PromptOutcome::Superseded) => "the prompt made room for an inserted one".to_owned(),
        Some(PromptOutcome::Failed { reason }) => format!("the prompt failed: {reason}"),
    };
    Err(Failure::new(Exit::Failed, text).into())
}
