//! The sandbox ended without being asked to.

use protocol::{Event, Refusal, SandboxId};

use crate::bounds::cut_text;
use crate::draft::Draft;
use crate::state::Stage;

pub(super) fn decide(draft: &mut Draft, sandbox: SandboxId, reason: String) -> Result<(), Refusal> {
    let reason = cut_text(reason);
    match draft.sandbox.as_ref().filter(|known| known.id == sandbox).map(|known| &known.stage) {
        None => Err(Refusal::Stale { about: format!("sandbox {sandbox}") }),
        // It never answered, so it counts as a start that failed: with a pause before the next.
        Some(Stage::Asked) => {
            draft.system(Event::SandboxFailed { sandbox, reason });
            Ok(())
        }
        Some(Stage::Up | Stage::Stopping { .. }) => {
            draft.system(Event::SandboxLost { sandbox, reason });
            Ok(())
        }
    }
}
