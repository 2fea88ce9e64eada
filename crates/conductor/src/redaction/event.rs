//! Strikes values out of an event, field by field: every text that comes from people or sandboxes.

use protocol::Event;
use protocol::session::{FileChange, PromptOutcome};
use serde_json::Value;

use super::Redactor;

/// The event without known values. Every kind is named here, so that a new one is thought about.
pub(crate) fn redact(values: &Redactor, mut event: Event) -> Event {
    if values.is_empty() {
        return event;
    }
    match &mut event {
        Event::SessionCreated { title: text, .. }
        | Event::PromptAccepted { text, .. }
        | Event::PromptEdited { text, .. }
        | Event::Notice { text, .. }
        | Event::SandboxFailed { reason: text, .. }
        | Event::SandboxLost { reason: text, .. }
        | Event::SandboxStopRequested { reason: text, .. }
        | Event::SandboxStopped { reason: text, .. }
        | Event::WorkspaceSyncFailed { reason: text, .. }
        | Event::PublishFailed { reason: text, .. }
        | Event::AgentReady { agent: text, .. }
        | Event::ModelAnswered { model: text, .. } => values.amend(text),
        Event::AgentMessage { text, .. } | Event::AgentThought { text, .. } => {
            values.amend_cut(text);
        }
        Event::AgentEnded { outcome, .. } | Event::PromptFinished { outcome, .. } => {
            if let PromptOutcome::Failed { reason } = outcome {
                values.amend(reason);
            }
        }
        Event::PlanUpdated { steps, .. } => {
            for step in steps {
                values.amend(&mut step.text);
                values.amend(&mut step.status);
            }
        }
        Event::ToolCallStarted { title, input, .. } => {
            values.amend(title);
            redact_json(values, input);
        }
        Event::ToolCallFinished { output, paths, .. } => {
            values.amend_cut(output);
            for path in paths {
                values.amend(path);
            }
        }
        Event::Denied { what, reason } => {
            values.amend(what);
            values.amend(reason);
        }
        Event::Committed { subject, files, .. } => {
            values.amend(subject);
            for FileChange { path, .. } in files {
                values.amend(path);
            }
        }
        Event::PullRequestOffered { pull_request, .. } => values.amend(&mut pull_request.title),
        Event::PromptWithdrawn { .. }
        | Event::PromptStarted { .. }
        | Event::StopRequested { .. }
        | Event::SandboxRequested { .. }
        | Event::SandboxStarted { .. }
        | Event::WorkspaceSynced { .. }
        | Event::NothingToCommit { .. }
        | Event::Pushed { .. }
        | Event::PullRequestChanged { .. }
        | Event::LimitExceeded { .. }
        | Event::PhaseFinished { .. }
        | Event::Unknown(_) => {}
    }
    event
}

fn redact_json(values: &Redactor, value: &mut Value) {
    match value {
        Value::String(text) => values.amend(text),
        Value::Array(items) => items.iter_mut().for_each(|item| redact_json(values, item)),
        Value::Object(fields) => {
            fields.values_mut().for_each(|field| redact_json(values, field));
            if fields.keys().any(|name| values.find(name.as_bytes()).is_some()) {
                let renamed = std::mem::take(fields).into_iter();
                fields
                    .extend(renamed.map(|(name, field)| (values.text(&name).into_owned(), field)));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use protocol::event::ToolKind;
    use protocol::{PromptId, ToolCallId};

    use super::super::tests::knowing;
    use super::*;

    #[test]
    fn a_tools_input_is_searched_to_its_leaves() {
        let values = knowing(&[("A", "s3cr3t-value")]);
        let event = Event::ToolCallStarted {
            prompt: PromptId::from_bytes([1; 16]),
            call: ToolCallId::from_bytes([2; 16]),
            title: "echo s3cr3t-value".to_owned(),
            kind: ToolKind::Execute,
            input: serde_json::json!({"a": ["s3cr3t-value", 1], "s3cr3t-value": {"b": null}}),
        };
        let redacted = serde_json::to_string(&redact(&values, event)).expect("JSON");
        assert!(!redacted.contains("s3cr3t"), "{redacted}");
        assert_eq!(redacted.matches("[secret A]").count(), 3, "{redacted}");
    }
}
