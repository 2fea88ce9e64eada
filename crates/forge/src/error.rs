//! What can go wrong on the forge, each with what was being done and what to try.

use std::io;
use std::path::PathBuf;

use protocol::repository::RepositoryName;
use protocol::session::PullRequestState;

/// A request to the forge that could not be carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no `git` to run.
    #[error("git was not found in PATH: install git 2.38 or newer")]
    GitMissing,
    /// The `git` in PATH lacks commands the forge needs.
    #[error("git {found} is too old: install git 2.38 or newer")]
    GitTooOld {
        /// What it says of itself.
        found: String,
    },
    /// A process could not be started or spoken to.
    #[error("could not run git to {doing}")]
    Run {
        /// What it should have done.
        doing: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Git refused or failed.
    #[error("could not {doing}: git said: {said}")]
    Git {
        /// What it should have done.
        doing: String,
        /// The end of its standard error.
        said: String,
    },
    /// Git took too long and was stopped.
    #[error("could not {doing} within {seconds} seconds; git was stopped")]
    TimedOut {
        /// What it should have done.
        doing: String,
        /// How long it was given.
        seconds: u64,
    },
    /// A directory or file of the forge could not be used.
    #[error("could not {doing} {}: check its owner, permissions and free space", path.display())]
    Files {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The database of pull requests could not be used.
    #[error("could not {doing} in the forge's database")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        #[source]
        source: rusqlite::Error,
    },
    /// The database of pull requests could not be brought to this version's shape.
    #[error("could not open the forge's database {}: was it written by a newer Hangar?", path.display())]
    Migrate {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rusqlite_migration::Error,
    },

    /// There is nothing at a path.
    #[error("there is nothing at {}: check the path", path.display())]
    SourceMissing {
        /// Which path.
        path: PathBuf,
    },
    /// A path cannot be read.
    #[error("could not read {}: check its permissions", path.display())]
    SourceUnreadable {
        /// Which path.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A path is no Git repository.
    #[error("{} is not a Git repository: name a directory made by `git clone` or `git init`", path.display())]
    NotARepository {
        /// Which path.
        path: PathBuf,
    },
    /// A path lies inside a repository.
    #[error("{} lies inside the repository {}: name that directory instead", path.display(), root.display())]
    InsideARepository {
        /// Which path.
        path: PathBuf,
        /// Where the repository begins.
        root: PathBuf,
    },
    /// A repository has no commit on any branch.
    #[error("the repository {} has no commit yet: make a first one with `git add -A && git commit`", path.display())]
    EmptyRepository {
        /// Which repository.
        path: PathBuf,
    },
    /// A repository leaves out objects that it would fetch on demand.
    #[error(
        "the repository {} is a partial clone, which lacks objects: \
         make a full one with `git clone --no-local` from its origin", path.display()
    )]
    PartialClone {
        /// Which repository.
        path: PathBuf,
    },
    /// The checked-out branch has a name the forge cannot use.
    #[error(
        "the current branch of {} is called `{branch}`: `hangar` and `hangar/…` belong to sessions \
         and names must be UTF-8, so switch to another branch or rename it", path.display()
    )]
    BranchNotUsable {
        /// Which repository.
        path: PathBuf,
        /// Which branch.
        branch: String,
    },
    /// Another source has the name already.
    #[error("the name {name} is taken by {}: choose another name", taken_by.display())]
    NameTaken {
        /// Which name.
        name: RepositoryName,
        /// The source it stands for.
        taken_by: PathBuf,
    },

    /// The forge has no such repository.
    #[error("the forge has no repository {name}: add it with `hangar repository add`")]
    NoSuchRepository {
        /// Which name.
        name: RepositoryName,
    },
    /// A repository has no such branch.
    #[error("the repository {name} has no branch `{branch}`: check the name, or refresh it")]
    NoSuchBranch {
        /// Which repository.
        name: RepositoryName,
        /// Which branch.
        branch: String,
    },
    /// A repository has no such commit.
    #[error("the repository {name} has no commit `{commit}`: refresh it, or push the commit first")]
    NoSuchCommit {
        /// Which repository.
        name: RepositoryName,
        /// Which commit.
        commit: String,
    },
    /// A file is larger than the caller wants to read.
    #[error("`{path}` in {name} has {bytes} bytes, more than the {limit} allowed: make it smaller")]
    FileTooLarge {
        /// Which repository.
        name: RepositoryName,
        /// Which file.
        path: String,
        /// Its size.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },

    /// A branch adds nothing to its base.
    #[error("`{branch}` in {name} changes nothing on `{base}`: there is nothing to offer")]
    NothingToOffer {
        /// Which repository.
        name: RepositoryName,
        /// The branch.
        branch: String,
        /// Where it should go.
        base: String,
    },
    /// A commit that should be offered is not on the branch as the forge has it.
    #[error("the commit {commit} is not on `{branch}` in {name}: push it first")]
    CommitNotOnBranch {
        /// Which repository.
        name: RepositoryName,
        /// The branch.
        branch: String,
        /// The commit.
        commit: String,
    },
    /// A repository has no such pull request.
    #[error("the repository {name} has no pull request {number}")]
    NoSuchPullRequest {
        /// Which repository.
        name: RepositoryName,
        /// Which number.
        number: u32,
    },
    /// A change of state that a pull request does not allow.
    #[error("pull request {number} of {name} is {}: it cannot be {wanted}", state_word(*state))]
    StateNotAllowed {
        /// Which repository.
        name: RepositoryName,
        /// Which number.
        number: u32,
        /// What it is.
        state: PullRequestState,
        /// What was asked, as a participle.
        wanted: &'static str,
    },
    /// Another pull request for the same branch is open.
    #[error("`{branch}` of {name} is already offered by pull request {open}: use that one")]
    BranchAlreadyOffered {
        /// Which repository.
        name: RepositoryName,
        /// The branch.
        branch: String,
        /// The open pull request.
        open: u32,
    },
    /// A merge would need a person's decision.
    #[error(
        "pull request {number} of {name} conflicts with its base in {}: \
         bring the branch up to date and solve them there", files.join(", ")
    )]
    Conflict {
        /// Which repository.
        name: RepositoryName,
        /// Which number.
        number: u32,
        /// The files, as Git names them, invalid UTF-8 replaced.
        files: Vec<String>,
    },
    /// The base branch kept moving while a merge was made.
    #[error("`{branch}` of {name} moved while it was being merged into: try again")]
    BaseMoved {
        /// Which repository.
        name: RepositoryName,
        /// The base branch.
        branch: String,
    },
    /// A cursor that no list gave out.
    #[error("`{cursor}` is no cursor of this list: start again without one")]
    NoSuchCursor {
        /// What was given.
        cursor: String,
    },
}

const fn state_word(state: PullRequestState) -> &'static str {
    match state {
        PullRequestState::Open => "open",
        PullRequestState::Merged => "merged",
        PullRequestState::Closed => "closed",
    }
}
