//! Tells a stored conversation again, as if it happened now.

use std::collections::VecDeque;

use super::work::{call_id, started};
use crate::conversation::{Entry, Part};
use crate::report::{Report, Reporter};
use crate::tool::{Place, Request};

/// Reports everything said in `entries`, with the same call ids as when it happened.
pub fn replay(entries: &[Entry], place: &Place, reporter: &dyn Reporter) {
    let mut number = 0;
    let mut open = VecDeque::new();
    for entry in entries {
        match entry {
            Entry::User { text } => reporter.report(Report::Prompt(text.clone())),
            Entry::Reminder { .. } => {}
            Entry::Assistant { parts } => {
                for part in parts {
                    match part {
                        Part::Text { text } => reporter.report(Report::Text(text.clone())),
                        Part::Thinking { text, .. } => {
                            reporter.report(Report::Thought(text.clone()));
                        }
                        Part::SealedThinking { .. } => {}
                        Part::Call(call) => {
                            number += 1;
                            let id = call_id(number);
                            let request = Request::read(call).ok();
                            let sensible = request.as_ref().map(|request| (request, place));
                            reporter.report(started(&id, call, sensible));
                            open.push_back(id);
                        }
                    }
                }
            }
            Entry::Results { results } => {
                for result in results {
                    let Some(call) = open.pop_front() else { continue };
                    reporter.report(Report::ToolFinished {
                        call,
                        failed: result.failed,
                        text: result.text.clone(),
                        change: None,
                    });
                }
            }
        }
    }
}
