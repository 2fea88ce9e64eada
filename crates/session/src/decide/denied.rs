//! The gateway refused something.

use protocol::session::Actor;
use protocol::{Event, Refusal, SandboxId};

use crate::draft::Draft;

pub(super) fn decide(
    draft: &mut Draft,
    sandbox: SandboxId,
    what: String,
    reason: String,
) -> Result<(), Refusal> {
    draft.up_as(sandbox)?;
    draft.untrusted(Actor::System, Event::Denied { what, reason });
    Ok(())
}
