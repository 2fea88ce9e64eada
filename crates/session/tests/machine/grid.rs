//! Which news is heard at which stage: every command against every stage, at one glance.

use protocol::sandbox::{Consequence, LimitName};
use protocol::session::PullRequestState;
use session::{Command, decide};

use super::support::{
    Story, cancelled, changed, committed, create, delivered, edit, ended, hit, lost, no_agent,
    not_committed, not_delivered, not_offered, not_pushed, not_started, not_synced,
    nothing_to_commit, offered, over, pushed, ready, says, send, started, stop, stopped, synced,
    withdraw,
};

fn stages() -> Vec<(&'static str, Story)> {
    let asked = || Story::created().then([send(1)]);
    let up = || asked().then([started(1)]);
    let pushing = || Story::committing().then([committed(1, 1, "aaa")]);
    vec![
        ("created", Story::created()),
        ("asked", asked()),
        ("pausing", asked().then([not_started(1)])),
        ("up", up()),
        ("running", Story::running()),
        ("stopping", Story::running().then([stop()])),
        ("committing", Story::committing()),
        ("pushing", pushing()),
        ("offering", pushing().then([pushed(1, 1, "aaa")])),
        ("idle", Story::published()),
        ("parking", Story::published().then([Command::Park])),
        ("parked", Story::published().then([Command::Park, stopped(1)])),
    ]
}

fn commands() -> Vec<(&'static str, Command)> {
    vec![
        ("create", create()),
        ("edit", edit(1, "else")),
        ("withdraw", withdraw(1)),
        ("stop", stop()),
        ("park", Command::Park),
        ("started", started(1)),
        ("not started", not_started(1)),
        ("lost", lost(1)),
        ("stopped", stopped(1)),
        ("synced", synced(1)),
        ("not synced", not_synced(1)),
        ("ready", ready(1)),
        ("no agent", no_agent(1)),
        ("delivered", delivered(1, 1)),
        ("not delivered", not_delivered(1, 1)),
        ("says", says(1, 1, "hm")),
        ("ended", ended(1, 1)),
        ("cancelled", cancelled(1, 1)),
        ("committed", committed(1, 1, "aaa")),
        ("nothing", nothing_to_commit(1, 1)),
        ("not committed", not_committed(1, 1)),
        ("pushed", pushed(1, 1, "aaa")),
        ("not pushed", not_pushed(1, 1)),
        ("offered", offered(1, "aaa")),
        ("not offered", not_offered(1)),
        ("hit", hit(1, LimitName::Pids, Consequence::Throttled)),
        ("over", over(1)),
        ("merged", changed(1, PullRequestState::Merged)),
        ("wake", Command::Wake),
    ]
}

/// `x` recorded, `.` fine and nothing new, `-` stale, otherwise the first letters of the refusal.
fn cell(story: &Story, command: Command) -> String {
    match decide(&story.state, command, story.now) {
        Ok(decision) if decision.events.is_empty() => ".".to_owned(),
        Ok(_) => "x".to_owned(),
        Err(refusal) if refusal.code() == "stale" => "-".to_owned(),
        Err(refusal) => refusal.code().split('_').filter_map(|word| word.chars().next()).collect(),
    }
}

const GRID: &str = "
              crea aske paus up   runn stop comm push offe idle park park
create        ac   ac   ac   ac   ac   ac   ac   ac   ac   ac   ac   ac
edit          up   x    x    pnq  pnq  pnq  pnq  pnq  pnq  pnq  pnq  pnq
withdraw      up   x    x    pnq  pnq  pnq  pnq  pnq  pnq  pnq  pnq  pnq
stop          nts  x    x    x    x    as   nts  nts  nts  nts  nts  nts
park          nts  b    b    b    b    b    b    b    b    x    .    nts
started       -    x    -    .    .    .    .    .    .    .    -    -
not started   -    x    -    -    -    -    -    -    -    -    -    -
lost          -    x    -    x    x    x    x    x    x    x    x    -
stopped       -    x    -    x    x    x    x    x    x    x    x    -
synced        -    -    -    x    .    .    .    .    .    .    -    -
not synced    -    -    -    x    -    -    -    -    -    -    -    -
ready         -    -    -    x    .    .    .    .    .    .    -    -
no agent      -    -    -    x    -    -    -    -    -    -    -    -
delivered     -    -    -    x    .    .    -    -    -    -    -    -
not delivered -    -    -    x    -    -    -    -    -    -    -    -
says          -    -    -    x    x    x    -    -    -    -    -    -
ended         -    -    -    x    x    x    -    -    -    -    -    -
cancelled     -    -    -    -    -    x    -    -    -    -    -    -
committed     -    -    -    -    -    -    x    -    -    -    -    -
nothing       -    -    -    -    -    -    x    -    -    -    -    -
not committed -    -    -    -    -    -    x    -    -    -    -    -
pushed        -    -    -    -    -    -    -    x    -    -    -    -
not pushed    -    -    -    -    -    -    -    x    -    -    -    -
offered       -    -    -    -    -    -    -    -    x    -    -    -
not offered   -    -    -    -    -    -    -    -    x    -    -    -
hit           -    -    -    x    x    x    x    x    x    x    -    -
over          -    -    -    x    x    x    x    x    x    x    .    x
merged        -    -    -    -    -    -    -    -    -    x    x    x
wake          .    .    .    .    .    .    .    .    .    .    .    .";

fn row(name: &str, cells: Vec<String>) -> String {
    let cells: Vec<String> = cells.into_iter().map(|cell| format!("{cell:<4}")).collect();
    format!("{name:<13} {}", cells.join(" ")).trim_end().to_owned()
}

#[test]
fn what_is_heard_when() {
    let stages = stages();
    let heads = stages.iter().map(|(name, _)| name.chars().take(4).collect()).collect();
    let mut grid = vec![String::new(), row("", heads)];
    for (name, command) in commands() {
        let cells = stages.iter().map(|(_, story)| cell(story, command.clone())).collect();
        grid.push(row(name, cells));
    }
    let grid = grid.join("\n");
    assert_eq!(grid, GRID, "found:\n{grid}");
}
