//! `hangar try`: one whole job, from a path to a pull request, as any client of the API does it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use protocol::repository::Repository;
use protocol::sandbox::Isolation;
use protocol::session::{ModelChoice, Phase};
use protocol::{PromptId, SessionId};

use crate::arguments::{LimitOptions, Setup, Try};
use crate::client::Client;
use crate::commands::{repository, run, session};
use crate::context::{Context, prompt_text};
use crate::failure::{Exit, Failure};
use crate::follow::{End, Form, Until, follow, interruption};
use crate::server::{Options, Sandboxes, Server};
use crate::style::Tone;
use crate::summary::{self, Document};
use crate::watch::Watch;
use crate::{format, style::Style};

/// Time the agent gets to stop after Ctrl-C before the program ends anyway.
const STOPPING: Duration = Duration::from_secs(15);

/// Carries out `hangar try`.
pub(crate) async fn try_job(context: &Context, arguments: Try) -> anyhow::Result<()> {
    let prompt = prompt_text(&arguments.prompt)?;
    let path = directory(&arguments.repository)?;
    if let Some(client) = context.running_client()? {
        let line = format!("using the server that runs at {}", client.address());
        context.output.talk(&[line])?;
        return job(context, &client, &path, prompt, arguments.setup).await;
    }
    let maximum = &arguments.maximum.maximum;
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        model: None,
        whereabouts: &path,
        sandboxes: Sandboxes::new(Isolation::Namespaces, &LimitOptions::default(), maximum)?,
        trust: arguments.outside.trust,
        runtimes: arguments.runtimes.runtimes,
    };
    context.output.wait("starting Hangar");
    let started = Server::start(&context.data, options).await;
    context.output.wait_for(None);
    let server = started?;
    let result = match context.client() {
        Ok(client) => job(context, &client, &path, prompt, arguments.setup).await,
        Err(error) => Err(error),
    };
    if arguments.keep {
        let lines = [format!("the server stays until Ctrl-C: {}", server.link()?)];
        context.output.talk(&lines)?;
        interruption().await;
    }
    let stopped = server.stop().await;
    result.and(stopped)
}

/// The repository's path, checked here so that a typing error is told before anything starts.
fn directory(path: &Path) -> anyhow::Result<PathBuf> {
    let found = path.canonicalize().map_err(|error| {
        Failure::new(Exit::Usage, format!("there is no repository at {}: {error}", path.display()))
            .hint("name a directory made by `git clone` or `git init` with --repository")
    })?;
    Ok(found)
}

async fn job(
    context: &Context,
    client: &Client,
    path: &Path,
    prompt: String,
    setup: Setup,
) -> anyhow::Result<()> {
    let mut watch = Watch::new(context.output.style());
    let repository = repository::register(context, client, path, None).await?;
    prepare_image(context, client, &repository, &mut watch).await?;
    context.output.wait("starting the session");
    let created = run::create(client, repository.name.clone(), prompt, setup).await;
    context.output.wait_for(None);
    let (session, prompt) = created?;
    let mut stream = client.stream(session, 0).await?;
    let until = Until::Finished(prompt);
    let end = follow(&context.output, &mut stream, &mut watch, until, Form::Lines).await?;
    if end == End::Interrupted {
        context.output.talk(&["stopping; Ctrl-C again ends at once"])?;
        client.stop(session).await?;
        let stopping = follow(&context.output, &mut stream, &mut watch, until, Form::Lines);
        // Whoever interrupts twice, or waits too long, leaves the rest to the next server.
        let _ = tokio::time::timeout(STOPPING, stopping).await;
        return Err(Failure::new(Exit::Interrupted, "interrupted").into());
    }
    conclude(context, client, &watch, session, prompt).await
}

async fn prepare_image(
    context: &Context,
    client: &Client,
    repository: &Repository,
    watch: &mut Watch,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let image = repository::build(context, client, &repository.name).await?;
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    watch.add_time(Phase::Image, milliseconds);
    let mark = context.output.style().paint(Tone::Good, "✓");
    let (name, commit) = (&repository.name, format::commit(&image.commit));
    let time = format::duration(milliseconds);
    Ok(context.output.lines(&[format!("{mark} image of {name} at {commit} ({time})")])?)
}

/// The document or the diff, the times and what to do next; then whether it went well.
async fn conclude(
    context: &Context,
    client: &Client,
    watch: &Watch,
    session: SessionId,
    prompt: PromptId,
) -> anyhow::Result<()> {
    let facts = watch.facts();
    if context.output.is_json() {
        context.output.document(&Document::new(facts, prompt))?;
    } else {
        let style = context.output.style();
        let mut lines = vec![String::new()];
        if facts.commit.is_some() {
            let patch = client.session_diff(session).await?;
            let whole = format!("{} session show {} --diff", context.program, session.short());
            lines.extend(summary::diff(style, &patch, summary::DIFF_LINES, &whole));
            lines.push(String::new());
        }
        lines.extend(summary::phase_table(style, &facts.times(prompt)));
        lines.push(String::new());
        lines.extend(next_commands(style, context, watch, session));
        context.output.lines(&lines)?;
    }
    session::verdict(watch.outcome(prompt))?;
    if facts.commit.is_some() && facts.pull_request.is_none() {
        let text = "the commit was made and not published: see above";
        return Err(Failure::new(Exit::Failed, text).into());
    }
    Ok(())
}

fn next_commands(
    style: Style,
    context: &Context,
    watch: &Watch,
    session: SessionId,
) -> Vec<String> {
    let facts = watch.facts();
    let mut lines = vec![style.paint(Tone::Strong, "Next:")];
    if let (Some(repository), Some(branch), Some(_)) =
        (&facts.repository, &facts.branch, &facts.pull_request)
    {
        let forge = context.data.root().join("forge").join(format!("{repository}.git"));
        lines.push(format!("  git fetch {} {branch}", forge.display()));
        lines.push("      brings the commit into your own checkout".to_owned());
    }
    let program = &context.program;
    lines.push(format!("  {program} serve"));
    lines.push(format!("  {program} session prompt {} 'Now add a test' --watch", session.short()));
    lines.push(
        "      serve in one terminal; the follow-up in another goes on with this session"
            .to_owned(),
    );
    if facts.model.as_ref().is_some_and(is_rehearsal) {
        lines.push(format!("  ANTHROPIC_API_KEY=… {program} try"));
        lines.push("      does the work with a real model; this was a rehearsal".to_owned());
    }
    lines
}

fn is_rehearsal(model: &ModelChoice) -> bool {
    model.provider == "rehearsal"
}
