//! Secrets as rows: what is said about each, and a value that only whoever has the key can open.

use protocol::secret::{SecretDescription, SecretName, SecretPhase, SecretScope};
use rusqlite::{Connection, params};

use super::rows::{decode, encode};
use super::{Index, Result};

/// A secret as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// What is said about it; scope, phase and name together are unique.
    pub description: SecretDescription,
    /// Its value, encrypted.
    pub sealed: Vec<u8>,
}

impl Index {
    /// Records a secret in place of the one with its scope, phase and name.
    pub async fn put_secret(&self, row: SecretRow) -> Result<()> {
        self.write(move |connection| put(connection, &row)).await
    }

    /// Every secret, by scope, phase and name.
    pub async fn secrets(&self) -> Result<Vec<SecretRow>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT description, sealed FROM secrets ORDER BY scope, phase, name",
                )?
                .query_map((), |row| {
                    Ok(SecretRow { description: decode(row, 0)?, sealed: row.get(1)? })
                })?
                .collect()
        })
        .await
    }

    /// Deletes a secret; nothing happens if there is none.
    pub async fn remove_secret(
        &self,
        scope: &SecretScope,
        phase: SecretPhase,
        name: &SecretName,
    ) -> Result<()> {
        let (scope, name) = (scope.to_string(), name.to_string());
        self.write(move |connection| {
            connection.execute(
                "DELETE FROM secrets WHERE scope = ?1 AND phase = ?2 AND name = ?3",
                params![scope, phase.as_str(), name],
            )
        })
        .await
    }

    /// Records many secrets: all of them or, whatever happens, none.
    pub async fn put_secrets(&self, rows: Vec<SecretRow>) -> Result<()> {
        self.worker
            .call(move |database| {
                let write = |connection: &mut Connection| {
                    let transaction = connection.transaction()?;
                    for row in &rows {
                        put(&transaction, row)?;
                    }
                    transaction.commit()
                };
                write(&mut database.connection)
                    .map_err(|error| database.failed("writing secrets to", error))
            })
            .await
    }
}

fn put(connection: &Connection, row: &SecretRow) -> rusqlite::Result<usize> {
    let description = &row.description;
    connection.execute(
        "INSERT INTO secrets (scope, phase, name, description, sealed)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (scope, phase, name) DO UPDATE
         SET description = excluded.description, sealed = excluded.sealed",
        params![
            description.scope.to_string(),
            description.phase.as_str(),
            description.name.as_str(),
            encode(description)?,
            row.sealed,
        ],
    )
}
