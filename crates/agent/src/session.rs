//! One conversation and the work on it.
//!
//! ```text
//!            prompt                                prompt: waits for the next model step
//!  idle ───────────────▶ working ◀───────────────────────────────────────┐
//!   ▲                      │  └──────────────────────────────────────────┘
//!   │  finished, failed    │
//!   └──────────────────────┘  cancel: the stream is dropped, running tools are killed
//! ```
//!
//! One task works, and only it changes the conversation. Prompts that arrive meanwhile are put in
//! before the next request to the model, and all prompts of one run are answered together.

mod replay;
mod work;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::conversation::Conversation;
use crate::history::History;
use crate::model::{self, Model};
use crate::report::Reporter;
use crate::settings::{self, Settings};
use crate::tool::Place;
use crate::turn::{self, Finish};
use work::Work;

pub use replay::replay;

/// How a prompt ended; the same for all prompts of one run.
pub type Ended = Result<Finish, Arc<Error>>;

/// Why a prompt failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no usable model.
    #[error(transparent)]
    Settings(#[from] settings::Error),
    /// The model did not answer.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The model makes no sense.
    #[error(transparent)]
    Turn(#[from] turn::Failure),
    /// A fault of this program.
    #[error("the agent broke while it worked on the prompt; this is a fault of the agent")]
    Broken,
}

/// A conversation that can be continued.
pub struct Session {
    settings: Arc<Settings>,
    place: Place,
    reporter: Arc<dyn Reporter>,
    inbox: Mutex<Inbox>,
    work: tokio::sync::Mutex<Work>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// Cancels the run; there while one is working.
    running: Option<CancellationToken>,
    waiting: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    text: String,
    reply: oneshot::Sender<Ended>,
}

impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Session")
            .field("place", &self.place)
            .field("inbox", &self.inbox)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session with what was said in it so far. Without a history nothing is kept on disk.
    pub fn new(
        settings: Arc<Settings>,
        place: Place,
        reporter: Arc<dyn Reporter>,
        conversation: Conversation,
        history: Option<History>,
    ) -> Self {
        Self {
            settings,
            place,
            reporter,
            inbox: Mutex::default(),
            work: tokio::sync::Mutex::new(Work::new(conversation, history)),
        }
    }

    /// Takes a prompt; the receiver tells how it ended. A closed receiver means [`Error::Broken`].
    pub fn prompt(self: &Arc<Self>, text: String) -> oneshot::Receiver<Ended> {
        let (reply, ended) = oneshot::channel();
        let mut inbox = self.inbox();
        inbox.waiting.push(Waiting { text, reply });
        if inbox.running.is_none() {
            let cancel = CancellationToken::new();
            inbox.running = Some(cancel.clone());
            drop(inbox);
            let session = Arc::clone(self);
            tokio::spawn(async move {
                let work = Arc::clone(&session);
                // A task of its own, so that a fault in it does not leave the session working
                // for ever.
                if tokio::spawn(async move { work.run(&cancel).await }).await.is_err() {
                    let mut inbox = session.inbox();
                    inbox.running = None;
                    inbox.waiting.clear();
                }
            });
        }
        ended
    }

    /// Stops the run, if there is one: its prompts end as cancelled.
    pub fn cancel(&self) {
        if let Some(cancel) = &self.inbox().running {
            cancel.cancel();
        }
    }

    /// Whether a run is going on.
    pub fn is_working(&self) -> bool {
        self.inbox().running.is_some()
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        // Nothing panics while it is held, and every state of it is sound.
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn run(&self, cancel: &CancellationToken) {
        let mut work = self.work.lock().await;
        let mut replies = Vec::new();
        let ended = loop {
            let ended = match self.model() {
                Ok(model) => self.work_off(&model, &mut work, &mut replies, cancel).await,
                Err(error) => Err(error),
            };
            // Prompts that came with the last answer go on in this run, unless it failed: then they
            // still belong to the conversation. The run ends under the same lock, so that no prompt
            // falls between two runs.
            let mut inbox = self.inbox();
            let more = Self::hear(&mut inbox, &mut work, &mut replies);
            if !more || !matches!(&ended, Ok(finish) if *finish != Finish::Cancelled) {
                inbox.running = None;
                break ended.map_err(Arc::new);
            }
        };
        drop(work);
        for reply in replies {
            // The client may have gone.
            let _ = reply.send(ended.clone());
        }
    }

    fn model(&self) -> Result<Model, Error> {
        Ok(Model::new(self.settings.model.clone()?, self.settings.patience)?)
    }

    /// Puts the waiting prompts into the conversation; whether there were any.
    fn hear(inbox: &mut Inbox, work: &mut Work, replies: &mut Vec<oneshot::Sender<Ended>>) -> bool {
        let waiting = std::mem::take(&mut inbox.waiting);
        let any = !waiting.is_empty();
        for Waiting { text, reply } in waiting {
            work.hear(text);
            replies.push(reply);
        }
        any
    }
}
