//! Writes the rehearsal's answers in both dialects, whole or as a stream of small pieces.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};

use super::conversation::Request;
use super::{Answer, Call, Pacing, respond};
use crate::Dialect;
use crate::body::{Body, BoxError, full_body};
use crate::model::json_type;

/// Tokens of so many bytes, roughly as real models count.
pub(crate) const fn tokens(bytes: usize) -> usize {
    bytes.div_ceil(4)
}

/// One server-sent event and the pause before it.
struct Piece {
    pause: Duration,
    text: String,
}

/// The answer to a request; a cut one ends in an error half-way.
pub(crate) fn answer(
    dialect: Dialect,
    request: &Request,
    answer: &Answer,
    pacing: Pacing,
    cut: bool,
) -> Response<Body> {
    let writer = Writer { request, answer, pacing, turn: request.conversation.turns.len() };
    if !request.stream {
        let whole = match dialect {
            Dialect::Anthropic => writer.anthropic_whole(),
            Dialect::OpenAi => writer.chat_whole(),
        };
        if cut {
            let half = whole.to_string();
            let pieces = vec![Piece { pause: Duration::ZERO, text: half[..1].to_owned() }];
            return respond(StatusCode::OK, json_type(), streamed(pieces, true));
        }
        return respond(StatusCode::OK, json_type(), full_body(whole.to_string()));
    }
    let mut pieces = match dialect {
        Dialect::Anthropic => writer.anthropic_events(),
        Dialect::OpenAi => writer.chat_events(),
    };
    if cut {
        pieces.truncate(pieces.len().div_ceil(2));
    }
    let headers = HeaderMap::from_iter([
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ]);
    respond(StatusCode::OK, headers, streamed(pieces, cut))
}

fn streamed(pieces: Vec<Piece>, cut: bool) -> Body {
    let end = cut.then(|| Err::<Frame<Bytes>, BoxError>("cut off by the script".into()));
    let steps = pieces.into_iter().map(Ok).chain(end.map(Err));
    let frames = stream::unfold(steps, |mut steps| async move {
        match steps.next()? {
            Ok(piece) => {
                if piece.pause.is_zero() {
                    // Lets the connection send what it has, so that pieces stay pieces.
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(piece.pause).await;
                }
                Some((Ok(Frame::data(Bytes::from(piece.text))), steps))
            }
            Err(end) => {
                // What was said so far must arrive before the connection breaks.
                tokio::time::sleep(Duration::from_millis(5)).await;
                Some((end, steps))
            }
        }
    });
    BodyExt::boxed_unsync(StreamBody::new(Box::pin(frames)))
}

struct Writer<'a> {
    request: &'a Request,
    answer: &'a Answer,
    pacing: Pacing,
    /// Makes ids unique within a conversation and the same in every run.
    turn: usize,
}

