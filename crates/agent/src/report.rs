//! What a session tells the outside while it works, free of any protocol.

use std::path::PathBuf;

use serde_json::Value;

/// Takes reports, in order, without waiting.
pub trait Reporter: Send + Sync {
    /// Takes one report.
    fn report(&self, report: Report);
}

/// Something people may want to see.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A prompt, when a stored conversation is replayed.
    Prompt(String),
    /// A piece of the model's text.
    Text(String),
    /// A piece of the model's reasoning, or the agent's word about a delay.
    Thought(String),
    /// A tool is about to run.
    ToolStarted {
        /// Which call: unique in the session, unlike the model's own ids.
        call: String,
        /// The tool's name, as the model wrote it.
        tool: String,
        /// What it will do, in one line.
        title: String,
        /// What kind of thing that is.
        kind: Kind,
        /// The files it is about.
        paths: Vec<PathBuf>,
        /// Its arguments.
        input: Value,
    },
    /// A running tool has this to show, in place of what it showed before.
    ToolProgress {
        /// Which call.
        call: String,
        /// What it shows.
        text: String,
    },
    /// A tool has answered.
    ToolFinished {
        /// Which call.
        call: String,
        /// Whether it failed.
        failed: bool,
        /// What it answered.
        text: String,
        /// The change it made.
        change: Option<Change>,
    },
}

/// What kind of thing a tool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Looks into a file.
    Read,
    /// Changes a file.
    Edit,
    /// Looks for something.
    Search,
    /// Runs a command.
    Execute,
    /// Anything else, such as a tool that does not exist.
    Other,
}

/// A file before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which file, absolute.
    pub path: PathBuf,
    /// Its text before; none if it did not exist.
    pub before: Option<String>,
    /// Its text after.
    pub after: String,
}
