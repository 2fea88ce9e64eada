//! A journal in the process's memory: for tests, simulations and measurements.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use protocol::{Envelope, SessionId};

use crate::{Error, Journal, NewEvent, place};

/// Events that live as long as this value.
#[derive(Debug, Default)]
pub struct Memory {
    sessions: Mutex<BTreeMap<SessionId, Vec<Envelope>>>,
}

impl Memory {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// No operation leaves the map half-changed, so a panic elsewhere does not make it unusable.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SessionId, Vec<Envelope>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Journal for Memory {
    async fn create(&self, session: SessionId) -> Result<(), Error> {
        let mut sessions = self.lock();
        if sessions.contains_key(&session) {
            return Err(Error::Exists { session });
        }
        sessions.insert(session, Vec::new());
        Ok(())
    }

    async fn append(
        &self,
        session: SessionId,
        expected_last: u64,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Envelope>, Error> {
        let mut sessions = self.lock();
        let recorded = sessions.get_mut(&session).ok_or(Error::UnknownSession { session })?;
        let last = recorded.len() as u64;
        if last != expected_last {
            return Err(Error::Conflict { session, expected: expected_last, actual: last });
        }
        let placed = place(session, last, events);
        recorded.extend(placed.iter().cloned());
        Ok(placed)
    }

    async fn read(
        &self,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Envelope>, Error> {
        let sessions = self.lock();
        let recorded = sessions.get(&session).ok_or(Error::UnknownSession { session })?;
        let skip = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(recorded.iter().skip(skip).take(limit).cloned().collect())
    }

    async fn last(&self, session: SessionId) -> Result<u64, Error> {
        let sessions = self.lock();
        let recorded = sessions.get(&session).ok_or(Error::UnknownSession { session })?;
        Ok(recorded.len() as u64)
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, Error> {
        Ok(self.lock().keys().copied().collect())
    }
}
