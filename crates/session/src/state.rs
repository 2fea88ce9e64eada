//! Everything a session remembers; a function of its recorded events.

mod apply;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use protocol::repository::RepositoryName;
use protocol::sandbox::{Isolation, LimitName, LimitRequest, SandboxDescription};
use protocol::session::{
    Author, Delivery, ModelChoice, Phase, PromptOutcome, PullRequestState, PullRequestSummary,
};
use protocol::{
    ImageId, PromptId, Refusal, RequestId, SandboxId, SessionId, Timestamp, ToolCallId,
};

use crate::Policy;

/// A session as of one of its events.
///
/// Cheap to clone: what grows with the session's past is shared until it changes, because every
/// decision works on a copy.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub(crate) session: SessionId,
    pub(crate) policy: Policy,
    pub(crate) sequence: u64,
    pub(crate) updated_at: Timestamp,
    /// `None` until the session was created.
    pub(crate) facts: Option<Arc<Facts>>,
    /// Every prompt, in the order of acceptance.
    pub(crate) history: Arc<Vec<Arc<Record>>>,
    /// The waiting prompts, in the order in which they will run.
    pub(crate) queue: VecDeque<PromptId>,
    pub(crate) turn: Option<Turn>,
    pub(crate) sandbox: Option<Sandbox>,
    /// Sandboxes asked for so far.
    pub(crate) sandboxes: u32,
    /// The newest sandbox that was ever up: it holds the session's files.
    pub(crate) files: Option<SandboxId>,
    /// The image those files are changes of.
    pub(crate) image: Option<ImageId>,
    pub(crate) starts: Starts,
    /// Since when a sandbox is up and nothing is to do.
    pub(crate) idle_since: Option<Timestamp>,
    /// The tip of the branch while the forge does not have it.
    pub(crate) unpushed: Option<String>,
    /// The pushed tip while no pull request offers it.
    pub(crate) unoffered: Option<String>,
    pub(crate) pull_request: Option<Arc<PullRequestSummary>>,
    /// Whether the prompt that ended last failed.
    pub(crate) last_failed: bool,
}

/// What the session began with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Facts {
    pub(crate) title: String,
    pub(crate) repository: RepositoryName,
    pub(crate) agent: String,
    pub(crate) model: ModelChoice,
    pub(crate) base_branch: String,
    pub(crate) base_commit: String,
    pub(crate) branch: String,
    pub(crate) limits: LimitRequest,
    pub(crate) isolation: Option<Isolation>,
    pub(crate) created_at: Timestamp,
}

/// One prompt and how it ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub(crate) id: PromptId,
    pub(crate) request: RequestId,
    pub(crate) author: Author,
    pub(crate) text: Arc<str>,
    pub(crate) delivery: Delivery,
    pub(crate) accepted_at: Timestamp,
    pub(crate) end: Option<End>,
}

/// How a prompt came to its end.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum End {
    Finished(PromptOutcome),
    Withdrawn,
}

/// The one prompt that is worked on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Turn {
    pub(crate) prompt: PromptId,
    pub(crate) step: Step,
    /// Since when the step can go on by itself; what phases are measured from.
    pub(crate) since: Timestamp,
    /// The sandbox in which the agent has it; `None` again when that is lost.
    pub(crate) started_in: Option<SandboxId>,
    pub(crate) started_at: Option<Timestamp>,
    /// How often it was started.
    pub(crate) attempts: u32,
    /// Sandboxes lost under it.
    pub(crate) losses: u32,
    /// An insert waits for it to be with the agent, and then to end.
    pub(crate) superseded: bool,
    pub(crate) recorded: Recorded,
    pub(crate) measured: BTreeSet<Phase>,
    pub(crate) first_model_request_at: Option<Timestamp>,
    /// Calls of editing tools that have not answered; kept until the first edit was measured.
    pub(crate) edits: BTreeSet<ToolCallId>,
}

/// Where the turn is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    Delivering,
    Running,
    Cancelling { outcome: PromptOutcome },
    Publishing { outcome: PromptOutcome, publish: Publish },
}

/// How far publishing is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Publish {
    Commit,
    Push { commit: String },
    Offer { commit: String },
    Done,
}

/// How much untrusted text was recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) events: u32,
    pub(crate) bytes: u64,
    /// People were told that more is not recorded.
    pub(crate) noted: bool,
}

/// The sandbox the session has or waits for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) continues: Option<SandboxId>,
    pub(crate) stage: Stage,
    pub(crate) description: Option<Arc<SandboxDescription>>,
    pub(crate) agent_ready: bool,
    pub(crate) synced: bool,
    /// What was recorded of it while no prompt ran.
    pub(crate) recorded: Recorded,
    /// Limits it hit: how often people were told, and when last.
    pub(crate) limits: BTreeMap<LimitName, (u32, Timestamp)>,
}

/// How far the sandbox is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    Asked,
    Up,
    Stopping { reason: String },
}

/// Failed starts of sandboxes in a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Starts {
    pub(crate) failures: u32,
    pub(crate) failed_at: Timestamp,
    /// What was said of the last failure or loss.
    pub(crate) reason: String,
}

/// A prompt as it is given to the agent and written on its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptText<'a> {
    /// Who wrote it.
    pub author: &'a Author,
    /// What it says.
    pub text: &'a str,
}

