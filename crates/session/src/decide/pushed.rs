//! The branch is on the forge.

use protocol::limits::TITLE_BYTES;
use protocol::{Event, PromptId, Refusal, SandboxId};

use super::publish_failed::publishing_in;
use crate::bounds::cut;
use crate::draft::Draft;
use crate::state::Publish;

pub(super) fn decide(
    draft: &mut Draft,
    sandbox: SandboxId,
    prompt: PromptId,
    commit: String,
) -> Result<(), Refusal> {
    publishing_in(draft, sandbox, prompt, |publish| matches!(publish, Publish::Push { .. }))?;
    let branch = draft.facts.as_ref().map(|facts| facts.branch.clone()).unwrap_or_default();
    draft.system(Event::Pushed { prompt, branch, commit: cut(commit, TITLE_BYTES) });
    Ok(())
}
