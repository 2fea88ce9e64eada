//! The prompt's changes are a commit.

use protocol::agentd::CommitDescription;
use protocol::limits::TITLE_BYTES;
use protocol::{Event, PromptId, Refusal, SandboxId};

use super::publish_failed::publishing_in;
use crate::bounds::{cut, cut_files};
use crate::draft::Draft;
use crate::state::Publish;

pub(super) fn decide(
    draft: &mut Draft,
    sandbox: SandboxId,
    prompt: PromptId,
    commit: CommitDescription,
) -> Result<(), Refusal> {
    publishing_in(draft, sandbox, prompt, |publish| *publish == Publish::Commit)?;
    draft.system(Event::Committed {
        prompt,
        commit: cut(commit.id, TITLE_BYTES),
        subject: cut(commit.subject, TITLE_BYTES),
        files: cut_files(commit.files),
    });
    Ok(())
}
