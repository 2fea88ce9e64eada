//! Reads tokens and usage out of an answer while it passes by, in either dialect.

use http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;

use crate::Usage;

/// Longest event or whole answer that is read; longer ones pass unread.
const READ_BYTES: usize = 1024 * 1024;

/// What is read of an answer, by its content type.
#[derive(Debug)]
pub(crate) enum Scanner {
    /// Nothing.
    Ignoring,
    /// Server-sent events.
    Events(Events),
    /// One JSON document.
    Whole(Vec<u8>),
}

/// A reader of server-sent events that takes pieces cut anywhere.
#[derive(Debug, Default)]
pub(crate) struct Events {
    line: Vec<u8>,
    overlong: bool,
    found: Found,
}

#[derive(Debug, Default)]
struct Found {
    usage: Usage,
    model: Option<String>,
}

impl Scanner {
    pub(crate) fn of(content_type: Option<&HeaderValue>) -> Self {
        let kind = content_type.and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind.starts_with("text/event-stream") {
            Self::Events(Events::default())
        } else if kind.starts_with("application/json") {
            Self::Whole(Vec::new())
        } else {
            Self::Ignoring
        }
    }

    /// Reads a piece; true if it completes an event with a token.
    pub(crate) fn scan(&mut self, piece: &[u8]) -> bool {
        match self {
            Self::Ignoring => false,
            Self::Events(events) => events.scan(piece),
            Self::Whole(text) => {
                if text.len() + piece.len() <= READ_BYTES {
                    text.extend_from_slice(piece);
                } else {
                    *self = Self::Ignoring;
                }
                false
            }
        }
    }

    /// What the answer told.
    pub(crate) fn finish(self) -> (Usage, Option<String>) {
        let found = match self {
            Self::Ignoring => Found::default(),
            Self::Events(events) => events.found,
            Self::Whole(text) => {
                let mut found = Found::default();
                if let Ok(event) = serde_json::from_slice(&text) {
                    found.take(event);
                }
                found
            }
        };
        (found.usage, found.model)
    }
}

impl Events {
    fn scan(&mut self, piece: &[u8]) -> bool {
        let mut token = false;
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            if self.line.len() + part.len() > READ_BYTES {
                self.overlong = true;
                self.line.clear();
            }
            if !self.overlong {
                self.line.extend_from_slice(part);
            }
            if part.ends_with(b"\n") {
                token |= self.found.line(&self.line);
                self.line.clear();
                self.overlong = false;
            }
        }
        token
    }
}

/// The few fields of all dialects' events that tell something; unknown ones are skipped.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<RawUsage>,
    /// Anthropic's `message_start`.
    #[serde(default)]
    message: Option<Inner>,
    /// The responses dialect's `response.completed`.
    #[serde(default)]
    response: Option<Inner>,
    #[serde(default)]
    choices: Vec<Choice>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    usage: Option<RawUsage>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Option<Delta>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<Value>,
    #[serde(default)]
    reasoning_content: Option<Value>,
    #[serde(default)]
    tool_calls: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawUsage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    #[serde(alias = "prompt_tokens_details")]
    input_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

impl Found {
    fn line(&mut self, line: &[u8]) -> bool {
        let Some(data) = line.strip_prefix(b"data:") else { return false };
        serde_json::from_slice::<Event>(data).is_ok_and(|event| self.take(event))
    }

    fn take(&mut self, event: Event) -> bool {
        let token = event.holds_token();
        for inner in [event.message, event.response].into_iter().flatten() {
            self.model = inner.model.or(self.model.take());
            self.count(inner.usage);
        }
        self.model = event.model.or(self.model.take());
        self.count(event.usage);
        token
    }

    /// Later numbers replace earlier ones: all dialects count up to the whole.
    fn count(&mut self, usage: Option<RawUsage>) {
        let Some(raw) = usage else { return };
        let cached = raw.input_tokens_details.and_then(|details| details.cached_tokens);
        let usage = &mut self.usage;
        usage.input = raw.input_tokens.or(raw.prompt_tokens).unwrap_or(usage.input);
        usage.output = raw.output_tokens.or(raw.completion_tokens).unwrap_or(usage.output);
        usage.cache_read = raw.cache_read_input_tokens.or(cached).unwrap_or(usage.cache_read);
        usage.cache_write = raw.cache_creation_input_tokens.unwrap_or(usage.cache_write);
    }
}

