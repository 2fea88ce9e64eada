//! Performs a watch: reads a session's stream and puts on the screen what [`Watch`] makes of it.

use anyhow::Context as _;
use protocol::PromptId;
use tokio::time::{Instant, interval_at};

use crate::client::{News, Stream};
use crate::format;
use crate::output::{Output, PATIENCE};
use crate::watch::Watch;

/// When to stop watching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// When this prompt is finished.
    Finished(PromptId),
    /// When everything recorded was shown and no prompt waits or runs.
    Idle,
    /// Only when interrupted.
    Interrupted,
}

/// Why watching stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// What was waited for has happened.
    Reached,
    /// Ctrl-C, or a request to end.
    Interrupted,
}

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Lines for people.
    Lines,
    /// Each event as it was recorded, as JSON on a line.
    Records,
}

/// Shows what happens until `until`.
pub(crate) async fn follow(
    output: &Output,
    stream: &mut Stream,
    watch: &mut Watch,
    until: Until,
    form: Form,
) -> anyhow::Result<End> {
    let result = show(output, stream, watch, until, form).await;
    output.wait_for(None);
    result
}

async fn show(
    output: &Output,
    stream: &mut Stream,
    watch: &mut Watch,
    until: Until,
    form: Form,
) -> anyhow::Result<End> {
    let mut patience = interval_at(Instant::now() + PATIENCE, PATIENCE);
    let mut quiet_since = Instant::now();
    let mut caught_up = false;
    let mut interrupted = std::pin::pin!(interruption());
    loop {
        output.wait_for(watch.waiting().as_ref());
        let news = tokio::select! {
            news = stream.next() => news?,
            () = &mut interrupted => return Ok(End::Interrupted),
            _ = patience.tick(), if !output.has_spinner() => {
                still_waiting(output, watch, quiet_since)?;
                continue;
            }
        };
        quiet_since = Instant::now();
        patience.reset();
        match news {
            News::Event(envelope) => {
                let lines = watch.event(&envelope);
                match form {
                    Form::Lines => output.lines(&lines).context("writing output")?,
                    Form::Records => output.record(&envelope).context("writing output")?,
                }
            }
            News::Delta(delta) => {
                let lines = watch.delta(&delta);
                if form == Form::Lines {
                    output.lines(&lines).context("writing output")?;
                }
            }
            News::CaughtUp => caught_up = true,
            News::Reconnected => output.talk(&["reconnected to the server; nothing is missing"])?,
        }
        let reached = match until {
            Until::Finished(prompt) => watch.outcome(prompt).is_some(),
            Until::Idle => caught_up && watch.is_idle(),
            Until::Interrupted => false,
        };
        if reached {
            return Ok(End::Reached);
        }
    }
}

/// Tells a reader without a spinner that the program is alive, and what it waits for.
fn still_waiting(output: &Output, watch: &Watch, since: Instant) -> anyhow::Result<()> {
    let Some(waiting) = watch.waiting() else { return Ok(()) };
    let quiet = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    let line = format!("… waiting for {} ({})", waiting.what, format::duration(quiet));
    Ok(output.talk(&[line])?)
}

/// Resolves on Ctrl-C or when the process is asked to end, both noticed from this call on.
pub(crate) fn interruption() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    async move {
        let (Ok(mut interrupt), Ok(mut terminate)) = signals else {
            return std::future::pending().await;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    }
}