impl State {
    /// A session of which nothing is recorded yet.
    pub fn new(session: SessionId, policy: Policy) -> Self {
        Self {
            session,
            policy,
            sequence: 0,
            updated_at: Timestamp::default(),
            facts: None,
            history: Arc::default(),
            queue: VecDeque::new(),
            turn: None,
            sandbox: None,
            sandboxes: 0,
            files: None,
            image: None,
            starts: Starts::default(),
            idle_since: None,
            unpushed: None,
            unoffered: None,
            pull_request: None,
            last_failed: false,
        }
    }

    /// Which session it is.
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The number of the last event taken in; 0 before the first.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What a prompt says and who wrote it.
    pub fn prompt(&self, prompt: PromptId) -> Option<PromptText<'_>> {
        self.record_of(prompt)
            .map(|record| PromptText { author: &record.author, text: &record.text })
    }

    /// The prompt that is worked on, from its delivery to its end.
    pub fn current_prompt(&self) -> Option<PromptId> {
        self.turn.as_ref().map(|turn| turn.prompt)
    }

    /// The sandbox the session has, waits for, or is getting rid of.
    pub fn current_sandbox(&self) -> Option<SandboxId> {
        self.sandbox.as_ref().map(|sandbox| sandbox.id)
    }

    /// The ended sandbox whose files the next one continues; while one is up, that one.
    pub const fn files(&self) -> Option<SandboxId> {
        self.files
    }

    /// The image those files are changes of: they mean nothing on another.
    pub const fn image(&self) -> Option<ImageId> {
        self.image
    }

    /// The prompt of an earlier request with the same id.
    pub fn prompt_of_request(&self, request: RequestId) -> Option<PromptId> {
        self.history.iter().find(|record| record.request == request).map(|record| record.id)
    }

    // Newest first, because the prompts that are asked for are almost always the last ones.
    pub(crate) fn record_of(&self, prompt: PromptId) -> Option<&Record> {
        self.history.iter().rev().find(|record| record.id == prompt).map(Arc::as_ref)
    }

    pub(crate) fn up(&self) -> Option<&Sandbox> {
        self.sandbox.as_ref().filter(|sandbox| sandbox.stage == Stage::Up)
    }

    /// The sandbox, if it is this one and up.
    pub(crate) fn up_as(&self, sandbox: SandboxId) -> Result<&Sandbox, Refusal> {
        self.up()
            .filter(|up| up.id == sandbox)
            .ok_or_else(|| Refusal::Stale { about: format!("sandbox {sandbox}") })
    }

    /// The turn, if it is this prompt in this sandbox.
    pub(crate) fn turn_in(&self, sandbox: SandboxId, prompt: PromptId) -> Result<&Turn, Refusal> {
        self.up_as(sandbox)?;
        self.turn_of(prompt)
    }

    /// The turn, if it is this prompt.
    pub(crate) fn turn_of(&self, prompt: PromptId) -> Result<&Turn, Refusal> {
        self.turn
            .as_ref()
            .filter(|turn| turn.prompt == prompt)
            .ok_or_else(|| Refusal::Stale { about: format!("prompt {prompt}") })
    }

    /// Whether something waits for a sandbox.
    pub(crate) fn wants_sandbox(&self) -> bool {
        let turn_wants = self.turn.as_ref().is_some_and(|turn| match &turn.step {
            Step::Delivering | Step::Running | Step::Cancelling { .. } => true,
            Step::Publishing { publish, .. } => {
                matches!(publish, Publish::Commit | Publish::Push { .. })
            }
        });
        turn_wants || !self.queue.is_empty()
    }

    /// Whether no further start of a sandbox is tried for the prompt that needs one.
    pub(crate) const fn starts_exhausted(&self) -> bool {
        self.starts.failures >= self.policy.start_attempts
    }

    /// The next moment at which something is to be decided without any news.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        if let Some(since) = self.idle_since {
            return Some(since.plus_milliseconds(self.policy.idle_milliseconds));
        }
        let pausing = self.starts.failures > 0 && !self.starts_exhausted();
        (pausing && self.sandbox.is_none() && self.wants_sandbox()).then(|| {
            let pause = self.policy.pause_after(self.starts.failures);
            self.starts.failed_at.plus_milliseconds(pause)
        })
    }

    /// Whether a pushed commit is to be offered after a prompt that ended like this.
    pub(crate) fn offers_after(&self, outcome: &PromptOutcome) -> bool {
        *outcome == PromptOutcome::Completed
            || self.pull_request.as_ref().is_some_and(|known| known.state == PullRequestState::Open)
    }
}

/// The id of a session's sandbox: the session's id with the sandbox's number mixed into its last
/// four bytes.
///
/// Derived, so that deciding draws no random number. The rest of a session's id is its time of
/// creation and 42 random bits, which keeps sandboxes of different sessions apart.
pub fn sandbox_id(session: SessionId, number: u32) -> SandboxId {
    // Odd, so that different numbers never give the same bytes; large, so that the short forms of
    // neighbouring numbers look different to people.
    const SPREAD: u32 = 0x9E37_79B9;
    let mut bytes = *session.as_bytes();
    for (byte, mixed) in bytes[12..].iter_mut().zip(number.wrapping_mul(SPREAD).to_be_bytes()) {
        *byte ^= mixed;
    }
    SandboxId::from_bytes(bytes)
}
