//! The sandbox's own life: asked for, up, lost, stopped; its agent and its sync.

use protocol::Refusal;
use session::{Command, Policy, outstanding};

use super::support::{
    Story, cancelled, committed, delivered, ended, lines, lost, no_agent, not_started, not_synced,
    nothing_to_commit, prm, pushed, ready, sbx, send, started, stop, stopped, synced,
};

#[test]
fn agent_and_sync_begin_when_the_sandbox_is_up_and_delivery_when_the_agent_is() {
    let mut story = Story::created().then([send(1)]);
    story.expect(
        started(1),
        &[
            "system sandbox_started milliseconds=12",
            "system phase_finished milliseconds=12 phase=sandbox prompt=p1",
            "> agent s1",
            "> sync s1 hangar/5e5510ff-try c0ffee",
        ],
    );
    story.expect(
        ready(1),
        &["system agent_ready agent=built-in 0.1 milliseconds=5 sandbox=s1", "> deliver p1 s1"],
    );
}

#[test]
fn the_steps_of_preparing_come_in_any_order() {
    let mut story = Story::created().then([send(1), started(1)]);
    story.expect(
        synced(1),
        &[
            "system workspace_synced commit=c0ffee milliseconds=7 sandbox=s1",
            "system phase_finished milliseconds=7 phase=sync prompt=p1",
        ],
    );
    story.expect(delivered(1, 1), &["system prompt_started attempt=1 prompt=p1 sandbox=s1"]);
    story.expect(ready(1), &["system agent_ready agent=built-in 0.1 milliseconds=5 sandbox=s1"]);
    assert_eq!(outstanding(&story.state), []);
}

#[test]
fn an_answer_given_twice_is_recorded_once() {
    let mut story = Story::running();
    for command in [started(1), synced(1), ready(1), delivered(1, 1)] {
        story.expect(command, &[""]);
    }
}

#[test]
fn another_sandbox_is_stale() {
    let story = Story::running();
    for command in [started(2), not_started(1), lost(2), stopped(2), synced(2), ready(2)] {
        let refusal = story.refusal(command);
        assert!(matches!(refusal, Refusal::Stale { .. }), "{refusal}");
        assert!(refusal.to_string().contains("sbx_"), "{refusal}");
    }
    for command in [delivered(2, 1), cancelled(2, 1), not_synced(2), no_agent(2)] {
        assert_eq!(story.refusal(command).code(), "stale");
    }
    assert_eq!(story.refusal(not_synced(1)).code(), "stale", "it is in sync");
    assert_eq!(story.refusal(no_agent(1)).code(), "stale", "the agent is there");
}

#[test]
fn ids_of_sandboxes_are_derived_and_differ() {
    let ids: std::collections::BTreeSet<_> = (0..5000).map(sbx).collect();
    assert_eq!(ids.len(), 5000);
    assert_eq!(sbx(3), sbx(3));
    assert_ne!(sbx(1).short(), sbx(2).short());
    let other = protocol::SessionId::from_bytes([0x5f; 16]);
    assert!(!ids.contains(&session::sandbox_id(other, 1)));
}

// === a start that fails ===

#[test]
fn a_failed_start_is_tried_again_after_a_pause() {
    let mut story = Story::created().then([send(1)]);
    story.expect(
        not_started(1),
        &["system sandbox_failed reason=no namespaces sandbox=s1", "> wake at +1000"],
    );
    // Rung too early: the alarm is set again.
    story.expect(Command::Wake, &["> wake at +1000"]);
    let mut story = story.wait(1000);
    story.expect(Command::Wake, &["system sandbox_requested sandbox=s2", "> start s2"]);
    story.expect(
        not_started(2),
        &["system sandbox_failed reason=no namespaces sandbox=s2", "> wake at +6000"],
    );
}

