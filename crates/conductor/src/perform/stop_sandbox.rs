//! Stops a sandbox; its files stay for the next one.

use std::time::Duration;

use protocol::SandboxId;
use session::Command;

use crate::error::chain;
use crate::shared::Shared;

/// Between two attempts.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn stop_sandbox(shared: &Shared, sandbox: SandboxId) -> Command {
    stop_surely(shared, sandbox).await;
    Command::SandboxStopped { sandbox }
}

/// Stops a sandbox and closes its way out. There is no failing: one that is not gone must not be
/// followed by another on its files.
pub(crate) async fn stop_surely(shared: &Shared, sandbox: SandboxId) {
    while let Err(error) = shared.backend.stop(sandbox).await {
        tracing::error!(%sandbox, error = chain(&error), "the sandbox is not gone yet");
        tokio::time::sleep(RETRY).await;
    }
    shared.close_gateway(sandbox);
}
