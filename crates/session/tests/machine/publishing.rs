//! From the agent's end to the pull request.

use protocol::agentd::Ending;
use protocol::session::PullRequestState;
use session::outstanding;

use super::support::{
    Story, cancelled, changed, committed, delivered, ended, ends, lines, not_committed,
    not_delivered, not_offered, not_pushed, nothing_to_commit, offered, pushed, ready, send,
    started, stop, synced,
};

#[test]
fn completed_work_becomes_a_pull_request() {
    let mut story = Story::running().wait(500);
    story.expect(
        ended(1, 1),
        &[
            "agent agent_ended outcome=completed prompt=p1",
            "system phase_finished milliseconds=500 phase=agent prompt=p1",
            "> commit p1 s1",
        ],
    );
    let mut story = story.wait(20);
    story.expect(
        committed(1, 1, "aaa"),
        &[
            "system committed commit=aaa files=1 prompt=p1 subject=Do it",
            "system phase_finished milliseconds=20 phase=commit prompt=p1",
            "> push p1 s1 aaa",
        ],
    );
    let mut story = story.wait(30);
    story.expect(
        pushed(1, 1, "aaa"),
        &[
            "system pushed branch=hangar/5e5510ff-try commit=aaa prompt=p1",
            "system phase_finished milliseconds=30 phase=push prompt=p1",
            "> offer p1 aaa as Ada",
        ],
    );
    let mut story = story.wait(40);
    let said = lines(&story.say(offered(1, "aaa")));
    assert!(said.starts_with("system pull_request_offered prompt=p1"), "{said}");
    assert!(
        said.ends_with(
            "system phase_finished milliseconds=40 phase=pull_request prompt=p1\n\
             system prompt_finished outcome=completed prompt=p1\n\
             > wake at +600590"
        ),
        "{said}"
    );
}

#[test]
fn committing_waits_for_the_sync() {
    let mut story =
        Story::created().then([send(1), started(1), ready(1), delivered(1, 1), ended(1, 1)]);
    assert_eq!(story.outstanding(), ["> sync s1 hangar/5e5510ff-try c0ffee"]);
    let said = lines(&story.say(synced(1)));
    assert!(said.ends_with("> commit p1 s1"), "{said}");
}

#[test]
fn a_prompt_that_changed_nothing_is_over() {
    let mut story = Story::committing();
    story.expect(
        nothing_to_commit(1, 1),
        &[
            "system nothing_to_commit prompt=p1",
            "system phase_finished milliseconds=0 phase=commit prompt=p1",
            "system prompt_finished outcome=completed prompt=p1",
            "> wake at +600000",
        ],
    );
}

#[test]
fn stopped_work_is_pushed_without_a_pull_request() {
    let mut story = Story::running().then([stop(), cancelled(1, 1), committed(1, 1, "aaa")]);
    story.expect(
        pushed(1, 1, "aaa"),
        &[
            "system pushed branch=hangar/5e5510ff-try commit=aaa prompt=p1",
            "system phase_finished milliseconds=0 phase=push prompt=p1",
            "system prompt_finished outcome=stopped:Bob prompt=p1",
            "> wake at +600000",
        ],
    );
}

#[test]
fn failed_work_is_pushed_without_a_pull_request() {
    let failed = Ending::Failed { reason: "confused".to_owned() };
    let mut story = Story::running().then([ends(1, 1, failed), committed(1, 1, "aaa")]);
    let said = lines(&story.say(pushed(1, 1, "aaa")));
    assert!(said.contains("prompt_finished outcome=failed:confused prompt=p1"), "{said}");
}

#[test]
fn an_open_pull_request_is_kept_up_to_date_whatever_the_outcome() {
    let mut story = Story::published().then([
        send(2),
        delivered(1, 2),
        stop(),
        cancelled(1, 2),
        committed(1, 2, "bbb"),
    ]);
    let said = lines(&story.say(pushed(1, 2, "bbb")));
    assert!(said.ends_with("> offer p2 bbb as Ada"), "{said}");
    let said = lines(&story.say(offered(2, "bbb")));
    assert!(said.contains("prompt_finished outcome=stopped:Bob prompt=p2"), "{said}");
}

#[test]
fn a_merged_pull_request_is_not_touched_by_a_stopped_prompt() {
    let mut story = Story::published();
    story.expect(
        changed(1, PullRequestState::Merged),
        &["system pull_request_changed number=1 state=merged"],
    );
    story.expect(changed(1, PullRequestState::Merged), &[""]);
    assert_eq!(story.refusal(changed(2, PullRequestState::Closed)).code(), "stale");
    let mut story =
        story.then([send(2), delivered(1, 2), stop(), cancelled(1, 2), committed(1, 2, "bbb")]);
    let said = lines(&story.say(pushed(1, 2, "bbb")));
    assert!(!said.contains("> offer"), "{said}");
}

