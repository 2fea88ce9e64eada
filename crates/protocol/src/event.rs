//! Recorded facts about a session.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::repository::RepositoryName;
use crate::sandbox::{Consequence, Isolation, LimitName, LimitRequest, SandboxDescription};
use crate::session::{
    Actor, Author, Delivery, FileChange, ModelChoice, Phase, PromptOutcome, PullRequestState,
    PullRequestSummary,
};
use crate::{PromptId, RequestId, SandboxId, SessionId, Timestamp, ToolCallId};

/// An event with its place and origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The session it is about.
    pub session: SessionId,
    /// Its place: 1 for the first event of a session, without gaps.
    pub sequence: u64,
    /// When it was recorded.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// The number of agentd's report it comes from, if it comes from one.
    ///
    /// Kept with the event so that recording and acknowledging a report are one step: after a crash
    /// the host asks agentd for what follows the last number it finds here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<u64>,
    /// What happened.
    pub event: Event,
}

/// What an agent's tool does, as far as the agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolKind {
    /// Reads files.
    Read,
    /// Changes files.
    Edit,
    /// Looks for something.
    Search,
    /// Runs a command.
    Execute,
    /// Fetches from elsewhere.
    Fetch,
    /// Thinks.
    Think,
    /// Anything else.
    #[serde(other)]
    Other,
}

/// How a call of a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolStatus {
    /// It did what it was asked.
    Completed,
    /// It did not.
    Failed,
}

