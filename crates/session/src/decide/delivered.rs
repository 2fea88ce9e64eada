//! The agent has the prompt.

use protocol::{Event, PromptId, Refusal, SandboxId};

use crate::draft::Draft;
use crate::state::Step;

pub(super) fn decide(
    draft: &mut Draft,
    sandbox: SandboxId,
    prompt: PromptId,
) -> Result<(), Refusal> {
    let turn = draft.turn_in(sandbox, prompt)?;
    if matches!(turn.step, Step::Publishing { .. }) {
        return Err(Refusal::Stale { about: format!("the delivery of prompt {prompt}") });
    }
    begin(draft, sandbox);
    Ok(())
}

/// Records that the turn is with the agent of this sandbox, unless that is recorded.
pub(super) fn begin(draft: &mut Draft, sandbox: SandboxId) {
    let Some(turn) = draft.turn.as_ref().filter(|turn| turn.started_in.is_none()) else { return };
    let (prompt, attempt) = (turn.prompt, turn.attempts + 1);
    draft.system(Event::PromptStarted { prompt, sandbox, attempt });
}
