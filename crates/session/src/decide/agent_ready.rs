//! The agent's process answers.

use protocol::limits::TITLE_BYTES;
use protocol::{Event, Refusal, SandboxId};

use crate::bounds::cut;
use crate::draft::Draft;

pub(super) fn decide(
    draft: &mut Draft,
    sandbox: SandboxId,
    agent: String,
    milliseconds: u64,
) -> Result<(), Refusal> {
    if !draft.up_as(sandbox)?.agent_ready {
        let agent = cut(agent, TITLE_BYTES);
        draft.system(Event::AgentReady { sandbox, agent, milliseconds });
    }
    Ok(())
}
