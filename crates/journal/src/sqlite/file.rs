//! One session's database file.

use std::fs::File;
use std::path::{Path, PathBuf};

use protocol::{Envelope, SessionId, Timestamp};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};
use rusqlite_migration::M;

use crate::database::{self, Schema};
use crate::{Error, NewEvent, place};

const SCHEMA: Schema = Schema {
    steps: &[M::up(
        "CREATE TABLE session (id TEXT NOT NULL PRIMARY KEY) STRICT;
         CREATE TABLE events (
             sequence INTEGER NOT NULL PRIMARY KEY CHECK (sequence > 0),
             at INTEGER NOT NULL,
             actor TEXT NOT NULL,
             report INTEGER,
             event TEXT NOT NULL
         ) STRICT;",
    )],
};

/// An open file. Every transaction is on disk when it has ended (`synchronous=FULL`).
#[derive(Debug)]
pub(super) struct SessionFile {
    session: SessionId,
    path: PathBuf,
    connection: Connection,
}

impl SessionFile {
    /// Makes the file under another name first, so that a file with a session's name is complete:
    /// an empty one is damage and never mistaken for a new session.
    pub(super) fn create(session: SessionId, path: &Path) -> Result<(), Error> {
        let unfinished = path.with_extension("creating");
        Self::write(session, path, &unfinished).inspect_err(|_| {
            // What a full disk refused needs its space back; the failure itself is what is reported.
            let _ = std::fs::remove_file(unfinished.with_extension("creating-wal"));
            let _ = std::fs::remove_file(&unfinished);
        })
    }

    fn write(session: SessionId, path: &Path, unfinished: &Path) -> Result<(), Error> {
        match std::fs::remove_file(unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("removing", unfinished, error));
            }
            _ => {}
        }
        let failed = |error| Error::database("creating", unfinished, error);
        let connection = database::open(unfinished, true, &SCHEMA)?;
        connection
            .execute("INSERT INTO session (id) VALUES (?1)", [session.to_string()])
            .map_err(failed)?;
        // Closing moves the log into the file, synced, and removes the log.
        connection.close().map_err(|(_, error)| failed(error))?;
        std::fs::rename(unfinished, path).map_err(|error| Error::file("creating", path, error))?;
        let directory = path.parent().unwrap_or(Path::new("."));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Error::file("syncing the directory", directory, error))
    }

    pub(super) fn open(session: SessionId, path: &Path) -> Result<Self, Error> {
        let connection = database::open(path, false, &SCHEMA)?;
        let found: Option<String> = connection
            .query_row("SELECT id FROM session", (), |row| row.get(0))
            .optional()
            .map_err(|error| Error::database("opening", path, error))?;
        if found.as_deref() != Some(session.to_string().as_str()) {
            let owner = found.unwrap_or_else(|| "no session".to_owned());
            let what = format!("it belongs to {owner}");
            return Err(Error::Damaged { path: path.to_owned(), what });
        }
        Ok(Self { session, path: path.to_owned(), connection })
    }

    pub(super) fn append(
        &mut self,
        expected: u64,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Envelope>, Error> {
        let Self { session, ref path, ref mut connection } = *self;
        let failed = |error| Error::database("appending events to", path, error);
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let actual = last(&transaction).map_err(failed)?;
        if actual != expected {
            return Err(Error::Conflict { session, expected, actual });
        }
        let placed = place(session, actual, events);
        {
            let mut insert = transaction
                .prepare_cached(
                    "INSERT INTO events (sequence, at, actor, report, event)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )
                .map_err(failed)?;
            for envelope in &placed {
                let encode = |source| Error::Encode { session, source };
                let actor = serde_json::to_string(&envelope.actor).map_err(encode)?;
                let event = serde_json::to_string(&envelope.event).map_err(encode)?;
                let sequence = whole(envelope.sequence);
                insert
                    .execute((sequence, envelope.at.0, actor, envelope.report.map(whole), event))
                    .map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)?;
        Ok(placed)
    }

    pub(super) fn read(&mut self, after: u64, limit: usize) -> Result<Vec<Envelope>, Error> {
        let failed = |error| match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, error) => {
                Error::Damaged { path: self.path.clone(), what: error.to_string() }
            }
            error => Error::database("reading events from", &self.path, error),
        };
        let mut select = self
            .connection
            .prepare_cached(
                "SELECT sequence, at, actor, report, event FROM events
                 WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
            )
            .map_err(failed)?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = select
            .query_map((whole(after), limit), |row| decode(self.session, row))
            .map_err(failed)?;
        let events = rows.collect::<Result<Vec<Envelope>, _>>().map_err(failed)?;
        for (offset, envelope) in (1..).zip(&events) {
            let expected = after + offset;
            if envelope.sequence != expected {
                let what = format!("event {expected} is missing");
                return Err(Error::Damaged { path: self.path.clone(), what });
            }
        }
        Ok(events)
    }

    pub(super) fn last(&mut self) -> Result<u64, Error> {
        last(&self.connection)
            .map_err(|error| Error::database("reading events from", &self.path, error))
    }
}

fn last(connection: &Connection) -> Result<u64, rusqlite::Error> {
    connection
        .prepare_cached("SELECT coalesce(max(sequence), 0) FROM events")?
        .query_row((), |row| row.get::<_, i64>(0))
        .map(i64::unsigned_abs)
}

/// SQLite's numbers have a sign; no session comes near the end of the positive ones.
fn whole(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

fn decode(session: SessionId, row: &Row<'_>) -> Result<Envelope, rusqlite::Error> {
    let sequence = row.get::<_, i64>(0)?.unsigned_abs();
    let failed = |what: &str, error: serde_json::Error| {
        let message = format!("the {what} of event {sequence} cannot be read: {error}");
        rusqlite::Error::FromSqlConversionFailure(2, Type::Text, message.into())
    };
    Ok(Envelope {
        session,
        sequence,
        at: Timestamp(row.get(1)?),
        actor: serde_json::from_str(row.get_ref(2)?.as_str()?)
            .map_err(|error| failed("actor", error))?,
        report: row.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
        event: serde_json::from_str(row.get_ref(4)?.as_str()?)
            .map_err(|error| failed("text", error))?,
    })
}
