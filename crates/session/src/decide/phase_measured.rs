//! A part that the session cannot see was measured.

use protocol::Refusal;
use protocol::session::Phase;

use crate::draft::Draft;
use crate::phase;

/// Belongs to the prompt that is worked on or waits first, if there is one.
#[expect(clippy::unnecessary_wraps, reason = "every verb answers alike")]
pub(super) fn decide(draft: &mut Draft, phase: Phase, milliseconds: u64) -> Result<(), Refusal> {
    let prompt = draft.current_prompt().or_else(|| draft.queue.front().copied());
    draft.system(phase::finished(prompt, phase, milliseconds));
    Ok(())
}
