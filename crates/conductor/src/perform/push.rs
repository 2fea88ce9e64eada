//! Pushes the session's branch, through the gateway.

use std::time::Duration;

use protocol::agentd::PushRequest;
use protocol::session::SessionView;
use protocol::{PromptId, SandboxId};
use session::Command;

use super::reach::reach;
use crate::shared::{Shared, remote};

/// A push may carry a large pack.
const PATIENCE: Duration = Duration::from_mins(30);

pub(super) async fn push(
    shared: &Shared,
    view: &SessionView,
    sandbox: SandboxId,
    prompt: PromptId,
    commit: String,
) -> Command {
    let repository = &view.summary.repository;
    let client = shared.client(sandbox);
    let request = PushRequest {
        remote: remote(repository),
        branch: view.branch.clone(),
        commit: commit.clone(),
    };
    match reach(PATIENCE, || client.push(&request)).await {
        // agentd's word is not enough: what counts is what the forge has.
        Ok(_) => match shared.resolve(repository, &view.branch).await {
            Ok(tip) if tip == commit => Command::Pushed { sandbox, prompt, commit: tip },
            Ok(tip) => {
                let reason =
                    format!("the sandbox says that it pushed {commit}, but the branch is at {tip}");
                Command::PushFailed { sandbox, prompt, reason }
            }
            Err(error) => Command::PushFailed { sandbox, prompt, reason: error.chain() },
        },
        Err(reason) => Command::PushFailed { sandbox, prompt, reason },
    }
}
