//! Why a command is not carried out: a closed list of sentences for people.

use serde::{Deserialize, Serialize};

use crate::PromptId;
use crate::sandbox::{Isolation, LimitName};

/// A command that was understood and is not carried out. Nothing was recorded or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "code")]
pub enum Refusal {
    /// A prompt without a visible character.
    #[error("the prompt is empty: write what the agent should do")]
    EmptyPrompt,
    /// A prompt over [`crate::limits::PROMPT_BYTES`].
    #[error(
        "the prompt has {bytes} bytes and the limit is {limit}: put long material into a file of the repository and name it in the prompt"
    )]
    PromptTooLong {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// As many prompts wait as may wait.
    #[error("{limit} prompts are waiting already: withdraw one or let the agent catch up")]
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// A prompt id this session does not know.
    #[error("this session has no prompt {prompt}")]
    UnknownPrompt {
        /// The id.
        prompt: PromptId,
    },
    /// The prompt has begun or is over.
    #[error("prompt {prompt} is no longer waiting: stop it, or send a follow-up")]
    PromptNotQueued {
        /// The id.
        prompt: PromptId,
    },
    /// Only its author may edit or withdraw a prompt.
    #[error("only the author of prompt {prompt} may change or withdraw it")]
    NotTheAuthor {
        /// The id.
        prompt: PromptId,
    },
    /// A stop while nothing runs.
    #[error("nothing is running that could be stopped")]
    NothingToStop,
    /// A stop is under way already.
    #[error("the running prompt is being stopped already")]
    AlreadyStopping,
    /// The sandbox cannot be put away while it is worked in.
    #[error("prompt {prompt} is being worked on: stop it first, or wait until it is over")]
    Busy {
        /// The prompt that is being worked on.
        prompt: PromptId,
    },
    /// More than the server gives anybody.
    #[error(
        "{limit}: {} were asked for and the maximum is {}; ask for less, or have the server's maximum raised",
        limit.show(*asked), limit.show(*maximum)
    )]
    LimitTooHigh {
        /// Of what.
        limit: LimitName,
        /// What was asked for, in the limit's unit.
        asked: u64,
        /// What there is at most.
        maximum: u64,
    },
    /// Too little for a sandbox to start.
    #[error(
        "{limit}: {} were asked for and no sandbox works with less than {}; ask for more",
        limit.show(*asked), limit.show(*minimum)
    )]
    LimitTooLow {
        /// Of what.
        limit: LimitName,
        /// What was asked for, in the limit's unit.
        asked: u64,
        /// What there must be at least.
        minimum: u64,
    },
    /// A weaker wall than the one decided above.
    #[error(
        "isolation {asked} is weaker than {least}, which sandboxes of this repository have: ask for {least} or a stronger one"
    )]
    WeakerIsolation {
        /// What was asked for.
        asked: Isolation,
        /// The weakest one that may be asked for.
        least: Isolation,
    },
    /// The session's first event is missing: nothing but its creation can be recorded.
    #[error("the session has not been created yet")]
    NotCreated,
    /// The session exists.
    #[error("the session exists already")]
    AlreadyCreated,
    /// A report that belongs to a sandbox, prompt or step this session has left behind.
    #[error("the report is about {about}, which is over")]
    Stale {
        /// What it is about, for the log.
        about: String,
    },
}

impl Refusal {
    /// The stable word for programs, as in the JSON field `code`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::EmptyPrompt => "empty_prompt",
            Self::PromptTooLong { .. } => "prompt_too_long",
            Self::QueueFull { .. } => "queue_full",
            Self::UnknownPrompt { .. } => "unknown_prompt",
            Self::PromptNotQueued { .. } => "prompt_not_queued",
            Self::NotTheAuthor { .. } => "not_the_author",
            Self::NothingToStop => "nothing_to_stop",
            Self::AlreadyStopping => "already_stopping",
            Self::Busy { .. } => "busy",
            Self::LimitTooHigh { .. } => "limit_too_high",
            Self::LimitTooLow { .. } => "limit_too_low",
            Self::WeakerIsolation { .. } => "weaker_isolation",
            Self::NotCreated => "not_created",
            Self::AlreadyCreated => "already_created",
            Self::Stale { .. } => "stale",
        }
    }
}
