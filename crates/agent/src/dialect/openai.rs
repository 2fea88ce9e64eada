//! `OpenAI`'s chat completions, as `OpenAI` and the many servers like it speak them.

use serde_json::{Value, json};

use super::assembly::{Assembly, Block};
use super::{Delta, Error, Request, parse, result_text, shown, tool_name};
use crate::conversation::{Answer, Entry, Part, Stop, calls};

/// No length limit is sent: servers disagree on the parameter's name, and their own limit is the
/// model's.
pub(super) fn encode(request: &Request<'_>) -> Value {
    let tools: Vec<_> = request
        .tools
        .iter()
        .map(|tool| {
            json!({ "type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.schema,
            }})
        })
        .collect();
    let mut messages = vec![json!({ "role": "system", "content": request.system })];
    for (entry, elided) in shown(request.conversation) {
        match entry {
            Entry::User { text } | Entry::Reminder { text } => {
                messages.push(json!({ "role": "user", "content": text }));
            }
            Entry::Assistant { parts } => messages.push(assistant(parts)),
            Entry::Results { results } => messages.extend(results.iter().map(|result| {
                json!({
                    "role": "tool",
                    "tool_call_id": result.call,
                    "content": result_text(result, elided),
                })
            })),
        }
    }
    json!({
        "model": request.model,
        "stream": true,
        "stream_options": { "include_usage": true },
        "tools": tools,
        "messages": messages,
    })
}

/// Reasoning is not sent back: the dialect has no agreed place for it.
fn assistant(parts: &[Part]) -> Value {
    let text: String = parts
        .iter()
        .filter_map(|part| match part {
            Part::Text { text } => Some(text.as_str()),
            _ => None,
        })
        .collect();
    let calls: Vec<_> = calls(parts)
        .iter()
        .map(|call| {
            json!({ "id": call.id, "type": "function", "function": {
                "name": tool_name(&call.name), "arguments": call.input.as_object().to_string(),
            }})
        })
        .collect();
    let content = if text.is_empty() && !calls.is_empty() { Value::Null } else { json!(text) };
    let mut message = json!({ "role": "assistant", "content": content });
    if !calls.is_empty() {
        message["tool_calls"] = Value::Array(calls);
    }
    message
}

/// The block of text is numbered above any tool call
const TEXT: u64 = u64::MAX;

/// Reads one answer.
#[derive(Debug, Default)]
pub struct Decoder {
    assembly: Assembly,
    stop: Stop,
    /// The call that pieces without a number belong to.
    current_call: Option<u64>,
    finished: bool,
    done: bool,
}

impl Decoder {
    pub(super) fn event(&mut self, data: &str) -> Result<Vec<Delta>, Error> {
        if data.trim() == "[DONE]" {
            self.done = true;
            return Ok(Vec::new());
        }
        let chunk = parse(data)?;
        if let Some(error) = chunk.get("error").filter(|error| !error.is_null()) {
            let message =
                error["message"].as_str().map_or_else(|| error.to_string(), str::to_owned);
            return Err(Error::Reported { message });
        }
        // The last chunk has no choice, only numbers of tokens.
        let choice = &chunk["choices"][0];
        let delta = &choice["delta"];
        let mut deltas = Vec::new();
        for key in ["reasoning_content", "reasoning"] {
            if let Some(text) = delta[key].as_str().filter(|text| !text.is_empty()) {
                deltas.push(Delta::Thought(text.to_owned()));
                break;
            }
        }
        for key in ["content", "refusal"] {
            if let Some(text) = delta[key].as_str().filter(|text| !text.is_empty()) {
                self.text(text);
                deltas.push(Delta::Text(text.to_owned()));
            }
        }
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            self.call(call);
        }
        if let Some(reason) = choice["finish_reason"].as_str() {
            self.finished = true;
            self.stop = match reason {
                "length" => Stop::Length,
                "content_filter" => Stop::Refusal,
                _ => Stop::Done,
            };
        }
        Ok(deltas)
    }

    fn text(&mut self, piece: &str) {
        if let Block::Text(text) = self.assembly.block(TEXT, || Block::Text(String::new())) {
            text.push_str(piece);
        }
    }

    /// A piece of a call. Some servers leave out the number: then an id begins a new call.
    fn call(&mut self, piece: &Value) {
        let new_id = piece["id"].as_str().filter(|id| !id.is_empty());
        let number = piece["index"].as_u64().unwrap_or_else(|| match (self.current_call, new_id) {
            (Some(current), None) => current,
            (Some(current), Some(_)) => current.saturating_add(1),
            (None, _) => 0,
        });
        // A hostile number must not meet that of the text.
        let number = number.min(TEXT - 1);
        self.current_call = Some(number);
        let block = self.assembly.block(number, || Block::Call {
            id: String::new(),
            name: String::new(),
            arguments: String::new(),
        });
        if let Block::Call { id, name, arguments } = block {
            if id.is_empty() {
                new_id.unwrap_or_default().clone_into(id);
            }
            if name.is_empty() {
                piece["function"]["name"].as_str().unwrap_or_default().clone_into(name);
            }
            match &piece["function"]["arguments"] {
                Value::String(text) => arguments.push_str(text),
                // Some servers send the object itself.
                Value::Object(object) if !object.is_empty() => {
                    arguments.push_str(&piece["function"]["arguments"].to_string());
                }
                _ => {}
            }
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.done
    }

    /// A finish reason is enough: not every server sends the end mark.
    pub(super) fn finish(self) -> Result<Answer, Error> {
        if self.done || self.finished {
            Ok(self.assembly.answer(self.stop))
        } else {
            Err(Error::Incomplete)
        }
    }

    pub(super) fn stopped(self) -> String {
        self.assembly.text()
    }
}

#[cfg(test)]
mod tests;
