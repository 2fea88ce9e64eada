//! agentd's API: HTTP/1.1 on the Unix socket behind file descriptor 3 of PID 1.
//!
//! | request | body | answer |
//! |---|---|---|
//! | `GET /v1/health` | | [`Health`] |
//! | `PUT /v1/environment` | [`SetEnvironment`] | 204; what is started from now on has these variables |
//! | `POST /v1/exec` | [`ExecRequest`] | frames, see [`frame`], ending in [`frame::EXIT`] |
//! | `POST /v1/pty` with `Upgrade: hangar-frames` | [`PtyRequest`] in the query parameter `request` | 101, then frames both ways |
//! | `GET /v1/files?path=` | | the bytes, or [`Listing`] for a directory |
//! | `PUT /v1/files?path=` | the bytes | 204 |
//! | `POST /v1/workspace/sync` | [`SyncRequest`] | [`SyncAnswer`]; the workspace is writable afterwards |
//! | `POST /v1/workspace/commit` | [`CommitRequest`] | [`CommitAnswer`] |
//! | `POST /v1/workspace/push` | [`PushRequest`] | [`PushAnswer`] |
//! | `GET /v1/workspace/diff?base=` | | the patch from `base` to the files as they are |
//! | `POST /v1/agent/start` | [`StartAgent`] | [`AgentStarted`] once the agent answers; again: the same |
//! | `POST /v1/agent/prompt` | [`DeliverPrompt`] | [`PromptDelivered`] at once; again with the same id: nothing |
//! | `POST /v1/agent/cancel` | [`CancelPrompt`] | [`PromptCancelled`] when nothing of the prompt runs any more |
//! | `GET /v1/reports?after=N` | | [`ReportLine`]s, one JSON object a line, without end |
//! | `POST /v1/reports/acknowledge?through=N` | | 204; a following host says what it has recorded |
//!
//! A failure is a [`Failure`] with status 4xx (the caller's) or 5xx (agentd's or the sandbox's).
//!
//! Reports are numbered from 1 without gaps and kept until a later `after` or an acknowledgement shows
//! that the host has recorded them; so a host that comes back after a crash gets exactly what it
//! missed. Only a bounded amount is kept: an agent whose reports are not acknowledged is made to
//! wait. Reports before the last acknowledged one are answered with 410, after the last one with 409.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::client::DeltaKind;
use crate::event::{PlanStep, ToolKind, ToolStatus};
use crate::secret::SecretValue;
use crate::session::{Author, FileChange, ModelChoice};
use crate::{PromptId, SessionId, ToolCallId};

/// The framing of streamed bytes: one byte kind, four bytes big-endian length, payload.
pub mod frame {
    /// Payload: bytes of standard output, or of a terminal.
    pub const STDOUT: u8 = 1;
    /// Payload: bytes of standard error.
    pub const STDERR: u8 = 2;
    /// Payload: [`super::ExecExit`] as JSON; always the last frame.
    pub const EXIT: u8 = 3;
    /// Payload: [`super::PtySize`] as JSON; host to sandbox only.
    pub const RESIZE: u8 = 4;
    /// Payload: bytes of standard input; host to sandbox only.
    pub const STDIN: u8 = 5;
    /// Bytes of a payload at most; a longer one ends the connection.
    pub const MAXIMUM: usize = 64 * 1024;
}

/// That agentd is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The program's version.
    pub release: String,
}

/// Variables of everything that is started for the agent, in place of those set before.
///
/// They live in agentd's memory and in the environment of what it starts, in no file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetEnvironment {
    /// Names and values; a command's own [`ExecRequest::environment`] goes over them.
    pub variables: BTreeMap<String, SecretValue>,
}

/// A command to run, without the agent's knowledge, with the agent's rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Program and arguments; the program is looked up in the sandbox's PATH.
    pub argv: Vec<String>,
    /// Where; the workspace when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Added to the agent's usual environment.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Given as standard input, which then ends.
    #[serde(default)]
    pub stdin: String,
    /// After so long the command and everything it started is killed; no limit when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_milliseconds: Option<u64>,
}

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecExit {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the time limit ended it.
    #[serde(default)]
    pub timed_out: bool,
    /// Why it could not be started, if so: then there is neither code nor signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A terminal to open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtyRequest {
    /// Program and arguments; a login shell when empty.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Its size.
    pub size: PtySize,
}

/// The size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PtySize {
    /// Width.
    pub columns: u16,
    /// Height.
    pub rows: u16,
}

/// A directory's entries, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Its entries.
    pub entries: Vec<ListingEntry>,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListingEntry {
    /// Its name; bytes that are no UTF-8 are written as `\xNN`.
    pub name: String,
    /// `file`, `directory`, `symlink` or `other`.
    pub kind: String,
    /// Bytes of a file.
    pub size: u64,
}

/// Bring the workspace to a commit, then make it writable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncRequest {
    /// The remote to fetch from, a path of the gateway: `/git/local/local/hangar.git`.
    pub remote: String,
    /// The branch of the session, created or continued.
    pub branch: String,
    /// The commit to start from when the branch does not exist yet.
    pub commit: String,
    /// Who commits until a prompt says otherwise.
    pub identity: Author,
}

