//! A model request in either dialect, reduced to what decides the next answer.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Dialect;

/// What was said, and what the agent offers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Conversation {
    /// The agent's tools.
    pub tools: Vec<Tool>,
    /// Everything said so far, oldest first.
    pub turns: Vec<Turn>,
}

/// A tool as the agent describes it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its arguments and their schemas.
    pub arguments: Map<String, Value>,
    /// Arguments it cannot do without.
    pub required: Vec<String>,
}

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// By the person, or by the agent in the person's name.
    User(String),
    /// By the model.
    Assistant,
    /// By a tool.
    Result {
        /// What it put out.
        text: String,
        /// Whether the agent marked it as an error; one dialect has no such mark.
        failed: bool,
    },
}

impl Conversation {
    /// The last thing the person said.
    pub fn prompt(&self) -> &str {
        self.turns
            .iter()
            .rev()
            .find_map(|turn| match turn {
                Turn::User(text) => Some(text.as_str()),
                _ => None,
            })
            .unwrap_or_default()
    }

    /// What the person said before that, newest first.
    pub fn earlier_prompts(&self) -> impl Iterator<Item = &str> {
        let prompts = self.turns.iter().rev().filter_map(|turn| match turn {
            Turn::User(text) => Some(text.as_str()),
            _ => None,
        });
        prompts.skip(1)
    }

    /// What tools have answered since then: text, and whether it was marked as an error.
    pub fn results(&self) -> Vec<(&str, bool)> {
        let since =
            self.turns.iter().rposition(|turn| matches!(turn, Turn::User(_))).unwrap_or_default();
        self.turns[since..]
            .iter()
            .filter_map(|turn| match turn {
                Turn::Result { text, failed } => Some((text.as_str(), *failed)),
                _ => None,
            })
            .collect()
    }
}

/// A request as it matters to the rehearsal.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) conversation: Conversation,
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// The chat dialect tells usage in a stream only to those who ask.
    pub(crate) stream_usage: bool,
    pub(crate) bytes: usize,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    model: String,
    #[serde(default)]
    stream: bool,
    #[serde(default)]
    stream_options: Option<Value>,
    messages: Vec<Value>,
    #[serde(default)]
    tools: Option<Vec<Value>>,
}

impl Request {
    pub(crate) fn read(dialect: Dialect, body: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: Raw = serde_json::from_slice(body)?;
        let tools = raw.tools.unwrap_or_default();
        let mut turns = Vec::new();
        for message in &raw.messages {
            match dialect {
                Dialect::Anthropic => anthropic(message, &mut turns),
                Dialect::OpenAi => chat(message, &mut turns),
            }
        }
        Ok(Self {
            conversation: Conversation { tools: tools.iter().filter_map(tool).collect(), turns },
            model: if raw.model.is_empty() { "rehearsal".to_owned() } else { raw.model },
            stream: raw.stream,
            stream_usage: raw
                .stream_options
                .is_some_and(|options| options["include_usage"] == Value::Bool(true)),
            bytes: body.len(),
        })
    }
}

fn tool(value: &Value) -> Option<Tool> {
    // The chat dialect wraps what the other one has at the top.
    let description = value.get("function").unwrap_or(value);
    let name = description["name"].as_str()?.to_owned();
    let schema = ["parameters", "input_schema"].iter().find_map(|key| description.get(key));
    let schema = schema.unwrap_or(&Value::Null);
    let strings = |list: &Value| -> Vec<String> {
        let items = list.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    };
    Some(Tool {
        name,
        arguments: schema["properties"].as_object().cloned().unwrap_or_default(),
        required: strings(&schema["required"]),
    })
}

fn anthropic(message: &Value, turns: &mut Vec<Turn>) {
    if message["role"] == "assistant" {
        turns.push(Turn::Assistant);
        return;
    }
    for block in blocks(&message["content"]).filter(|block| block["type"] == "tool_result") {
        turns.push(Turn::Result {
            text: text_of(&block["content"]),
            failed: block["is_error"] == Value::Bool(true),
        });
    }
    push_user(text_of(&message["content"]), turns);
}

fn chat(message: &Value, turns: &mut Vec<Turn>) {
    match message["role"].as_str() {
        Some("user") => push_user(text_of(&message["content"]), turns),
        Some("assistant") => turns.push(Turn::Assistant),
        Some("tool") => {
            turns.push(Turn::Result { text: text_of(&message["content"]), failed: false });
        }
        _ => {}
    }
}

fn push_user(text: String, turns: &mut Vec<Turn>) {
    if !text.trim().is_empty() {
        turns.push(Turn::User(text));
    }
}

fn blocks(content: &Value) -> impl Iterator<Item = &Value> {
    content.as_array().into_iter().flatten()
}

/// The text of a message or a result, without the notes agents add for themselves.
fn text_of(content: &Value) -> String {
    if let Some(text) = content.as_str() {
        return text.to_owned();
    }
    let texts: Vec<&str> = blocks(content)
        .filter(|block| block["type"] == "text")
        .filter_map(|block| block["text"].as_str())
        .filter(|text| !text.trim_start().starts_with("<system-reminder>"))
        .collect();
    texts.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_dialects_become_the_same_conversation() {
        let schema = json!({ "type": "object", "properties": { "command": { "type": "string" } },
            "required": ["command"] });
        let anthropic = json!({
            "model": "m", "stream": true, "system": "be good",
            "tools": [{ "name": "bash", "input_schema": schema }],
            "messages": [
                { "role": "user", "content": [
                    { "type": "text", "text": "fix it" },
                    { "type": "text", "text": "<system-reminder>not said</system-reminder>" },
                ]},
                { "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "bash", "input": {} }] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "text", "text": "out" }] },
                    { "type": "text", "text": "<system-reminder>go on</system-reminder>" },
                ]},
            ],
        });
        let chat = json!({
            "model": "m", "stream": true,
            "tools": [{ "type": "function", "function": { "name": "bash", "parameters": schema } }],
            "messages": [
                { "role": "system", "content": "be good" },
                { "role": "user", "content": "fix it" },
                { "role": "assistant", "content": null, "tool_calls": [] },
                { "role": "tool", "tool_call_id": "t", "content": "out" },
            ],
        });
        let read = |dialect, value: &Value| {
            Request::read(dialect, value.to_string().as_bytes()).expect("is a request")
        };
        let first = read(Dialect::Anthropic, &anthropic);
        let second = read(Dialect::OpenAi, &chat);
        assert_eq!(first.conversation, second.conversation);
        assert_eq!(first.conversation.prompt(), "fix it");
        assert_eq!(first.conversation.results(), [("out", false)]);
        assert!(first.stream && !second.stream_usage);
    }

    #[test]
    fn results_before_the_last_prompt_do_not_count() {
        let result = |text: &str| Turn::Result { text: text.to_owned(), failed: false };
        let conversation = Conversation {
            tools: Vec::new(),
            turns: vec![
                Turn::User("one".to_owned()),
                result("a"),
                Turn::User("two".to_owned()),
                result("b"),
            ],
        };
        assert_eq!(conversation.results(), [("b", false)]);
        assert!(conversation.earlier_prompts().eq(["one"]));
    }
}
