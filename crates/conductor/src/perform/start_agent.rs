//! Starts the agent's process, so that the first prompt finds it ready.

use std::time::Duration;

use protocol::SandboxId;
use protocol::agentd::StartAgent;
use protocol::session::SessionView;
use session::Command;

use super::reach::reach;
use crate::effective::{Asked, effective};
use crate::shared::Shared;
use crate::wording;

/// Some agents take seconds to start, more on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(3);

pub(super) async fn start_agent(
    shared: &Shared,
    view: &SessionView,
    sandbox: SandboxId,
) -> Command {
    let repository = &view.summary.repository;
    let settings = shared.repository_settings(repository, &view.base_commit).await;
    let decided = match shared.decided(repository).await {
        Ok(decided) => decided,
        Err(error) => return Command::AgentFailed { sandbox, reason: error.chain() },
    };
    let effective = effective(&shared.settings, &decided, &settings, Asked::of(view));
    let client = shared.client(sandbox);
    let request = StartAgent {
        agent: view.summary.agent.clone(),
        model: view.model.clone(),
        instructions: wording::instructions(
            &repository.to_string(),
            &view.branch,
            settings.commands.test.as_deref(),
            &effective.blocked_commands,
        ),
    };
    match reach(PATIENCE, || client.start_agent(&request)).await {
        Ok(started) => Command::AgentReady {
            sandbox,
            agent: started.agent,
            milliseconds: started.milliseconds,
        },
        Err(reason) => Command::AgentFailed { sandbox, reason },
    }
}
