//! Drives the agent: one process, one session, one prompt at a time.
//!
//! ```text
//!           order            initialized                  session opened
//!  absent ────────► starting ───────────► initialized ───────────────► ready
//!    ▲                 │                       │ (waits for the gate      │ ▲
//!    │   end, timeout, │                       │  unless the agent        │ │ answer:
//!    │   kill          │                       │  works before sync)      ▼ │ PromptEnded
//!    └─────────────────┴───────────────────────┴─────────────────────── working
//! ```
//!
//! Whatever happens, each prompt that was delivered gets exactly one `PromptEnded`. An agent that
//! is gone is started again for the next prompt. One task changes all this; it stops reading the
//! agent while the host has not recorded enough of the reports.

mod connection;
mod task;
mod transcript;

use std::sync::Arc;

use hyper::StatusCode;
use protocol::agentd::{
    AgentStarted, CancelPrompt, DeliverPrompt, PromptCancelled, PromptDelivered, StartAgent,
};
use tokio::sync::{mpsc, oneshot};

use crate::agent;
use crate::children::Children;
use crate::gate::Gate;
use crate::git::Git;
use crate::reports::Reports;

/// An order to the agent could not be carried out.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// Not in the registry.
    #[error("there is no agent `{0}`; agents: {names}", names = agent::NAMES)]
    Unknown(String),
    /// A prompt came first.
    #[error("no agent was started; start one before delivering a prompt")]
    NotStarted,
    /// Another agent or model is wanted while one works.
    #[error("the agent works on a prompt; it can be replaced when that has ended")]
    Busy,
    /// It did not come up.
    #[error("{0}")]
    Start(String),
    /// agentd is ending.
    #[error("agentd is ending")]
    Ending,
}

impl Error {
    /// Whose fault it is, as a status.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unknown(_) => StatusCode::BAD_REQUEST,
            Self::NotStarted | Self::Busy => StatusCode::CONFLICT,
            Self::Start(_) | Self::Ending => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

type Reply<T> = oneshot::Sender<Result<T, Error>>;

#[derive(Debug)]
enum Order {
    Start(StartAgent, Reply<AgentStarted>),
    Deliver(DeliverPrompt, Reply<PromptDelivered>),
    Cancel(CancelPrompt, Reply<PromptCancelled>),
}

/// What the driver works with.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) children: Arc<Children>,
    pub(crate) git: Arc<Git>,
    pub(crate) reports: Arc<Reports>,
    pub(crate) gate: Arc<Gate>,
}

/// The driver's handle.
#[derive(Debug)]
pub(crate) struct Driver(mpsc::Sender<Order>);

impl Driver {
    /// Starts the driver's task, without an agent yet.
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        let (sender, orders) = mpsc::channel(8);
        tokio::spawn(task::Task::new(surroundings).run(orders));
        Self(sender)
    }

    /// Starts the agent and waits until it answers; the same again changes nothing.
    pub(crate) async fn start(&self, order: StartAgent) -> Result<AgentStarted, Error> {
        self.order(|reply| Order::Start(order, reply)).await
    }

    /// Takes a prompt on, once.
    pub(crate) async fn deliver(&self, order: DeliverPrompt) -> Result<PromptDelivered, Error> {
        self.order(|reply| Order::Deliver(order, reply)).await
    }

    /// Ends a prompt and waits until nothing of it runs.
    pub(crate) async fn cancel(&self, order: CancelPrompt) -> Result<PromptCancelled, Error> {
        self.order(|reply| Order::Cancel(order, reply)).await
    }

    async fn order<T>(&self, order: impl FnOnce(Reply<T>) -> Order) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.0.send(order(reply)).await.map_err(|_| Error::Ending)?;
        answer.await.map_err(|_| Error::Ending)?
    }
}
