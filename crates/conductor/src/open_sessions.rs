//! The sessions that may have work to do, so that a restarted server looks at these and not at all.
//!
//! A session is written down before its first command is decided and struck out only when nothing
//! is outstanding and no sandbox is left, so the list may name too many and never too few.

use std::collections::BTreeSet;
use std::sync::Arc;

use journal::Index;
use protocol::SessionId;
use tokio::sync::Mutex;

use crate::Error;

const KEY: &str = "open_sessions";

/// The list, in the index database and in memory.
#[derive(Debug)]
pub(crate) struct OpenSessions {
    index: Arc<Index>,
    open: Mutex<BTreeSet<SessionId>>,
}

impl OpenSessions {
    /// Reads the list an earlier process left.
    pub(crate) async fn load(index: Arc<Index>) -> Result<Self, Error> {
        let failed = |error: crate::error::BoxError| {
            Error::failed("reading the list of open sessions", error)
        };
        let text = index.setting(KEY).await.map_err(|error| failed(error.into()))?;
        let open = text
            .map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|error| failed(error.into()))?
            .unwrap_or_default();
        Ok(Self { index, open: Mutex::new(open) })
    }

    /// Every session that may have work to do.
    pub(crate) async fn all(&self) -> Vec<SessionId> {
        self.open.lock().await.iter().copied().collect()
    }

    /// Writes a session down; durable when this returns.
    pub(crate) async fn add(&self, session: SessionId) -> Result<(), Error> {
        let mut open = self.open.lock().await;
        if open.insert(session) { self.save(&open).await } else { Ok(()) }
    }

    /// Strikes a session out.
    pub(crate) async fn remove(&self, session: SessionId) -> Result<(), Error> {
        let mut open = self.open.lock().await;
        if open.remove(&session) { self.save(&open).await } else { Ok(()) }
    }

    async fn save(&self, open: &BTreeSet<SessionId>) -> Result<(), Error> {
        let text = serde_json::to_string(open)
            .map_err(|error| Error::failed("writing the list of open sessions", error))?;
        self.index
            .set_setting(KEY, &text)
            .await
            .map_err(|error| Error::failed("writing the list of open sessions", error))
    }
}
