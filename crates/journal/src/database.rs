//! Opening one SQLite file the way every database here is opened, and a thread to use it on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::Migrations;
use tokio::sync::{mpsc, oneshot};

use crate::Error;

/// `HNGR`, in every database file of ours; `file(1)` and a mistaken open can tell.
const APPLICATION_ID: i64 = 0x484e_4752;
/// The first SQLite in which writing and checkpointing at once cannot damage a write-ahead log.
const OLDEST_SQLITE: i32 = 3_051_003;
/// How long to wait for a process that is just letting go of a file.
const BUSY: Duration = Duration::from_millis(250);
/// Requests that may wait for one thread; more make their callers wait.
const WAITING: usize = 256;

/// Refuses to work with a SQLite that can damage files.
pub(crate) fn check_version() -> Result<(), Error> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(Error::OldSqlite { found: rusqlite::version() });
    }
    Ok(())
}

/// Opens an existing file, or creates it, and holds it for this process alone.
///
/// `locking_mode=EXCLUSIVE` keeps the lock until the connection closes and the index of the log on
/// the heap. The lock is a POSIX one: opening and closing the same file by any other means in this
/// process would drop it, so nobody reads these files but through their connection.
///
/// A file that is not ours is refused before anything is written to it.
pub(crate) fn open(path: &Path, create: bool, schema: &Schema) -> Result<Connection, Error> {
    let failed = |error| Error::database("opening", path, error);
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(BUSY).map_err(failed)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(failed)?;
    let found = schema.check(&connection, path, create)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(failed)?;
    connection.pragma_update(None, "journal_size_limit", 1_048_576).map_err(failed)?;
    schema.advance(&mut connection, path, found)?;
    Ok(connection)
}

/// A database without a file, for as long as the connection lives.
pub(crate) fn open_in_memory(schema: &Schema) -> Result<Connection, Error> {
    let path = Path::new(":memory:");
    let mut connection =
        Connection::open_in_memory().map_err(|error| Error::database("opening", path, error))?;
    let found = schema.check(&connection, path, true)?;
    schema.advance(&mut connection, path, found)?;
    Ok(connection)
}

/// The tables of one kind of database and how they came to be.
#[derive(Debug)]
pub(crate) struct Schema {
    /// One step per format; a step that was ever released never changes.
    pub(crate) steps: &'static [rusqlite_migration::M<'static>],
}

impl Schema {
    fn newest(&self) -> i64 {
        i64::try_from(self.steps.len()).unwrap_or(i64::MAX)
    }

    /// The format of a database; refuses foreign and newer ones. An empty one is made ours.
    fn check(&self, connection: &Connection, path: &Path, create: bool) -> Result<i64, Error> {
        let failed = |error| Error::database("reading the format of", path, error);
        let number = |name: &str| {
            connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed)
        };
        let damaged = |what: &str| Error::Damaged { path: path.to_owned(), what: what.to_owned() };
        if number("page_count")? == 0 {
            if !create {
                return Err(damaged("it is empty"));
            }
            connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        }
        if number("application_id")? != APPLICATION_ID {
            return Err(damaged("it was written by another program"));
        }
        let (found, supported) = (number("user_version")?, self.newest());
        if found > supported {
            return Err(Error::Newer { path: path.to_owned(), found, supported });
        }
        Ok(found)
    }

    /// Brings the tables from a format to the newest one.
    fn advance(&self, connection: &mut Connection, path: &Path, found: i64) -> Result<(), Error> {
        if found == self.newest() {
            return Ok(());
        }
        let doing = "bringing to the newest format";
        Migrations::from_slice(self.steps).to_latest(connection).map_err(|error| match error {
            rusqlite_migration::Error::RusqliteError { err, .. } => {
                Error::database(doing, path, err)
            }
            other => Error::Database { doing, path: path.to_owned(), source: Box::new(other) },
        })
    }
}

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that owns a state and works through requests in order.
///
/// Dropping it lets the waiting requests end, then closes the state, then returns.
#[derive(Debug)]
pub(crate) struct Worker<S> {
    jobs: Option<mpsc::Sender<Job<S>>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl<S: Send + 'static> Worker<S> {
    pub(crate) fn start(name: String, mut state: S) -> Result<Self, std::io::Error> {
        let (sender, mut jobs) = mpsc::channel::<Job<S>>(WAITING);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            while let Some(job) = jobs.blocking_recv() {
                // A panic answers its own request with `Stopped`; open transactions roll back as
                // they unwind, so the state stays usable for the others.
                if catch_unwind(AssertUnwindSafe(|| job(&mut state))).is_err() {
                    tracing::error!("a request to the journal panicked");
                }
            }
        })?;
        Ok(Self { jobs: Some(sender), thread: Some(thread) })
    }

    /// Runs a piece of work on the thread and waits for its answer.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (answer, answered) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            // Nobody waits for the answer of a dropped request.
            let _ = answer.send(work(state));
        });
        let jobs = self.jobs.as_ref().ok_or(Error::Stopped)?;
        jobs.send(job).await.map_err(|_| Error::Stopped)?;
        answered.await.map_err(|_| Error::Stopped)?
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic was logged where it happened.
            let _ = thread.join();
        }
    }
}