/// The workspace is at a commit and writable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncAnswer {
    /// The commit checked out.
    pub commit: String,
    /// Whether anything had to be fetched or checked out.
    pub changed: bool,
}

/// Make one commit of everything that changed since the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRequest {
    /// For the trailer `Hangar-Session`.
    pub session: SessionId,
    /// For the trailer `Hangar-Prompt`, which also makes a second request find the first's commit.
    pub prompt: PromptId,
    /// Author and committer.
    pub author: Author,
    /// The first line of the message.
    pub subject: String,
    /// The text after it; may be empty.
    pub body: String,
    /// The branch that must be checked out; the session's.
    pub branch: String,
    /// The commit the session started from: the agent's own commits after it are taken in.
    pub base_commit: String,
}

/// What was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitAnswer {
    /// The commit; none when nothing had changed.
    pub commit: Option<CommitDescription>,
}

/// A commit made for a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitDescription {
    /// Its id.
    pub id: String,
    /// Its first line.
    pub subject: String,
    /// The files it touches.
    pub files: Vec<FileChange>,
}

/// Push the session's branch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushRequest {
    /// The remote, as in [`SyncRequest::remote`].
    pub remote: String,
    /// The branch.
    pub branch: String,
    /// The commit that must be its tip.
    pub commit: String,
}

/// The branch is on the remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PushAnswer {
    /// The remote's tip of the branch.
    pub commit: String,
}

/// Start the agent's process, so that the first prompt finds it ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartAgent {
    /// Which one: `built-in`, `opencode`.
    pub agent: String,
    /// The model it speaks to.
    pub model: ModelChoice,
    /// Text for the agent's instructions about where it is and what holds here.
    pub instructions: String,
}

/// The agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStarted {
    /// Its name and version, as it says.
    pub agent: String,
    /// From its start to its first answer; of the first start when it ran already.
    pub milliseconds: u64,
}

/// Give the agent a prompt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliverPrompt {
    /// Which one; the same id twice is delivered once.
    pub prompt: PromptId,
    /// Who wrote it: git's author and committer in the agent's commands from now on.
    pub author: Author,
    /// What it says.
    pub text: String,
}

/// The prompt is with agentd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptDelivered {
    /// Whether it had been delivered before.
    pub already: bool,
}

/// End a prompt, the agent willing or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelPrompt {
    /// Which one.
    pub prompt: PromptId,
    /// How long the agent may take to end it by itself before everything it started is killed.
    pub grace_milliseconds: u64,
}

/// Nothing of the prompt runs any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptCancelled {
    /// Whether the agent had to be killed.
    pub killed: bool,
}

/// One line of the reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ReportLine {
    /// A fact, kept until acknowledged.
    Report {
        /// Its number.
        number: u64,
        /// What.
        report: Report,
    },
    /// Text in the making; not kept.
    Delta {
        /// For which prompt.
        prompt: PromptId,
        /// What kind of text.
        kind: DeltaKind,
        /// What was added.
        text: String,
    },
    /// Nothing happened for a while; shows that the connection lives.
    Alive,
}

/// What agentd reports. Everything in it may be forged by hostile code in the sandbox.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Report {
    /// A finished piece of the agent's text.
    Message {
        /// For which prompt.
        prompt: PromptId,
        /// What it says.
        text: String,
    },
    /// A finished piece of the agent's reasoning.
    Thought {
        /// For which prompt.
        prompt: PromptId,
        /// What it says.
        text: String,
    },
    /// The agent's plan, replacing the one before.
    Plan {
        /// For which prompt.
        prompt: PromptId,
        /// The steps.
        steps: Vec<PlanStep>,
    },
    /// The agent called a tool.
    ToolCallStarted {
        /// For which prompt.
        prompt: PromptId,
        /// Which call.
        call: ToolCallId,
        /// What it does, in the agent's words.
        title: String,
        /// What kind of tool.
        tool: ToolKind,
        /// Its input, as the agent gave it.
        input: Value,
    },
    /// A tool answered.
    ToolCallFinished {
        /// For which prompt.
        prompt: PromptId,
        /// Which call.
        call: ToolCallId,
        /// How it ended.
        status: ToolStatus,
        /// What it answered.
        output: String,
        /// The files it says it changed, relative to the workspace.
        paths: Vec<String>,
    },
    /// Something people should know.
    Notice {
        /// For which prompt, if one runs.
        prompt: Option<PromptId>,
        /// What.
        text: String,
    },
    /// The agent ended its work on a prompt: exactly one for each delivered prompt.
    PromptEnded {
        /// Which one.
        prompt: PromptId,
        /// How.
        ending: Ending,
    },
}

/// How the agent's work on a prompt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Ending {
    /// The agent says it is done.
    Completed,
    /// It was cancelled.
    Cancelled,
    /// The agent failed: it refused, crashed or could not be started.
    Failed {
        /// What happened and what to try.
        reason: String,
    },
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done, to what, and what went wrong.
    pub error: String,
}
