//! Stopping what runs, or what would run next if nothing does.

use protocol::session::{Actor, Author, PromptOutcome};
use protocol::{Event, Refusal};

use crate::draft::Draft;
use crate::state::Step;

pub(super) fn decide(draft: &mut Draft, by: Author) -> Result<(), Refusal> {
    let actor = Actor::User(by.clone());
    let Some(turn) = &draft.turn else {
        let prompt = *draft.queue.front().ok_or(Refusal::NothingToStop)?;
        draft.record(actor, Event::StopRequested { prompt, by: by.clone() });
        draft.system(Event::PromptFinished { prompt, outcome: PromptOutcome::Stopped { by } });
        return Ok(());
    };
    match &turn.step {
        Step::Cancelling { outcome: PromptOutcome::Stopped { .. } } => {
            Err(Refusal::AlreadyStopping)
        }
        // The agent has ended; what is left is to keep its work.
        Step::Publishing { .. } => Err(Refusal::NothingToStop),
        // Also when it is being cancelled for an insert: the person's word is the stronger one.
        Step::Delivering | Step::Running | Step::Cancelling { .. } => {
            let prompt = turn.prompt;
            draft.record(actor, Event::StopRequested { prompt, by });
            Ok(())
        }
    }
}
