//! agentd does not take the prompt.

use protocol::session::{Actor, PromptOutcome};
use protocol::{PromptId, Refusal, SandboxId};

use crate::bounds::cut_text;
use crate::draft::Draft;
use crate::state::Step;

pub(super) fn decide(
    draft: &mut Draft,
    sandbox: SandboxId,
    prompt: PromptId,
    reason: &str,
) -> Result<(), Refusal> {
    let turn = draft.turn_in(sandbox, prompt)?;
    let outcome = match &turn.step {
        Step::Delivering => PromptOutcome::Failed {
            reason: cut_text(format!("the prompt could not be given to the agent: {reason}")),
        },
        // What was to be cancelled never began.
        Step::Cancelling { outcome } if turn.started_in.is_none() => outcome.clone(),
        _ => return Err(Refusal::Stale { about: format!("the delivery of prompt {prompt}") }),
    };
    draft.end_agent(Actor::System, prompt, outcome);
    Ok(())
}
