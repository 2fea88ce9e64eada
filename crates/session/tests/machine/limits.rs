//! What happens when a sandbox wants more than its limits give.

use protocol::sandbox::{Consequence, LimitName};
use session::{Command, Policy};

use super::support::{Story, delivered, hit, lost, over, ready, send, started, stopped, synced};

fn throttled(limit: LimitName) -> Command {
    hit(1, limit, Consequence::Throttled)
}

#[test]
fn a_sandbox_over_its_limit_is_stopped_and_its_prompt_fails_with_the_reason() {
    let mut story = Story::running();
    let reason = "it exceeded its run time limit of 1 min 4 s: it took more; its files are kept: \
                  have the limit raised, or ask for less";
    story.expect(
        over(1),
        &[
            "system limit_exceeded consequence=ended limit=run_time maximum=64 sandbox=s1 usage=70",
            &format!("system sandbox_stop_requested reason={reason} sandbox=s1"),
            &format!("system prompt_finished outcome=failed:{reason} prompt=p1"),
            &format!("> stop s1: {reason}"),
        ],
    );
    story.expect(over(1), &[""]);
    story.expect(stopped(1), &[&format!("system sandbox_stopped reason={reason} sandbox=s1")]);
}

#[test]
fn the_next_prompt_continues_the_files_of_a_sandbox_that_was_ended() {
    let mut story = Story::running().then([over(1), stopped(1)]);
    let said = story.say(send(2));
    let asked = said.events.iter().any(|(_, event)| {
        matches!(event, protocol::Event::SandboxRequested { continues: Some(it), .. }
            if *it == super::support::sbx(1))
    });
    assert!(asked, "{said:?}");
}

#[test]
fn a_flood_of_hits_is_told_of_ever_less_often() {
    let told = |story: &mut Story| !story.say(throttled(LimitName::Pids)).events.is_empty();
    let mut story = Story::running();
    assert!(told(&mut story));
    assert!(!told(&mut story));
    // Another limit is other news.
    assert!(!story.say(throttled(LimitName::Memory)).events.is_empty());
    let minute = Policy::default().limit_milliseconds;
    for pause in [1, 2, 4, 8, 16, 32, 64, 64] {
        story = story.wait(minute * pause - 1);
        assert!(!told(&mut story), "before {pause} minutes");
        story = story.wait(1);
        assert!(told(&mut story), "after {pause} minutes");
    }
}

#[test]
fn a_new_sandbox_has_hit_nothing_yet() {
    let mut story = Story::running().then([throttled(LimitName::Memory), lost(1)]);
    let again = [started(2), ready(2), synced(2), delivered(2, 1)];
    story = story.then(again);
    let hit = story.say(hit(2, LimitName::Memory, Consequence::Throttled));
    assert_eq!(hit.events.len(), 1);
}

#[test]
fn the_reason_may_come_after_the_end() {
    let mut story = Story::running().then([lost(1)]);
    story.expect(
        hit(1, LimitName::Memory, Consequence::Ended),
        &["system limit_exceeded consequence=ended limit=memory maximum=64 sandbox=s1 usage=70"],
    );
    let stale = story.refusal(hit(1, LimitName::Memory, Consequence::Throttled));
    assert_eq!(stale.code(), "stale");
}
