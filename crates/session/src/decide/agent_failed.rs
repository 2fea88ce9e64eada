//! The agent's process could not be started.

use protocol::{Event, Refusal, SandboxId};

use crate::bounds::cut_text;
use crate::draft::Draft;

/// The sandbox is given up: without an agent it is of no use, and a new one may fare better.
pub(super) fn decide(draft: &mut Draft, sandbox: SandboxId, reason: &str) -> Result<(), Refusal> {
    if draft.up_as(sandbox)?.agent_ready {
        return Err(Refusal::Stale { about: format!("the agent's start in sandbox {sandbox}") });
    }
    let reason = cut_text(format!("the agent could not be started: {reason}"));
    draft.system(Event::SandboxStopRequested { sandbox, reason });
    Ok(())
}
