//! Sessions, prompts and people as clients see them.

use serde::{Deserialize, Serialize};

use crate::repository::RepositoryName;
use crate::sandbox::{Isolation, LimitRequest, SandboxDescription};
use crate::{PromptId, PullRequestId, SessionId, Timestamp, UserId};

/// A person, as written on prompts and commits at the time; a later change of name changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Author {
    /// Who.
    pub user: UserId,
    /// The name on commits.
    pub name: String,
    /// The address on commits.
    pub email: String,
}

/// Who caused an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Actor {
    /// A person.
    User(Author),
    /// The agent in the sandbox: untrusted.
    Agent,
    /// Hangar itself.
    System,
}

/// When a follow-up reaches the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// After the prompts before it.
    #[default]
    Queue,
    /// At the agent's next step, before the queue; the running prompt is ended for it if the agent
    /// cannot take in a second text.
    Insert,
}

/// The dialect in which a model is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `POST /v1/messages` as Anthropic defined it.
    Anthropic,
    /// `POST /v1/chat/completions` as OpenAI defined it.
    OpenaiChat,
}

/// Which model answers, and by which route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelChoice {
    /// The gateway's route: `rehearsal`, `anthropic` or `openai`.
    pub provider: String,
    /// The provider's name of the model.
    pub name: String,
    /// The dialect spoken on that route.
    pub dialect: Dialect,
}

/// How a prompt ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum PromptOutcome {
    /// The agent says it is done.
    Completed,
    /// A person stopped it.
    Stopped {
        /// Who.
        by: Author,
    },
    /// It ended early so that an inserted prompt could be taken in.
    Superseded,
    /// It could not be carried out.
    Failed {
        /// What happened and what to try.
        reason: String,
    },
}

/// Where a prompt is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum PromptState {
    /// Accepted, not yet with the agent.
    Queued,
    /// With the agent.
    Running,
    /// Ended by the agent; its changes are being committed and pushed.
    Publishing,
    /// Over.
    Finished {
        /// How.
        outcome: PromptOutcome,
    },
    /// Taken back by its author before it ran.
    Withdrawn,
}

/// A prompt with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    /// Which one.
    pub id: PromptId,
    /// Who wrote it.
    pub author: Author,
    /// What it says.
    pub text: String,
    /// When it reaches the agent.
    pub delivery: Delivery,
    /// Where it is.
    #[serde(flatten)]
    pub state: PromptState,
    /// When it was accepted.
    pub accepted_at: Timestamp,
}

/// The parts of a session's start whose times people are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Building the repository's image.
    Image,
    /// Asking for a sandbox until it answers.
    Sandbox,
    /// Bringing the repository to the wanted commit.
    Sync,
    /// Prompt accepted until the first request reaches the model.
    FirstModelRequest,
    /// First request to the model until its first token.
    FirstToken,
    /// Prompt accepted until the first file was changed.
    FirstEdit,
    /// The agent's own work, from delivery to its end.
    Agent,
    /// Committing.
    Commit,
    /// Pushing through the gateway.
    Push,
    /// Opening the pull request.
    PullRequest,
}

impl Phase {
    /// The word in tables and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Sandbox => "sandbox",
            Self::Sync => "sync",
            Self::FirstModelRequest => "first_model_request",
            Self::FirstToken => "first_token",
            Self::FirstEdit => "first_edit",
            Self::Agent => "agent",
            Self::Commit => "commit",
            Self::Push => "push",
            Self::PullRequest => "pull_request",
        }
    }
}

/// How much a change touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DiffStat {
    /// Files touched.
    pub files: u32,
    /// Lines added; binary files count none.
    pub added: u32,
    /// Lines removed; binary files count none.
    pub removed: u32,
}

/// What happened to one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Relative to the workspace; bytes that are no UTF-8 are written as `\xNN`.
    pub path: String,
    /// Whether it is new, changed or gone.
    pub kind: FileChangeKind,
    /// Lines added.
    pub added: u32,
    /// Lines removed.
    pub removed: u32,
}

/// Whether a file is new, changed or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileChangeKind {
    /// New.
    Added,
    /// Changed.
    Modified,
    /// Gone.
    Deleted,
    /// Moved, possibly changed as well.
    Renamed,
}

/// What a session is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionStatus {
    /// Nothing to do.
    Idle,
    /// Waiting for a sandbox or for the repository.
    Preparing,
    /// The agent works.
    Running,
    /// A stop was asked for and is being carried out.
    Stopping,
    /// Changes are being committed, pushed or offered as a pull request.
    Publishing,
    /// The last prompt failed; the next one tries again.
    Failed,
}

/// Whether a pull request is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullRequestState {
    /// Waiting for review.
    Open,
    /// Taken in.
    Merged,
    /// Refused or withdrawn.
    Closed,
}

/// A pull request as a session knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequestSummary {
    /// Which one.
    pub id: PullRequestId,
    /// Its number in the repository.
    pub number: u32,
    /// Its title.
    pub title: String,
    /// The branch it offers.
    pub branch: String,
    /// The commit it offers.
    pub commit: String,
    /// How much it touches.
    pub diff_stat: DiffStat,
    /// Whether it is open.
    pub state: PullRequestState,
}

/// One line of a list of sessions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSummary {
    /// Which one.
    pub id: SessionId,
    /// What it is about, from its first prompt.
    pub title: String,
    /// Where it works.
    pub repository: RepositoryName,
    /// What it is doing.
    pub status: SessionStatus,
    /// The agent that works.
    pub agent: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The number of its last event.
    pub last_sequence: u64,
}

/// A whole session as of [`SessionSummary::last_sequence`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// What lists show.
    #[serde(flatten)]
    pub summary: SessionSummary,
    /// The model that answers.
    pub model: ModelChoice,
    /// The branch it started from.
    pub base_branch: String,
    /// The commit it started from.
    pub base_commit: String,
    /// The branch it pushes to.
    pub branch: String,
    /// What it asked for its sandboxes; what they have is in [`Self::sandbox`].
    #[serde(default, skip_serializing_if = "LimitRequest::is_empty")]
    pub limits: LimitRequest,
    /// The wall it asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Every prompt, oldest first; the waiting ones in the order in which they will run.
    pub prompts: Vec<Prompt>,
    /// The sandbox, while there is one.
    pub sandbox: Option<SandboxDescription>,
    /// The pull request, once there is one.
    pub pull_request: Option<PullRequestSummary>,
}
