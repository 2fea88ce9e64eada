//! A PID 1 that is not agentd reports to a whole server what never happened.
//!
//! What the host believes does not depend on the wall, so the weakest is enough.

use protocol::sandbox::Isolation;
use protocol::session::PromptOutcome;
use protocol::{Envelope, Event};

use crate::server::{Server, git};
use crate::support::attempt::{Attempt, Group, Outcome};
use crate::support::world::World;

pub(super) const ATTEMPTS: &[Attempt] = &[
    attempt(
        "reports-of-other-prompts",
        "reports messages and the end of a prompt that is not its own",
        "nothing of it is recorded, and its own prompt goes on",
        other_prompts,
    ),
    attempt(
        "report-numbers",
        "numbers reports with jumps, zero, 2^64-1, and repeats one a hundred times",
        "what is out of order is dropped, and what is repeated is recorded once",
        numbers,
    ),
    attempt(
        "ends-twice",
        "ends a prompt, goes on talking, and ends it again",
        "it ends once, and nothing is recorded after its end",
        ends_twice,
    ),
    attempt(
        "false-commit",
        "claims a commit that was never made, in a path outside, and that it was pushed",
        "the session says what is wrong; no pull request, and no branch on the forge",
        false_commit,
    ),
    attempt(
        "odd-commit",
        "names a commit like an option of git, with terminal escapes as its subject",
        "the session says what is wrong; no pull request, and no branch on the forge",
        odd_commit,
    ),
    attempt(
        "large-reports",
        "reports fifty messages of a megabyte each",
        "each is recorded up to its bound, and the server stays small",
        large,
    ),
    attempt(
        "reports-that-are-none",
        "sends bytes that are no report, and closes the connection",
        "the server asks again, and its prompts still end",
        no_json,
    ),
];

const fn attempt(
    name: &'static str,
    tries: &'static str,
    expected: &'static str,
    run: fn(&World) -> Outcome,
) -> Attempt {
    Attempt { name, group: Group::Abuse, tries, expected, levels: &[Isolation::Namespaces], run }
}

/// Everything that a session with one trick records until it has ended and said all it says.
fn events(world: &World, server: &Server, trick: &str) -> Vec<Envelope> {
    world.block_on(async {
        let repository = server.repository(trick).await;
        let session = server.session(&repository, &format!("@hostile {trick}")).await.summary.id;
        let finished = |event: &Event| matches!(event, Event::PromptFinished { .. });
        let mut all = server.until(session, 0, finished).await;
        // A second prompt comes after whatever the first one's lies led to.
        let prompt = server.send(session, "@hostile nothing").await.prompt;
        let second = |event: &Event| {
            matches!(event, Event::PromptFinished { prompt: ended, .. } if *ended == prompt)
        };
        let after = all.last().map_or(0, |last| last.sequence);
        all.extend(server.until(session, after, second).await);
        all
    })
}

fn messages(events: &[Envelope]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|envelope| match &envelope.event {
            Event::AgentMessage { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

fn endings(events: &[Envelope]) -> Vec<&PromptOutcome> {
    events
        .iter()
        .filter_map(|envelope| match &envelope.event {
            Event::PromptFinished { outcome, .. } => Some(outcome),
            _ => None,
        })
        .collect()
}

fn other_prompts(world: &World) -> Outcome {
    let events = events(world, world.hostile_server(), "other-prompts");
    let (said, ended) = (messages(&events), endings(&events).len());
    Outcome::check(said.is_empty() && ended == 2, format!("{said:?}, {ended} prompts ended"))
}

fn numbers(world: &World) -> Outcome {
    let events = events(world, world.hostile_server(), "numbers");
    let said = messages(&events);
    Outcome::check(said == ["said once"], format!("{said:?}"))
}

fn ends_twice(world: &World) -> Outcome {
    let events = events(world, world.hostile_server(), "end-twice");
    let (said, ended) = (messages(&events), endings(&events).len());
    Outcome::check(said.is_empty() && ended == 2, format!("{said:?}, {ended} prompts ended"))
}

fn false_commit(world: &World) -> Outcome {
    commit(world, "false-commit")
}

fn odd_commit(world: &World) -> Outcome {
    commit(world, "odd-commit")
}

fn commit(world: &World, trick: &str) -> Outcome {
    let server = world.hostile_server();
    let events = events(world, server, trick);
    let told: Vec<&Event> = events
        .iter()
        .map(|envelope| &envelope.event)
        .filter(|event| matches!(event, Event::PublishFailed { .. }))
        .collect();
    let believed = events.iter().any(|envelope| {
        matches!(envelope.event, Event::Pushed { .. } | Event::PullRequestOffered { .. })
    });
    let forge = server.data().join(format!("forge/local/{trick}.git"));
    let branches = git(&forge, &["for-each-ref", "--format=%(refname)", "refs/heads"]);
    let none = branches == "refs/heads/main";
    Outcome::check(!told.is_empty() && !believed && none, format!("{told:?}; {branches}"))
}

fn large(world: &World) -> Outcome {
    let server = world.hostile_server();
    let events = events(world, server, "large");
    let said = messages(&events);
    let longest = said.iter().map(|text| text.len()).max().unwrap_or(0);
    let peak = crate::server::memory_peak(server.pid());
    let bounded = longest <= protocol::limits::RECORDED_TEXT_BYTES && peak < 512 << 20;
    let seen = format!("{} of at most {longest} bytes, peak {} MiB", said.len(), peak >> 20);
    Outcome::check(bounded && said.len() == 50, seen)
}

fn no_json(world: &World) -> Outcome {
    let events = events(world, world.hostile_server(), "no-json");
    let ended = endings(&events).len();
    Outcome::check(ended == 2, format!("{ended} prompts ended"))
}
