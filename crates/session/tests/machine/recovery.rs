//! Sandboxes that are lost, servers that crash.

use protocol::agentd::Ending;
use protocol::event::Envelope;
use protocol::session::Actor;
use protocol::{Event, Timestamp};
use session::{Command, Policy, outstanding};

use super::support::{
    Story, cancelled, committed, delivered, ended, ends, insert, lines, lost, not_started, offered,
    pushed, ready, says, send, session, started, stop, synced,
};

#[test]
fn a_prompt_whose_sandbox_is_lost_is_delivered_again() {
    let mut story = Story::running().then([says(1, 1, "half done")]);
    story.expect(
        lost(1),
        &[
            "system sandbox_lost reason=killed sandbox=s1",
            "system sandbox_requested continues=s1 sandbox=s2",
            "> start s2 from s1",
        ],
    );
    story.expect(
        started(2),
        &[
            "system sandbox_started milliseconds=12",
            "system phase_finished milliseconds=12 phase=sandbox prompt=p1",
            "> agent s2",
            "> sync s2 hangar/5e5510ff-try c0ffee",
        ],
    );
    story.expect(
        ready(2),
        &["system agent_ready agent=built-in 0.1 milliseconds=5 sandbox=s2", "> deliver p1 s2"],
    );
    assert_eq!(story.refusal(says(1, 1, "a ghost")).code(), "stale");
    story.expect(delivered(2, 1), &["system prompt_started attempt=2 prompt=p1 sandbox=s2"]);
}

#[test]
fn a_prompt_that_loses_three_sandboxes_fails() {
    let mut story = Story::running().then([
        send(2),
        lost(1),
        started(2),
        synced(2),
        delivered(2, 1),
        lost(2),
        started(3),
    ]);
    story.expect(
        lost(3),
        &[
            "system sandbox_lost reason=killed sandbox=s3",
            "system prompt_finished outcome=failed:its sandbox was lost 3 times, the last time \
             because killed; what it changed is kept for the next prompt prompt=p1",
            "system sandbox_requested continues=s3 sandbox=s4",
            "> start s4 from s3",
        ],
    );
    story.say(started(4));
    let said = lines(&story.say(ready(4)));
    assert!(said.ends_with("> deliver p2 s4"), "{said}");
}

#[test]
fn a_new_start_that_fails_continues_from_the_files_that_there_are() {
    let mut story = Story::running().then([lost(1), not_started(2)]).wait(1000);
    story.expect(
        Command::Wake,
        &["system sandbox_requested continues=s1 sandbox=s3", "> start s3 from s1"],
    );
}

#[test]
fn a_running_prompt_fails_when_no_sandbox_can_be_had() {
    let story = Story::running().then([lost(1), not_started(2)]).wait(1000);
    let story = story.then([Command::Wake, not_started(3)]).wait(5000);
    let mut story = story.then([Command::Wake]);
    let said = lines(&story.say(not_started(4)));
    assert!(said.contains("prompt_finished outcome=failed:no sandbox could be started"), "{said}");
    assert_eq!(story.outstanding(), [""; 0]);
}

#[test]
fn work_is_committed_in_the_next_sandbox() {
    let mut story = Story::committing();
    let said = lines(&story.say(lost(1)));
    assert!(said.ends_with("> start s2 from s1"), "{said}");
    let mut story = story.then([started(2)]);
    assert_eq!(story.outstanding(), ["> agent s2", "> sync s2 hangar/5e5510ff-try c0ffee"]);
    let said = lines(&story.say(synced(2)));
    assert!(said.ends_with("> commit p1 s2"), "{said}");
    let mut story = story.then([committed(2, 1, "aaa"), lost(2), started(3)]);
    let said = lines(&story.say(synced(3)));
    assert!(said.ends_with("> push p1 s3 aaa"), "{said}");
}

#[test]
fn publishing_that_loses_three_sandboxes_fails() {
    let mut story =
        Story::committing().then([lost(1), started(2), synced(2), lost(2), started(3), synced(3)]);
    let said = lines(&story.say(lost(3)));
    assert!(
        said.contains("publish_failed prompt=p1 reason=its sandbox was lost 3 times"),
        "{said}"
    );
    assert!(said.contains("prompt_finished outcome=failed"), "{said}");
}

