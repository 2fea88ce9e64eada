//! What can go wrong with recorded events, each with the file it is about.

use std::path::{Path, PathBuf};

use protocol::SessionId;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A journal or index operation that was not carried out; nothing of it was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else appended first, or the caller's state is out of date.
    #[error(
        "session {session} was expected to end at event {expected} and ends at {actual}: read the newer events and decide again"
    )]
    Conflict {
        /// Where.
        session: SessionId,
        /// What the caller expected.
        expected: u64,
        /// What is there.
        actual: u64,
    },
    /// No such session.
    #[error("there is no session {session}")]
    UnknownSession {
        /// The id.
        session: SessionId,
    },
    /// The session was created before.
    #[error("session {session} exists already")]
    Exists {
        /// The id.
        session: SessionId,
    },
    /// The file is not what it should be.
    #[error(
        "`{}` is damaged or no Hangar database ({what}): move it away and put a backup in its place",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The file was written by a newer Hangar.
    #[error(
        "`{}` has format {found} and this Hangar knows formats up to {supported}: run the newer Hangar that wrote it",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format this program knows.
        supported: i64,
    },
    /// Another process holds the file.
    #[error(
        "`{}` is in use by another process: stop the other Hangar server, or choose another data directory with --data",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// No space is left.
    #[error(
        "no space is left for `{}`: nothing was recorded; free some space and try again",
        path.display()
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The database library is one that can damage files.
    #[error(
        "SQLite {found} is linked in and at least 3.51.3 is needed, because older ones can damage a database that is written and checkpointed at once: build with rusqlite's `bundled` feature"
    )]
    OldSqlite {
        /// The version that is linked in.
        found: &'static str,
    },
    /// The database refused for another reason.
    #[error("{doing} `{}` failed", path.display())]
    Database {
        /// What was being done: `reading events from`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the database says.
        #[source]
        source: Source,
    },
    /// The file system refused.
    #[error("{doing} `{}` failed: check that the directory exists and may be written", path.display())]
    File {
        /// What was being done: `creating`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// A value could not be written as JSON.
    #[error("writing an event of session {session} as JSON failed")]
    Encode {
        /// Where.
        session: SessionId,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A cursor that this list never gave out.
    #[error("`{cursor}` is not a cursor of this list: ask for the first page without a cursor")]
    Cursor {
        /// The text.
        cursor: String,
    },
    /// The thread that does the work has ended or gave up on this request.
    #[error("the journal's thread did not answer: see the log for a panic, and restart the server")]
    Stopped,
}

impl Error {
    pub(crate) fn database(doing: &'static str, path: &Path, error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let path = path.to_owned();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, what: error.to_string() }
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::InUse { path },
            Some(ErrorCode::DiskFull) => Self::DiskFull { path },
            _ => Self::Database { doing, path, source: Box::new(error) },
        }
    }

    pub(crate) fn file(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path }
            }
            _ => Self::File { doing, path, source },
        }
    }
}
