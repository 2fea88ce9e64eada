//! A request to a model ended.

use protocol::session::Actor;
use protocol::{Event, Refusal};

use crate::command::ModelAnswer;
use crate::draft::Draft;

pub(super) fn decide(draft: &mut Draft, answer: ModelAnswer) -> Result<(), Refusal> {
    draft.up_as(answer.sandbox)?;
    let prompt = draft.current_prompt();
    draft.untrusted(
        Actor::System,
        Event::ModelAnswered {
            prompt,
            model: answer.model,
            input_tokens: answer.input_tokens,
            output_tokens: answer.output_tokens,
            first_token_milliseconds: answer.first_token_milliseconds,
            milliseconds: answer.milliseconds,
        },
    );
    Ok(())
}
