//! The files of one thread: which are open, and which is closed when there are too many.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use lru::LruCache;
use protocol::SessionId;

use super::file::SessionFile;
use crate::Error;

/// What follows the id in the name of a session's file.
const SUFFIX: &str = ".db";

/// The sessions that one thread looks after.
#[derive(Debug)]
pub(super) struct Shard {
    directory: PathBuf,
    open: LruCache<SessionId, SessionFile>,
}

impl Shard {
    pub(super) fn new(directory: PathBuf, open_files: usize) -> Self {
        let capacity = NonZeroUsize::new(open_files).unwrap_or(NonZeroUsize::MIN);
        Self { directory, open: LruCache::new(capacity) }
    }

    pub(super) fn open_files(&self) -> usize {
        self.open.len()
    }

    pub(super) fn create(&mut self, session: SessionId) -> Result<(), Error> {
        let path = self.path(session);
        if exists(&path)? {
            return Err(Error::Exists { session });
        }
        SessionFile::create(session, &path)
    }

    /// Uses a session's file, opening it if it is closed.
    ///
    /// After a failure other than a conflict the connection is given up: what the next request
    /// sees then comes from the file and not from memory of a failed write.
    pub(super) fn with<T>(
        &mut self,
        session: SessionId,
        work: impl FnOnce(&mut SessionFile) -> Result<T, Error>,
    ) -> Result<T, Error> {
        if !self.open.contains(&session) {
            let path = self.path(session);
            if !exists(&path)? {
                return Err(Error::UnknownSession { session });
            }
            self.open.push(session, SessionFile::open(session, &path)?);
        }
        let file = self.open.get_mut(&session).ok_or(Error::Stopped)?;
        let result = work(file);
        if matches!(&result, Err(error) if !matches!(error, Error::Conflict { .. })) {
            self.open.pop(&session);
        }
        result
    }

    fn path(&self, session: SessionId) -> PathBuf {
        self.directory.join(format!("{session}{SUFFIX}"))
    }
}

fn exists(path: &Path) -> Result<bool, Error> {
    path.try_exists().map_err(|error| Error::file("looking for", path, error))
}

/// Every session with a file, oldest first.
pub(super) fn list(directory: &Path) -> Result<Vec<SessionId>, Error> {
    let failed = |error| Error::file("listing", directory, error);
    let mut sessions = Vec::new();
    for entry in directory.read_dir().map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)) else { continue };
        if let Ok(session) = id.parse() {
            sessions.push(session);
        } else {
            tracing::warn!(file = ?name, "a file among the sessions is not named after one");
        }
    }
    sessions.sort_unstable();
    Ok(sessions)
}
