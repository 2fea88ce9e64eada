//! The sandbox is stopped.

use protocol::{Event, Refusal, SandboxId};

use super::sandbox_lost;
use crate::draft::Draft;
use crate::state::Stage;

pub(super) fn decide(draft: &mut Draft, sandbox: SandboxId) -> Result<(), Refusal> {
    let known = draft.sandbox.as_ref().filter(|known| known.id == sandbox);
    match known.map(|known| known.stage.clone()) {
        Some(Stage::Stopping { reason }) => {
            draft.system(Event::SandboxStopped { sandbox, reason });
            Ok(())
        }
        // Nobody here asked for it.
        _ => sandbox_lost::decide(draft, sandbox, "it was stopped from outside".to_owned()),
    }
}
