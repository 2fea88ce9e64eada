//! What comes out of a sandbox may be forged, late and too long.

use protocol::agentd::{Ending, Report};
use protocol::event::{PlanStep, ToolKind, ToolStatus};
use protocol::limits::{RECORDED_TEXT_BYTES, TITLE_BYTES};
use protocol::session::{Actor, PromptOutcome};
use protocol::{Event, PromptId};
use serde_json::{Value, json};
use session::Command;

use super::support::{
    Story, answers, call, calls, ended, ends, lines, nothing_to_commit, prm, reported, says, sbx,
    send, started,
};

/// The first event of a report in a running prompt.
fn recorded(report: Report) -> Event {
    let decision = Story::running().say(reported(1, report));
    let (actor, event) = decision.events.into_iter().next().expect("something is recorded");
    assert_eq!(actor, Actor::Agent);
    event
}

#[test]
fn each_kind_of_report_is_recorded_as_it_is() {
    let prompt = prm(1);
    let text = "text".to_owned();
    let steps = vec![PlanStep { text: "think".to_owned(), status: "pending".to_owned() }];
    let title = "Read".to_owned();
    let (tool, input) = (ToolKind::Read, json!({"path": "a", "deep": [1, {"b": null}]}));
    let output = "out".to_owned();
    let paths = vec!["a".to_owned()];
    let call = call(1);
    let status = ToolStatus::Completed;
    let table = [
        (
            Report::Message { prompt, text: text.clone() },
            Event::AgentMessage { prompt, text: text.clone() },
        ),
        (
            Report::Thought { prompt, text: text.clone() },
            Event::AgentThought { prompt, text: text.clone() },
        ),
        (Report::Plan { prompt, steps: steps.clone() }, Event::PlanUpdated { prompt, steps }),
        (
            Report::ToolCallStarted {
                prompt,
                call,
                title: title.clone(),
                tool,
                input: input.clone(),
            },
            Event::ToolCallStarted { prompt, call, title, kind: tool, input },
        ),
        (
            Report::ToolCallFinished {
                prompt,
                call,
                status,
                output: output.clone(),
                paths: paths.clone(),
            },
            Event::ToolCallFinished { prompt, call, status, output, paths },
        ),
        (
            Report::Notice { prompt: Some(prompt), text: text.clone() },
            Event::Notice { prompt: Some(prompt), text: text.clone() },
        ),
        (Report::Notice { prompt: None, text: text.clone() }, Event::Notice { prompt: None, text }),
    ];
    for (report, event) in table {
        assert_eq!(recorded(report), event);
    }
}

#[test]
fn a_report_proves_the_delivery() {
    let mut story = Story::created().then([send(1), started(1)]);
    story.expect(
        says(1, 1, "I begin"),
        &[
            "system prompt_started attempt=1 prompt=p1 sandbox=s1",
            "agent agent_message prompt=p1 text=I begin",
        ],
    );
    story.expect(super::support::delivered(1, 1), &[""]);
}

#[test]
fn an_end_proves_the_delivery_too() {
    let mut story = Story::created().then([send(1), started(1)]);
    let said = lines(&story.say(ended(1, 1)));
    assert!(said.starts_with("system prompt_started attempt=1"), "{said}");
    assert!(said.contains("agent agent_ended outcome=completed prompt=p1"), "{said}");
}

#[test]
fn other_sandboxes_prompts_and_ended_work_are_stale() {
    let running = Story::running().then([send(2)]);
    let waiting = says(1, 2, "not yet");
    let unknown = says(1, 9, "who");
    for command in [says(2, 1, "elsewhere"), waiting, unknown, ended(1, 2), ended(2, 1)] {
        assert_eq!(running.refusal(command).code(), "stale");
    }
    let over = Story::committing();
    for command in [says(1, 1, "late"), ended(1, 1), answers(1, 1, 1, ToolStatus::Completed)] {
        let refusal = over.refusal(command);
        assert!(refusal.to_string().contains("which is over"), "{refusal}");
    }
}

#[test]
fn an_agent_cannot_speak_for_a_prompt_that_waits() {
    let mut story = Story::running().then([send(2)]);
    assert_eq!(story.refusal(ended(1, 2)).code(), "stale");
    story = story.then([ended(1, 1), nothing_to_commit(1, 1)]);
    assert_eq!(story.state.current_prompt(), Some(prm(2)), "which is still to come");
}

