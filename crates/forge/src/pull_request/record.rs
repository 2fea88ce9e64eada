//! Pull requests as rows.

use std::str::FromStr;

use protocol::client::PullRequest;
use protocol::repository::RepositoryName;
use protocol::session::{Author, DiffStat, PullRequestState};
use protocol::{SessionId, Timestamp};
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, named_params};

const COLUMNS: &str = "id, repository, number, session, title, body, author_user, author_name, \
    author_email, base_branch, branch, commit_id, state, files, added, removed, created_at, \
    updated_at, merge_base";

/// A pull request, and the commit its change is measured from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) pull_request: PullRequest,
    pub(super) merge_base: String,
}

pub(super) const fn state_text(state: PullRequestState) -> &'static str {
    match state {
        PullRequestState::Open => "open",
        PullRequestState::Merged => "merged",
        PullRequestState::Closed => "closed",
    }
}

fn parsed<T>(row: &Row<'_>, column: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

fn read(row: &Row<'_>) -> rusqlite::Result<Record> {
    let session: Option<String> = row.get(3)?;
    let session: Option<SessionId> = if session.is_some() { Some(parsed(row, 3)?) } else { None };
    let state = match row.get::<_, String>(12)?.as_str() {
        "open" => PullRequestState::Open,
        "merged" => PullRequestState::Merged,
        _ => PullRequestState::Closed,
    };
    let author = Author { user: parsed(row, 6)?, name: row.get(7)?, email: row.get(8)? };
    let pull_request = PullRequest {
        id: parsed(row, 0)?,
        repository: parsed(row, 1)?,
        number: row.get(2)?,
        session,
        title: row.get(4)?,
        body: row.get(5)?,
        author,
        base_branch: row.get(9)?,
        branch: row.get(10)?,
        commit: row.get(11)?,
        state,
        diff_stat: DiffStat { files: row.get(13)?, added: row.get(14)?, removed: row.get(15)? },
        created_at: Timestamp(row.get(16)?),
        updated_at: Timestamp(row.get(17)?),
    };
    Ok(Record { pull_request, merge_base: row.get(18)? })
}

pub(super) fn by_number(
    connection: &Connection,
    repository: &RepositoryName,
    number: u32,
) -> rusqlite::Result<Option<Record>> {
    let sql = format!("SELECT {COLUMNS} FROM pull_requests WHERE repository = ?1 AND number = ?2");
    connection.prepare_cached(&sql)?.query_row((repository.to_string(), number), read).optional()
}

/// The record to continue with: the open one of the branch, or the newest one that offered this
/// very commit, whatever became of it.
pub(super) fn of_branch(
    connection: &Connection,
    repository: &RepositoryName,
    branch: &str,
    commit: &str,
) -> rusqlite::Result<Option<Record>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM pull_requests WHERE repository = ?1 AND branch = ?2
            AND (state = 'open' OR commit_id = ?3)
         ORDER BY state = 'open' DESC, number DESC LIMIT 1"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row((repository.to_string(), branch, commit), read).optional()
}

/// The number of the open pull request of a branch.
pub(super) fn open_on(
    connection: &Connection,
    repository: &RepositoryName,
    branch: &str,
) -> rusqlite::Result<Option<u32>> {
    let sql = "SELECT number FROM pull_requests
        WHERE repository = ?1 AND branch = ?2 AND state = 'open'";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row((repository.to_string(), branch), |row| row.get(0)).optional()
}

pub(super) fn next_number(
    connection: &Connection,
    repository: &RepositoryName,
) -> rusqlite::Result<u32> {
    let sql = "SELECT coalesce(max(number), 0) + 1 FROM pull_requests WHERE repository = ?1";
    connection.query_row(sql, [repository.to_string()], |row| row.get(0))
}

pub(super) fn page(
    connection: &Connection,
    repository: &RepositoryName,
    state: Option<PullRequestState>,
    before: u32,
    limit: usize,
) -> rusqlite::Result<Vec<PullRequest>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM pull_requests
         WHERE repository = ?1 AND number < ?2 AND (?3 IS NULL OR state = ?3)
         ORDER BY number DESC LIMIT ?4"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = statement
        .query_map((repository.to_string(), before, state.map(state_text), limit), read)?;
    rows.map(|row| row.map(|record| record.pull_request)).collect()
}

pub(super) fn insert(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let it = &record.pull_request;
    let sql = format!(
        "INSERT INTO pull_requests ({COLUMNS}) VALUES (:id, :repository, :number, :session,
            :title, :body, :user, :name, :email, :base_branch, :branch, :commit, :state, :files,
            :added, :removed, :created_at, :updated_at, :merge_base)"
    );
    connection.execute(
        &sql,
        named_params! {
            ":id": it.id.to_string(), ":repository": it.repository.to_string(),
            ":number": it.number, ":session": it.session.map(|session| session.to_string()),
            ":title": it.title, ":body": it.body, ":user": it.author.user.to_string(),
            ":name": it.author.name, ":email": it.author.email, ":base_branch": it.base_branch,
            ":branch": it.branch, ":commit": it.commit, ":state": state_text(it.state),
            ":files": it.diff_stat.files, ":added": it.diff_stat.added,
            ":removed": it.diff_stat.removed, ":created_at": it.created_at.0,
            ":updated_at": it.updated_at.0, ":merge_base": record.merge_base,
        },
    )?;
    Ok(())
}

/// Writes what may change about an open pull request.
pub(super) fn update(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let it = &record.pull_request;
    connection.execute(
        "UPDATE pull_requests SET session = :session, title = :title, body = :body,
            base_branch = :base_branch, commit_id = :commit, merge_base = :merge_base,
            files = :files, added = :added, removed = :removed, updated_at = :updated_at
         WHERE id = :id",
        named_params! {
            ":session": it.session.map(|session| session.to_string()), ":title": it.title,
            ":body": it.body, ":base_branch": it.base_branch, ":commit": it.commit,
            ":merge_base": record.merge_base, ":files": it.diff_stat.files,
            ":added": it.diff_stat.added, ":removed": it.diff_stat.removed,
            ":updated_at": it.updated_at.0, ":id": it.id.to_string(),
        },
    )?;
    Ok(())
}

pub(super) fn set_state(
    connection: &Connection,
    it: &PullRequest,
    state: PullRequestState,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let sql = "UPDATE pull_requests SET state = ?1, updated_at = ?2 WHERE id = ?3";
    connection.execute(sql, (state_text(state), now.0, it.id.to_string()))?;
    Ok(())
}
