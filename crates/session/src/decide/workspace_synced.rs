//! The workspace is in sync.

use protocol::{Event, Refusal, SandboxId};

use crate::draft::Draft;

pub(super) fn decide(
    draft: &mut Draft,
    sandbox: SandboxId,
    commit: String,
    milliseconds: u64,
) -> Result<(), Refusal> {
    if !draft.up_as(sandbox)?.synced {
        draft.system(Event::WorkspaceSynced { sandbox, commit, milliseconds });
    }
    Ok(())
}
