//! How models are spoken to: a conversation becomes a request, a stream of events an answer.

mod anthropic;
mod assembly;
mod openai;

use serde_json::Value;

use crate::conversation::{Answer, Conversation, Entry, ToolResult, elided_text};

/// A format of model servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Anthropic's messages.
    Anthropic,
    /// `OpenAI`'s chat completions, which most other servers speak too.
    OpenAiChat,
}

/// What to ask a model.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The model's name at its server.
    pub model: &'a str,
    /// The system prompt.
    pub system: &'a str,
    /// What was said so far.
    pub conversation: &'a Conversation,
    /// The tools it may call.
    pub tools: &'a [Definition],
}

/// A tool, as a model is told of it.
#[derive(Debug, Clone)]
pub struct Definition {
    /// Its name.
    pub name: &'static str,
    /// What it does and when to use it.
    pub description: &'static str,
    /// JSON schema of its arguments.
    pub schema: Value,
}

/// A piece of an answer that people see at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// Of its text.
    Text(String),
    /// Of its reasoning.
    Thought(String),
}

/// Why a stream gives no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The server said so within the stream.
    #[error("the model's server broke off its answer: {message}")]
    Reported {
        /// In its words.
        message: String,
    },
    /// An event that is no JSON.
    #[error("the model's server sent an event that cannot be read: {found}")]
    Unreadable {
        /// Its beginning.
        found: String,
    },
    /// The stream ended before the answer did.
    #[error("the model's answer broke off before its end")]
    Incomplete,
}

impl Dialect {
    /// The path of requests below the model's base address.
    pub fn path(self) -> &'static str {
        match self {
            Self::Anthropic => "/v1/messages",
            Self::OpenAiChat => "/v1/chat/completions",
        }
    }

    /// Headers that the dialect wants.
    pub fn headers(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Anthropic => &[("anthropic-version", "2023-06-01")],
            Self::OpenAiChat => &[],
        }
    }

    /// The body of a request.
    pub fn encode(self, request: &Request<'_>) -> Value {
        match self {
            Self::Anthropic => anthropic::encode(request),
            Self::OpenAiChat => openai::encode(request),
        }
    }

    /// Something to read one answer with.
    pub fn decoder(self) -> Decoder {
        match self {
            Self::Anthropic => Decoder::Anthropic(anthropic::Decoder::default()),
            Self::OpenAiChat => Decoder::OpenAiChat(openai::Decoder::default()),
        }
    }
}

/// Reads one answer, event by event.
#[derive(Debug)]
pub enum Decoder {
    /// Anthropic's events.
    Anthropic(anthropic::Decoder),
    /// `OpenAI`'s chunks.
    OpenAiChat(openai::Decoder),
}

impl Decoder {
    /// Takes the data of the next event.
    pub fn event(&mut self, data: &str) -> Result<Vec<Delta>, Error> {
        match self {
            Self::Anthropic(decoder) => decoder.event(data),
            Self::OpenAiChat(decoder) => decoder.event(data),
        }
    }

    /// Whether the answer is complete, so that the stream's end need not be awaited.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Anthropic(decoder) => decoder.is_complete(),
            Self::OpenAiChat(decoder) => decoder.is_complete(),
        }
    }

    /// The answer, at the end of the stream.
    pub fn finish(self) -> Result<Answer, Error> {
        match self {
            Self::Anthropic(decoder) => decoder.finish(),
            Self::OpenAiChat(decoder) => decoder.finish(),
        }
    }

    /// What was said before the stream was stopped on purpose: text only, since half a tool call
    /// and reasoning without its seal may not be sent back.
    pub fn stopped(self) -> String {
        match self {
            Self::Anthropic(decoder) => decoder.stopped(),
            Self::OpenAiChat(decoder) => decoder.stopped(),
        }
    }
}

fn parse(data: &str) -> Result<Value, Error> {
    serde_json::from_str(data)
        .map_err(|_| Error::Unreadable { found: crate::text::title(data, 200) })
}

/// The entries with, for each, whether its tool results are elided.
fn shown(conversation: &Conversation) -> impl Iterator<Item = (&Entry, bool)> {
    let line = conversation.elided_before();
    conversation.entries().iter().enumerate().map(move |(index, entry)| (entry, index < line))
}

fn result_text(result: &ToolResult, elided: bool) -> String {
    let text = if elided { elided_text(result) } else { None };
    text.unwrap_or_else(|| {
        // An empty answer makes some servers refuse the request.
        if result.text.is_empty() { "(no output)".to_owned() } else { result.text.clone() }
    })
}

/// A tool's name as servers accept it, whatever the model made up.
fn tool_name(name: &str) -> String {
    let clean: String = name
        .chars()
        .take(64)
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    if clean.is_empty() { "unknown".to_owned() } else { clean }
}