impl Writer<'_> {
    fn output_tokens(&self) -> usize {
        let calls: usize =
            self.answer.calls.iter().map(|call| call.arguments.to_string().len()).sum();
        tokens(self.answer.text.len() + calls).max(1)
    }

    fn call_id(&self, index: usize) -> String {
        format!("call_rehearsal_{}_{index}", self.turn)
    }

    /// The text in small pieces, after the slow ones a script asks for.
    fn texts(&self) -> Vec<(Duration, String)> {
        let slow = self.answer.slow.into_iter().flat_map(|slow| {
            (1..=slow.pieces).map(move |number| (slow.pause, format!("{number} ")))
        });
        let letters: Vec<char> = self.answer.text.chars().collect();
        let spoken = letters.chunks(self.pacing.piece.max(1));
        slow.chain(spoken.map(|piece| (self.pacing.pause, piece.iter().collect()))).collect()
    }

    fn anthropic_usage(&self) -> Value {
        json!({
            "input_tokens": tokens(self.request.bytes), "output_tokens": self.output_tokens(),
            "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
        })
    }

    fn stop_reason(&self) -> &'static str {
        if self.answer.calls.is_empty() { "end_turn" } else { "tool_use" }
    }

    fn anthropic_message(&self, content: &Value, stop: &Value, usage: &Value) -> Value {
        json!({
            "id": format!("msg_rehearsal_{}", self.turn), "type": "message", "role": "assistant",
            "model": self.request.model, "content": content, "stop_reason": stop,
            "stop_sequence": null, "usage": usage,
        })
    }

    fn anthropic_whole(&self) -> Value {
        let text: String = self.texts().into_iter().map(|(_, text)| text).collect();
        let mut content = Vec::new();
        if !text.is_empty() {
            content.push(json!({ "type": "text", "text": text }));
        }
        content.extend(self.answer.calls.iter().enumerate().map(|(index, call)| {
            json!({ "type": "tool_use", "id": self.call_id(index), "name": call.name,
                "input": call.arguments })
        }));
        self.anthropic_message(&json!(content), &json!(self.stop_reason()), &self.anthropic_usage())
    }

    fn anthropic_events(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut event = |pause: Duration, data: Value| {
            let kind = data["type"].as_str().unwrap_or_default();
            pieces.push(Piece { pause, text: format!("event: {kind}\ndata: {data}\n\n") });
        };
        let now = Duration::ZERO;
        let mut usage = self.anthropic_usage();
        usage["output_tokens"] = json!(1);
        let message = self.anthropic_message(&json!([]), &Value::Null, &usage);
        event(now, json!({ "type": "message_start", "message": message }));
        let texts = self.texts();
        let mut index = 0;
        if !texts.is_empty() {
            event(
                now,
                json!({ "type": "content_block_start", "index": index,
                "content_block": { "type": "text", "text": "" } }),
            );
            for (pause, text) in texts {
                event(
                    pause,
                    json!({ "type": "content_block_delta", "index": index,
                    "delta": { "type": "text_delta", "text": text } }),
                );
            }
            event(now, json!({ "type": "content_block_stop", "index": index }));
            index += 1;
        }
        for (number, call) in self.answer.calls.iter().enumerate() {
            event(
                now,
                json!({ "type": "content_block_start", "index": index, "content_block": {
                "type": "tool_use", "id": self.call_id(number), "name": call.name, "input": {} } }),
            );
            for part in self.argument_parts(call) {
                event(
                    self.pacing.pause,
                    json!({ "type": "content_block_delta", "index": index,
                    "delta": { "type": "input_json_delta", "partial_json": part } }),
                );
            }
            event(now, json!({ "type": "content_block_stop", "index": index }));
            index += 1;
        }
        event(
            now,
            json!({ "type": "message_delta",
            "delta": { "stop_reason": self.stop_reason(), "stop_sequence": null },
            "usage": { "output_tokens": self.output_tokens() } }),
        );
        event(now, json!({ "type": "message_stop" }));
        pieces
    }

    /// A call's arguments in pieces larger than those of text: nobody reads along.
    fn argument_parts(&self, call: &Call) -> Vec<String> {
        let letters: Vec<char> = call.arguments.to_string().chars().collect();
        letters.chunks(self.pacing.piece.max(1) * 16).map(|part| part.iter().collect()).collect()
    }

    fn chat_usage(&self) -> Value {
        let (input, output) = (tokens(self.request.bytes), self.output_tokens());
        json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
    }

    fn finish_reason(&self) -> &'static str {
        if self.answer.calls.is_empty() { "stop" } else { "tool_calls" }
    }

    fn chat_whole(&self) -> Value {
        let text: String = self.texts().into_iter().map(|(_, text)| text).collect();
        let mut message = json!({ "role": "assistant", "content": text });
        if !self.answer.calls.is_empty() {
            message["tool_calls"] = self
                .answer
                .calls
                .iter()
                .enumerate()
                .map(|(index, call)| {
                    json!({ "id": self.call_id(index), "type": "function", "function": {
                        "name": call.name, "arguments": call.arguments.to_string() } })
                })
                .collect();
        }
        json!({
            "id": format!("chatcmpl-rehearsal-{}", self.turn), "object": "chat.completion",
            "created": 0, "model": self.request.model,
            "choices": [{ "index": 0, "message": message, "finish_reason": self.finish_reason() }],
            "usage": self.chat_usage(),
        })
    }

    fn chat_events(&self) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let mut chunk = |pause: Duration, choices: Value, usage: Value| {
            let mut data = json!({
                "id": format!("chatcmpl-rehearsal-{}", self.turn),
                "object": "chat.completion.chunk", "created": 0, "model": self.request.model,
                "choices": choices,
            });
            if !usage.is_null() {
                data["usage"] = usage;
            }
            pieces.push(Piece { pause, text: format!("data: {data}\n\n") });
        };
        let delta = |delta: Value| json!([{ "index": 0, "delta": delta, "finish_reason": null }]);
        let now = Duration::ZERO;
        chunk(now, delta(json!({ "role": "assistant", "content": "" })), Value::Null);
        for (pause, text) in self.texts() {
            chunk(pause, delta(json!({ "content": text })), Value::Null);
        }
        for (index, call) in self.answer.calls.iter().enumerate() {
            let head = json!([{ "index": index, "id": self.call_id(index), "type": "function",
                "function": { "name": call.name, "arguments": "" } }]);
            chunk(now, delta(json!({ "tool_calls": head })), Value::Null);
            for part in self.argument_parts(call) {
                let part = json!([{ "index": index, "function": { "arguments": part } }]);
                chunk(self.pacing.pause, delta(json!({ "tool_calls": part })), Value::Null);
            }
        }
        let end = json!([{ "index": 0, "delta": {}, "finish_reason": self.finish_reason() }]);
        chunk(now, end, Value::Null);
        if self.request.stream_usage {
            chunk(now, json!([]), self.chat_usage());
        }
        pieces.push(Piece { pause: now, text: "data: [DONE]\n\n".to_owned() });
        pieces
    }
}