// === failures ===

#[test]
fn a_failed_commit_fails_the_prompt_and_keeps_the_work() {
    let mut story = Story::committing();
    let reason = "the changes could not be committed: disk full; they are kept and go out with the \
                  next prompt";
    story.expect(
        not_committed(1, 1),
        &[
            &format!("system publish_failed prompt=p1 reason={reason}"),
            &format!("system prompt_finished outcome=failed:{reason} prompt=p1"),
            "> wake at +600000",
        ],
    );
}

#[test]
fn a_failed_push_goes_out_with_the_next_prompt_even_if_that_changes_nothing() {
    let mut story = Story::committing().then([committed(1, 1, "aaa")]);
    let said = lines(&story.say(not_pushed(1, 1)));
    assert!(
        said.contains("prompt_finished outcome=failed:the changes could not be pushed: no route")
    );
    let mut story = story.then([send(2), delivered(1, 2), ended(1, 2)]);
    let said = lines(&story.say(nothing_to_commit(1, 2)));
    assert!(said.ends_with("> push p2 s1 aaa"), "{said}");
    let said = lines(&story.say(pushed(1, 2, "aaa")));
    assert!(said.ends_with("> offer p2 aaa as Ada"), "{said}");
}

#[test]
fn a_pull_request_that_could_not_be_offered_is_offered_next_time() {
    let mut story = Story::committing().then([committed(1, 1, "aaa"), pushed(1, 1, "aaa")]);
    let said = lines(&story.say(not_offered(1)));
    assert!(said.contains("could not be offered as a pull request: the forge is full"), "{said}");
    let mut story = story.then([send(2), delivered(1, 2), ended(1, 2)]);
    let said = lines(&story.say(nothing_to_commit(1, 2)));
    assert!(said.ends_with("> offer p2 aaa as Ada"), "{said}");
}

#[test]
fn a_stopped_prompt_stays_stopped_when_publishing_fails() {
    let mut story = Story::running().then([stop(), cancelled(1, 1)]);
    let said = lines(&story.say(not_committed(1, 1)));
    assert!(said.contains("publish_failed") && said.contains("outcome=stopped:Bob"), "{said}");
}

#[test]
fn a_prompt_that_is_not_taken_fails() {
    let reason = "the prompt could not be given to the agent: the agent is gone";
    let mut story = Story::created().then([send(1), send(2), started(1), ready(1)]);
    story.expect(
        not_delivered(1, 1),
        &[&format!("system prompt_finished outcome=failed:{reason} prompt=p1"), "> deliver p2 s1"],
    );
    // In sync, so the answer may be wrong and the agent at work: the workspace is looked at.
    let mut story = story.then([synced(1)]);
    story.expect(
        not_delivered(1, 2),
        &[&format!("system agent_ended outcome=failed:{reason} prompt=p2"), "> commit p2 s1"],
    );
}

#[test]
fn a_stopped_prompt_that_is_not_taken_is_stopped() {
    let mut story = Story::created().then([send(1), started(1), stop()]);
    let said = lines(&story.say(not_delivered(1, 1)));
    assert!(said.contains("prompt_finished outcome=stopped:Bob prompt=p1"), "{said}");
    let running = Story::running();
    assert_eq!(running.refusal(not_delivered(1, 1)).code(), "stale", "it was taken");
}

#[test]
fn steps_out_of_turn_are_stale() {
    let running = Story::running();
    for command in [
        committed(1, 1, "aaa"),
        nothing_to_commit(1, 1),
        not_committed(1, 1),
        pushed(1, 1, "aaa"),
        not_pushed(1, 1),
        offered(1, "aaa"),
        not_offered(1),
        cancelled(1, 1),
    ] {
        assert_eq!(running.refusal(command).code(), "stale");
    }
    let committing = Story::committing();
    for command in [
        pushed(1, 1, "aaa"),
        offered(1, "aaa"),
        committed(1, 2, "aaa"),
        committed(2, 1, "aaa"),
        delivered(1, 1),
        cancelled(1, 1),
        ended(1, 1),
    ] {
        assert_eq!(committing.refusal(command).code(), "stale");
    }
    let published = Story::published();
    for command in [committed(1, 1, "aaa"), pushed(1, 1, "aaa"), offered(1, "aaa"), ended(1, 1)] {
        assert_eq!(published.refusal(command).code(), "stale");
    }
    assert_eq!(outstanding(&published.state).len(), 1, "only the alarm");
}
