//! The gateway saw a request to a model begin, or be answered for the first time.

use protocol::session::Phase;
use protocol::{Refusal, SandboxId, Timestamp};

use crate::draft::Draft;
use crate::phase;

/// Measures the first request of a prompt; requests outside a prompt are the agent's own business.
pub(super) fn request_started(
    draft: &mut Draft,
    sandbox: SandboxId,
    at: Timestamp,
) -> Result<(), Refusal> {
    draft.up_as(sandbox)?;
    let Some(turn) = &draft.turn else { return Ok(()) };
    if turn.measured.contains(&Phase::FirstModelRequest) {
        return Ok(());
    }
    let prompt = turn.prompt;
    let Some(accepted) = draft.record_of(prompt).map(|record| record.accepted_at) else {
        return Ok(());
    };
    let milliseconds = phase::span(accepted, at);
    draft.system(phase::finished(Some(prompt), Phase::FirstModelRequest, milliseconds));
    Ok(())
}

/// Measures the first token of a prompt.
pub(super) fn first_token(
    draft: &mut Draft,
    sandbox: SandboxId,
    at: Timestamp,
) -> Result<(), Refusal> {
    draft.up_as(sandbox)?;
    let Some(turn) = &draft.turn else { return Ok(()) };
    let unmeasured = !turn.measured.contains(&Phase::FirstToken);
    if let Some(requested) = turn.first_model_request_at.filter(|_| unmeasured) {
        let prompt = turn.prompt;
        let milliseconds = phase::span(requested, at);
        draft.system(phase::finished(Some(prompt), Phase::FirstToken, milliseconds));
    }
    Ok(())
}
