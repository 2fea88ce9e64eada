//! The index's tables, and how a row becomes a value.

use std::str::FromStr;

use protocol::Timestamp;
use protocol::repository::{ImageState, Repository};
use protocol::session::Author;
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};
use rusqlite_migration::M;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::database::Schema;

pub(super) const SCHEMA: Schema = Schema {
    steps: &[
        M::up(
            "CREATE TABLE users (
             id TEXT NOT NULL PRIMARY KEY,
             name TEXT NOT NULL,
             email TEXT NOT NULL
         ) STRICT;
         CREATE TABLE settings (
             key TEXT NOT NULL PRIMARY KEY,
             value TEXT NOT NULL
         ) STRICT;
         CREATE TABLE repositories (
             name TEXT NOT NULL PRIMARY KEY,
             source TEXT NOT NULL,
             default_branch TEXT NOT NULL,
             registered_at INTEGER NOT NULL
         ) STRICT;
         CREATE TABLE images (
             id TEXT NOT NULL PRIMARY KEY,
             repository TEXT NOT NULL REFERENCES repositories (name),
             state TEXT NOT NULL,
             started_at INTEGER NOT NULL,
             image TEXT NOT NULL
         ) STRICT;
         CREATE INDEX images_by_repository ON images (repository, state, started_at, id);
         CREATE VIEW repositories_with_image AS
             SELECT name, source, default_branch, registered_at, (
                 SELECT image FROM images
                 WHERE repository = repositories.name AND state = 'ready'
                 ORDER BY started_at DESC, id DESC LIMIT 1
             ) AS image
             FROM repositories;
         CREATE TABLE sessions (
             id TEXT NOT NULL PRIMARY KEY,
             created_at INTEGER NOT NULL,
             updated_at INTEGER NOT NULL,
             last_sequence INTEGER NOT NULL,
             summary TEXT NOT NULL
         ) STRICT;
         CREATE INDEX sessions_by_creation ON sessions (created_at, id);
         CREATE INDEX sessions_by_update ON sessions (updated_at, id);",
        ),
        M::up(
            "CREATE TABLE repository_settings (
                 repository TEXT NOT NULL PRIMARY KEY REFERENCES repositories (name),
                 settings TEXT NOT NULL
             ) STRICT;",
        ),
        M::up(
            "CREATE TABLE secrets (
             scope TEXT NOT NULL,
             phase TEXT NOT NULL,
             name TEXT NOT NULL,
             description TEXT NOT NULL,
             sealed BLOB NOT NULL,
             PRIMARY KEY (scope, phase, name)
         ) STRICT;",
        ),
    ],
};

/// The word by which the index finds images that sessions may start from.
pub(super) const fn image_state(state: &ImageState) -> &'static str {
    match state {
        ImageState::Building => "building",
        ImageState::Ready => "ready",
        ImageState::Failed { .. } => "failed",
        ImageState::Superseded => "superseded",
    }
}

pub(super) fn encode(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(error.into()))
}

pub(super) fn decode<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?)
        .map_err(|error| Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

pub(super) fn parse<T>(row: &Row<'_>, column: usize) -> Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    row.get_ref(column)?
        .as_str()?
        .parse()
        .map_err(|error: T::Err| Error::FromSqlConversionFailure(column, Type::Text, error.into()))
}

pub(super) fn repository(row: &Row<'_>) -> Result<Repository> {
    let image = match row.get_ref(4)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(decode(row, 4)?),
    };
    Ok(Repository {
        name: parse(row, 0)?,
        source: row.get(1)?,
        default_branch: row.get(2)?,
        registered_at: Timestamp(row.get(3)?),
        image,
    })
}

pub(super) fn author(row: &Row<'_>) -> Result<Author> {
    Ok(Author { user: parse(row, 0)?, name: row.get(1)?, email: row.get(2)? })
}