impl Event {
    fn holds_token(&self) -> bool {
        let typed = self.kind.as_deref().is_some_and(|kind| {
            kind == "content_block_delta"
                || (kind.starts_with("response.") && kind.rsplit('.').next() == Some("delta"))
        });
        typed
            || self.choices.iter().filter_map(|choice| choice.delta.as_ref()).any(|delta| {
                [&delta.content, &delta.reasoning_content, &delta.tool_calls]
                    .into_iter()
                    .flatten()
                    .any(|value| !is_empty(value))
            })
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> Scanner {
        Scanner::of(Some(&HeaderValue::from_static("text/event-stream; charset=utf-8")))
    }

    const ANTHROPIC: &str = concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"model":"m-1","usage":{"input_tokens":12,"cache_read_input_tokens":7,"cache_creation_input_tokens":5,"output_tokens":1}}}"#,
        "\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hé"}}"#,
        "\r\n\r\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":42}}"#,
        "\n\n",
    );

    #[test]
    fn anthropic_is_read_wherever_it_is_cut() {
        for cut in 0..ANTHROPIC.len() {
            let mut scanner = events();
            let bytes = ANTHROPIC.as_bytes();
            let tokens = [scanner.scan(&bytes[..cut]), scanner.scan(&bytes[cut..])];
            assert_eq!(tokens.iter().filter(|token| **token).count(), 1, "cut at {cut}");
            let (usage, model) = scanner.finish();
            let expected = Usage { input: 12, output: 42, cache_read: 7, cache_write: 5 };
            assert_eq!((usage, model.as_deref()), (expected, Some("m-1")), "cut at {cut}");
        }
    }

    #[test]
    fn chat_completions_are_read() {
        let mut scanner = events();
        assert!(!scanner.scan(
            b"data: {\"model\":\"g\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
        ));
        assert!(scanner.scan(
            b"data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"index\":0}],\"content\":null}}]}\n\n"
        ));
        assert!(!scanner.scan(
            b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":3,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\ndata: [DONE]\n\n"
        ));
        let expected = Usage { input: 9, output: 3, cache_read: 4, cache_write: 0 };
        assert_eq!(scanner.finish(), (expected, Some("g".to_owned())));
    }

    #[test]
    fn responses_are_read() {
        let mut scanner = events();
        assert!(
            scanner.scan(b"data: {\"type\":\"response.output_text.delta\",\"delta\":\"x\"}\n\n")
        );
        assert!(!scanner.scan(
            b"data: {\"type\":\"response.completed\",\"response\":{\"model\":\"r\",\"usage\":{\"input_tokens\":2,\"output_tokens\":1,\"input_tokens_details\":{\"cached_tokens\":1}}}}\n\n"
        ));
        let expected = Usage { input: 2, output: 1, cache_read: 1, cache_write: 0 };
        assert_eq!(scanner.finish(), (expected, Some("r".to_owned())));
    }

    #[test]
    fn a_whole_answer_is_read() {
        let mut scanner = Scanner::of(Some(&HeaderValue::from_static("application/json")));
        scanner.scan(b"{\"model\":\"m\",\"usage\":{\"input_tok");
        scanner.scan(b"ens\":5,\"output_tokens\":6}}");
        let expected = Usage { input: 5, output: 6, ..Usage::default() };
        assert_eq!(scanner.finish(), (expected, Some("m".to_owned())));
    }

    #[test]
    fn endless_lines_and_nonsense_take_bounded_memory() {
        let mut scanner = events();
        for _ in 0..64 {
            assert!(!scanner.scan(&vec![b'x'; 100_000]));
        }
        let Scanner::Events(events) = &scanner else { panic!("changed its kind") };
        assert!(events.line.capacity() <= 4 * READ_BYTES);
        assert!(!scanner.scan(b"\ndata: }{\n\n"));
        assert!(scanner.scan(b"data: {\"type\":\"content_block_delta\"}\n\n"));
    }
}
