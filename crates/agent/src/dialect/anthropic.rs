//! Anthropic's messages: <https://docs.anthropic.com/en/api/messages>.

use serde_json::{Value, json};

use super::assembly::{Assembly, Block};
use super::{Delta, Error, Request, parse, result_text, shown, tool_name};
use crate::conversation::{Answer, Entry, Part, Stop};

/// The longest answer, in tokens; every current model allows as much.
const MAX_TOKENS: u32 = 16_384;

pub(super) fn encode(request: &Request<'_>) -> Value {
    let tools: Vec<_> = request
        .tools
        .iter()
        .map(|tool| {
            json!({ "name": tool.name, "description": tool.description, "input_schema": tool.schema })
        })
        .collect();
    let mut messages = messages(request);
    cache_up_to_here(&mut messages);
    json!({
        "model": request.model,
        "max_tokens": MAX_TOKENS,
        "stream": true,
        "system": [{ "type": "text", "text": request.system, "cache_control": { "type": "ephemeral" } }],
        "tools": tools,
        "messages": messages,
    })
}

/// Results and prompts both come from the "user"; neighbours of one role become one message, as
/// the server wants results directly after their calls.
fn messages(request: &Request<'_>) -> Vec<Value> {
    let mut messages: Vec<(&str, Vec<Value>)> = Vec::new();
    for (entry, elided) in shown(request.conversation) {
        let (role, blocks) = match entry {
            Entry::User { text } | Entry::Reminder { text } => {
                ("user", vec![json!({ "type": "text", "text": text })])
            }
            Entry::Assistant { parts } => {
                ("assistant", parts.iter().filter(|part| !is_unsealed(part)).map(part).collect())
            }
            Entry::Results { results } => {
                let blocks = results.iter().map(|result| {
                    json!({
                        "type": "tool_result",
                        "tool_use_id": result.call,
                        "content": result_text(result, elided),
                        "is_error": result.failed,
                    })
                });
                ("user", blocks.collect())
            }
        };
        match messages.last_mut() {
            Some((last, all)) if *last == role => all.extend(blocks),
            _ => messages.push((role, blocks)),
        }
    }
    messages
        .into_iter()
        .map(|(role, content)| json!({ "role": role, "content": content }))
        .collect()
}

/// Reasoning without a seal comes from servers that do not want it back.
fn is_unsealed(part: &Part) -> bool {
    matches!(part, Part::Thinking { signature, .. } if signature.is_empty())
}

fn part(part: &Part) -> Value {
    match part {
        Part::Text { text } => json!({ "type": "text", "text": text }),
        Part::Thinking { text, signature } => {
            json!({ "type": "thinking", "thinking": text, "signature": signature })
        }
        Part::SealedThinking { data } => json!({ "type": "redacted_thinking", "data": data }),
        Part::Call(call) => json!({
            "type": "tool_use",
            "id": call.id,
            "name": tool_name(&call.name),
            "input": call.input.as_object(),
        }),
    }
}

/// Lets the server keep everything up to the last block: the next request begins the same way.
fn cache_up_to_here(messages: &mut [Value]) {
    let last = messages
        .last_mut()
        .and_then(|message| message["content"].as_array_mut())
        .and_then(|content| content.last_mut());
    if let Some(block) = last {
        block["cache_control"] = json!({ "type": "ephemeral" });
    }
}

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Decoder {
    assembly: Assembly,
    stop: Stop,
    complete: bool,
}

impl Decoder {
    pub(super) fn event(&mut self, data: &str) -> Result<Vec<Delta>, Error> {
        let event = parse(data)?;
        let number = event["index"].as_u64().unwrap_or_default();
        match event["type"].as_str().unwrap_or_default() {
            "content_block_start" => Ok(self.begin(number, &event["content_block"])),
            "content_block_delta" => Ok(self.delta(number, &event["delta"])),
            "message_delta" => {
                self.stop = match event["delta"]["stop_reason"].as_str() {
                    Some("max_tokens" | "model_context_window_exceeded") => Stop::Length,
                    Some("refusal") => Stop::Refusal,
                    _ => Stop::Done,
                };
                Ok(Vec::new())
            }
            "message_stop" => {
                self.complete = true;
                Ok(Vec::new())
            }
            "error" => {
                let message = event["error"]["message"].as_str().unwrap_or(data).to_owned();
                Err(Error::Reported { message })
            }
            // message_start, content_block_stop, ping, and whatever will be added.
            _ => Ok(Vec::new()),
        }
    }

    fn begin(&mut self, number: u64, block: &Value) -> Vec<Delta> {
        let string = |key: &str| block[key].as_str().unwrap_or_default().to_owned();
        let begun = match block["type"].as_str() {
            Some("text") => Block::Text(string("text")),
            Some("thinking") => {
                Block::Thinking { text: string("thinking"), signature: string("signature") }
            }
            Some("redacted_thinking") => Block::Sealed(string("data")),
            Some("tool_use") => {
                // The input is normally empty here and follows in pieces.
                let arguments = match &block["input"] {
                    Value::Object(object) if !object.is_empty() => block["input"].to_string(),
                    _ => String::new(),
                };
                Block::Call { id: string("id"), name: string("name"), arguments }
            }
            _ => return Vec::new(),
        };
        let deltas = match &begun {
            Block::Text(text) if !text.is_empty() => vec![Delta::Text(text.clone())],
            Block::Thinking { text, .. } if !text.is_empty() => vec![Delta::Thought(text.clone())],
            _ => Vec::new(),
        };
        self.assembly.block(number, || begun);
        deltas
    }

    fn delta(&mut self, number: u64, delta: &Value) -> Vec<Delta> {
        let string = |key: &str| delta[key].as_str().unwrap_or_default();
        match (self.assembly.existing(number), delta["type"].as_str()) {
            (Some(Block::Text(text)), Some("text_delta")) => {
                text.push_str(string("text"));
                vec![Delta::Text(string("text").to_owned())]
            }
            (Some(Block::Thinking { text, .. }), Some("thinking_delta")) => {
                text.push_str(string("thinking"));
                vec![Delta::Thought(string("thinking").to_owned())]
            }
            (Some(Block::Thinking { signature, .. }), Some("signature_delta")) => {
                signature.push_str(string("signature"));
                Vec::new()
            }
            (Some(Block::Call { arguments, .. }), Some("input_json_delta")) => {
                arguments.push_str(string("partial_json"));
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn finish(self) -> Result<Answer, Error> {
        if self.complete { Ok(self.assembly.answer(self.stop)) } else { Err(Error::Incomplete) }
    }

    pub(super) fn stopped(self) -> String {
        self.assembly.text()
    }
}

#[cfg(test)]
mod tests;