#[test]
fn long_texts_are_cut_between_characters_with_a_note() {
    let prompt = prm(1);
    for text in ["x".repeat(RECORDED_TEXT_BYTES + 1), "ü€😀".repeat(RECORDED_TEXT_BYTES)] {
        let bytes = text.len();
        let Event::AgentMessage { text, .. } = recorded(Report::Message { prompt, text }) else {
            panic!("a message is recorded as one");
        };
        assert!(text.len() <= RECORDED_TEXT_BYTES && text.len() > RECORDED_TEXT_BYTES - 8);
        assert!(text.ends_with(&format!("… [cut, {bytes} bytes in all]")));
    }
    let exact = "x".repeat(RECORDED_TEXT_BYTES);
    let report = Report::Thought { prompt, text: exact.clone() };
    assert_eq!(recorded(report), Event::AgentThought { prompt, text: exact });
}

#[test]
fn every_text_of_a_report_is_bounded() {
    let huge = || "y".repeat(3 * RECORDED_TEXT_BYTES);
    let (prompt, call) = (prm(1), call(1));
    let many = |count| (0..count).map(|number| format!("{number:0>300}")).collect::<Vec<_>>();
    let steps = |text: &str, count| {
        vec![PlanStep { text: text.to_owned(), status: text.to_owned() }; count]
    };
    let reports = [
        Report::Notice { prompt: Some(prompt), text: huge() },
        Report::Plan { prompt, steps: steps(&huge(), 5) },
        Report::Plan { prompt, steps: steps("short", 100_000) },
        Report::ToolCallStarted {
            prompt,
            call,
            title: huge(),
            tool: ToolKind::Other,
            input: json!({"text": huge()}),
        },
        Report::ToolCallFinished {
            prompt,
            call,
            status: ToolStatus::Failed,
            output: huge(),
            paths: many(5000),
        },
    ];
    for report in reports {
        let json = serde_json::to_string(&recorded(report)).expect("an event is JSON");
        // Two texts and some framing at most.
        assert!(json.len() < 2 * RECORDED_TEXT_BYTES + 20_000, "{} bytes", json.len());
    }
}

#[test]
fn a_long_input_becomes_the_beginning_of_its_text() {
    let text = "z".repeat(RECORDED_TEXT_BYTES);
    let report = Report::ToolCallStarted {
        prompt: prm(1),
        call: call(1),
        title: "t".repeat(TITLE_BYTES + 1),
        tool: ToolKind::Edit,
        input: json!({"text": text}),
    };
    let Event::ToolCallStarted { title, input: Value::String(input), .. } = recorded(report) else {
        panic!("a long input is recorded as text");
    };
    assert!(input.starts_with("{\"text\":\"zzz") && input.contains("[cut, "));
    assert!(title.len() <= TITLE_BYTES && title.contains("[cut, "));
}

#[test]
fn reasons_from_outside_are_bounded() {
    let reason = "r".repeat(2 * RECORDED_TEXT_BYTES);
    let sandbox = sbx(1);
    let mut failed = Story::created().then([send(1)]);
    let mut lost = Story::running();
    let mut agent = Story::running();
    let decisions = [
        failed.say(Command::SandboxFailed { sandbox, reason: reason.clone() }),
        lost.say(Command::SandboxLost { sandbox, reason: reason.clone() }),
        agent.say(ends(1, 1, Ending::Failed { reason: reason.clone() })),
        Story::committing().say(Command::CommitFailed { sandbox, prompt: prm(1), reason }),
    ];
    for decision in decisions {
        for (_, event) in decision.events {
            let json = serde_json::to_string(&event).expect("an event is JSON");
            assert!(json.len() < RECORDED_TEXT_BYTES + 500, "{}", &json[..200]);
        }
    }
}

#[test]
fn a_refusal_of_the_gateway_is_recorded() {
    let denied = |sandbox| Command::Denied {
        sandbox: sbx(sandbox),
        what: "example.org:443".to_owned(),
        reason: "no route".to_owned(),
    };
    let mut story = Story::running();
    story.expect(denied(1), &["system denied reason=no route what=example.org:443"]);
    assert_eq!(story.refusal(denied(2)).code(), "stale");
    Story::published().expect(denied(1), &["system denied reason=no route what=example.org:443"]);
}

#[test]
fn control_characters_are_kept_for_whoever_shows_them_to_escape() {
    let text = "\u{1b}[2J\u{0}\u{202e}".to_owned();
    let prompt: PromptId = prm(1);
    let report = Report::Message { prompt, text: text.clone() };
    assert_eq!(recorded(report), Event::AgentMessage { prompt, text });
}

#[test]
fn a_failed_agent_says_why() {
    let decision =
        Story::running().say(ends(1, 1, Ending::Failed { reason: "out of memory".to_owned() }));
    let outcome = PromptOutcome::Failed { reason: "out of memory".to_owned() };
    assert_eq!(decision.events[0].1, Event::AgentEnded { prompt: prm(1), outcome });
    let mut story = Story::running();
    let said = lines(&story.say(calls(1, 1, 1, ToolKind::Execute)));
    assert_eq!(said, "agent tool_call_started call=c1 kind=execute prompt=p1 title=Look");
}
