//! Why a tool could not do its work, in words that help the model to go on.

use std::io;
use std::path::PathBuf;

/// Why a tool failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such file.
    #[error("{path} does not exist{hint}")]
    NotFound {
        /// As the model wrote it.
        path: String,
        /// What is there instead; may be empty.
        hint: String,
    },
    /// A file was wanted.
    #[error("{path} is a directory; use list to see what is in it")]
    Directory {
        /// As the model wrote it.
        path: String,
    },
    /// A device, socket or pipe.
    #[error("{path} is neither a file nor a directory")]
    Special {
        /// As the model wrote it.
        path: String,
    },
    /// No text in it.
    #[error(
        "{path} is a binary file of {bytes} bytes; look at it with a shell command such as xxd or file"
    )]
    Binary {
        /// As the model wrote it.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// Too big to be edited.
    #[error("{path} has {bytes} bytes, more than edit can change; use a shell command such as sed")]
    TooBig {
        /// As the model wrote it.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// The file has fewer lines.
    #[error("{path} has only {lines} lines, so there is no line {wanted}")]
    PastTheEnd {
        /// As the model wrote it.
        path: String,
        /// Its lines.
        lines: u64,
        /// The line asked for.
        wanted: u64,
    },
    /// The text to replace is not there.
    #[error("old_string was not found in {path}. {hint}")]
    NoMatch {
        /// As the model wrote it.
        path: String,
        /// The nearest thing that is there.
        hint: String,
    },
    /// The text to replace is there more than once.
    #[error(
        "old_string occurs {count} times in {path} (at lines {lines}); add surrounding lines until it \
         is unique, or set replace_all"
    )]
    ManyMatches {
        /// As the model wrote it.
        path: String,
        /// How often.
        count: usize,
        /// Where, at first.
        lines: String,
    },
    /// The edit would change nothing.
    #[error("{problem}")]
    PointlessEdit {
        /// Why.
        problem: &'static str,
    },
    /// Not a regular expression.
    #[error("the pattern is not a regular expression; escape its special characters with \\")]
    Pattern {
        /// Where it goes wrong.
        #[source]
        source: regex::Error,
    },
    /// Not a glob.
    #[error("{glob:?} is not a glob such as *.rs or src/**/*.ts")]
    Glob {
        /// What was given.
        glob: String,
        /// Where it goes wrong.
        #[source]
        source: ignore::Error,
    },
    /// The workspace stayed read-only.
    #[error(
        "the workspace is still read-only after {seconds} seconds because the repository's sync has not \
         finished; reading and searching work, try to write again later"
    )]
    NotInSync {
        /// How long the tool waited.
        seconds: u64,
    },
    /// The operating system refused.
    #[error("could not {doing} {path}", path = path.display())]
    Io {
        /// What was tried: "read", "write", …
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The command did not start.
    #[error("could not start {program}")]
    Start {
        /// The shell.
        program: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A fault of this program.
    #[error("the tool broke; this is a fault of the agent")]
    Broken {
        /// How.
        #[source]
        source: tokio::task::JoinError,
    },
    /// A person stopped it.
    #[error("stopped by the person before it had finished")]
    Cancelled,
}
