//! The session's pull request was merged, closed or opened again.

use protocol::session::PullRequestState;
use protocol::{Event, Refusal};

use crate::draft::Draft;

pub(super) fn decide(
    draft: &mut Draft,
    number: u32,
    state: PullRequestState,
) -> Result<(), Refusal> {
    let known = draft.pull_request.as_ref().filter(|known| known.number == number);
    let known = known.ok_or_else(|| Refusal::Stale { about: format!("pull request {number}") })?;
    if known.state != state {
        draft.system(Event::PullRequestChanged { number, state });
    }
    Ok(())
}
