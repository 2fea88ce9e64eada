//! Tells sessions what the gateway saw of their sandboxes.

use std::sync::Arc;

use gateway::{Denial, Observation, Observed, Observer};
use protocol::SandboxId;
use protocol::sandbox::{Consequence, LimitName};
use session::{Command, LimitHit, ModelAnswer};
use tokio::sync::mpsc;

use crate::directory::Directory;
use crate::shared::Shared;
use crate::task::Message;

/// Observations waiting at most. They are figures, not facts that may never be lost: when a flood
/// fills the queue, further ones are dropped and the audit file still has them.
const WAITING: usize = 4096;

/// The gateway's end of the queue.
#[derive(Debug)]
pub(crate) struct Queue(mpsc::Sender<Observation>);

/// A queue and the end that [`forward`] reads.
pub(crate) fn queue() -> (Queue, mpsc::Receiver<Observation>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Queue(sender), receiver)
}

impl Observer for Queue {
    fn observed(&self, observation: Observation) {
        if let Err(error) = self.0.try_send(observation) {
            tracing::warn!(%error, "an observation of the gateway was dropped");
        }
    }
}

/// Hands observations to the sessions they are about, until the gateway is gone.
pub(crate) async fn forward(shared: Arc<Shared>, mut observations: mpsc::Receiver<Observation>) {
    while let Some(observation) = observations.recv().await {
        let Some(session) = observation.session else { continue };
        let Some(command) = command(observation.sandbox, &observation) else { continue };
        // Image builds have no session.
        let Ok(handle) = Directory::get(&shared, session).await else { continue };
        handle.send(Message::Command { command, report: None, reply: None }).await;
    }
}

fn command(sandbox: SandboxId, observation: &Observation) -> Option<Command> {
    match &observation.what {
        Observed::ModelRequestStarted { .. } => {
            Some(Command::ModelRequestStarted { sandbox, at: observation.at })
        }
        Observed::ModelFirstToken { .. } => {
            Some(Command::ModelFirstToken { sandbox, at: observation.at })
        }
        Observed::ModelAnswered { model, usage, first_token, total, provider, .. } => {
            Some(Command::ModelAnswered(ModelAnswer {
                sandbox,
                model: model.clone().unwrap_or_else(|| provider.to_string()),
                input_tokens: usage.input,
                output_tokens: usage.output,
                first_token_milliseconds: milliseconds(first_token.unwrap_or(*total)),
                milliseconds: milliseconds(*total),
            }))
        }
        Observed::Denied { denial, .. } => {
            Some(Command::Denied { sandbox, what: asked_for(denial), reason: denial.to_string() })
        }
        Observed::Throttled { tried, maximum } => Some(Command::LimitHit(LimitHit {
            sandbox,
            limit: LimitName::Egress,
            usage: *tried,
            maximum: *maximum,
            consequence: Consequence::Throttled,
            what: "it sends faster than it may".to_owned(),
        })),
        Observed::Git { .. } => None,
    }
}

/// What was asked for, as short as it can be said; the reason says the rest.
fn asked_for(denial: &Denial) -> String {
    match denial {
        Denial::Host { host, .. } | Denial::GitHost { host } => host.clone(),
        Denial::GitRepository { asked, .. } => asked.to_string(),
        Denial::GitReference { reference, .. } | Denial::GitDeletion { reference } => {
            reference.clone()
        }
        Denial::UnknownRoute { path } | Denial::ModelEndpoint { path, .. } => path.clone(),
        Denial::ProviderWithoutKey { provider } => provider.to_string(),
        other => other.code().to_owned(),
    }
}

fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
