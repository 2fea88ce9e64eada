//! Taking on a prompt.

use protocol::limits::{PROMPT_BYTES, QUEUE_LENGTH};
use protocol::session::{Actor, Author, Delivery};
use protocol::{Event, PromptId, Refusal, RequestId};

use crate::draft::Draft;

pub(super) fn decide(
    draft: &mut Draft,
    prompt: PromptId,
    request: RequestId,
    author: Author,
    text: String,
    delivery: Delivery,
) -> Result<(), Refusal> {
    // A retry is answered like the first time even when a new prompt would be refused by now.
    let known = draft.prompt_of_request(request);
    if let Some(known) = known.or_else(|| draft.record_of(prompt).map(|record| record.id)) {
        draft.already = Some(known);
        return Ok(());
    }
    check_text(&text)?;
    if draft.queue.len() >= QUEUE_LENGTH {
        return Err(Refusal::QueueFull { limit: QUEUE_LENGTH });
    }
    let actor = Actor::User(author.clone());
    draft.record(actor, Event::PromptAccepted { prompt, request, author, text, delivery });
    Ok(())
}

/// Refuses a text that is no prompt. It is never cut: half a prompt is another prompt.
pub(super) fn check_text(text: &str) -> Result<(), Refusal> {
    if !text.chars().any(is_visible) {
        return Err(Refusal::EmptyPrompt);
    }
    if text.len() > PROMPT_BYTES {
        return Err(Refusal::PromptTooLong { bytes: text.len(), limit: PROMPT_BYTES });
    }
    Ok(())
}

fn is_visible(character: char) -> bool {
    let invisible = character.is_whitespace()
        || character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | '\u{feff}'
        );
    !invisible
}
