//! The Git host: repositories over smart HTTP and pull requests.
//!
//! [`Local`] is the built-in forge: bare repositories in a directory and one SQLite file for the
//! pull requests. Everything Git does is done by the real `git`, started with an environment of
//! our own (see [`git`]), because a repository is a stranger's data and its configuration must
//! never run anything here.
//!
//! ```text
//! <directory>/<owner>/<name>.git   one bare repository; HEAD is its default branch
//! <directory>/forge.db             pull requests
//! <directory>/.hangar/             our own Git configuration, imports in progress
//! ```
//!
//! What a repository's references mean:
//!
//! - `refs/heads/*`: what people and sandboxes see. `refs/heads/hangar/*` are sessions' branches.
//! - `refs/hangar/source/*`: the source as last fetched; hidden from clients.
//! - `refs/hangar/adopted/*`: the source's branches as last taken over; hidden. A branch that
//!   differs from it was moved here, by a merge, and a refresh does not take that back.
//!
//! Deliberately missing: garbage collection. Sandboxes borrow the object directory, so objects
//! are never deleted while the repository exists.

mod branches;
mod database;
mod error;
mod git;
mod import;
mod local;
mod notice;
mod pull_request;
mod serve;
mod source;

pub use error::Error;
pub use import::Imported;
pub use local::Local;
pub use notice::Notice;
pub use pull_request::NewPullRequest;
pub use serve::{Access, Body, Inspection, Inspector};

/// The branches that belong to sessions: never imported, overwritten or removed by a refresh.
pub const SESSION_BRANCHES: &str = "hangar/";

/// The branch that stands for the source's HEAD when the source is on no branch.
pub const DETACHED_BRANCH: &str = "detached-head";
