//! What clients and the API say to each other: request bodies, answers, and the messages of the stream.

use serde::{Deserialize, Serialize};

use crate::event::Envelope;
use crate::problem::Problem;
use crate::repository::RepositoryName;
use crate::sandbox::{Isolation, LimitRequest};
use crate::session::{Author, Delivery, DiffStat, ModelChoice, PullRequestState};
use crate::{PromptId, PullRequestId, RequestId, SessionId, Timestamp};

/// Body of `POST /v1/repositories`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRepository {
    /// An absolute path on the server's machine.
    pub path: String,
    /// The name it gets; from the directory's name when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Body of `POST /v1/bases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullBase {
    /// `registry/name:tag`, `oci:/directory:tag` or `archive:/file.tar`, paths on the server.
    pub reference: String,
}

/// A base image that is on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseImage {
    /// What it was pulled by.
    pub reference: String,
    /// Its manifest's digest: `sha256:…`.
    pub digest: String,
    /// How many layers it has.
    pub layers: usize,
    /// Bytes of its uncompressed layers.
    pub bytes: u64,
    /// What was not kept as the image has it, in sentences.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// Body of `POST /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSession {
    /// The client's id of this request.
    pub request: RequestId,
    /// Where to work.
    pub repository: RepositoryName,
    /// The first prompt, if known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// The agent; the server's default when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The model; the server's default when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelChoice>,
    /// The branch to start from; the repository's default branch when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What its sandboxes may use, within the server's maximum; the repository's when missing.
    #[serde(default, skip_serializing_if = "LimitRequest::is_empty")]
    pub limits: LimitRequest,
    /// A stronger wall than the repository's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
}

/// Body of `POST /v1/sessions/{session}/prompts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendPrompt {
    /// The client's id of this request: sent again, it does nothing and gets the same answer.
    pub request: RequestId,
    /// What the agent should do.
    pub text: String,
    /// When it reaches the agent.
    #[serde(default)]
    pub delivery: Delivery,
}

/// Answer to [`SendPrompt`]: the prompt is recorded and will not be lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptAccepted {
    /// The prompt.
    pub prompt: PromptId,
    /// The number of the event that recorded it.
    pub sequence: u64,
}

/// Body of `PUT /v1/sessions/{session}/prompts/{prompt}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditPrompt {
    /// What it says from now on.
    pub text: String,
}

/// A page of a list; `next` asks for the page after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// The cursor of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A pull request of the local forge, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Which one.
    pub id: PullRequestId,
    /// Its number in the repository, from 1.
    pub number: u32,
    /// Where.
    pub repository: RepositoryName,
    /// The session that offers it.
    pub session: Option<SessionId>,
    /// Its title.
    pub title: String,
    /// Its description, in Markdown.
    pub body: String,
    /// Who offers it.
    pub author: Author,
    /// The branch it should go into.
    pub base_branch: String,
    /// The branch it offers.
    pub branch: String,
    /// The commit it offers.
    pub commit: String,
    /// Whether it is open.
    pub state: PullRequestState,
    /// How much it touches.
    pub diff_stat: DiffStat,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A piece of text that is still being written: shown at once, never recorded.
///
/// A recorded event with the whole text follows and replaces all pieces of the same kind since the
/// last recorded one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// Where.
    pub session: SessionId,
    /// For which prompt.
    pub prompt: PromptId,
    /// What kind of text.
    pub kind: DeltaKind,
    /// What was added.
    pub text: String,
}

/// What kind of text a [`Delta`] adds to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeltaKind {
    /// What the agent says.
    Message,
    /// What the agent thinks.
    Thought,
    /// What a running tool prints.
    ToolOutput,
}

/// What a client says on the stream (`GET /v1/stream`, WebSocket, JSON text frames).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ClientMessage {
    /// Send everything about a session after an event's number; 0 for everything.
    Subscribe {
        /// Which session.
        session: SessionId,
        /// The last event the client has.
        #[serde(default)]
        after: u64,
    },
    /// Send no more about a session.
    Unsubscribe {
        /// Which session.
        session: SessionId,
    },
    /// A message of a newer version: answered with a problem, never an end of the connection.
    #[serde(other)]
    Unknown,
}

/// What the server says on the stream.
#[expect(clippy::large_enum_variant, reason = "events are nearly all of the messages")]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "type")]
pub enum ServerMessage {
    /// The first message.
    Hello {
        /// [`crate::VERSION`].
        version: u32,
        /// Who the client is signed in as.
        user: Author,
    },
    /// A recorded event. Events of one session come in order and without gaps.
    Event(Envelope),
    /// A piece of text in the making.
    Delta(Delta),
    /// All events up to this number were sent; what follows is live.
    CaughtUp {
        /// Which session.
        session: SessionId,
        /// The number.
        sequence: u64,
    },
    /// The client reads too slowly: events after this number were not sent and the subscription
    /// has ended. Subscribe again from here.
    Lagged {
        /// Which session.
        session: SessionId,
        /// The last number that was sent.
        after: u64,
    },
    /// Something the client asked for cannot be had. In JSON in a field `problem`, because a problem
    /// has a `type` of its own.
    Problem(#[serde(with = "in_problem")] Problem),
    /// A message of a newer version.
    #[serde(other)]
    Unknown,
}

mod in_problem {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::problem::Problem;

    #[derive(Serialize)]
    struct Written<'a> {
        problem: &'a Problem,
    }

    #[derive(Deserialize)]
    struct Read {
        problem: Problem,
    }

    pub(super) fn serialize<S: Serializer>(
        problem: &Problem,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Written { problem }.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Problem, D::Error> {
        Read::deserialize(deserializer).map(|read| read.problem)
    }
}

/// Answer of `GET /v1/server`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerDescription {
    /// [`crate::VERSION`].
    pub version: u32,
    /// The program's version.
    pub release: String,
    /// Who the caller is.
    pub user: Author,
    /// The agents that are installed.
    pub agents: Vec<String>,
    /// The model used when none is named.
    pub default_model: ModelChoice,
    /// The agent used when none is named.
    pub default_agent: String,
    /// The isolation sandboxes get.
    pub isolation: Isolation,
    /// What a sandbox may use when nobody asks for anything else.
    #[serde(default)]
    pub limits: crate::sandbox::Limits,
    /// What a sandbox may use at most.
    #[serde(default = "most")]
    pub maximum_limits: crate::sandbox::Limits,
}

// What a server said before it said so.
fn most() -> crate::sandbox::Limits {
    crate::sandbox::Limits::MOST
}
