//! From a state and a command to what is recorded and what is done.

mod agent_failed;
mod agent_ready;
mod cancel_finished;
mod committed;
mod create;
mod delivered;
mod delivery_failed;
mod denied;
mod edit_prompt;
mod limit_hit;
mod model_answered;
mod model_observed;
mod nothing_to_commit;
mod park;
mod phase_measured;
mod publish_failed;
mod pull_request_changed;
mod pull_request_offered;
mod pushed;
mod reported;
mod sandbox_failed;
mod sandbox_lost;
mod sandbox_started;
mod sandbox_stopped;
mod send_prompt;
mod stop;
mod sync_failed;
mod wake;
mod withdraw_prompt;
mod workspace_synced;

use protocol::session::Actor;
use protocol::{Event, PromptId, Refusal, Timestamp};

use crate::command::Command;
use crate::draft::Draft;
use crate::effect::{Effect, outstanding};
use crate::follow::follow;
use crate::state::State;
pub use limit_hit::limit_reason;

/// What a command leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// To be recorded together, in this order, with the decision's moment as their time.
    pub events: Vec<(Actor, Event)>,
    /// To be performed once the events are recorded: what is outstanding now and was not before.
    pub effects: Vec<Effect>,
    /// For a prompt that was sent before: that prompt. Then there are no events.
    pub already: Option<PromptId>,
}

/// Decides. Records nothing, changes nothing; the same arguments give the same answer.
///
/// No events means that the command is fine and changes nothing: it was said before.
pub fn decide(state: &State, command: Command, now: Timestamp) -> Result<Decision, Refusal> {
    if state.facts.is_none() && !matches!(command, Command::Create(_)) {
        return Err(Refusal::NotCreated);
    }
    let mut before = outstanding(state);
    if command == Command::Wake {
        // The alarm has rung: if it is still wanted it must be set again.
        before.retain(|effect| !matches!(effect, Effect::WakeAt(_)));
    }
    let mut draft = Draft::new(state, now);
    carry_out(&mut draft, command)?;
    if draft.already.is_none() {
        follow(&mut draft);
    }
    let mut effects = outstanding(&draft);
    effects.retain(|effect| !before.contains(effect));
    Ok(Decision { events: draft.events, effects, already: draft.already })
}

// One arm for each command: a table, kept whole so that the compiler sees that none is missing.
fn carry_out(draft: &mut Draft, command: Command) -> Result<(), Refusal> {
    match command {
        Command::Create(create) => create::decide(draft, create),
        Command::SendPrompt { prompt, request, author, text, delivery } => {
            send_prompt::decide(draft, prompt, request, author, text, delivery)
        }
        Command::EditPrompt { prompt, by, text } => edit_prompt::decide(draft, prompt, by, text),
        Command::WithdrawPrompt { prompt, by } => withdraw_prompt::decide(draft, prompt, by),
        Command::Stop { by } => stop::decide(draft, by),
        Command::Park => park::decide(draft),
        Command::SandboxStarted { description, milliseconds } => {
            sandbox_started::decide(draft, description, milliseconds)
        }
        Command::SandboxFailed { sandbox, reason } => {
            sandbox_failed::decide(draft, sandbox, reason)
        }
        Command::SandboxLost { sandbox, reason } => sandbox_lost::decide(draft, sandbox, reason),
        Command::SandboxStopped { sandbox } => sandbox_stopped::decide(draft, sandbox),
        Command::WorkspaceSynced { sandbox, commit, milliseconds } => {
            workspace_synced::decide(draft, sandbox, commit, milliseconds)
        }
        Command::SyncFailed { sandbox, reason } => sync_failed::decide(draft, sandbox, &reason),
        Command::AgentReady { sandbox, agent, milliseconds } => {
            agent_ready::decide(draft, sandbox, agent, milliseconds)
        }
        Command::AgentFailed { sandbox, reason } => agent_failed::decide(draft, sandbox, &reason),
        Command::Delivered { sandbox, prompt } => delivered::decide(draft, sandbox, prompt),
        Command::DeliveryFailed { sandbox, prompt, reason } => {
            delivery_failed::decide(draft, sandbox, prompt, &reason)
        }
        Command::Reported { sandbox, report } => reported::decide(draft, sandbox, report),
        Command::CancelFinished { sandbox, prompt } => {
            cancel_finished::decide(draft, sandbox, prompt)
        }
        Command::Committed { sandbox, prompt, commit } => {
            committed::decide(draft, sandbox, prompt, commit)
        }
        Command::NothingToCommit { sandbox, prompt } => {
            nothing_to_commit::decide(draft, sandbox, prompt)
        }
        Command::CommitFailed { sandbox, prompt, reason } => {
            publish_failed::commit(draft, sandbox, prompt, &reason)
        }
        Command::Pushed { sandbox, prompt, commit } => {
            pushed::decide(draft, sandbox, prompt, commit)
        }
        Command::PushFailed { sandbox, prompt, reason } => {
            publish_failed::push(draft, sandbox, prompt, &reason)
        }
        Command::PullRequestOffered { prompt, pull_request } => {
            pull_request_offered::decide(draft, prompt, pull_request)
        }
        Command::PullRequestFailed { prompt, reason } => {
            publish_failed::offer(draft, prompt, &reason)
        }
        Command::PullRequestChanged { number, state } => {
            pull_request_changed::decide(draft, number, state)
        }
        Command::LimitHit(hit) => limit_hit::decide(draft, &hit),
        Command::Denied { sandbox, what, reason } => denied::decide(draft, sandbox, what, reason),
        Command::ModelRequestStarted { sandbox, at } => {
            model_observed::request_started(draft, sandbox, at)
        }
        Command::ModelFirstToken { sandbox, at } => model_observed::first_token(draft, sandbox, at),
        Command::ModelAnswered(answer) => model_answered::decide(draft, answer),
        Command::PhaseMeasured { phase, milliseconds } => {
            phase_measured::decide(draft, phase, milliseconds)
        }
        Command::Wake => wake::decide(draft),
    }
}
