//! What was said so far: prompts, answers and what tools answered, in order.
//!
//! Invariant: every tool call of an answer is followed by its result before anything else is said,
//! because model servers refuse a conversation where it is not, for good. [`Conversation::repair`]
//! restores it after a crash.

mod elision;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use elision::{Budget, elided_text};

/// One thing said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "said")]
pub enum Entry {
    /// By a person.
    User {
        /// What.
        text: String,
    },
    /// By this agent, to bring the model back to its work; people do not see it.
    Reminder {
        /// What.
        text: String,
    },
    /// By the model.
    Assistant {
        /// Its parts, in order.
        parts: Vec<Part>,
    },
    /// By the tools the model called.
    Results {
        /// One for each call, in the order of the calls.
        results: Vec<ToolResult>,
    },
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "part")]
pub enum Part {
    /// For people.
    Text {
        /// What.
        text: String,
    },
    /// The model's reasoning; must be sent back exactly as it came.
    Thinking {
        /// What.
        text: String,
        /// The model's seal on it, without which it may not be sent back.
        signature: String,
    },
    /// Reasoning that only the model can read.
    SealedThinking {
        /// Opaque.
        data: String,
    },
    /// A tool to run.
    Call(Call),
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The model's name for it; unique within its answer.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub input: Input,
}

/// The arguments of a call, as far as the model wrote something sensible.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A JSON object, as it should be.
    Object(Map<String, Value>),
    /// Anything else, word for word.
    Unreadable(String),
}

impl Input {
    /// Reads arguments as they come out of a stream; nothing at all means no arguments.
    pub fn parse(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::Object(Map::new());
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(object)) => Self::Object(object),
            _ => Self::Unreadable(text.to_owned()),
        }
    }

    /// As a JSON object whatever was written: model servers accept nothing else in a history.
    pub fn as_object(&self) -> Value {
        match self {
            Self::Object(object) => Value::Object(object.clone()),
            Self::Unreadable(text) => serde_json::json!({ "unreadable_arguments": text }),
        }
    }
}

/// What a tool answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The call's id.
    pub call: String,
    /// The tool's name.
    pub tool: String,
    /// The answer for the model.
    pub text: String,
    /// Whether the tool failed.
    pub failed: bool,
}

/// A complete answer of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Its parts, in order.
    pub parts: Vec<Part>,
    /// Why the model stopped.
    pub stop: Stop,
}

/// Why a model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stop {
    /// It was done, or waits for tools.
    #[default]
    Done,
    /// The answer reached its length limit.
    Length,
    /// It will not do what it was asked.
    Refusal,
}

impl Answer {
    /// The tools it wants to run, in order.
    pub fn calls(&self) -> Vec<Call> {
        calls(&self.parts)
    }

    /// Whether it says nothing to anybody: no text and no call.
    pub fn is_empty(&self) -> bool {
        !self.parts.iter().any(|part| match part {
            Part::Text { text } => !text.trim().is_empty(),
            Part::Call(_) => true,
            Part::Thinking { .. } | Part::SealedThinking { .. } => false,
        })
    }
}

/// The tool calls among the parts of an answer, in order.
pub fn calls(parts: &[Part]) -> Vec<Call> {
    parts
        .iter()
        .filter_map(|part| match part {
            Part::Call(call) => Some(call.clone()),
            _ => None,
        })
        .collect()
}

/// All that was said, and how much of it the model still sees in full.
#[derive(Debug, Clone, Default)]
pub struct Conversation {
    entries: Vec<Entry>,
    budget: Budget,
}

impl Conversation {
    /// A conversation that was kept somewhere.
    pub fn restored(entries: Vec<Entry>) -> Self {
        Self { entries, budget: Budget::default() }
    }

    /// Everything, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Adds what was said last.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push(entry);
    }

    /// Moves the line before which tool results are elided, if the conversation has grown too long.
    pub fn fit(&mut self) {
        self.budget.fit(&self.entries);
    }

    /// Entries before this one show their tool results elided.
    pub fn elided_before(&self) -> usize {
        self.budget.elided_before()
    }

    /// The results that are missing because the agent ended between a call and its answer.
    pub fn repair(&self) -> Option<Entry> {
        let Some(Entry::Assistant { parts }) = self.entries.last() else { return None };
        let results: Vec<_> = calls(parts)
            .into_iter()
            .map(|call| ToolResult {
                call: call.id,
                tool: call.name,
                text: "The agent was restarted before this tool had answered. What it did, if \
                       anything, is unknown: look before you repeat it."
                    .to_owned(),
                failed: true,
            })
            .collect();
        (!results.is_empty()).then_some(Entry::Results { results })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_as_far_as_they_make_sense() {
        assert_eq!(Input::parse(" "), Input::Object(Map::new()));
        assert!(matches!(Input::parse(r#"{"path":"a"}"#), Input::Object(_)));
        for nonsense in ["{\"path\":", "[1]", "\"text\"", "7"] {
            let input = Input::parse(nonsense);
            assert_eq!(input, Input::Unreadable(nonsense.to_owned()));
            assert_eq!(input.as_object()["unreadable_arguments"], nonsense);
        }
    }

    #[test]
    fn calls_without_results_are_answered_after_a_restart() {
        let call = Call { id: "c1".into(), name: "shell".into(), input: Input::parse("") };
        let conversation = Conversation::restored(vec![
            Entry::User { text: "go".into() },
            Entry::Assistant { parts: vec![Part::Call(call)] },
        ]);
        let Some(Entry::Results { results }) = conversation.repair() else { panic!("no repair") };
        assert_eq!(results.len(), 1);
        assert_eq!(results[0].call, "c1");
        assert!(results[0].failed);

        let whole = Conversation::restored(vec![Entry::Assistant {
            parts: vec![Part::Text { text: "done".into() }],
        }]);
        assert_eq!(whole.repair(), None);
    }

    #[test]
    fn thinking_alone_is_an_empty_answer() {
        let thinking = Part::Thinking { text: "hm".into(), signature: "s".into() };
        let mut answer = Answer { parts: vec![thinking], stop: Stop::Done };
        assert!(answer.is_empty());
        answer.parts.push(Part::Text { text: " \n".into() });
        assert!(answer.is_empty());
        answer.parts.push(Part::Text { text: "yes".into() });
        assert!(!answer.is_empty());
    }

    #[test]
    fn entries_survive_being_written_down() {
        let entries = vec![
            Entry::User { text: "hello\u{0}".into() },
            Entry::Assistant {
                parts: vec![
                    Part::Thinking { text: "t".into(), signature: "s".into() },
                    Part::SealedThinking { data: "d".into() },
                    Part::Call(Call {
                        id: "1".into(),
                        name: "x".into(),
                        input: Input::Unreadable("{".into()),
                    }),
                ],
            },
            Entry::Results {
                results: vec![ToolResult {
                    call: "1".into(),
                    tool: "x".into(),
                    text: "no".into(),
                    failed: true,
                }],
            },
        ];
        let text = serde_json::to_string(&entries).expect("to JSON");
        assert_eq!(serde_json::from_str::<Vec<Entry>>(&text).expect("from JSON"), entries);
    }
}
