//! The sessions whose tasks live, found by id; a session without a task gets one by replay.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::SessionId;
use tokio::sync::Mutex as AsyncMutex;

use crate::Error;
use crate::shared::Shared;
use crate::task::{self, Handle, Replayed};

/// Events read at once while a session is replayed.
const REPLAY_PAGE: usize = 1000;

/// Live sessions. At most one task exists for a session: starting one is serialized.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    live: Mutex<HashMap<SessionId, Handle>>,
    starting: AsyncMutex<()>,
}

impl Directory {
    fn live(&self) -> std::sync::MutexGuard<'_, HashMap<SessionId, Handle>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a task that has ended.
    pub(crate) fn forget(&self, session: SessionId) {
        self.live().remove(&session);
    }

    /// Every session with a task.
    pub(crate) fn sessions(&self) -> Vec<(SessionId, Handle)> {
        self.live().iter().map(|(id, handle)| (*id, handle.clone())).collect()
    }

    /// The task of a recorded session, started by replay if it has none.
    pub(crate) async fn get(shared: &Arc<Shared>, session: SessionId) -> Result<Handle, Error> {
        let directory = &shared.directory;
        if let Some(handle) = directory.live().get(&session) {
            return Ok(handle.clone());
        }
        let _starting = directory.starting.lock().await;
        if let Some(handle) = directory.live().get(&session) {
            return Ok(handle.clone());
        }
        let replayed = Self::replay(shared, session).await?;
        if replayed.state.sequence() == 0 {
            return Err(Error::NotFound { what: format!("session {session}") });
        }
        Ok(Self::start(shared, session, replayed))
    }

    /// The task of a session that is about to be created, or was a moment before a crash.
    pub(crate) async fn get_or_create(
        shared: &Arc<Shared>,
        session: SessionId,
    ) -> Result<Handle, Error> {
        let directory = &shared.directory;
        let _starting = directory.starting.lock().await;
        if let Some(handle) = directory.live().get(&session) {
            return Ok(handle.clone());
        }
        match shared.journal.create(session).await {
            Ok(()) | Err(journal::Error::Exists { .. }) => {}
            Err(error) => {
                return Err(Error::failed(format!("creating the file of {session}"), error));
            }
        }
        let replayed = Self::replay(shared, session).await?;
        Ok(Self::start(shared, session, replayed))
    }

    /// Starts the task of a replayed session; the caller has made sure that it has none.
    pub(crate) fn start(shared: &Arc<Shared>, session: SessionId, replayed: Replayed) -> Handle {
        let handle = task::spawn(Arc::clone(shared), session, replayed);
        shared.directory.live().insert(session, handle.clone());
        handle
    }

    /// A session as its recorded events make it.
    pub(crate) async fn replay(shared: &Shared, session: SessionId) -> Result<Replayed, Error> {
        let mut replayed = Replayed::new(session);
        loop {
            let page = shared
                .journal
                .read(session, replayed.state.sequence(), REPLAY_PAGE)
                .await
                .map_err(|error| match error {
                journal::Error::UnknownSession { .. } => {
                    Error::NotFound { what: format!("session {session}") }
                }
                error => Error::failed(format!("reading events of {session}"), error),
            })?;
            if page.is_empty() {
                return Ok(replayed);
            }
            for envelope in &page {
                replayed.apply(envelope);
            }
        }
    }
}
