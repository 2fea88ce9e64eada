//! The run: performs what [`Turn`] decides until the prompts are worked off.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Ended, Error, Session};
use crate::conversation::{Call, Conversation, Entry, Input, Part, ToolResult, calls};
use crate::dialect::{Definition, Delta, Request};
use crate::history::History;
use crate::instructions::{guidance, system_prompt};
use crate::model::{Asked, Happening, Model, chain};
use crate::report::{Kind, Report};
use crate::tool;
use crate::turn::{Finish, Next, Turn};

/// What only the run may touch.
#[derive(Debug)]
pub(super) struct Work {
    conversation: Conversation,
    history: Option<History>,
    /// Tool calls so far, for ids that are unique in the session.
    calls: usize,
}

impl Work {
    pub(super) fn new(conversation: Conversation, history: Option<History>) -> Self {
        let calls = conversation
            .entries()
            .iter()
            .map(|entry| match entry {
                Entry::Assistant { parts } => calls(parts).len(),
                _ => 0,
            })
            .sum();
        let mut work = Self { conversation, history, calls };
        if let Some(missing) = work.conversation.repair() {
            work.say(missing);
        }
        work
    }

    pub(super) fn hear(&mut self, text: String) {
        self.say(Entry::User { text });
    }

    /// Adds to the conversation, in memory and on disk. If the disk fails the rest of the session is
    /// not kept: a history with a hole would be refused by model servers.
    fn say(&mut self, entry: Entry) {
        if let Some(history) = &mut self.history
            && let Err(error) = history.append(&entry)
        {
            tracing::warn!("the session is no longer kept: {}", chain(&error));
            self.history = None;
        }
        self.conversation.push(entry);
    }

    fn next_call(&mut self) -> String {
        self.calls += 1;
        call_id(self.calls)
    }
}

/// The id under which the n-th call of a session is reported, counted from 1.
pub(super) fn call_id(number: usize) -> String {
    format!("call-{number}")
}

impl Session {
    pub(super) async fn work_off(
        &self,
        model: &Model,
        work: &mut Work,
        replies: &mut Vec<oneshot::Sender<Ended>>,
        cancel: &CancellationToken,
    ) -> Result<Finish, Error> {
        let found = guidance(self.place.directory());
        let system =
            system_prompt(self.place.directory(), found.as_ref(), &self.settings.instructions);
        let tools = tool::definitions();
        let mut turn = Turn::default();
        let mut next = turn.ask();
        loop {
            next = match next {
                Next::Ask => {
                    if self.listen(work, replies) {
                        turn.steered();
                    }
                    self.ask(model, &system, &tools, &mut turn, work, cancel).await?
                }
                Next::Remind(text) => {
                    work.say(Entry::Reminder { text: text.to_owned() });
                    turn.ask()
                }
                Next::Run(calls) => {
                    let sensible = self.run_tools(&calls, work, cancel).await;
                    if cancel.is_cancelled() {
                        Next::Finish(Finish::Cancelled)
                    } else {
                        turn.tools_ran(sensible)
                    }
                }
                Next::Finish(finish) => return Ok(finish),
                Next::Fail(failure) => return Err(failure.into()),
            }
        }
    }

    fn listen(&self, work: &mut Work, replies: &mut Vec<oneshot::Sender<Ended>>) -> bool {
        Self::hear(&mut self.inbox(), work, replies)
    }

    async fn ask(
        &self,
        model: &Model,
        system: &str,
        tools: &[Definition],
        turn: &mut Turn,
        work: &mut Work,
        cancel: &CancellationToken,
    ) -> Result<Next, Error> {
        work.conversation.fit();
        let conversation = &work.conversation;
        let request = Request { model: model.name(), system, conversation, tools };
        match model.ask(&request, cancel, |happening| self.show(happening)).await? {
            Asked::Stopped(text) => {
                if !text.trim().is_empty() {
                    work.say(Entry::Assistant { parts: vec![Part::Text { text }] });
                }
                Ok(Next::Finish(Finish::Cancelled))
            }
            Asked::Answer(answer) => {
                let next = turn.answered(&answer);
                if !answer.is_empty() {
                    work.say(Entry::Assistant { parts: answer.parts });
                }
                Ok(next)
            }
        }
    }

    fn show(&self, happening: Happening) {
        self.reporter.report(match happening {
            Happening::Delta(Delta::Text(text)) => Report::Text(text),
            Happening::Delta(Delta::Thought(text)) => Report::Thought(text),
            Happening::Again { why, pause, shown: false } => Report::Thought(format!(
                "[No answer from the model: {why}. Asking again in {}.]\n",
                seconds(pause)
            )),
            Happening::Again { why, pause, shown: true } => Report::Text(format!(
                "\n\n[The answer broke off: {why}. It begins again in {}.]\n\n",
                seconds(pause)
            )),
        });
    }

    /// Runs calls one after another and records their results; whether any call made sense. Each
    /// call gets a result, also after a cancel: the conversation must stay whole.
    async fn run_tools(&self, calls: &[Call], work: &mut Work, cancel: &CancellationToken) -> bool {
        let mut sensible = false;
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            let id = work.next_call();
            let done = match tool::Request::read(call) {
                Ok(request) => {
                    sensible = true;
                    self.reporter.report(started(&id, call, Some((&request, &self.place))));
                    self.run_tool(&id, request, cancel).await
                }
                Err(senseless) => {
                    self.reporter.report(started(&id, call, None));
                    tool::Done { text: senseless.to_string(), failed: true, change: None }
                }
            };
            results.push(ToolResult {
                call: call.id.clone(),
                tool: call.name.clone(),
                text: done.text.clone(),
                failed: done.failed,
            });
            self.reporter.report(Report::ToolFinished {
                call: id,
                failed: done.failed,
                text: done.text,
                change: done.change,
            });
        }
        work.say(Entry::Results { results });
        sensible
    }

    async fn run_tool(
        &self,
        id: &str,
        request: tool::Request,
        cancel: &CancellationToken,
    ) -> tool::Done {
        let progress = |text| {
            self.reporter.report(Report::ToolProgress { call: id.to_owned(), text });
        };
        request.run(&self.place, cancel, &progress).await.unwrap_or_else(|error| tool::Done {
            text: chain(&error),
            failed: true,
            change: None,
        })
    }
}

/// The report that a call begins; of a call that makes no sense only its words are known.
pub(super) fn started(
    id: &str,
    call: &Call,
    sensible: Option<(&tool::Request, &tool::Place)>,
) -> Report {
    let input = match &call.input {
        Input::Object(object) => Value::Object(object.clone()),
        Input::Unreadable(text) => Value::String(text.clone()),
    };
    let (title, kind, path) = match sensible {
        Some((request, place)) => (request.title(), request.kind(), request.path(place)),
        None => (crate::text::title(&call.name, 200), Kind::Other, None),
    };
    Report::ToolStarted {
        call: id.to_owned(),
        tool: call.name.clone(),
        title,
        kind,
        paths: path.into_iter().collect(),
        input,
    }
}

fn seconds(pause: Duration) -> String {
    format!("{:.1} s", pause.as_secs_f64())
}
