//! The prompt changed no file.

use protocol::{Event, PromptId, Refusal, SandboxId};

use super::publish_failed::publishing_in;
use crate::draft::Draft;
use crate::state::Publish;

/// What an earlier prompt left unpublished is published now all the same.
pub(super) fn decide(
    draft: &mut Draft,
    sandbox: SandboxId,
    prompt: PromptId,
) -> Result<(), Refusal> {
    publishing_in(draft, sandbox, prompt, |publish| *publish == Publish::Commit)?;
    draft.system(Event::NothingToCommit { prompt });
    Ok(())
}
