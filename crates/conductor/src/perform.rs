//! Carries out effects. Each one is idempotent: after a crash it is simply performed again.

mod cancel_prompt;
mod commit;
mod deliver_prompt;
mod leak;
mod offer_pull_request;
mod push;
mod reach;
mod start_agent;
mod start_sandbox;
mod stop_sandbox;
mod sync_workspace;

use std::sync::Arc;

use protocol::session::{Author, SessionView};
use protocol::{ImageId, SessionId};
use session::{Command, Effect, State};

pub(crate) use start_sandbox::reattach;
pub(crate) use stop_sandbox::stop_surely;

use crate::clock;
use crate::shared::Shared;

/// An effect with what the session knew at the moment it became outstanding.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) session: SessionId,
    pub(crate) effect: Effect,
    pub(crate) view: SessionView,
    /// The image beneath the session's files, once it has any.
    pub(crate) image: Option<ImageId>,
}

/// A prompt as an order needs it.
#[derive(Debug)]
struct Asked<'a> {
    author: &'a Author,
    text: &'a str,
}

impl Order {
    /// None for a session that was not created, which has no effects.
    pub(crate) fn new(state: &State, effect: Effect) -> Option<Self> {
        let (session, image) = (state.session(), state.image());
        state.view().map(|view| Self { session, effect, view, image })
    }

    fn asked(&self, prompt: protocol::PromptId) -> Option<Asked<'_>> {
        let found = self.view.prompts.iter().rev().find(|asked| asked.id == prompt)?;
        Some(Asked { author: &found.author, text: &found.text })
    }
}

/// Performs one effect; the answer is what the session should hear of it.
pub(crate) async fn perform(shared: &Arc<Shared>, order: Order) -> Option<Command> {
    tracing::debug!(session = %order.session, effect = ?order.effect, "performing");
    let view = &order.view;
    match order.effect.clone() {
        Effect::StartSandbox { sandbox, continues } => {
            Some(start_sandbox::start_sandbox(shared, view, sandbox, continues, order.image).await)
        }
        Effect::StopSandbox { sandbox, .. } => {
            Some(stop_sandbox::stop_sandbox(shared, sandbox).await)
        }
        Effect::StartAgent { sandbox } => {
            Some(start_agent::start_agent(shared, view, sandbox).await)
        }
        Effect::SyncWorkspace { sandbox, branch, commit } => {
            Some(sync_workspace::sync_workspace(shared, view, sandbox, branch, commit).await)
        }
        Effect::DeliverPrompt { sandbox, prompt } => {
            deliver_prompt::deliver_prompt(shared, &order, sandbox, prompt).await
        }
        Effect::CancelPrompt { sandbox, prompt } => {
            Some(cancel_prompt::cancel_prompt(shared, sandbox, prompt).await)
        }
        Effect::Commit { sandbox, prompt } => commit::commit(shared, &order, sandbox, prompt).await,
        Effect::Push { sandbox, prompt, commit } => {
            Some(push::push(shared, view, sandbox, prompt, commit).await)
        }
        Effect::OfferPullRequest { prompt, commit, as_user } => Some(
            offer_pull_request::offer_pull_request(shared, view, prompt, commit, as_user).await,
        ),
        Effect::WakeAt(moment) => {
            tokio::time::sleep(clock::until(moment)).await;
            Some(Command::Wake)
        }
    }
}
