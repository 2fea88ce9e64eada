//! Durable events: one SQLite file per session, one index database beside them.
//!
//! [`Journal`] is the seam: [`Sqlite`] keeps events on disk, [`Memory`] keeps them in the process,
//! and [`conformance`] holds both to the same promises. [`Index`] is what lists are made of;
//! everything it says about sessions can be rebuilt from the journal.
//!
//! Deliberately missing: deleting events. A recorded fact stays.

pub mod conformance;
mod database;
mod error;
pub mod index;
mod memory;
mod sqlite;

use async_trait::async_trait;
use protocol::session::Actor;
use protocol::{Envelope, Event, SessionId, Timestamp};

pub use error::Error;
pub use index::Index;
pub use memory::Memory;
pub use sqlite::{Options, Sqlite};

/// An event before it has its place in a session.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// When it happened.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// The number of agentd's report it comes from, as in [`Envelope::report`].
    pub report: Option<u64>,
    /// What happened.
    pub event: Event,
}

/// Where events of sessions are kept, in order and without gaps.
///
/// A future that is dropped before it answers may or may not have done its work; `expected_last`
/// makes trying again safe.
#[async_trait]
pub trait Journal: std::fmt::Debug + Send + Sync {
    /// Begins an empty session; refuses a session that exists.
    async fn create(&self, session: SessionId) -> Result<(), Error>;

    /// Adds events after the one numbered `expected_last` (0 for none), all or nothing.
    ///
    /// When this returns, the events survive a crash of the process and of the machine. If the
    /// session's last event has another number, nothing is written and the answer is
    /// [`Error::Conflict`].
    async fn append(
        &self,
        session: SessionId,
        expected_last: u64,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Envelope>, Error>;

    /// At most `limit` events numbered above `after`, in order; fewer only at the end.
    async fn read(
        &self,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Envelope>, Error>;

    /// The number of the last event; 0 for a session without events.
    async fn last(&self, session: SessionId) -> Result<u64, Error>;

    /// Every session, oldest first.
    async fn sessions(&self) -> Result<Vec<SessionId>, Error>;
}

/// Gives events their places after `last`.
fn place(session: SessionId, last: u64, events: Vec<NewEvent>) -> Vec<Envelope> {
    (last + 1..)
        .zip(events)
        .map(|(sequence, NewEvent { at, actor, report, event })| Envelope {
            session,
            sequence,
            at,
            actor,
            report,
            event,
        })
        .collect()
}
