//! Stopping an idle sandbox before its time.

use protocol::{Event, Refusal};

use crate::draft::Draft;
use crate::state::Stage;

pub(super) fn decide(draft: &mut Draft) -> Result<(), Refusal> {
    if let Some(prompt) = draft.current_prompt().or_else(|| draft.queue.front().copied()) {
        return Err(Refusal::Busy { prompt });
    }
    let sandbox = draft.sandbox.as_ref().ok_or(Refusal::NothingToStop)?;
    match sandbox.stage {
        // Nothing could be told to stop yet; once up it is stopped like any idle one.
        Stage::Asked => Err(Refusal::NothingToStop),
        Stage::Stopping { .. } => Ok(()),
        Stage::Up => {
            let sandbox = sandbox.id;
            let reason = "it was asked for".to_owned();
            draft.system(Event::SandboxStopRequested { sandbox, reason });
            Ok(())
        }
    }
}