/// A recorded fact. In JSON an object whose `type` names the variant.
///
/// Text from an agent is untrusted, cut at [`crate::limits::RECORDED_TEXT_BYTES`], and may hold
/// control characters: whoever shows it escapes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "snake_case", tag = "type")]
pub enum Event {
    /// The session exists.
    SessionCreated {
        /// What it is about.
        title: String,
        /// Where it works.
        repository: RepositoryName,
        /// The agent that works: `built-in`, `opencode`.
        agent: String,
        /// The model that answers.
        model: ModelChoice,
        /// The branch it started from.
        base_branch: String,
        /// The commit it started from.
        base_commit: String,
        /// The branch it pushes to.
        branch: String,
        /// What it asked for its sandboxes.
        #[serde(default, skip_serializing_if = "LimitRequest::is_empty")]
        limits: LimitRequest,
        /// The wall it asked for.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        isolation: Option<Isolation>,
    },
    /// A prompt was taken on: from here on it is never lost.
    PromptAccepted {
        /// Which one.
        prompt: PromptId,
        /// The client's id of the request.
        request: RequestId,
        /// Who wrote it.
        author: Author,
        /// What it says.
        text: String,
        /// When it reaches the agent.
        delivery: Delivery,
    },
    /// A waiting prompt was rewritten by its author.
    PromptEdited {
        /// Which one.
        prompt: PromptId,
        /// What it says now.
        text: String,
    },
    /// A waiting prompt was taken back by its author.
    PromptWithdrawn {
        /// Which one.
        prompt: PromptId,
    },
    /// The agent has the prompt.
    PromptStarted {
        /// Which one.
        prompt: PromptId,
        /// Where it runs.
        sandbox: SandboxId,
        /// 1 the first time; more after a sandbox was lost under it.
        attempt: u32,
    },
    /// A person asked to stop the running prompt.
    StopRequested {
        /// Which one.
        prompt: PromptId,
        /// Who asked.
        by: Author,
    },
    /// The agent ended its work on the prompt; publishing follows.
    AgentEnded {
        /// Which prompt.
        prompt: PromptId,
        /// How.
        outcome: PromptOutcome,
    },
    /// The prompt is over, with all that follows from it.
    PromptFinished {
        /// Which one.
        prompt: PromptId,
        /// How.
        outcome: PromptOutcome,
    },
    /// A sandbox is wanted.
    SandboxRequested {
        /// Which one.
        sandbox: SandboxId,
        /// The earlier sandbox whose files it continues, if any.
        continues: Option<SandboxId>,
    },
    /// The sandbox answers.
    SandboxStarted {
        /// What it is.
        description: SandboxDescription,
        /// From the request to the first answer.
        milliseconds: u64,
    },
    /// The sandbox could not be started.
    SandboxFailed {
        /// Which one.
        sandbox: SandboxId,
        /// Why, and what to try.
        reason: String,
    },
    /// The sandbox ended without being asked to; its files are kept.
    SandboxLost {
        /// Which one.
        sandbox: SandboxId,
        /// What is known.
        reason: String,
    },
    /// The sandbox is to be stopped; nothing more is given to it.
    SandboxStopRequested {
        /// Which one.
        sandbox: SandboxId,
        /// Why, for people.
        reason: String,
    },
    /// The sandbox was stopped; its files are kept.
    SandboxStopped {
        /// Which one.
        sandbox: SandboxId,
        /// Why.
        reason: String,
    },
    /// The repository is at the wanted commit and the workspace is writable.
    WorkspaceSynced {
        /// Where.
        sandbox: SandboxId,
        /// The commit.
        commit: String,
        /// How long it took.
        milliseconds: u64,
    },
    /// The repository could not be brought to the wanted commit.
    WorkspaceSyncFailed {
        /// Where.
        sandbox: SandboxId,
        /// Why, and what to try.
        reason: String,
    },
    /// The agent's process answers.
    AgentReady {
        /// Where.
        sandbox: SandboxId,
        /// Its name and version, as it says.
        agent: String,
        /// From its start to its first answer.
        milliseconds: u64,
    },
    /// A finished piece of the agent's text.
    AgentMessage {
        /// For which prompt.
        prompt: PromptId,
        /// What it says.
        text: String,
    },
    /// A finished piece of the agent's reasoning.
    AgentThought {
        /// For which prompt.
        prompt: PromptId,
        /// What it says.
        text: String,
    },
    /// The agent's list of what it means to do, replacing the one before.
    PlanUpdated {
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
        kind: ToolKind,
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
        /// The files it says it changed.
        paths: Vec<String>,
    },
    /// Something about the agent that people should know: a flood that was cut, nonsense it wrote.
    Notice {
        /// For which prompt, if one runs.
        prompt: Option<PromptId>,
        /// What.
        text: String,
    },
    /// The gateway refused something.
    Denied {
        /// What was asked for: a host, a route, a branch.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A sandbox wanted more than one of its limits gives.
    LimitExceeded {
        /// Which sandbox.
        sandbox: SandboxId,
        /// Which limit.
        limit: LimitName,
        /// What it used, in the limit's unit.
        usage: u64,
        /// What it may use, in the limit's unit.
        maximum: u64,
        /// What became of it.
        consequence: Consequence,
    },
    /// What a model request cost.
    ModelAnswered {
        /// For which prompt, if one runs.
        prompt: Option<PromptId>,
        /// The model's name.
        model: String,
        /// Tokens read, as the provider counts.
        input_tokens: u64,
        /// Tokens written, as the provider counts.
        output_tokens: u64,
        /// From the request's arrival at the gateway to the provider's first token.
        first_token_milliseconds: u64,
        /// From the request's arrival at the gateway to its end.
        milliseconds: u64,
    },
    /// The prompt's changes are a commit.
    Committed {
        /// Which prompt.
        prompt: PromptId,
        /// The commit.
        commit: String,
        /// Its first line.
        subject: String,
        /// The files it touches.
        files: Vec<FileChange>,
    },
    /// The prompt changed no file.
    NothingToCommit {
        /// Which prompt.
        prompt: PromptId,
    },
    /// The branch is on the forge.
    Pushed {
        /// Which prompt.
        prompt: PromptId,
        /// The branch.
        branch: String,
        /// The commit.
        commit: String,
    },
    /// The changes could not be committed, pushed or offered; they stay in the workspace.
    PublishFailed {
        /// Which prompt.
        prompt: PromptId,
        /// Why, and what to try.
        reason: String,
    },
    /// There is a pull request for the branch, new or brought up to date.
    PullRequestOffered {
        /// Which prompt.
        prompt: PromptId,
        /// What it offers.
        pull_request: PullRequestSummary,
    },
    /// A pull request was merged, closed or opened again.
    PullRequestChanged {
        /// Its number.
        number: u32,
        /// What it is now.
        state: PullRequestState,
    },
    /// How long a part took.
    PhaseFinished {
        /// Which prompt it belongs to, if to one.
        prompt: Option<PromptId>,
        /// Which part.
        phase: Phase,
        /// How long.
        milliseconds: u64,
    },
    /// An event of a newer version, kept as it came.
    #[serde(skip)]
    Unknown(Value),
}

/// One step of an agent's plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanStep {
    /// What.
    pub text: String,
    /// `pending`, `in_progress` or `completed`, as the agent says.
    pub status: String,
}

/// Every `type` this version knows, as written in JSON.
pub const KINDS: &[&str] = &[
    "session_created",
    "prompt_accepted",
    "prompt_edited",
    "prompt_withdrawn",
    "prompt_started",
    "stop_requested",
    "agent_ended",
    "prompt_finished",
    "sandbox_requested",
    "sandbox_started",
    "sandbox_failed",
    "sandbox_lost",
    "sandbox_stop_requested",
    "sandbox_stopped",
    "workspace_synced",
    "workspace_sync_failed",
    "agent_ready",
    "agent_message",
    "agent_thought",
    "plan_updated",
    "tool_call_started",
    "tool_call_finished",
    "notice",
    "denied",
    "limit_exceeded",
    "model_answered",
    "committed",
    "nothing_to_commit",
    "pushed",
    "publish_failed",
    "pull_request_offered",
    "pull_request_changed",
    "phase_finished",
];

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unknown(value) => value.serialize(serializer),
            known => Self::serialize(known, serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        if kind.is_empty() {
            return Err(serde::de::Error::custom("an event without a `type`"));
        }
        if KINDS.contains(&kind) {
            Self::deserialize(value).map_err(serde::de::Error::custom)
        } else {
            Ok(Self::Unknown(value))
        }
    }
}
