//! What a person should know about a repository that was imported anyway.

use std::fmt;

/// Something an import or refresh left out or did differently; its text may be shown to people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The source is on no branch.
    Detached {
        /// The branch that stands for its commit.
        branch: String,
        /// The commit.
        commit: String,
    },
    /// The source's current branch has no commit.
    UnbornBranch {
        /// The branch that is used instead.
        branch: String,
    },
    /// The source holds only the newest part of its history.
    Shallow,
    /// Its tree refers to other repositories.
    Submodules {
        /// How many.
        count: usize,
    },
    /// Its large files are kept elsewhere.
    LargeFileStorage,
    /// It has branches named like sessions' branches.
    SessionBranches {
        /// How many.
        count: usize,
    },
    /// A branch was merged into here and changed at the source as well.
    Diverged {
        /// Which branch.
        branch: String,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Detached { branch, commit } => write!(
                formatter,
                "The repository is on no branch; its commit {} is here as the branch `{branch}`.",
                commit.get(..12).unwrap_or(commit)
            ),
            Self::UnbornBranch { branch } => write!(
                formatter,
                "The repository's current branch has no commit yet; `{branch}` is used instead."
            ),
            Self::Shallow => formatter.write_str(
                "The repository is a shallow clone; older history is not here. \
                 `git fetch --unshallow` in it and a refresh complete it.",
            ),
            Self::Submodules { count } => write!(
                formatter,
                "The repository has {count} submodule{}; their contents are not copied, \
                 their directories will be empty.",
                if *count == 1 { "" } else { "s" }
            ),
            Self::LargeFileStorage => formatter.write_str(
                "The repository keeps large files in Git LFS; here they are the small pointer \
                 files that stand for them.",
            ),
            Self::SessionBranches { count } => write!(
                formatter,
                "{count} branch{} named `hangar` or `hangar/…` not copied: \
                 these names belong to sessions.",
                if *count == 1 { " was" } else { "es were" }
            ),
            Self::Diverged { branch } => write!(
                formatter,
                "`{branch}` has merges made here and other commits at its source; the branch here \
                 was left alone. Pull it from here into the source, then refresh again."
            ),
        }
    }
}