#[test]
fn offering_needs_no_sandbox() {
    let mut story = Story::committing().then([committed(1, 1, "aaa"), pushed(1, 1, "aaa")]);
    story.expect(lost(1), &["system sandbox_lost reason=killed sandbox=s1"]);
    assert_eq!(story.outstanding(), ["> offer p1 aaa as Ada"]);
    // The next prompt's sandbox is prepared meanwhile.
    let said = lines(&story.say(send(2)));
    assert!(said.ends_with("> start s2 from s1"), "{said}");
    let mut story = story.then([started(2), ready(2)]);
    let said = lines(&story.say(offered(1, "aaa")));
    assert!(said.ends_with("> deliver p2 s2"), "{said}");
}

#[test]
fn a_cancelled_prompt_ends_with_its_sandbox() {
    let mut story = Story::running().then([stop()]);
    story.expect(
        lost(1),
        &[
            "system sandbox_lost reason=killed sandbox=s1",
            "system agent_ended outcome=stopped:Bob prompt=p1",
            "system phase_finished milliseconds=0 phase=agent prompt=p1",
            "system sandbox_requested continues=s1 sandbox=s2",
            "> start s2 from s1",
        ],
    );
    let mut story = story.then([started(2)]);
    let said = lines(&story.say(synced(2)));
    assert!(said.ends_with("> commit p1 s2"), "its work is kept: {said}");
}

#[test]
fn a_stop_while_it_waits_for_its_second_sandbox_needs_no_agent() {
    let mut story = Story::running().then([lost(1)]);
    let said = lines(&story.say(stop()));
    assert!(said.contains("agent_ended outcome=stopped:Bob"), "{said}");
    let mut story = story.then([started(2)]);
    assert!(!story.outstanding().iter().any(|effect| effect.contains("deliver")));
    let said = lines(&story.say(synced(2)));
    assert!(said.ends_with("> commit p1 s2"), "{said}");
}

#[test]
fn an_insert_for_a_prompt_between_two_sandboxes_waits_for_the_second() {
    let mut story = Story::running().then([lost(1), insert(2), started(2)]);
    let said = lines(&story.say(delivered(2, 1)));
    assert!(said.ends_with("> cancel p1 s2"), "{said}");
}

#[test]
fn an_agent_done_before_the_insert_reached_it_is_done() {
    let mut story = Story::running().then([insert(2)]);
    let said = lines(&story.say(ended(1, 1)));
    assert!(said.contains("agent_ended outcome=completed"), "{said}");
    let mut story = Story::running().then([insert(2)]);
    let failed = Ending::Failed { reason: "killed".to_owned() };
    let said = lines(&story.say(ends(1, 1, failed)));
    assert!(said.contains("agent_ended outcome=superseded"), "{said}");
}

#[test]
fn an_end_that_nobody_asked_for_is_a_failure() {
    let mut story = Story::running();
    let said = lines(&story.say(ends(1, 1, Ending::Cancelled)));
    assert!(said.contains("outcome=failed:the agent gave up the prompt"), "{said}");
}

/// Every step of a whole story, each with a crash after it.
#[test]
fn after_a_crash_the_same_is_to_be_done() {
    let commands = [
        send(1),
        started(1),
        synced(1),
        ready(1),
        delivered(1, 1),
        send(2),
        insert(3),
        cancelled(1, 1),
        lost(1),
        started(2),
        synced(2),
        committed(2, 1, "aaa"),
        pushed(2, 1, "aaa"),
        delivered(2, 3),
        ended(2, 3),
        committed(2, 3, "bbb"),
        pushed(2, 3, "bbb"),
        offered(3, "bbb"),
        delivered(2, 2),
        stop(),
        cancelled(2, 2),
    ];
    let mut story = Story::created();
    for command in commands {
        story.say(command);
        let replayed = story.replayed(Policy::default());
        assert_eq!(replayed, story.state);
        assert_eq!(outstanding(&replayed), outstanding(&story.state));
        // Looking at it once more after the start finds nothing to add.
        let decision = story.say(Command::Wake);
        assert!(decision.events.is_empty(), "{}", lines(&decision));
        story.state = replayed;
    }
}

#[test]
fn an_event_of_a_newer_version_is_passed_over() {
    let mut story = Story::running();
    let sequence = story.state.sequence() + 1;
    let event = Event::Unknown(serde_json::json!({"type": "tea_served", "cups": 2}));
    let before = story.outstanding();
    let actor = Actor::System;
    let at = Timestamp(1_000_001);
    story.state.apply(&Envelope { session: session(), sequence, at, actor, report: None, event });
    assert_eq!(story.state.sequence(), sequence);
    assert_eq!(story.outstanding(), before);
}
