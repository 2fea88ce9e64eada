//! Everything that can be said to a session.

use protocol::agentd::{CommitDescription, Report};
use protocol::repository::RepositoryName;
use protocol::sandbox::{Consequence, Isolation, LimitName, LimitRequest, SandboxDescription};
use protocol::session::{
    Author, Delivery, ModelChoice, Phase, PullRequestState, PullRequestSummary,
};
use protocol::{PromptId, RequestId, SandboxId, Timestamp};

/// A wish of a person, or news from the world outside.
///
/// New ids come in with commands; only sandbox ids are made inside, see [`crate::sandbox_id`].
/// Texts from sandboxes are untrusted and are cut here, not by the caller.
#[expect(clippy::large_enum_variant, reason = "the large one comes once in a session")]
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Begin the session.
    Create(Create),
    /// Take on a prompt. The same request (or prompt id) again records nothing, see
    /// [`crate::Decision::already`].
    SendPrompt {
        /// The id it gets.
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
    /// Rewrite a waiting prompt.
    EditPrompt {
        /// Which one.
        prompt: PromptId,
        /// Who asks: only its author may.
        by: Author,
        /// What it says from now on.
        text: String,
    },
    /// Take a waiting prompt back.
    WithdrawPrompt {
        /// Which one.
        prompt: PromptId,
        /// Who asks: only its author may.
        by: Author,
    },
    /// End what runs, or what would run next if nothing does.
    Stop {
        /// Who asks.
        by: Author,
    },
    /// Stop the idle sandbox now; its files are kept.
    Park,

    /// [`crate::Effect::StartSandbox`] succeeded.
    SandboxStarted {
        /// What it is; its id is the one that was asked for.
        description: SandboxDescription,
        /// From the request to the first answer.
        milliseconds: u64,
    },
    /// [`crate::Effect::StartSandbox`] failed.
    SandboxFailed {
        /// Which one.
        sandbox: SandboxId,
        /// Why, and what to try.
        reason: String,
    },
    /// The sandbox ended without being asked to.
    SandboxLost {
        /// Which one.
        sandbox: SandboxId,
        /// What is known.
        reason: String,
    },
    /// [`crate::Effect::StopSandbox`] succeeded.
    SandboxStopped {
        /// Which one.
        sandbox: SandboxId,
    },

    /// [`crate::Effect::SyncWorkspace`] succeeded.
    WorkspaceSynced {
        /// Where.
        sandbox: SandboxId,
        /// The commit checked out.
        commit: String,
        /// How long it took.
        milliseconds: u64,
    },
    /// [`crate::Effect::SyncWorkspace`] failed for good.
    SyncFailed {
        /// Where.
        sandbox: SandboxId,
        /// Why, and what to try.
        reason: String,
    },
    /// [`crate::Effect::StartAgent`] succeeded.
    AgentReady {
        /// Where.
        sandbox: SandboxId,
        /// Its name and version, as it says.
        agent: String,
        /// From its start to its first answer.
        milliseconds: u64,
    },
    /// [`crate::Effect::StartAgent`] failed for good.
    AgentFailed {
        /// Where.
        sandbox: SandboxId,
        /// Why, and what to try.
        reason: String,
    },
    /// [`crate::Effect::DeliverPrompt`] succeeded.
    Delivered {
        /// Where.
        sandbox: SandboxId,
        /// Which one.
        prompt: PromptId,
    },
    /// agentd answered that it does not take the prompt. A broken connection is no such answer.
    DeliveryFailed {
        /// Where.
        sandbox: SandboxId,
        /// Which one.
        prompt: PromptId,
        /// Why, and what to try.
        reason: String,
    },
    /// agentd reported something.
    Reported {
        /// Where.
        sandbox: SandboxId,
        /// What.
        report: Report,
    },
    /// [`crate::Effect::CancelPrompt`] succeeded: nothing of the prompt runs any more.
    CancelFinished {
        /// Where.
        sandbox: SandboxId,
        /// Which one.
        prompt: PromptId,
    },

    /// [`crate::Effect::Commit`] made or found a commit.
    Committed {
        /// Where.
        sandbox: SandboxId,
        /// For which prompt.
        prompt: PromptId,
        /// What was committed.
        commit: CommitDescription,
    },
    /// [`crate::Effect::Commit`] found nothing changed.
    NothingToCommit {
        /// Where.
        sandbox: SandboxId,
        /// For which prompt.
        prompt: PromptId,
    },
    /// [`crate::Effect::Commit`] failed for good.
    CommitFailed {
        /// Where.
        sandbox: SandboxId,
        /// For which prompt.
        prompt: PromptId,
        /// Why, and what to try.
        reason: String,
    },
    /// [`crate::Effect::Push`] succeeded.
    Pushed {
        /// Where from.
        sandbox: SandboxId,
        /// For which prompt.
        prompt: PromptId,
        /// The remote's tip of the branch.
        commit: String,
    },
    /// [`crate::Effect::Push`] failed for good.
    PushFailed {
        /// Where from.
        sandbox: SandboxId,
        /// For which prompt.
        prompt: PromptId,
        /// Why, and what to try.
        reason: String,
    },
    /// [`crate::Effect::OfferPullRequest`] succeeded.
    PullRequestOffered {
        /// For which prompt.
        prompt: PromptId,
        /// The pull request, new or brought up to date.
        pull_request: PullRequestSummary,
    },
    /// [`crate::Effect::OfferPullRequest`] failed for good.
    PullRequestFailed {
        /// For which prompt.
        prompt: PromptId,
        /// Why, and what to try.
        reason: String,
    },
    /// The session's pull request was merged, closed or opened again.
    PullRequestChanged {
        /// Its number.
        number: u32,
        /// What it is now.
        state: PullRequestState,
    },

    /// The sandbox wanted more than one of its limits gives.
    LimitHit(LimitHit),
    /// The gateway refused something.
    Denied {
        /// Where it was asked.
        sandbox: SandboxId,
        /// What was asked for.
        what: String,
        /// Why not.
        reason: String,
    },
    /// A request to a model arrived at the gateway. Only the first of a prompt is of interest.
    ModelRequestStarted {
        /// Where from.
        sandbox: SandboxId,
        /// When.
        at: Timestamp,
    },
    /// A model's first token passed the gateway. Only the first of a prompt is of interest.
    ModelFirstToken {
        /// Where to.
        sandbox: SandboxId,
        /// When.
        at: Timestamp,
    },
    /// A request to a model ended.
    ModelAnswered(ModelAnswer),
    /// A part was measured that the session cannot see: the building of the image.
    PhaseMeasured {
        /// Which part.
        phase: Phase,
        /// How long it took.
        milliseconds: u64,
    },
    /// Time has passed: the moment of a [`crate::Effect::WakeAt`] has come, or the caller begins.
    Wake,
}

