//! What follows from a state by itself, whatever the command was.

use protocol::session::{Actor, PromptOutcome};
use protocol::{Event, Timestamp};

use crate::draft::Draft;
use crate::state::{Publish, Stage, State, Step, Turn, sandbox_id};

/// Records consequences until there are none. Each one brings the turn nearer to its end or asks
/// for the one sandbox there may be, so there is a last one.
pub(crate) fn follow(draft: &mut Draft) {
    while let Some(consequence) = consequence(draft, draft.now) {
        match consequence {
            Consequence::Recorded(event) => draft.system(event),
            Consequence::AgentIsGone(outcome) => {
                let Some(prompt) = draft.current_prompt() else { return };
                draft.end_agent(Actor::System, prompt, outcome);
            }
        }
    }
}

#[expect(clippy::large_enum_variant, reason = "it lives for a moment, one at a time")]
enum Consequence {
    Recorded(Event),
    /// What was to be cancelled ended with its sandbox.
    AgentIsGone(PromptOutcome),
}

fn consequence(state: &State, now: Timestamp) -> Option<Consequence> {
    state
        .turn
        .as_ref()
        .and_then(|turn| turn_follows(state, turn))
        .or_else(|| first_waiting_fails(state).map(Consequence::Recorded))
        .or_else(|| sandbox_follows(state, now).map(Consequence::Recorded))
}

fn turn_follows(state: &State, turn: &Turn) -> Option<Consequence> {
    let prompt = turn.prompt;
    let event = match &turn.step {
        Step::Cancelling { outcome } => {
            return state.up().is_none().then(|| Consequence::AgentIsGone(outcome.clone()));
        }
        Step::Publishing { outcome, publish: Publish::Done } => {
            Event::PromptFinished { prompt, outcome: outcome.clone() }
        }
        Step::Publishing { outcome, publish: Publish::Offer { .. } } => {
            if state.offers_after(outcome) {
                return None;
            }
            Event::PromptFinished { prompt, outcome: outcome.clone() }
        }
        Step::Publishing { publish: Publish::Commit | Publish::Push { .. }, .. } => {
            Event::PublishFailed { prompt, reason: no_sandbox(state, turn)? }
        }
        Step::Delivering | Step::Running => {
            let reason = no_sandbox(state, turn)?;
            Event::PromptFinished { prompt, outcome: PromptOutcome::Failed { reason } }
        }
    };
    Some(Consequence::Recorded(event))
}

/// Why the turn can have no sandbox, if so.
fn no_sandbox(state: &State, turn: &Turn) -> Option<String> {
    if let Some(Stage::Stopping { reason }) = state.sandbox.as_ref().map(|sandbox| &sandbox.stage) {
        return Some(reason.clone());
    }
    if turn.losses >= state.policy.losses {
        return Some(format!(
            "its sandbox was lost {} times, the last time because {}; what it changed is kept \
             for the next prompt",
            turn.losses, state.starts.reason
        ));
    }
    state.starts_exhausted().then(|| not_started(state))
}

fn not_started(state: &State) -> String {
    format!(
        "no sandbox could be started in {} attempts, the last time because {}",
        state.starts.failures, state.starts.reason
    )
}

fn first_waiting_fails(state: &State) -> Option<Event> {
    if state.turn.is_some() || !state.starts_exhausted() {
        return None;
    }
    let outcome = PromptOutcome::Failed { reason: not_started(state) };
    state.queue.front().map(|prompt| Event::PromptFinished { prompt: *prompt, outcome })
}

fn sandbox_follows(state: &State, now: Timestamp) -> Option<Event> {
    let wanted = state.sandbox.is_none() && state.wants_sandbox() && !state.starts_exhausted();
    let due = state.deadline().is_none_or(|deadline| deadline <= now);
    (wanted && due).then(|| Event::SandboxRequested {
        sandbox: sandbox_id(state.session, state.sandboxes + 1),
        continues: state.files,
    })
}
