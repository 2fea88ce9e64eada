//! A sandbox that says too much.

use protocol::Event;
use protocol::agentd::Report;
use session::{Command, Policy};

use super::support::{
    Story, create, delivered, ended, lines, nothing_to_commit, ready, reported, says, sbx, send,
    started, synced,
};

fn story(recorded_events: u32, recorded_bytes: u64) -> Story {
    Story::with(Policy { recorded_events, recorded_bytes, ..Policy::default() }).then([
        create(),
        send(1),
        started(1),
        ready(1),
        synced(1),
        delivered(1, 1),
    ])
}

#[test]
fn a_flood_is_recorded_up_to_its_limit_and_told_once() {
    let mut story = story(5, 1 << 30);
    for _ in 0..5 {
        story.expect(says(1, 1, "drip"), &["agent agent_message prompt=p1 text=drip"]);
    }
    let said = lines(&story.say(says(1, 1, "drop")));
    assert!(said.starts_with("system notice prompt=p1 text=more than 5 events"), "{said}");
    for _ in 0..50 {
        story.expect(says(1, 1, "drop"), &[""]);
    }
    let said = lines(&story.say(ended(1, 1)));
    assert!(said.starts_with("agent agent_ended outcome=completed"), "the end is heard: {said}");
}

#[test]
fn a_few_long_texts_are_a_flood_too() {
    let mut story = story(1000, 10_000);
    let text = "w".repeat(4000);
    for _ in 0..3 {
        assert_eq!(story.say(says(1, 1, &text)).events.len(), 1);
    }
    let said = lines(&story.say(says(1, 1, &text)));
    assert!(said.starts_with("system notice"), "{said}");
    story.expect(says(1, 1, "small"), &[""]);
}

#[test]
fn the_next_prompt_is_heard_again() {
    let mut story = story(2, 1 << 30);
    for _ in 0..10 {
        story.say(says(1, 1, "drip"));
    }
    let mut story = story.then([send(2), ended(1, 1), nothing_to_commit(1, 1), delivered(1, 2)]);
    story.expect(says(1, 2, "hello"), &["agent agent_message prompt=p2 text=hello"]);
}

#[test]
fn an_agents_own_notice_does_not_hide_ours() {
    let mut story = story(2, 1 << 30);
    let notice = || reported(1, Report::Notice { prompt: None, text: "psst".to_owned() });
    for _ in 0..2 {
        story.expect(notice(), &["agent notice text=psst"]);
    }
    let said = lines(&story.say(notice()));
    assert!(said.starts_with("system notice prompt=p1 text=more than 2 events"), "{said}");
}

#[test]
fn refusals_of_the_gateway_between_prompts_are_a_flood_as_well() {
    let mut story = story(4, 1 << 30).then([ended(1, 1), nothing_to_commit(1, 1)]);
    let denied = || Command::Denied {
        sandbox: sbx(1),
        what: "example.org".to_owned(),
        reason: "no".to_owned(),
    };
    let recorded: usize = (0..100).map(|_| story.say(denied()).events.len()).sum();
    assert_eq!(recorded, 5, "four and a notice");
    let notices = story.journal.iter().filter(|it| matches!(it.event, Event::Notice { .. }));
    assert_eq!(notices.count(), 1);
}

#[test]
fn a_flood_is_remembered_across_a_crash() {
    let mut story = story(3, 1 << 30);
    for _ in 0..4 {
        story.say(says(1, 1, "drip"));
    }
    let policy = Policy { recorded_events: 3, recorded_bytes: 1 << 30, ..Policy::default() };
    story.state = story.replayed(policy);
    story.expect(says(1, 1, "drop"), &[""]);
}