/// What a session begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// Who begins it.
    pub by: Author,
    /// What it is about, see [`crate::title`]; cut at [`protocol::limits::TITLE_BYTES`].
    pub title: String,
    /// Where it works.
    pub repository: RepositoryName,
    /// The agent that works.
    pub agent: String,
    /// The model that answers.
    pub model: ModelChoice,
    /// The branch it starts from.
    pub base_branch: String,
    /// The commit it starts from.
    pub base_commit: String,
    /// The branch it pushes to.
    pub branch: String,
    /// What it asks for its sandboxes.
    pub limits: LimitRequest,
    /// The wall it asks for.
    pub isolation: Option<Isolation>,
}

/// A limit that a sandbox hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitHit {
    /// Which sandbox.
    pub sandbox: SandboxId,
    /// Which limit.
    pub limit: LimitName,
    /// What it used, in the limit's unit.
    pub usage: u64,
    /// What it may use, in the limit's unit.
    pub maximum: u64,
    /// Whether it can go on.
    pub consequence: Consequence,
    /// What was seen, for people.
    pub what: String,
}

/// What a request to a model took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelAnswer {
    /// Where the request came from.
    pub sandbox: SandboxId,
    /// The model's name.
    pub model: String,
    /// Tokens read, as the provider counts.
    pub input_tokens: u64,
    /// Tokens written, as the provider counts.
    pub output_tokens: u64,
    /// From the request's arrival to the first token.
    pub first_token_milliseconds: u64,
    /// From the request's arrival to its end.
    pub milliseconds: u64,
}
