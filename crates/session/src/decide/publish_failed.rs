//! The changes could not be committed, pushed or offered. They stay where they are, and the next
//! prompt's publishing takes them along.

use protocol::{Event, PromptId, Refusal, SandboxId};

use crate::bounds::cut_text;
use crate::draft::Draft;
use crate::state::{Publish, State, Step};

pub(super) fn commit(
    draft: &mut Draft,
    sandbox: SandboxId,
    prompt: PromptId,
    reason: &str,
) -> Result<(), Refusal> {
    publishing_in(draft, sandbox, prompt, |publish| *publish == Publish::Commit)?;
    fail(draft, prompt, "committed", reason);
    Ok(())
}

pub(super) fn push(
    draft: &mut Draft,
    sandbox: SandboxId,
    prompt: PromptId,
    reason: &str,
) -> Result<(), Refusal> {
    publishing_in(draft, sandbox, prompt, |publish| matches!(publish, Publish::Push { .. }))?;
    fail(draft, prompt, "pushed", reason);
    Ok(())
}

pub(super) fn offer(draft: &mut Draft, prompt: PromptId, reason: &str) -> Result<(), Refusal> {
    publishing(draft, prompt, |publish| matches!(publish, Publish::Offer { .. }))?;
    fail(draft, prompt, "offered as a pull request", reason);
    Ok(())
}

fn fail(draft: &mut Draft, prompt: PromptId, what: &str, reason: &str) {
    let reason = cut_text(format!(
        "the changes could not be {what}: {reason}; they are kept and go out with the next prompt"
    ));
    draft.system(Event::PublishFailed { prompt, reason });
}

/// Refuses what is not about the turn's present step of publishing.
pub(super) fn publishing(
    state: &State,
    prompt: PromptId,
    step: impl FnOnce(&Publish) -> bool,
) -> Result<(), Refusal> {
    match &state.turn_of(prompt)?.step {
        Step::Publishing { publish, .. } if step(publish) => Ok(()),
        _ => Err(Refusal::Stale { about: format!("a step in publishing prompt {prompt}") }),
    }
}

/// The same for steps that happen in a sandbox.
pub(super) fn publishing_in(
    state: &State,
    sandbox: SandboxId,
    prompt: PromptId,
    step: impl FnOnce(&Publish) -> bool,
) -> Result<(), Refusal> {
    state.up_as(sandbox)?;
    publishing(state, prompt, step)
}