#[test]
fn after_three_failed_starts_the_prompt_fails_and_the_next_one_tries() {
    let story = Story::created().then([send(1), send(2), not_started(1)]);
    let story = story.wait(1000).then([Command::Wake, not_started(2)]);
    let mut story = story.wait(5000).then([Command::Wake]);
    story.expect(
        not_started(3),
        &[
            "system sandbox_failed reason=no namespaces sandbox=s3",
            "system prompt_finished outcome=failed:no sandbox could be started in 3 attempts, the \
             last time because no namespaces prompt=p1",
            "system sandbox_requested sandbox=s4",
            "> start s4",
        ],
    );
    story.say(started(4));
    let said = lines(&story.say(ready(4)));
    assert!(said.contains("> deliver p2 s4"), "{said}");
}

#[test]
fn a_prompt_sent_during_the_pause_waits_for_it_too() {
    let mut story = Story::created().then([send(1), not_started(1)]);
    story.expect(send(2), &["Ada prompt_accepted delivery=queue prompt=p2 text=do it"]);
    assert_eq!(story.outstanding(), ["> wake at +1000"]);
}

#[test]
fn any_command_after_the_pause_ends_it() {
    let mut story = Story::created().then([send(1), not_started(1)]).wait(1500);
    story.expect(
        send(2),
        &[
            "Ada prompt_accepted delivery=queue prompt=p2 text=do it",
            "system sandbox_requested sandbox=s2",
            "> start s2",
        ],
    );
}

#[test]
fn one_that_vanishes_before_it_answers_failed_to_start() {
    let mut story = Story::created().then([send(1)]);
    story.expect(lost(1), &["system sandbox_failed reason=killed sandbox=s1", "> wake at +1000"]);
    let mut story = Story::created().then([send(1)]);
    story.expect(
        stopped(1),
        &["system sandbox_failed reason=it was stopped from outside sandbox=s1", "> wake at +1000"],
    );
}

#[test]
fn a_stop_ends_the_waiting_for_a_sandbox() {
    let mut story = Story::created().then([send(1), not_started(1)]);
    story.expect(
        stop(),
        &[
            "Bob stop_requested by=Bob prompt=p1",
            "system prompt_finished outcome=stopped:Bob prompt=p1",
        ],
    );
    assert_eq!(story.outstanding(), [""; 0]);
}

#[test]
fn a_patient_policy_tries_longer() {
    let policy = Policy { start_attempts: 5, start_pauses: [10, 20], ..Policy::default() };
    let mut story = Story::with(policy).then([super::support::create(), send(1)]);
    for number in 1..5 {
        let decision = story.say(not_started(number));
        assert_eq!(decision.events.len(), 1, "{}", lines(&decision));
        story = story.wait(20);
        story.say(Command::Wake);
    }
    let said = lines(&story.say(not_started(5)));
    assert!(said.contains("in 5 attempts"), "{said}");
}

// === agent and sync ===

#[test]
fn a_failed_sync_fails_the_prompt_and_gives_up_the_sandbox() {
    let mut story =
        Story::created().then([send(1), send(2), started(1), ready(1), delivered(1, 1)]);
    story.expect(
        not_synced(1),
        &[
            "system workspace_sync_failed reason=the repository could not be synced: no such commit \
             sandbox=s1",
            "system sandbox_stop_requested reason=the repository could not be synced: no such \
             commit sandbox=s1",
            "system prompt_finished outcome=failed:the repository could not be synced: no such \
             commit prompt=p1",
            "> stop s1: the repository could not be synced: no such commit",
        ],
    );
    // Whatever the agent still says is over; the next prompt waits until it is really gone.
    assert_eq!(story.refusal(ended(1, 1)).code(), "stale");
    story.expect(
        stopped(1),
        &[
            "system sandbox_stopped reason=the repository could not be synced: no such commit \
             sandbox=s1",
            "system sandbox_requested continues=s1 sandbox=s2",
            "> start s2 from s1",
        ],
    );
}

#[test]
fn a_sync_that_fails_under_finished_work_keeps_the_work() {
    let mut story =
        Story::created().then([send(1), started(1), ready(1), delivered(1, 1), ended(1, 1)]);
    assert_eq!(story.outstanding(), ["> sync s1 hangar/5e5510ff-try c0ffee"]);
    let said = lines(&story.say(not_synced(1)));
    assert!(said.contains("publish_failed"), "{said}");
    assert!(said.contains("prompt_finished outcome=failed:the repository"), "{said}");
    assert!(said.ends_with("> stop s1: the repository could not be synced: no such commit"));
}

