//! Brings the sandbox's repository to the session's branch; the workspace is writable afterwards.

use std::time::{Duration, Instant};

use protocol::SandboxId;
use protocol::agentd::SyncRequest;
use protocol::session::{Author, SessionView};
use session::Command;

use super::reach::reach;
use crate::shared::{Shared, elapsed_milliseconds, remote};

/// A first checkout of a large repository takes minutes.
const PATIENCE: Duration = Duration::from_hours(1);

pub(super) async fn sync_workspace(
    shared: &Shared,
    view: &SessionView,
    sandbox: SandboxId,
    branch: String,
    commit: String,
) -> Command {
    let client = shared.client(sandbox);
    let request = SyncRequest {
        remote: remote(&view.summary.repository),
        branch,
        commit,
        identity: identity(shared, view),
    };
    let begun = Instant::now();
    match reach(PATIENCE, || client.sync(&request)).await {
        Ok(answer) => Command::WorkspaceSynced {
            sandbox,
            commit: answer.commit,
            milliseconds: elapsed_milliseconds(begun),
        },
        Err(reason) => Command::SyncFailed { sandbox, reason },
    }
}

/// The author of the newest prompt: git's identity until the next prompt is delivered.
fn identity(shared: &Shared, view: &SessionView) -> Author {
    view.prompts.last().map_or_else(|| shared.settings.user.clone(), |prompt| prompt.author.clone())
}
