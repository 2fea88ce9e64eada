//! One reader of one session: first exactly what it missed, then what happens.

use std::collections::VecDeque;
use std::sync::Arc;

use journal::Journal;
use protocol::client::Delta;
use protocol::{Envelope, SessionId};
use tokio::sync::broadcast;

use crate::Error;

/// Updates kept for a reader that is behind; one that falls further behind starts again from its
/// last number, so no reader can hold memory or slow another.
pub(crate) const BUFFERED_UPDATES: usize = 1024;

/// Events read from the journal at once.
const PAGE: usize = 256;

/// What a session's task tells its readers as it happens.
#[derive(Debug, Clone)]
pub(crate) enum Live {
    Event(Arc<Envelope>),
    Delta(Arc<Delta>),
}

/// What a reader gets.
#[derive(Debug, Clone)]
pub enum Update {
    /// The next event, without gaps.
    Event(Arc<Envelope>),
    /// Text in the making.
    Delta(Arc<Delta>),
    /// Everything recorded when the subscription began was sent.
    CaughtUp {
        /// The number of the last event sent.
        sequence: u64,
    },
    /// The reader was too slow; the subscription has ended. Subscribe again after this number.
    Lagged {
        /// The number of the last event sent.
        after: u64,
    },
}

/// A stream of [`Update`]s; dropped to end it.
#[derive(Debug)]
pub struct Subscription {
    session: SessionId,
    journal: Arc<dyn Journal>,
    live: broadcast::Receiver<Live>,
    page: VecDeque<Envelope>,
    sent: u64,
    recorded: u64,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Reading what was recorded before the subscription.
    History,
    /// Passing on what happens.
    Live,
    /// Over.
    Ended,
}

impl Subscription {
    /// A reader that has everything up to `after`, of a session that has recorded `recorded` events
    /// at the moment `live` was opened. Both must be taken by the session's own task in one step:
    /// otherwise an event between them would be in neither.
    pub(crate) fn new(
        session: SessionId,
        journal: Arc<dyn Journal>,
        live: broadcast::Receiver<Live>,
        after: u64,
        recorded: u64,
    ) -> Self {
        let sent = after.min(recorded);
        Self {
            session,
            journal,
            live,
            page: VecDeque::new(),
            sent,
            recorded,
            stage: Stage::History,
        }
    }

    /// The next update; `None` once the subscription has ended.
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        match self.stage {
            Stage::History => self.next_recorded().await.map(Some),
            Stage::Live => Ok(self.next_live().await),
            Stage::Ended => Ok(None),
        }
    }

    async fn next_recorded(&mut self) -> Result<Update, Error> {
        if self.sent >= self.recorded {
            self.stage = Stage::Live;
            return Ok(Update::CaughtUp { sequence: self.sent });
        }
        if self.page.is_empty() {
            let page = self.journal.read(self.session, self.sent, PAGE).await.map_err(|error| {
                Error::failed(format!("reading events of {}", self.session), error)
            })?;
            self.page = page.into();
        }
        match self.page.pop_front() {
            Some(envelope) => {
                self.sent = envelope.sequence;
                Ok(Update::Event(Arc::new(envelope)))
            }
            None => Err(Error::failed(
                format!("reading events of {} after {}", self.session, self.sent),
                "the journal holds fewer events than it had acknowledged",
            )),
        }
    }

    async fn next_live(&mut self) -> Option<Update> {
        loop {
            match self.live.recv().await {
                // Events recorded before the subscription began may still be in the channel.
                Ok(Live::Event(envelope)) if envelope.sequence <= self.sent => {}
                Ok(Live::Event(envelope)) => {
                    self.sent = envelope.sequence;
                    return Some(Update::Event(envelope));
                }
                Ok(Live::Delta(delta)) => return Some(Update::Delta(delta)),
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.stage = Stage::Ended;
                    return Some(Update::Lagged { after: self.sent });
                }
                Err(broadcast::error::RecvError::Closed) => {
                    self.stage = Stage::Ended;
                    return None;
                }
            }
        }
    }
}
