//! What lists are made of: repositories with their settings, images, session summaries and people.
//!
//! One database, `index.db`, on one thread. Holding it open is what makes a second server on the
//! same data directory fail at start. What it says about sessions is a copy that can be made again
//! from the journal, so a summary is not synced to disk before it is answered; all else is.

mod repository_settings;
mod rows;
mod secrets;
mod sessions;

use std::path::{Path, PathBuf};

use protocol::repository::{Image, Repository, RepositoryName};
use protocol::session::Author;
use protocol::{ImageId, UserId};
use rusqlite::{Connection, OptionalExtension};

use crate::Error;
use crate::database::{self, Worker, check_version};
use rows::{SCHEMA, decode, encode, image_state, repository};

pub use secrets::SecretRow;
pub use sessions::Order;

/// The index database.
#[derive(Debug)]
pub struct Index {
    worker: Worker<Database>,
}

#[derive(Debug)]
struct Database {
    path: PathBuf,
    connection: Connection,
}

type Result<T> = std::result::Result<T, Error>;

impl Index {
    /// Opens or creates the database and holds it until this value is dropped.
    ///
    /// [`Error::InUse`] says that another server holds it.
    pub fn open(path: &Path) -> Result<Self> {
        check_version()?;
        Self::start(path, database::open(path, true, &SCHEMA)?)
    }

    /// An index that lives as long as this value, for tests and simulations.
    pub fn memory() -> Result<Self> {
        check_version()?;
        Self::start(Path::new(":memory:"), database::open_in_memory(&SCHEMA)?)
    }

    fn start(path: &Path, connection: Connection) -> Result<Self> {
        let database = Database { path: path.to_owned(), connection };
        Worker::start("index".to_owned(), database)
            .map(|worker| Self { worker })
            .map_err(|error| Error::file("starting a thread for", path, error))
    }

    /// Records a repository, or what changed about it; its image is recorded by [`Self::put_image`].
    pub async fn put_repository(&self, repository: &Repository) -> Result<()> {
        let Repository { name, source, default_branch, registered_at, image: _ } =
            repository.clone();
        self.write(move |connection| {
            connection.execute(
                "INSERT INTO repositories (name, source, default_branch, registered_at)
                 VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT (name) DO UPDATE
                 SET source = excluded.source, default_branch = excluded.default_branch",
                (name.to_string(), source, default_branch, registered_at.0),
            )
        })
        .await
    }

    /// A repository with its newest ready image.
    pub async fn repository(&self, name: &RepositoryName) -> Result<Option<Repository>> {
        let name = name.to_string();
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT name, source, default_branch, registered_at, image
                     FROM repositories_with_image WHERE name = ?1",
                )?
                .query_row([name], repository)
                .optional()
        })
        .await
    }

    /// Every repository with its newest ready image, by name.
    pub async fn repositories(&self) -> Result<Vec<Repository>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT name, source, default_branch, registered_at, image
                     FROM repositories_with_image ORDER BY name",
                )?
                .query_map((), repository)?
                .collect()
        })
        .await
    }

    /// Records an image of a repository that is recorded already, or what changed about it.
    pub async fn put_image(&self, repository: &RepositoryName, image: &Image) -> Result<()> {
        let (repository, id) = (repository.to_string(), image.id.to_string());
        let (state, started) = (image_state(&image.state), image.started_at.0);
        let row = encode(image);
        self.write(move |connection| {
            connection.execute(
                "INSERT INTO images (id, repository, state, started_at, image)
                 VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET state = excluded.state, image = excluded.image",
                (id, repository, state, started, row?),
            )
        })
        .await
    }

    /// An image with the repository it is of.
    pub async fn image(&self, image: ImageId) -> Result<Option<(RepositoryName, Image)>> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT repository, image FROM images WHERE id = ?1")?
                .query_row([image.to_string()], |row| Ok((rows::parse(row, 0)?, decode(row, 1)?)))
                .optional()
        })
        .await
    }

    /// Every image of a repository, newest first.
    pub async fn images(&self, repository: &RepositoryName) -> Result<Vec<Image>> {
        let repository = repository.to_string();
        self.read(move |connection| {
            connection
                .prepare_cached(
                    "SELECT image FROM images WHERE repository = ?1
                     ORDER BY started_at DESC, id DESC",
                )?
                .query_map([repository], |row| decode(row, 0))?
                .collect()
        })
        .await
    }

    /// The image that new sessions of a repository start from.
    pub async fn latest_image(&self, repository: &RepositoryName) -> Result<Option<Image>> {
        Ok(self.repository(repository).await?.and_then(|repository| repository.image))
    }

    /// Records a person, or their new name and address.
    pub async fn put_user(&self, user: &Author) -> Result<()> {
        let Author { user, name, email } = user.clone();
        self.write(move |connection| {
            connection.execute(
                "INSERT INTO users (id, name, email) VALUES (?1, ?2, ?3)
                 ON CONFLICT (id) DO UPDATE SET name = excluded.name, email = excluded.email",
                (user.to_string(), name, email),
            )
        })
        .await
    }

    /// A person.
    pub async fn user(&self, user: UserId) -> Result<Option<Author>> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT id, name, email FROM users WHERE id = ?1")?
                .query_row([user.to_string()], rows::author)
                .optional()
        })
        .await
    }

    /// Every person, oldest first.
    pub async fn users(&self) -> Result<Vec<Author>> {
        self.read(|connection| {
            connection
                .prepare_cached("SELECT id, name, email FROM users ORDER BY id")?
                .query_map((), rows::author)?
                .collect()
        })
        .await
    }

    /// What was set under a key.
    pub async fn setting(&self, key: &str) -> Result<Option<String>> {
        let key = key.to_owned();
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT value FROM settings WHERE key = ?1")?
                .query_row([key], |row| row.get(0))
                .optional()
        })
        .await
    }

    /// Sets a value under a key.
    pub async fn set_setting(&self, key: &str, value: &str) -> Result<()> {
        let (key, value) = (key.to_owned(), value.to_owned());
        self.write(move |connection| {
            connection.execute(
                "INSERT INTO settings (key, value) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                (key, value),
            )
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        self.worker
            .call(move |database| {
                work(&database.connection).map_err(|error| database.failed("reading", error))
            })
            .await
    }

    /// One statement, which is on disk when this returns.
    async fn write(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<usize> + Send + 'static,
    ) -> Result<()> {
        self.worker
            .call(move |database| {
                work(&database.connection)
                    .map(drop)
                    .map_err(|error| database.failed("writing to", error))
            })
            .await
    }
}

impl Database {
    fn failed(&self, doing: &'static str, error: rusqlite::Error) -> Error {
        match error {
            rusqlite::Error::FromSqlConversionFailure(_, _, error) => {
                Error::Damaged { path: self.path.clone(), what: error.to_string() }
            }
            error => Error::database(doing, &self.path, error),
        }
    }
}
