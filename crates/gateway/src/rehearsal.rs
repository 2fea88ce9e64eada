//! The built-in scripted model: deterministic, offline, in both dialects, and open about it.
//!
//! Each answer follows from the conversation alone ([`next`]), so a test needs no state here. The
//! exception are faults a script asks for (an error status, a cut stream): they happen a stated
//! number of times and then not again, which only a counter can know.

mod check;
mod conversation;
mod look;
mod ordinary;
mod script;
mod tools;
mod wire;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use protocol::SandboxId;
use serde_json::json;

pub use conversation::{Conversation, Tool, Turn};

use crate::body::{Body, full_body};
use crate::model::{error_body, json_type};
use crate::{Dialect, Endpoint};

/// Remembered faults of one sandbox at most; a script has a handful.
const REMEMBERED: usize = 1024;

/// How fast the rehearsal speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pacing {
    /// Characters of text in one streamed piece.
    pub piece: usize,
    /// Pause before each piece.
    pub pause: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self { piece: 16, pause: Duration::ZERO }
    }
}

/// What the scripted model says next.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Text for the person.
    pub text: String,
    /// Tools to call.
    pub calls: Vec<Call>,
    /// Failures to show first, one per attempt, before this answer is given.
    pub faults: Vec<Fault>,
    /// Pieces spoken slowly before everything else.
    pub slow: Option<Slow>,
}

impl Answer {
    fn say(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// One call of a tool the agent offers.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The tool's name as the agent wrote it.
    pub name: String,
    /// Its arguments, an object.
    pub arguments: serde_json::Value,
}

/// A failure that a script asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An HTTP error.
    Status(u16),
    /// A stream that is cut in the middle.
    Cut,
    /// Bytes that are no events.
    Nonsense,
}

/// So many pieces with a pause before each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// How many.
    pub pieces: u32,
    /// How long.
    pub pause: Duration,
}

/// What the scripted model answers to a conversation.
pub fn next(conversation: &Conversation) -> Answer {
    let prompt = conversation.prompt();
    if let Some(text) = script::of(prompt) {
        return script::next(text, conversation);
    }
    if conversation.tools.is_empty() {
        // Agents ask for a session's title this way.
        return Answer::say("Rehearsal session");
    }
    ordinary::next(conversation)
}

/// The scripted model as the gateway runs it.
#[derive(Debug)]
pub(crate) struct Rehearsal {
    pacing: Pacing,
    attempts: Mutex<HashMap<SandboxId, HashMap<u64, usize>>>,
}

impl Rehearsal {
    pub(crate) fn new(pacing: Pacing) -> Self {
        Self { pacing, attempts: Mutex::default() }
    }

    /// Drops what is remembered of a sandbox's faults.
    pub(crate) fn forget(&self, sandbox: SandboxId) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).remove(&sandbox);
    }

    /// Answers one request.
    pub(crate) fn answer(
        &self,
        sandbox: SandboxId,
        endpoint: Endpoint,
        body: &[u8],
    ) -> Response<Body> {
        let dialect = match endpoint {
            Endpoint::Models => return models(),
            Endpoint::CountTokens => {
                return json_answer(&json!({ "input_tokens": wire::tokens(body.len()) }));
            }
            Endpoint::Messages => Dialect::Anthropic,
            Endpoint::ChatCompletions | Endpoint::Responses => Dialect::OpenAi,
        };
        let request = match conversation::Request::read(dialect, body) {
            Ok(request) => request,
            Err(error) => {
                let reason = format!("the rehearsal model cannot read this request: {error}");
                return failure(dialect, StatusCode::BAD_REQUEST, "invalid_request_error", &reason);
            }
        };
        let answer = next(&request.conversation);
        match self.fault(sandbox, &request.conversation, &answer) {
            Some(Fault::Status(status)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
                let reason = "the rehearsal's script asks for this failure";
                failure(dialect, status, error_kind(status), reason)
            }
            Some(Fault::Nonsense) => nonsense(request.stream),
            Some(Fault::Cut) => wire::answer(dialect, &request, &answer, self.pacing, true),
            None => wire::answer(dialect, &request, &answer, self.pacing, false),
        }
    }

    /// The failure this attempt at the same step has to show, if one is left.
    fn fault(
        &self,
        sandbox: SandboxId,
        conversation: &Conversation,
        answer: &Answer,
    ) -> Option<Fault> {
        if answer.faults.is_empty() {
            return None;
        }
        let mut hasher = DefaultHasher::new();
        conversation.prompt().hash(&mut hasher);
        conversation.turns.len().hash(&mut hasher);
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = attempts.entry(sandbox).or_default();
        if steps.len() >= REMEMBERED {
            steps.clear();
        }
        let attempt = steps.entry(hasher.finish()).or_default();
        let fault = answer.faults.get(*attempt).copied();
        *attempt = attempt.saturating_add(1);
        fault
    }
}

fn models() -> Response<Body> {
    json_answer(&json!({
        "object": "list",
        "data": [{ "id": "rehearsal", "object": "model", "type": "model", "created": 0,
            "owned_by": "hangar", "display_name": "Rehearsal (scripted)" }],
        "has_more": false,
    }))
}

fn json_answer(value: &serde_json::Value) -> Response<Body> {
    respond(StatusCode::OK, json_type(), full_body(value.to_string()))
}

fn failure(dialect: Dialect, status: StatusCode, kind: &str, reason: &str) -> Response<Body> {
    let mut headers = json_type();
    if status == StatusCode::TOO_MANY_REQUESTS {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("0"));
    }
    respond(status, headers, full_body(error_body(dialect, kind, reason)))
}

fn error_kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "invalid_request_error",
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

fn nonsense(stream: bool) -> Response<Body> {
    let kind = if stream { "text/event-stream" } else { "application/json" };
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let body: &[u8] = b"event: \xff\xfe\ndata: }{ this is no JSON\n\ndata: {\"type\":\"content_blo";
    respond(StatusCode::OK, headers, full_body(body))
}

fn respond(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
