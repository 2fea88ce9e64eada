//! Taking a waiting prompt back.

use protocol::session::{Actor, Author};
use protocol::{Event, PromptId, Refusal};

use super::edit_prompt::waiting_of;
use crate::draft::Draft;

pub(super) fn decide(draft: &mut Draft, prompt: PromptId, by: Author) -> Result<(), Refusal> {
    waiting_of(draft, prompt, &by)?;
    draft.record(Actor::User(by), Event::PromptWithdrawn { prompt });
    Ok(())
}
