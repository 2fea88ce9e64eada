//! Every story there is, as long as it is short: no luck needed.

use session::{Command, Effect, State, decide, outstanding};

use super::support::{
    Story, cancelled, committed, delivered, ended, insert, lost, not_started, nothing_to_commit,
    offered, pushed, ready, send, started, stop, stopped, synced, withdraw,
};

/// A few of everything, about two prompts in two sandboxes.
fn alphabet() -> Vec<Command> {
    vec![
        send(1),
        insert(2),
        withdraw(1),
        stop(),
        Command::Park,
        started(1),
        started(2),
        not_started(1),
        lost(1),
        stopped(1),
        synced(1),
        ready(1),
        delivered(1, 1),
        delivered(2, 1),
        delivered(1, 2),
        ended(1, 1),
        cancelled(1, 1),
        nothing_to_commit(1, 1),
        committed(1, 1, "aaa"),
        pushed(1, 1, "aaa"),
        offered(1, "aaa"),
        Command::Wake,
    ]
}

/// Follows every sequence of so many commands from here; returns how many steps were not refused.
fn explore(story: &Story, depth: u32) -> u64 {
    if depth == 0 {
        return 0;
    }
    let mut taken = 0;
    for command in alphabet() {
        let mut next = story.clone();
        let shown = format!("{command:?}");
        match next.try_say(command) {
            Err(refusal) => assert!(!refusal.to_string().is_empty()),
            Ok(decision) if decision.events.is_empty() => {}
            Ok(_) => {
                check(&next, &shown);
                taken += 1 + explore(&next, depth - 1);
            }
        }
    }
    taken
}

fn check(story: &Story, last: &str) {
    let replayed = story.replayed(session::Policy::default());
    assert_eq!(replayed, story.state, "after {last}");
    settled(&story.state, last);
    let effects = outstanding(&story.state);
    let works = effects.iter().filter(|effect| {
        !matches!(
            effect,
            Effect::StartAgent { .. } | Effect::SyncWorkspace { .. } | Effect::WakeAt(_)
        )
    });
    let works = works.count();
    // A pull request is offered while the next sandbox is prepared; nothing else goes in parallel.
    let offers = effects.iter().any(|effect| matches!(effect, Effect::OfferPullRequest { .. }));
    assert!(works <= 1 + usize::from(offers), "after {last}: {effects:?}");
}

/// Nothing follows from a decided state by itself: what follows was decided with it.
fn settled(state: &State, last: &str) {
    let at = state.summary().map(|summary| summary.updated_at).unwrap_or_default();
    let decision = decide(state, Command::Wake, at).expect("waking is never refused");
    assert_eq!(decision.events, [], "after {last}");
}

#[test]
fn every_short_story() {
    let pushing = Story::committing().then([committed(1, 1, "aaa")]);
    let offering = pushing.clone().then([pushed(1, 1, "aaa")]);
    let table = [
        ("created", Story::created(), 7),
        ("running", Story::running(), 7),
        ("committing", Story::committing(), 7),
        ("pushing", pushing, 7),
        ("offering", offering, 7),
    ];
    for (stage, story, depth) in table {
        let taken = explore(&story, depth);
        // Far fewer would mean that the alphabet no longer fits the machine.
        assert!(taken > 100, "only {taken} steps from {stage}");
    }
}
