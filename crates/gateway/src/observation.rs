//! What the rest of the server is told about the traffic of a sandbox.

use std::fmt;
use std::time::{Duration, Instant};

use protocol::repository::RepositoryName;
use protocol::{SandboxId, SessionId, Timestamp};
use serde::Serialize;

use crate::git::Service;
use crate::{Denial, ProviderName};

/// Is told what happened. Called on the thread that serves the sandbox: it must not block.
pub trait Observer: Send + Sync + fmt::Debug {
    /// Something happened.
    fn observed(&self, observation: Observation);
}

/// One thing that happened, and whose it was.
#[derive(Debug, Clone)]
pub struct Observation {
    /// The sandbox.
    pub sandbox: SandboxId,
    /// The session it was bound to at that moment.
    pub session: Option<SessionId>,
    /// When, for people and records.
    pub at: Timestamp,
    /// What.
    pub what: Observed,
}

/// What can happen.
#[derive(Debug, Clone)]
pub enum Observed {
    /// The head of a model request arrived; the first one after a prompt ends the time from prompt
    /// to model.
    ModelRequestStarted {
        /// Numbers this request among all of this gateway.
        request: u64,
        /// Who was asked.
        provider: ProviderName,
        /// When the head had arrived, for measuring.
        arrived: Instant,
    },
    /// The first piece of text, reasoning or tool call passed by in a streamed answer.
    ModelFirstToken {
        /// Which request.
        request: u64,
        /// Time since the request's head arrived.
        after: Duration,
    },
    /// The answer of a model request ended, in whatever way.
    ModelAnswered {
        /// Which request.
        request: u64,
        /// Who was asked.
        provider: ProviderName,
        /// The HTTP status the sandbox saw; 499 if it went away before there was one.
        status: u16,
        /// The model's name as the answer tells it.
        model: Option<String>,
        /// Tokens as the answer tells them.
        usage: Usage,
        /// From the request's head to the answer's first byte.
        first_byte: Option<Duration>,
        /// From the request's head to the first token of a streamed answer.
        first_token: Option<Duration>,
        /// From the request's head to the end.
        total: Duration,
        /// How it ended.
        outcome: Outcome,
    },
    /// Something was denied. Told at once the first time, then at most once a minute per host.
    Denied {
        /// Why.
        denial: Denial,
        /// The method as sent.
        method: String,
        /// Denials of this host since the last such observation, this one included.
        count: u64,
    },
    /// The sandbox sends faster than it may and is slowed down. Told at once the first time, then at
    /// most once a minute.
    Throttled {
        /// What it tried, in bits per second.
        tried: u64,
        /// What it may, in bits per second.
        maximum: u64,
    },
    /// A git request ended.
    Git {
        /// Fetch or push.
        service: Service,
        /// Of which repository.
        repository: RepositoryName,
        /// The HTTP status.
        status: u16,
        /// Bytes of the request's body.
        bytes_in: u64,
        /// Bytes of the answer's body.
        bytes_out: u64,
        /// How it ended.
        outcome: Outcome,
    },
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// To its last byte.
    Completed,
    /// The sandbox closed the connection before the end; the provider's side was dropped too.
    ClientGone,
    /// The other side failed, for this reason.
    Failed(String),
}

/// Tokens of one model request. What the provider does not tell stays zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// Input tokens, without cached ones in Anthropic's dialect and with them in OpenAI's, as the
    /// provider counts.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Input tokens read from the provider's cache.
    pub cache_read: u64,
    /// Input tokens written to the provider's cache.
    pub cache_write: u64,
}
