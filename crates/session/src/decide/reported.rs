//! What agentd reports of the agent. Untrusted: any of it may be forged.

use protocol::agentd::{Ending, Report};
use protocol::session::{Actor, PromptOutcome};
use protocol::{Event, PromptId, Refusal, SandboxId};

use super::delivered::begin;
use crate::bounds::cut_text;
use crate::draft::Draft;
use crate::state::Step;

pub(super) fn decide(draft: &mut Draft, sandbox: SandboxId, report: Report) -> Result<(), Refusal> {
    draft.up_as(sandbox)?;
    if let Some(prompt) = prompt_of(&report) {
        if matches!(draft.turn_of(prompt)?.step, Step::Publishing { .. }) {
            return Err(Refusal::Stale { about: format!("the agent's work on prompt {prompt}") });
        }
        // The report may overtake the answer to the delivery that it proves.
        begin(draft, sandbox);
    }
    match recorded(report) {
        Recorded::Event(event) => draft.untrusted(Actor::Agent, event),
        Recorded::End(prompt, ending) => end(draft, prompt, ending),
    }
    Ok(())
}

#[expect(clippy::large_enum_variant, reason = "it lives for a moment, one at a time")]
enum Recorded {
    Event(Event),
    End(PromptId, Ending),
}

fn prompt_of(report: &Report) -> Option<PromptId> {
    match report {
        Report::Message { prompt, .. }
        | Report::Thought { prompt, .. }
        | Report::Plan { prompt, .. }
        | Report::ToolCallStarted { prompt, .. }
        | Report::ToolCallFinished { prompt, .. }
        | Report::PromptEnded { prompt, .. } => Some(*prompt),
        Report::Notice { prompt, .. } => *prompt,
    }
}

fn recorded(report: Report) -> Recorded {
    Recorded::Event(match report {
        Report::Message { prompt, text } => Event::AgentMessage { prompt, text },
        Report::Thought { prompt, text } => Event::AgentThought { prompt, text },
        Report::Plan { prompt, steps } => Event::PlanUpdated { prompt, steps },
        Report::ToolCallStarted { prompt, call, title, tool, input } => {
            Event::ToolCallStarted { prompt, call, title, kind: tool, input }
        }
        Report::ToolCallFinished { prompt, call, status, output, paths } => {
            Event::ToolCallFinished { prompt, call, status, output, paths }
        }
        Report::Notice { prompt, text } => Event::Notice { prompt, text },
        Report::PromptEnded { prompt, ending } => return Recorded::End(prompt, ending),
    })
}

fn end(draft: &mut Draft, prompt: PromptId, ending: Ending) {
    let cancelled_as = draft.turn.as_ref().and_then(|turn| match &turn.step {
        Step::Cancelling { outcome } => Some(outcome.clone()),
        _ => None,
    });
    let outcome = match (cancelled_as, ending) {
        // It was done before the insert could interrupt it.
        (None | Some(PromptOutcome::Superseded), Ending::Completed) => PromptOutcome::Completed,
        (Some(outcome), _) => outcome,
        (None, Ending::Failed { reason }) => PromptOutcome::Failed { reason: cut_text(reason) },
        (None, Ending::Cancelled) => PromptOutcome::Failed {
            reason: "the agent gave up the prompt although nobody asked it to: send it again"
                .to_owned(),
        },
    };
    draft.end_agent(Actor::Agent, prompt, outcome);
}
