//! Gives a prompt to the agent.

use std::time::Duration;

use protocol::agentd::DeliverPrompt;
use protocol::{PromptId, SandboxId};
use session::Command;

use super::Order;
use super::reach::reach;
use crate::shared::Shared;

/// agentd answers at once.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) async fn deliver_prompt(
    shared: &Shared,
    order: &Order,
    sandbox: SandboxId,
    prompt: PromptId,
) -> Option<Command> {
    let asked = order.asked(prompt)?;
    let client = shared.client(sandbox);
    let request =
        DeliverPrompt { prompt, author: asked.author.clone(), text: asked.text.to_owned() };
    Some(match reach(PATIENCE, || client.prompt(&request)).await {
        Ok(_) => Command::Delivered { sandbox, prompt },
        Err(reason) => Command::DeliveryFailed { sandbox, prompt, reason },
    })
}
