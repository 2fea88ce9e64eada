//! Nothing of the cancelled prompt runs any more.

use protocol::session::Actor;
use protocol::{PromptId, Refusal, SandboxId};

use crate::draft::Draft;
use crate::state::Step;

pub(super) fn decide(
    draft: &mut Draft,
    sandbox: SandboxId,
    prompt: PromptId,
) -> Result<(), Refusal> {
    // The agent's own report of its end usually comes first; then this says nothing new.
    let Step::Cancelling { outcome } = &draft.turn_in(sandbox, prompt)?.step else {
        return Err(Refusal::Stale { about: format!("the cancelling of prompt {prompt}") });
    };
    let outcome = outcome.clone();
    draft.end_agent(Actor::System, prompt, outcome);
    Ok(())
}
