//! Turns what happens in a session into lines for people: a pure function of state and news.
//!
//! ```text
//!   Envelope ─► Watch::event ─┐
//!                             ├─► lines, never taken back     Watch::waiting ─► what a spinner says
//!   Delta ────► Watch::delta ─┘
//! ```
//!
//! It reads no clock and writes nowhere, so every line here can be tested without a terminal.
//! Everything that came from an agent, a model or a person is escaped on the way.

mod events;
mod facts;
mod speech;
mod tools;

pub use facts::Facts;

use std::collections::HashMap;

use protocol::client::{Delta, DeltaKind};
use protocol::session::PromptOutcome;
use protocol::{Envelope, PromptId, Timestamp};

use crate::escape;
use crate::style::{Style, Tone};
use speech::Speech;
use tools::Tools;

/// Characters of the agent's text on one line before it is broken at a blank.
const WIDTH: usize = 100;

/// What is being waited for, for a spinner or a patient reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What, as in "waiting for …".
    pub what: String,
    /// Since when, by the server's clock.
    pub since: Timestamp,
}

/// One session as somebody watches it.
#[derive(Debug)]
pub struct Watch {
    style: Style,
    facts: Facts,
    tools: Tools,
    message: Speech,
    stage: Option<Waiting>,
    plan: HashMap<String, String>,
    /// When each prompt was accepted and how it ended; kept to tell the time between.
    prompts: HashMap<PromptId, (Timestamp, Option<PromptOutcome>)>,
    thinking: bool,
    /// Whether the agent in the present sandbox has started; some take seconds.
    agent_ready: bool,
}

impl Watch {
    /// A watch that has seen nothing yet.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            facts: Facts::default(),
            tools: Tools::default(),
            message: Speech::new(WIDTH),
            stage: None,
            plan: HashMap::new(),
            prompts: HashMap::new(),
            thinking: false,
            agent_ready: false,
        }
    }

    /// What was learned on the way.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Adds a time that was measured outside the session's events, such as building the image.
    pub fn add_time(&mut self, phase: protocol::session::Phase, milliseconds: u64) {
        self.facts.add_time(phase, milliseconds);
    }

    /// How a prompt ended, once it has.
    pub fn outcome(&self, prompt: PromptId) -> Option<&PromptOutcome> {
        self.prompts.get(&prompt).and_then(|(_, outcome)| outcome.as_ref())
    }

    /// Whether no prompt that was seen waits or runs.
    pub fn is_idle(&self) -> bool {
        self.prompts.values().all(|(_, outcome)| outcome.is_some())
    }

    /// Lines for a recorded event.
    pub fn event(&mut self, envelope: &Envelope) -> Vec<String> {
        self.facts.learn(envelope);
        self.thinking = false;
        self.lines_of(envelope)
    }

    /// Lines for text in the making: those that are complete.
    pub fn delta(&mut self, delta: &Delta) -> Vec<String> {
        self.thinking = delta.kind == DeltaKind::Thought;
        match delta.kind {
            DeltaKind::Message => self.message.add(&delta.text),
            DeltaKind::ToolOutput => {
                self.tools.print(&delta.text);
                Vec::new()
            }
            DeltaKind::Thought => Vec::new(),
        }
    }

    /// What is being waited for now; `None` when nothing is under way.
    pub fn waiting(&self) -> Option<Waiting> {
        if let Some(tool) = self.tools.current() {
            return Some(tool);
        }
        let stage = self.stage.clone()?;
        let unfinished = self.message.unfinished();
        if self.thinking {
            return Some(Waiting { what: "the agent, which is thinking".to_owned(), ..stage });
        }
        if !unfinished.trim().is_empty() {
            return Some(Waiting { what: escape::line(unfinished), ..stage });
        }
        Some(stage)
    }

    fn wait_for(&mut self, what: &str, since: Timestamp) {
        self.stage = Some(Waiting { what: what.to_owned(), since });
    }

    fn wait_for_agent(&mut self, since: Timestamp) {
        self.wait_for(if self.agent_ready { "the agent" } else { "the agent to start" }, since);
    }

    fn good(&self, text: &str, time: Option<u64>) -> String {
        self.marked(Tone::Good, "✓", text, time)
    }

    fn bad(&self, text: &str) -> String {
        self.marked(Tone::Bad, "✗", text, None)
    }

    fn warning(&self, text: &str) -> String {
        self.marked(Tone::Warning, "!", text, None)
    }

    fn note(&self, text: &str, time: Option<u64>) -> String {
        self.marked(Tone::Faint, "·", text, time)
    }

    fn marked(&self, tone: Tone, mark: &str, text: &str, time: Option<u64>) -> String {
        let mark = self.style.paint(tone, mark);
        let time = time.map(|time| format!(" ({})", crate::format::duration(time)));
        let time = self.style.paint(Tone::Faint, &time.unwrap_or_default());
        format!("{mark} {text}{time}")
    }
}
