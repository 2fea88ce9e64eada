//! Makes the one commit of a prompt.

use std::time::Duration;

use protocol::agentd::CommitRequest;
use protocol::{PromptId, SandboxId};
use session::Command;

use super::Order;
use super::reach::reach;
use crate::shared::Shared;
use crate::wording;

/// Committing may have to read a large tree.
const PATIENCE: Duration = Duration::from_mins(15);

pub(super) async fn commit(
    shared: &Shared,
    order: &Order,
    sandbox: SandboxId,
    prompt: PromptId,
) -> Option<Command> {
    let asked = order.asked(prompt)?;
    if let Some(reason) = super::leak::find(shared, &order.view, sandbox).await {
        return Some(Command::CommitFailed { sandbox, prompt, reason });
    }
    let client = shared.client(sandbox);
    let known = shared.secrets.redaction();
    let request = CommitRequest {
        session: order.session,
        prompt,
        author: asked.author.clone(),
        subject: known.text(&wording::commit_subject(asked.text)).into_owned(),
        body: known.text(&wording::commit_body(asked.text)).into_owned(),
        branch: order.view.branch.clone(),
        base_commit: order.view.base_commit.clone(),
    };
    Some(match reach(PATIENCE, || client.commit(&request)).await {
        Ok(answer) => match answer.commit {
            Some(commit) => Command::Committed { sandbox, prompt, commit },
            None => Command::NothingToCommit { sandbox, prompt },
        },
        Err(reason) => Command::CommitFailed { sandbox, prompt, reason },
    })
}
