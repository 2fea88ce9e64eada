//! The sandbox could not be started.

use protocol::{Event, Refusal, SandboxId};

use crate::bounds::cut_text;
use crate::draft::Draft;
use crate::state::Stage;

pub(super) fn decide(draft: &mut Draft, sandbox: SandboxId, reason: String) -> Result<(), Refusal> {
    let asked = draft.sandbox.as_ref().filter(|known| known.stage == Stage::Asked);
    if asked.is_none_or(|known| known.id != sandbox) {
        return Err(Refusal::Stale { about: format!("the start of sandbox {sandbox}") });
    }
    draft.system(Event::SandboxFailed { sandbox, reason: cut_text(reason) });
    Ok(())
}
