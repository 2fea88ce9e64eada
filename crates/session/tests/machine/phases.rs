//! What people are told about times.

use protocol::event::{ToolKind, ToolStatus};
use protocol::session::Phase;
use protocol::{Event, SandboxId, Timestamp};
use session::{Command, ModelAnswer};

use super::support::{
    Story, answers, calls, committed, delivered, ended, lines, nothing_to_commit, offered, prm,
    pushed, ready, sbx, send, started, synced,
};

fn request(sandbox: SandboxId, at: i64) -> Command {
    Command::ModelRequestStarted { sandbox, at: Timestamp(1_000_000 + at) }
}

fn token(sandbox: SandboxId, at: i64) -> Command {
    Command::ModelFirstToken { sandbox, at: Timestamp(1_000_000 + at) }
}

/// The phases in a story's journal.
fn phases(story: &Story) -> Vec<(Phase, u64)> {
    let events = story.journal.iter().map(|envelope| &envelope.event);
    events
        .filter_map(|event| match event {
            Event::PhaseFinished { phase, milliseconds, .. } => Some((*phase, *milliseconds)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_whole_prompt_is_measured() {
    let mut story = Story::created().wait(10).then([send(1)]).wait(10);
    story.say(Command::PhaseMeasured { phase: Phase::Image, milliseconds: 900 });
    let story = story.then([started(1), delivered(1, 1), ready(1), synced(1)]);
    let story = story.then([request(sbx(1), 45), token(sbx(1), 145)]).wait(180);
    let story =
        story.then([calls(1, 1, 1, ToolKind::Edit), answers(1, 1, 1, ToolStatus::Completed)]);
    let story = story.wait(100).then([ended(1, 1)]).wait(3);
    let story = story.then([committed(1, 1, "aaa")]).wait(4).then([pushed(1, 1, "aaa")]);
    let story = story.wait(5).then([offered(1, "aaa")]);
    assert_eq!(
        phases(&story),
        [
            (Phase::Image, 900),
            (Phase::Sandbox, 12),
            (Phase::Sync, 7),
            (Phase::FirstModelRequest, 35),
            (Phase::FirstToken, 100),
            (Phase::FirstEdit, 190),
            (Phase::Agent, 280),
            (Phase::Commit, 3),
            (Phase::Push, 4),
            (Phase::PullRequest, 5),
        ]
    );
}

#[test]
fn only_the_first_request_and_token_of_a_prompt_count() {
    let mut story = Story::running();
    story.expect(
        request(sbx(1), 30),
        &["system phase_finished milliseconds=30 phase=first_model_request prompt=p1"],
    );
    story.expect(request(sbx(1), 60), &[""]);
    story.expect(
        token(sbx(1), 75),
        &["system phase_finished milliseconds=45 phase=first_token prompt=p1"],
    );
    story.expect(token(sbx(1), 90), &[""]);
    let mut story = story.then([send(2), ended(1, 1), nothing_to_commit(1, 1), delivered(1, 2)]);
    let said = lines(&story.say(request(sbx(1), 100)));
    assert!(said.ends_with("phase=first_model_request prompt=p2"), "{said}");
}

#[test]
fn a_request_may_be_seen_before_the_delivery_is_answered() {
    let mut story = Story::created().then([send(1), started(1)]);
    let said = lines(&story.say(request(sbx(1), 30)));
    assert_eq!(said, "system phase_finished milliseconds=30 phase=first_model_request prompt=p1");
}

#[test]
fn requests_outside_a_prompt_are_nobodys() {
    let mut story = Story::published();
    story.expect(request(sbx(1), 30), &[""]);
    story.expect(token(sbx(1), 31), &[""]);
    assert_eq!(story.refusal(request(sbx(2), 30)).code(), "stale");
    assert_eq!(story.refusal(token(sbx(2), 30)).code(), "stale");
}

#[test]
fn a_token_without_a_request_is_not_measured() {
    Story::running().expect(token(sbx(1), 30), &[""]);
}

#[test]
fn the_first_edit_is_the_first_that_succeeds() {
    let mut story = Story::running().wait(50).then([
        calls(1, 1, 1, ToolKind::Read),
        answers(1, 1, 1, ToolStatus::Completed),
        calls(1, 1, 2, ToolKind::Edit),
        answers(1, 1, 2, ToolStatus::Failed),
        calls(1, 1, 3, ToolKind::Edit),
        calls(1, 1, 4, ToolKind::Edit),
    ]);
    story.expect(
        answers(1, 1, 4, ToolStatus::Completed),
        &[
            "agent tool_call_finished call=c4 output=done paths=1 prompt=p1 status=completed",
            "system phase_finished milliseconds=50 phase=first_edit prompt=p1",
        ],
    );
    story.expect(
        answers(1, 1, 3, ToolStatus::Completed),
        &["agent tool_call_finished call=c3 output=done paths=1 prompt=p1 status=completed"],
    );
}

#[test]
fn a_clock_that_was_set_back_measures_nothing_negative() {
    let mut story = Story::running().wait(-5000);
    let said = lines(&story.say(ended(1, 1)));
    assert!(said.contains("phase_finished milliseconds=0 phase=agent"), "{said}");
    story.say(Command::Wake);
}

#[test]
fn committing_is_measured_from_when_it_could_begin() {
    let mut story = Story::created().then([send(1), started(1), delivered(1, 1), ended(1, 1)]);
    story = story.wait(1000).then([synced(1)]).wait(5);
    let said = lines(&story.say(nothing_to_commit(1, 1)));
    assert!(said.contains("phase_finished milliseconds=5 phase=commit"), "{said}");
}

#[test]
fn a_model_request_is_recorded_with_its_prompt() {
    let answer = ModelAnswer {
        sandbox: sbx(1),
        model: "rehearsal".to_owned(),
        input_tokens: 10,
        output_tokens: 20,
        first_token_milliseconds: 3,
        milliseconds: 9,
    };
    let mut story = Story::running();
    let decision = story.say(Command::ModelAnswered(answer.clone()));
    let Event::ModelAnswered { prompt, input_tokens: 10, output_tokens: 20, .. } =
        &decision.events[0].1
    else {
        panic!("{decision:?}");
    };
    assert_eq!(*prompt, Some(prm(1)));
    let mut idle = Story::published();
    let decision = idle.say(Command::ModelAnswered(answer.clone()));
    assert!(matches!(decision.events[0].1, Event::ModelAnswered { prompt: None, .. }));
    let elsewhere = ModelAnswer { sandbox: sbx(2), ..answer };
    assert_eq!(story.refusal(Command::ModelAnswered(elsewhere)).code(), "stale");
}

#[test]
fn a_phase_measured_elsewhere_belongs_to_the_prompt_that_waits() {
    let image = Command::PhaseMeasured { phase: Phase::Image, milliseconds: 4 };
    let mut story = Story::created();
    story.expect(image.clone(), &["system phase_finished milliseconds=4 phase=image"]);
    let mut story = story.then([send(1)]);
    story.expect(image, &["system phase_finished milliseconds=4 phase=image prompt=p1"]);
}
