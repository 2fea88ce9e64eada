//! Time has passed.

use protocol::{Event, Refusal};

use crate::draft::Draft;

/// Stops a sandbox that was idle for long enough. Another start after a pause follows by itself.
#[expect(clippy::unnecessary_wraps, reason = "every verb answers alike")]
pub(super) fn decide(draft: &mut Draft) -> Result<(), Refusal> {
    let idle = draft.idle_since.is_some();
    let due = draft.deadline().is_some_and(|deadline| deadline <= draft.now);
    if let Some(sandbox) = draft.current_sandbox().filter(|_| idle && due) {
        let minutes = draft.policy.idle_milliseconds / 60_000;
        let reason = format!("nothing was to do for {minutes} minutes");
        draft.system(Event::SandboxStopRequested { sandbox, reason });
    }
    Ok(())
}
