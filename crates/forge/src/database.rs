//! The SQLite file of pull requests, used from threads that may block.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use crate::Error;

/// Each entry runs once, in order; entries are only ever added.
///
/// The second index is what makes opening a pull request idempotent whatever happens in between.
const MIGRATIONS: &[M<'_>] = &[M::up(
    "CREATE TABLE pull_requests (
        id          TEXT    NOT NULL PRIMARY KEY,
        repository  TEXT    NOT NULL,
        number      INTEGER NOT NULL,
        session     TEXT,
        title       TEXT    NOT NULL,
        body        TEXT    NOT NULL,
        author_user  TEXT   NOT NULL,
        author_name  TEXT   NOT NULL,
        author_email TEXT   NOT NULL,
        base_branch TEXT    NOT NULL,
        branch      TEXT    NOT NULL,
        merge_base  TEXT    NOT NULL,
        commit_id   TEXT    NOT NULL,
        state       TEXT    NOT NULL CHECK (state IN ('open', 'merged', 'closed')),
        files       INTEGER NOT NULL,
        added       INTEGER NOT NULL,
        removed     INTEGER NOT NULL,
        created_at  INTEGER NOT NULL,
        updated_at  INTEGER NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX pull_requests_by_number ON pull_requests (repository, number);
    CREATE UNIQUE INDEX pull_requests_one_open ON pull_requests (repository, branch)
        WHERE state = 'open';",
)];

/// A handle to the file; clones share one connection, which is enough for one writer.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    connection: Arc<Mutex<Connection>>,
}

impl Database {
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let path = path.to_owned();
        blocking(move || {
            let failed = |source| Error::Database { doing: "set up writing", source };
            #[expect(clippy::disallowed_methods, reason = "this is the crate's own open function")]
            let mut connection = Connection::open(&path).map_err(failed)?;
            connection.busy_timeout(Duration::from_secs(10)).map_err(failed)?;
            connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
            // A pull request that was announced must survive a power cut.
            connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
            Migrations::from_slice(MIGRATIONS)
                .to_latest(&mut connection)
                .map_err(|source| Error::Migrate { path, source })?;
            Ok(Self { connection: Arc::new(Mutex::new(connection)) })
        })
        .await
    }

    /// Runs `work` in one transaction that takes the write lock at once; an error undoes it.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let connection = Arc::clone(&self.connection);
        blocking(move || {
            let failed = |source| Error::Database { doing, source };
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let immediate = rusqlite::TransactionBehavior::Immediate;
            let transaction = connection.transaction_with_behavior(immediate).map_err(failed)?;
            let result = work(&transaction)?;
            transaction.commit().map_err(failed)?;
            Ok(result)
        })
        .await
    }

    /// Runs `work`, which only reads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let connection = Arc::clone(&self.connection);
        blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection).map_err(|source| Error::Database { doing, source })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels blocking work.
            Err(cancelled) => Err(Error::Run {
                doing: "use the forge's database".to_owned(),
                source: std::io::Error::other(cancelled),
            }),
        },
    }
}
