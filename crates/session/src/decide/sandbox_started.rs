//! The sandbox answers.

use protocol::sandbox::SandboxDescription;
use protocol::{Event, Refusal};

use crate::draft::Draft;
use crate::state::Stage;

pub(super) fn decide(
    draft: &mut Draft,
    description: SandboxDescription,
    milliseconds: u64,
) -> Result<(), Refusal> {
    let id = description.id;
    match draft.sandbox.as_ref().filter(|sandbox| sandbox.id == id).map(|known| &known.stage) {
        Some(Stage::Asked) => {
            draft.system(Event::SandboxStarted { description, milliseconds });
            Ok(())
        }
        Some(Stage::Up) => Ok(()),
        Some(Stage::Stopping { .. }) | None => {
            Err(Refusal::Stale { about: format!("sandbox {id}") })
        }
    }
}
