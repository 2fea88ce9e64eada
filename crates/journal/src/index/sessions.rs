//! Lists of sessions: a page costs its own length, however many sessions there are.

use protocol::SessionId;
use protocol::client::Page;
use protocol::session::SessionSummary;
use rusqlite::OptionalExtension;

use super::rows::{decode, encode};
use super::{Index, Result};
use crate::Error;

/// What a list of sessions is sorted by; the newest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The last change.
    Updated,
    /// The creation.
    Created,
}

impl Order {
    const fn letter(self) -> char {
        match self {
            Self::Updated => 'u',
            Self::Created => 'c',
        }
    }

    const fn page(self) -> &'static str {
        match self {
            Self::Updated => {
                "SELECT summary FROM sessions WHERE (updated_at, id) < (?1, ?2)
                 ORDER BY updated_at DESC, id DESC LIMIT ?3"
            }
            Self::Created => {
                "SELECT summary FROM sessions WHERE (created_at, id) < (?1, ?2)
                 ORDER BY created_at DESC, id DESC LIMIT ?3"
            }
        }
    }

    /// Where the page after this row begins; only this module reads it.
    fn cursor(self, row: &SessionSummary) -> String {
        let moment = match self {
            Self::Updated => row.updated_at,
            Self::Created => row.created_at,
        };
        format!("{}{}.{}", self.letter(), moment.0, row.id)
    }

    fn position(self, cursor: Option<&str>) -> Result<(i64, String)> {
        // `~` sorts after every id, so without a cursor every row comes before the position.
        let Some(cursor) = cursor else { return Ok((i64::MAX, "~".to_owned())) };
        cursor
            .strip_prefix(self.letter())
            .and_then(|rest| rest.split_once('.'))
            .and_then(|(moment, id)| {
                Some((moment.parse().ok()?, id.parse::<SessionId>().ok()?.to_string()))
            })
            .ok_or_else(|| Error::Cursor { cursor: cursor.to_owned() })
    }
}

impl Index {
    /// Records what lists say about a session, unless a later summary is there already.
    pub async fn put_session(&self, summary: &SessionSummary) -> Result<()> {
        let (id, row) = (summary.id.to_string(), encode(summary));
        let (created, updated) = (summary.created_at.0, summary.updated_at.0);
        let last = i64::try_from(summary.last_sequence).unwrap_or(i64::MAX);
        self.worker
            .call(move |database| {
                let write = |row: String| {
                    let connection = &database.connection;
                    connection.pragma_update(None, "synchronous", "NORMAL")?;
                    let written = connection
                        .prepare_cached(
                            "INSERT INTO sessions (id, created_at, updated_at, last_sequence, summary)
                             VALUES (?1, ?2, ?3, ?4, ?5)
                             ON CONFLICT (id) DO UPDATE
                             SET updated_at = excluded.updated_at, summary = excluded.summary,
                                 last_sequence = excluded.last_sequence
                             WHERE excluded.last_sequence >= sessions.last_sequence",
                        )
                        .and_then(|mut insert| insert.execute((id, created, updated, last, row)));
                    connection.pragma_update(None, "synchronous", "FULL")?;
                    written
                };
                row.and_then(write)
                    .map(drop)
                    .map_err(|error| database.failed("writing a session to", error))
            })
            .await
    }

    /// What lists say about one session.
    pub async fn session(&self, session: SessionId) -> Result<Option<SessionSummary>> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT summary FROM sessions WHERE id = ?1")?
                .query_row([session.to_string()], |row| decode(row, 0))
                .optional()
        })
        .await
    }

    /// At most `limit` sessions, the newest first, from the start or from a page's cursor.
    pub async fn sessions(
        &self,
        order: Order,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<SessionSummary>> {
        let (moment, id) = order.position(cursor)?;
        let limit = limit.max(1);
        let with_next = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
        let mut items: Vec<SessionSummary> = self
            .read(move |connection| {
                connection
                    .prepare_cached(order.page())?
                    .query_map((moment, id, with_next), |row| decode(row, 0))?
                    .collect()
            })
            .await?;
        let next = (items.len() > limit).then(|| order.cursor(&items[limit - 1]));
        items.truncate(limit);
        Ok(Page { items, next })
    }
}
