//! Pull requests: what a branch would change, offered for review.
//!
//! ```text
//!            open (again: same record, brought up to date)
//!              │
//!              ▼      close              merge
//!   ┌──────► open ──────────► closed    open ──────► merged
//!   └───────────── reopen ──────┘
//! ```
//!
//! Everything about the change itself (commit, size, patch) is computed here from what was really
//! pushed. The caller's commit is only checked, because it was reported by a sandbox.

mod diff;
mod merge;
mod open;
mod record;

use protocol::client::{Page, PullRequest};
use protocol::repository::RepositoryName;
use protocol::session::{Author, PullRequestState};
use protocol::{SessionId, Timestamp};

use crate::{Error, Local};

/// What should be offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPullRequest {
    /// In which repository.
    pub repository: RepositoryName,
    /// The session that did the work.
    pub session: Option<SessionId>,
    /// One line. Control characters become spaces and more than
    /// [`protocol::limits::TITLE_BYTES`] bytes are shortened.
    pub title: String,
    /// Markdown; more than 64 KiB are cut with a note.
    pub body: String,
    /// Who offers it.
    pub author: Author,
    /// The branch it should go into.
    pub base_branch: String,
    /// The branch it offers; it must have been pushed.
    pub branch: String,
    /// A commit that must be on that branch. The branch's newest commit is what is offered.
    pub commit: String,
    /// The time it is.
    pub now: Timestamp,
}

impl Local {
    /// One pull request.
    pub async fn pull_request(
        &self,
        name: &RepositoryName,
        number: u32,
    ) -> Result<PullRequest, Error> {
        Ok(self.record(name, number).await?.pull_request)
    }

    /// A page of pull requests, newest first; `cursor` is the `next` of the page before.
    pub async fn pull_requests(
        &self,
        name: &RepositoryName,
        state: Option<PullRequestState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<PullRequest>, Error> {
        self.repository(name)?;
        let before = match cursor {
            None => u32::MAX,
            Some(text) => {
                text.parse().map_err(|_| Error::NoSuchCursor { cursor: text.to_owned() })?
            }
        };
        let limit = limit.clamp(1, 1000);
        let wanted = name.clone();
        let mut items = self
            .inner
            .database
            .read("list pull requests", move |connection| {
                record::page(connection, &wanted, state, before, limit + 1)
            })
            .await?;
        let more = items.len() > limit;
        items.truncate(limit);
        let last = items.last().map(|last| last.number.to_string());
        Ok(Page { items, next: last.filter(|_| more) })
    }

    /// The patch a pull request offers, as text; after 4 MiB it is cut, and its last line says so.
    pub async fn diff(&self, name: &RepositoryName, number: u32) -> Result<String, Error> {
        let record = self.record(name, number).await?;
        let repository = self.repository(name)?;
        self.patch(&repository, &record.merge_base, &record.pull_request.commit).await
    }

    /// Closes an open pull request or opens a closed one; the same state again changes nothing.
    /// [`PullRequestState::Merged`] is reached by [`Local::merge`] only.
    pub async fn set_state(
        &self,
        name: &RepositoryName,
        number: u32,
        state: PullRequestState,
        now: Timestamp,
    ) -> Result<PullRequest, Error> {
        let _changing = self.change(name).await;
        let present = self.pull_request(name, number).await?;
        let wanted = match (present.state, state) {
            (from, to) if from == to => return Ok(present),
            (_, PullRequestState::Merged) => Some("set to merged: merge it"),
            (PullRequestState::Merged, PullRequestState::Open) => Some("opened again"),
            (PullRequestState::Merged, PullRequestState::Closed) => Some("closed"),
            _ => None,
        };
        if let Some(wanted) = wanted {
            let (name, state) = (name.clone(), present.state);
            return Err(Error::StateNotAllowed { name, number, state, wanted });
        }
        self.record_state(name, number, state, now).await
    }

    async fn record(&self, name: &RepositoryName, number: u32) -> Result<record::Record, Error> {
        self.repository(name)?;
        let wanted = name.clone();
        let reading = self.inner.database.read("read a pull request", move |connection| {
            record::by_number(connection, &wanted, number)
        });
        reading.await?.ok_or_else(|| Error::NoSuchPullRequest { name: name.clone(), number })
    }

    async fn record_state(
        &self,
        name: &RepositoryName,
        number: u32,
        state: PullRequestState,
        now: Timestamp,
    ) -> Result<PullRequest, Error> {
        let wanted = name.clone();
        let doing = "change a pull request";
        let writing = self.inner.database.write(doing, move |transaction| {
            let failed = |source| Error::Database { doing, source };
            let record = record::by_number(transaction, &wanted, number).map_err(failed)?;
            let missing = || Error::NoSuchPullRequest { name: wanted.clone(), number };
            let mut pull_request = record.ok_or_else(missing)?.pull_request;
            let branch = pull_request.branch.clone();
            let open = record::open_on(transaction, &wanted, &branch).map_err(failed)?;
            if let (PullRequestState::Open, Some(open)) = (state, open) {
                return Err(Error::BranchAlreadyOffered { name: wanted, branch, open });
            }
            record::set_state(transaction, &pull_request, state, now).map_err(failed)?;
            pull_request.state = state;
            pull_request.updated_at = now;
            Ok(pull_request)
        });
        writing.await
    }
}
