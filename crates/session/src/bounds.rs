//! Bounds on what hostile code in a sandbox can have recorded.

use protocol::event::PlanStep;
use protocol::limits::{RECORDED_TEXT_BYTES, TITLE_BYTES};
use protocol::session::FileChange;
use protocol::{Event, PromptId};
use serde_json::Value;

use crate::Policy;

/// Steps of a plan and paths of a call that are kept at most.
const RECORDED_ITEMS: usize = 500;

/// The text with at most `limit` bytes, cut between characters, with a note where it was cut.
///
/// `limit` is large enough for the note, which takes less than 64 bytes.
pub(crate) fn cut(text: String, limit: usize) -> String {
    if text.len() <= limit {
        return text;
    }
    let note = format!("… [cut, {} bytes in all]", text.len());
    let mut kept = text;
    kept.truncate(kept.floor_char_boundary(limit.saturating_sub(note.len())));
    kept.push_str(&note);
    kept
}

/// [`cut`] at what one recorded text may have.
pub(crate) fn cut_text(text: String) -> String {
    cut(text, RECORDED_TEXT_BYTES)
}

/// The event with every text in it cut.
pub(crate) fn cut_event(event: Event) -> Event {
    match event {
        Event::AgentMessage { prompt, text } => {
            Event::AgentMessage { prompt, text: cut_text(text) }
        }
        Event::AgentThought { prompt, text } => {
            Event::AgentThought { prompt, text: cut_text(text) }
        }
        Event::Notice { prompt, text } => Event::Notice { prompt, text: cut_text(text) },
        Event::PlanUpdated { prompt, steps } => {
            Event::PlanUpdated { prompt, steps: cut_steps(steps) }
        }
        Event::ToolCallStarted { prompt, call, title, kind, input } => Event::ToolCallStarted {
            prompt,
            call,
            title: cut(title, TITLE_BYTES),
            kind,
            input: cut_input(input),
        },
        Event::ToolCallFinished { prompt, call, status, output, paths } => {
            Event::ToolCallFinished {
                prompt,
                call,
                status,
                output: cut_text(output),
                paths: cut_list(paths, String::len),
            }
        }
        Event::Denied { what, reason } => {
            Event::Denied { what: cut_text(what), reason: cut_text(reason) }
        }
        Event::ModelAnswered {
            prompt,
            model,
            input_tokens,
            output_tokens,
            first_token_milliseconds,
            milliseconds,
        } => Event::ModelAnswered {
            prompt,
            model: cut(model, TITLE_BYTES),
            input_tokens,
            output_tokens,
            first_token_milliseconds,
            milliseconds,
        },
        other => other,
    }
}

// A cut object would be no JSON any more, so a long input becomes its own beginning as a string.
fn cut_input(input: Value) -> Value {
    let text = input.to_string();
    if text.len() <= RECORDED_TEXT_BYTES { input } else { Value::String(cut_text(text)) }
}

fn cut_steps(steps: Vec<PlanStep>) -> Vec<PlanStep> {
    let steps = steps.into_iter().map(|step| PlanStep {
        text: cut(step.text, RECORDED_TEXT_BYTES),
        status: cut(step.status, TITLE_BYTES),
    });
    cut_list(steps.collect(), |step| step.text.len() + step.status.len())
}

/// A commit's files as far as they are listed; the forge has them all.
pub(crate) fn cut_files(files: Vec<FileChange>) -> Vec<FileChange> {
    cut_list(files, |file| file.path.len())
}

/// The first items, as many as one recorded text's worth of bytes holds.
fn cut_list<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<T> {
    let mut left = RECORDED_TEXT_BYTES;
    let within = |item: &T| match left.checked_sub(bytes(item)) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    items.into_iter().take(RECORDED_ITEMS).take_while(within).collect()
}

/// Bytes of text in an event whose text or number a sandbox decides; `None` for all others.
pub(crate) fn untrusted_bytes(event: &Event) -> Option<u64> {
    let bytes = match event {
        Event::AgentMessage { text, .. }
        | Event::AgentThought { text, .. }
        | Event::Notice { text, .. } => text.len(),
        Event::PlanUpdated { steps, .. } => {
            steps.iter().map(|step| step.text.len() + step.status.len()).sum()
        }
        Event::ToolCallStarted { title, input, .. } => title.len() + input.to_string().len(),
        Event::ToolCallFinished { output, paths, .. } => {
            output.len() + paths.iter().map(String::len).sum::<usize>()
        }
        Event::Denied { what, reason } => what.len() + reason.len(),
        Event::ModelAnswered { model, .. } => model.len(),
        _ => return None,
    };
    Some(bytes as u64)
}

/// What people are told once when the rest is dropped.
pub(crate) fn flood_notice(prompt: Option<PromptId>, policy: Policy) -> Event {
    Event::Notice {
        prompt,
        text: format!(
            "more than {} events or {} MiB came out of the sandbox for this prompt: the rest is not \
             recorded, the work goes on",
            policy.recorded_events,
            policy.recorded_bytes >> 20
        ),
    }
}
