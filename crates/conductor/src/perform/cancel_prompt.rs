//! Ends the agent's work on a prompt, the agent willing or not.

use std::time::Duration;

use protocol::agentd::CancelPrompt;
use protocol::{PromptId, SandboxId};
use session::Command;

use super::reach::reach;
use crate::error::chain;
use crate::shared::Shared;

/// How long the agent may take before everything it started is killed. A stop is promised within a
/// second; the kill and the way back need a part of it.
const GRACE_MILLISECONDS: u64 = 500;

/// Beyond the grace, for the kill and the answer.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) async fn cancel_prompt(
    shared: &Shared,
    sandbox: SandboxId,
    prompt: PromptId,
) -> Command {
    let request = CancelPrompt { prompt, grace_milliseconds: GRACE_MILLISECONDS };
    let client = shared.client(sandbox);
    match reach(PATIENCE, || client.cancel(&request)).await {
        Ok(_) => Command::CancelFinished { sandbox, prompt },
        Err(reason) => {
            // An agentd that cannot end a prompt is not to be trusted with the next one.
            tracing::warn!(%sandbox, %prompt, reason, "cancelling failed; the sandbox is stopped");
            if let Err(error) = shared.backend.stop(sandbox).await {
                tracing::error!(%sandbox, error = chain(&error), "the sandbox could not be stopped");
            }
            Command::CancelFinished { sandbox, prompt }
        }
    }
}
