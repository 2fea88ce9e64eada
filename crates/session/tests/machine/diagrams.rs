//! The diagrams at the top of the crate, as tables, against random stories.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use protocol::event::Envelope;
use protocol::{Event, PromptId, SandboxId};

use super::properties::journals;

/// What may follow what in the life of a prompt; `""` is its end.
const PROMPT: &[(&str, &[&str])] = &[
    (
        "PromptAccepted",
        &["PromptWithdrawn", "PromptStarted", "StopRequested", "AgentEnded", "PromptFinished"],
    ),
    ("PromptWithdrawn", &[""]),
    // Once more after SandboxLost.
    ("PromptStarted", &["PromptStarted", "StopRequested", "AgentEnded", "PromptFinished"]),
    ("StopRequested", &["PromptStarted", "AgentEnded", "PromptFinished"]),
    ("AgentEnded", &["Committed", "NothingToCommit", "PublishFailed"]),
    ("Committed", &["Pushed", "PublishFailed"]),
    ("NothingToCommit", &["Pushed", "PullRequestOffered", "PublishFailed", "PromptFinished"]),
    ("Pushed", &["PullRequestOffered", "PublishFailed", "PromptFinished"]),
    ("PullRequestOffered", &["PromptFinished"]),
    ("PublishFailed", &["PromptFinished"]),
    ("PromptFinished", &[""]),
];

/// What may follow what in the life of a sandbox.
const SANDBOX: &[(&str, &[&str])] = &[
    ("SandboxRequested", &["SandboxStarted", "SandboxFailed"]),
    ("SandboxFailed", &[""]),
    ("SandboxStarted", &["SandboxLost", "SandboxStopRequested"]),
    ("SandboxStopRequested", &["SandboxStopped", "SandboxLost"]),
    ("SandboxLost", &[""]),
    ("SandboxStopped", &[""]),
];

fn of_prompt(event: &Event) -> Option<(PromptId, &'static str)> {
    Some(match event {
        Event::PromptAccepted { prompt, .. } => (*prompt, "PromptAccepted"),
        Event::PromptWithdrawn { prompt } => (*prompt, "PromptWithdrawn"),
        Event::PromptStarted { prompt, .. } => (*prompt, "PromptStarted"),
        Event::StopRequested { prompt, .. } => (*prompt, "StopRequested"),
        Event::AgentEnded { prompt, .. } => (*prompt, "AgentEnded"),
        Event::Committed { prompt, .. } => (*prompt, "Committed"),
        Event::NothingToCommit { prompt } => (*prompt, "NothingToCommit"),
        Event::Pushed { prompt, .. } => (*prompt, "Pushed"),
        Event::PublishFailed { prompt, .. } => (*prompt, "PublishFailed"),
        Event::PullRequestOffered { prompt, .. } => (*prompt, "PullRequestOffered"),
        Event::PromptFinished { prompt, .. } => (*prompt, "PromptFinished"),
        _ => return None,
    })
}

fn of_sandbox(event: &Event) -> Option<(SandboxId, &'static str)> {
    Some(match event {
        Event::SandboxRequested { sandbox, .. } => (*sandbox, "SandboxRequested"),
        Event::SandboxStarted { description, .. } => (description.id, "SandboxStarted"),
        Event::SandboxFailed { sandbox, .. } => (*sandbox, "SandboxFailed"),
        Event::SandboxLost { sandbox, .. } => (*sandbox, "SandboxLost"),
        Event::SandboxStopRequested { sandbox, .. } => (*sandbox, "SandboxStopRequested"),
        Event::SandboxStopped { sandbox, .. } => (*sandbox, "SandboxStopped"),
        _ => return None,
    })
}

/// The steps that a table does not have.
fn strangers<Id: Ord + Copy + std::fmt::Debug>(
    journal: &[Envelope],
    table: &[(&str, &[&str])],
    of: fn(&Event) -> Option<(Id, &'static str)>,
) -> BTreeSet<String> {
    let mut last: BTreeMap<Id, &'static str> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for (id, now) in journal.iter().filter_map(|envelope| of(&envelope.event)) {
        let before = last.insert(id, now);
        let drawn = match before {
            None => table.first().is_some_and(|first| first.0 == now),
            Some(before) => table.iter().any(|row| row.0 == before && row.1.contains(&now)),
        };
        if !drawn {
            found.insert(format!("{id:?}: {} → {now}", before.unwrap_or("nothing")));
        }
    }
    found
}

#[test]
fn the_diagrams_name_every_event_of_the_tables() {
    let source = include_str!("../../src/lib.rs");
    let drawn: String = source.lines().filter(|line| line.starts_with("//!")).collect();
    let words = PROMPT.iter().chain(SANDBOX).map(|row| row.0);
    // A withdrawal is drawn by its command, which says the same.
    for word in words.filter(|word| *word != "PromptWithdrawn") {
        assert!(drawn.contains(word), "{word} is not in the diagram");
    }
    assert!(drawn.contains("withdrawn"));
}

#[test]
fn every_row_is_reached_by_another_one() {
    for table in [PROMPT, SANDBOX] {
        for (row, _) in &table[1..] {
            assert!(table.iter().any(|(_, next)| next.contains(row)), "{row}");
        }
        for next in table.iter().flat_map(|(_, next)| *next).filter(|next| !next.is_empty()) {
            assert!(table.iter().any(|(row, _)| row == next), "{next} has no row");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn prompts_and_sandboxes_live_as_drawn(journal in journals()) {
        prop_assert_eq!(strangers(&journal, PROMPT, of_prompt), BTreeSet::new());
        prop_assert_eq!(strangers(&journal, SANDBOX, of_sandbox), BTreeSet::new());
    }
}