#[test]
fn an_agent_that_does_not_start_fails_the_prompt() {
    let mut story = Story::created().then([send(1), started(1), synced(1)]);
    story.expect(
        no_agent(1),
        &[
            "system sandbox_stop_requested reason=the agent could not be started: no such program \
             sandbox=s1",
            "system prompt_finished outcome=failed:the agent could not be started: no such program \
             prompt=p1",
            "> stop s1: the agent could not be started: no such program",
        ],
    );
}

#[test]
fn an_agent_that_does_not_start_lets_a_stopped_prompt_be_stopped() {
    let mut story = Story::created().then([send(1), started(1), stop()]);
    let said = lines(&story.say(no_agent(1)));
    assert!(said.contains("prompt_finished outcome=stopped:Bob prompt=p1"), "{said}");
}

// === idle ===

#[test]
fn an_idle_sandbox_is_stopped_after_ten_minutes_and_continued_later() {
    let mut story = Story::committing();
    let said = lines(&story.say(nothing_to_commit(1, 1)));
    assert!(said.ends_with("> wake at +600000"), "{said}");
    let mut story = story.wait(599_999);
    story.expect(Command::Wake, &["> wake at +600000"]);
    let mut story = story.wait(1);
    story.expect(
        Command::Wake,
        &[
            "system sandbox_stop_requested reason=nothing was to do for 10 minutes sandbox=s1",
            "> stop s1: nothing was to do for 10 minutes",
        ],
    );
    // A prompt that comes too late waits for the end of the old one.
    story.expect(send(2), &["Ada prompt_accepted delivery=queue prompt=p2 text=do it"]);
    story.expect(
        stopped(1),
        &[
            "system sandbox_stopped reason=nothing was to do for 10 minutes sandbox=s1",
            "system sandbox_requested continues=s1 sandbox=s2",
            "> start s2 from s1",
        ],
    );
}

#[test]
fn a_prompt_ends_the_idling() {
    let mut story = Story::committing().then([nothing_to_commit(1, 1)]).wait(599_000);
    let said = lines(&story.say(send(2)));
    assert!(said.ends_with("> deliver p2 s1"), "{said}");
    let mut story = story.wait(600_000);
    story.expect(Command::Wake, &[""]);
}

#[test]
fn a_sandbox_whose_prompt_was_stopped_idles_from_its_start() {
    let mut story = Story::created().then([send(1), stop()]).wait(50);
    let said = lines(&story.say(started(1)));
    assert!(said.ends_with("> wake at +600050"), "{said}");
    assert!(said.contains("> agent s1"), "it is made ready for the next prompt: {said}");
    assert_eq!(story.state.current_prompt(), None);
}

#[test]
fn an_idle_sandbox_that_is_lost_is_not_replaced() {
    let mut story = Story::published();
    story.expect(lost(1), &["system sandbox_lost reason=killed sandbox=s1"]);
    assert_eq!(story.outstanding(), [""; 0]);
    assert_eq!(story.state.files(), Some(sbx(1)));
    let said = lines(&story.say(send(2)));
    assert!(said.ends_with("> start s2 from s1"), "{said}");
}

#[test]
fn one_that_is_lost_while_stopping_is_gone_all_the_same() {
    let mut story = Story::published().then([Command::Park, send(2)]);
    story.expect(
        lost(1),
        &[
            "system sandbox_lost reason=killed sandbox=s1",
            "system sandbox_requested continues=s1 sandbox=s2",
            "> start s2 from s1",
        ],
    );
    let mut story = story.then([started(2), synced(2), ready(2), delivered(2, 2), ended(2, 2)]);
    let said = lines(&story.say(committed(2, 2, "bbb")));
    assert!(said.ends_with("> push p2 s2 bbb"), "{said}");
    let said = lines(&story.say(pushed(2, 2, "bbb")));
    assert!(said.contains("> offer p2 bbb as Ada"), "{said}");
    assert_eq!(story.state.current_prompt(), Some(prm(2)));
}
