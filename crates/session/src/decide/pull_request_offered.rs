//! There is a pull request for the branch.

use protocol::session::PullRequestSummary;
use protocol::{Event, PromptId, Refusal};

use super::publish_failed::publishing;
use crate::draft::Draft;
use crate::state::Publish;

pub(super) fn decide(
    draft: &mut Draft,
    prompt: PromptId,
    pull_request: PullRequestSummary,
) -> Result<(), Refusal> {
    publishing(draft, prompt, |publish| matches!(publish, Publish::Offer { .. }))?;
    draft.system(Event::PullRequestOffered { prompt, pull_request });
    Ok(())
}
