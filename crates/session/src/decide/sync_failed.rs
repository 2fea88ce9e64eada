//! The workspace could not be brought in sync.

use protocol::{Event, Refusal, SandboxId};

use crate::bounds::cut_text;
use crate::draft::Draft;

/// The sandbox is given up: its agent may be at work on a prompt that can never write.
pub(super) fn decide(draft: &mut Draft, sandbox: SandboxId, reason: &str) -> Result<(), Refusal> {
    if draft.up_as(sandbox)?.synced {
        return Err(Refusal::Stale { about: format!("the sync of sandbox {sandbox}") });
    }
    let reason = cut_text(format!("the repository could not be synced: {reason}"));
    draft.system(Event::WorkspaceSyncFailed { sandbox, reason: reason.clone() });
    draft.system(Event::SandboxStopRequested { sandbox, reason });
    Ok(())
}
