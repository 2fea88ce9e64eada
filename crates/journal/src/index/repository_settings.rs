//! What the server's people decided about each repository.

use protocol::repository::RepositoryName;
use protocol::settings::RepositorySettings;
use rusqlite::OptionalExtension;

use super::rows::{decode, encode};
use super::{Index, Result};

impl Index {
    /// What was decided about a repository; `None` where nobody decided anything.
    pub async fn repository_settings(
        &self,
        repository: &RepositoryName,
    ) -> Result<Option<RepositorySettings>> {
        let repository = repository.to_string();
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT settings FROM repository_settings WHERE repository = ?1")?
                .query_row([repository], |row| decode(row, 0))
                .optional()
        })
        .await
    }

    /// Records what is decided about a repository that is recorded already.
    pub async fn put_repository_settings(
        &self,
        repository: &RepositoryName,
        settings: &RepositorySettings,
    ) -> Result<()> {
        let (repository, row) = (repository.to_string(), encode(settings));
        self.write(move |connection| {
            connection.execute(
                "INSERT INTO repository_settings (repository, settings) VALUES (?1, ?2)
                 ON CONFLICT (repository) DO UPDATE SET settings = excluded.settings",
                (repository, row?),
            )
        })
        .await
    }
}
