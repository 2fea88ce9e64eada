//! How long the parts of a prompt took, read off the times of events.

use protocol::event::ToolStatus;
use protocol::session::Phase;
use protocol::{Event, PromptId, Timestamp};

use crate::state::State;

/// The phase that `event` ends when it happens in `state` at `now`.
///
/// The two phases that only the gateway sees come with commands of their own.
pub(crate) fn ended_by(state: &State, event: &Event, now: Timestamp) -> Option<Event> {
    let turn = state.turn.as_ref();
    // What is prepared before the turn begins is prepared for the first waiting prompt.
    let next = state.current_prompt().or_else(|| state.queue.front().copied());
    match event {
        Event::SandboxStarted { milliseconds, .. } => {
            Some(finished(next, Phase::Sandbox, *milliseconds))
        }
        Event::WorkspaceSynced { milliseconds, .. } => {
            Some(finished(next, Phase::Sync, *milliseconds))
        }
        Event::AgentEnded { prompt, .. } => turn?
            .started_at
            .map(|started| finished(Some(*prompt), Phase::Agent, span(started, now))),
        Event::Committed { prompt, .. } | Event::NothingToCommit { prompt } => {
            Some(finished(Some(*prompt), Phase::Commit, span(turn?.since, now)))
        }
        Event::Pushed { prompt, .. } => {
            Some(finished(Some(*prompt), Phase::Push, span(turn?.since, now)))
        }
        Event::PullRequestOffered { prompt, .. } => {
            Some(finished(Some(*prompt), Phase::PullRequest, span(turn?.since, now)))
        }
        Event::ToolCallFinished { prompt, call, status: ToolStatus::Completed, .. } => {
            let turn = turn?;
            if !turn.edits.contains(call) || turn.measured.contains(&Phase::FirstEdit) {
                return None;
            }
            let accepted = state.record_of(*prompt)?.accepted_at;
            Some(finished(Some(*prompt), Phase::FirstEdit, span(accepted, now)))
        }
        _ => None,
    }
}

/// The event that says so.
pub(crate) const fn finished(prompt: Option<PromptId>, phase: Phase, milliseconds: u64) -> Event {
    Event::PhaseFinished { prompt, phase, milliseconds }
}

/// Milliseconds between two moments; a clock that was set back gives 0.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.milliseconds_since(from)).unwrap_or(0)
}
