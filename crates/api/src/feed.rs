//! One subscription as messages for one client: events at once, text in the making in few pieces.

mod pending;

use std::time::Duration;

use conductor::Update;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use protocol::SessionId;
use protocol::client::ServerMessage;
use tokio::time::Instant;

use crate::door::Updates;
use crate::problem::Failure;
use pending::Pending;

/// Between two pieces of text of one session: at most twenty in a second reach a client.
const DELTA_INTERVAL: Duration = Duration::from_millis(50);

/// Messages about one session. Its last message is `lagged`, unless the session has broken.
pub(crate) type Messages = BoxStream<'static, ServerMessage>;

/// The messages of a subscription after the event numbered `after`.
///
/// Nothing is read ahead: what a slow client has not taken waits in the subscription, whose bound
/// ends it with `lagged`.
pub(crate) fn messages(session: SessionId, after: u64, updates: Updates) -> Messages {
    let feed = Feed {
        session,
        updates,
        sent: after,
        pending: Pending::default(),
        next_delta: Instant::now(),
        ending: None,
        ended: false,
    };
    stream::unfold(feed, |mut feed| async { feed.next().await.map(|message| (message, feed)) })
        .boxed()
}

struct Feed {
    session: SessionId,
    updates: Updates,
    sent: u64,
    pending: Pending,
    next_delta: Instant,
    ending: Option<ServerMessage>,
    ended: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<ServerMessage> {
        if let Some(last) = self.ending.take() {
            self.ended = true;
            return Some(last);
        }
        while !self.ended {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.next_delta), if !self.pending.is_empty() => {
                    self.next_delta = Instant::now() + DELTA_INTERVAL;
                    return self.pending.take_first().map(ServerMessage::Delta);
                }
                // A full store waits for its turn, and with it everything behind.
                update = self.updates.next(), if !self.pending.is_full() => {
                    if let Some(message) = self.take(update) {
                        return Some(message);
                    }
                }
            }
        }
        None
    }

    fn take(&mut self, update: Option<Result<Update, conductor::Error>>) -> Option<ServerMessage> {
        let session = self.session;
        match update {
            Some(Ok(Update::Event(envelope))) => {
                self.sent = envelope.sequence;
                self.pending.forget_replaced(&envelope.event);
                Some(ServerMessage::Event((*envelope).clone()))
            }
            Some(Ok(Update::Delta(delta))) => {
                self.pending.add(&delta);
                None
            }
            Some(Ok(Update::CaughtUp { sequence })) => {
                self.sent = sequence;
                Some(ServerMessage::CaughtUp { session, sequence })
            }
            Some(Err(error)) => {
                self.ending = Some(self.lagged());
                Some(ServerMessage::Problem(*Failure::from(error).0))
            }
            // The session went to rest; subscribing again wakes it.
            Some(Ok(Update::Lagged { .. })) | None => {
                self.ended = true;
                Some(self.lagged())
            }
        }
    }

    fn lagged(&self) -> ServerMessage {
        ServerMessage::Lagged { session: self.session, after: self.sent }
    }
}

#[cfg(test)]
mod tests;
