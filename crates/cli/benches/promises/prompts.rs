//! `prompt_to_model_warm` and `stop_to_gone`: what a person waits for in a session that runs.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use protocol::Event;
use protocol::session::Phase;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::model::WAITS;
use crate::samples::{Samples, WARM_UPS, milliseconds};
use crate::world::{REHEARSAL, World, finished, until};

/// Between two looks at the machine's processes.
const PAUSE: Duration = Duration::from_millis(5);
/// Time for a command to be seen, or to be gone.
const PATIENCE: Duration = Duration::from_mins(1);

/// From the moment a follow-up is recorded until the arrival of its first request at the rehearsal
/// model is recorded too. That second record is a durable append of its own, so the figure is above
/// the true one, never below.
pub(crate) async fn prompt_to_model(world: &World, samples: &mut Samples) -> anyhow::Result<()> {
    let (session, mut events) = world.session(REHEARSAL).await?;
    until(&mut events, finished).await?;
    for run in 0..WARM_UPS + samples.wanted() {
        let accepted = world.prompt(session).await?;
        let arrival = until(&mut events, arrived).await?;
        let arrived = world.journal.recorded(session, arrival)?;
        let recorded = world.journal.recorded(session, accepted.sequence)?;
        until(&mut events, finished).await?;
        if run >= WARM_UPS {
            let took = arrived.checked_duration_since(recorded);
            let took = took.context("a request arrived before its prompt was recorded")?;
            samples.add("prompt_to_model_warm", milliseconds(took));
        }
    }
    Ok(())
}

/// Whether a prompt's first request has reached the model.
fn arrived(event: &Event) -> bool {
    matches!(event, Event::PhaseFinished { phase: Phase::FirstModelRequest, .. })
}

/// From a person's stop until the agent's command and its children are gone and the prompt's end is
/// recorded. The agent's own process stays for the next prompt, as it shall.
pub(crate) async fn stop_to_gone(world: &mut World, samples: &mut Samples) -> anyhow::Result<()> {
    world.model.forget();
    let (session, mut events) = world.session(WAITS).await?;
    for run in 0..WARM_UPS + samples.wanted() {
        if run > 0 {
            world.prompt(session).await?;
        }
        let mark = tokio::time::timeout(PATIENCE, world.model.next()).await??.mark;
        let running = tokio::time::timeout(PATIENCE, command(mark)).await??;
        let asked = Instant::now();
        let gone = tokio::task::spawn_blocking(move || all_ended(&running));
        world.hangar.stop(&world.user, session).await?;
        until(&mut events, finished).await?;
        let ended = Instant::now();
        let gone = tokio::time::timeout(PATIENCE, gone).await???;
        if run >= WARM_UPS {
            samples.add("stop_to_gone", milliseconds(gone.max(ended) - asked));
        }
    }
    Ok(())
}

/// The processes with a number on their command line, once the `sleep` among them runs.
async fn command(mark: u32) -> anyhow::Result<Vec<Pid>> {
    let mark = mark.to_string();
    loop {
        let found = processes(&mark)?;
        if found.iter().any(|(_, command)| command.starts_with("sleep\0")) {
            ensure!(found.len() >= 2, "only `sleep` runs, not the shell that started it");
            return Ok(found.into_iter().map(|(pid, _)| pid).collect());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn processes(mark: &str) -> anyhow::Result<Vec<(Pid, String)>> {
    let entries = fs::read_dir("/proc").context("reading the processes")?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pids = names.filter_map(|name| Pid::from_raw(name.parse().ok()?));
    let commands = pids.filter_map(|pid| {
        let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).ok()?;
        Some((pid, String::from_utf8(command).ok()?))
    });
    Ok(commands.filter(|(_, command)| command.contains(mark)).collect())
}

/// Waits until every process has ended, and says when the last one had.
fn all_ended(processes: &[Pid]) -> anyhow::Result<Instant> {
    for pid in processes {
        // One that is gone already cannot be opened.
        let Ok(pidfd) = pidfd_open(*pid, PidfdFlags::empty()) else { continue };
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], None).context("waiting for a process")?;
    }
    Ok(Instant::now())
}
