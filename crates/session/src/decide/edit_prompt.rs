//! Rewriting a waiting prompt.

use protocol::session::{Actor, Author};
use protocol::{Event, PromptId, Refusal};

use super::send_prompt::check_text;
use crate::draft::Draft;
use crate::state::{Record, State};

pub(super) fn decide(
    draft: &mut Draft,
    prompt: PromptId,
    by: Author,
    text: String,
) -> Result<(), Refusal> {
    let record = waiting_of(draft, prompt, &by)?;
    check_text(&text)?;
    if *record.text != *text {
        draft.record(Actor::User(by), Event::PromptEdited { prompt, text });
    }
    Ok(())
}

/// The prompt, if it waits and is this person's.
pub(super) fn waiting_of<'a>(
    state: &'a State,
    prompt: PromptId,
    by: &Author,
) -> Result<&'a Record, Refusal> {
    let record = state.record_of(prompt).ok_or(Refusal::UnknownPrompt { prompt })?;
    if record.author.user != by.user {
        return Err(Refusal::NotTheAuthor { prompt });
    }
    if !state.queue.contains(&prompt) {
        return Err(Refusal::PromptNotQueued { prompt });
    }
    Ok(record)
}
