//! Makes the attempts of a group, writes down what happened, and fails where something did not hold.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Instant;

use protocol::sandbox::Isolation;
use serde::Serialize;

use super::attempt::{Attempt, Group, Outcome};
use super::world::World;
use crate::real_part;

/// Where [`results`] are written instead of `target/attacks`.
pub(super) const RESULTS: &str = "HANGAR_ATTACKS_RESULTS";

/// What happened at one level, as one user.
#[derive(Debug, Serialize)]
struct Report {
    group: Group,
    level: Isolation,
    user: &'static str,
    /// Why nothing was tried: this level does not work on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_here: Option<String>,
    attempts: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    name: &'static str,
    #[serde(flatten)]
    outcome: Outcome,
    seconds: f64,
}

/// Makes every attempt of a group at one level.
pub(crate) fn group(group: Group, level: Isolation) {
    let only = std::env::var("HANGAR_ATTACK").ok();
    let wanted = |attempt: &Attempt| {
        attempt.levels.contains(&level) && only.as_ref().is_none_or(|it| it == attempt.name)
    };
    let attempts: Vec<Attempt> = crate::attempts(group).into_iter().filter(wanted).collect();
    let user = user();
    let mut report = Report { group, level, user, not_here: None, attempts: Vec::new() };
    let world = match World::open(level) {
        Ok(world) => world,
        Err(because) => {
            // The weakest wall is promised on every machine, and gVisor is fetched where it is not.
            assert_eq!(level, Isolation::Microvm, "{because}");
            eprintln!("NOT TRIED: {} at {level} as {user}: {because}", group.as_str());
            report.not_here = Some(because);
            return write(&report);
        }
    };
    for attempt in attempts {
        let begun = Instant::now();
        let outcome = make(&world, &attempt);
        let seconds = begun.elapsed().as_secs_f64();
        match &outcome {
            Outcome::NotTried { because } => {
                eprintln!("NOT TRIED: {} at {level} as {user}: {because}", attempt.name);
            }
            outcome => eprintln!("{}: {outcome:?} ({seconds:.1} s)", attempt.name),
        }
        report.attempts.push(Line { name: attempt.name, outcome, seconds });
    }
    if only.is_none() {
        write(&report);
    }
    let breaches: Vec<String> = report.attempts.iter().filter_map(breach).collect();
    assert!(breaches.is_empty(), "at {level} as {user}:\n  {}", breaches.join("\n  "));
    note(group, level, user);
}

/// Notes that a level was attacked: one real part for each, so that none can be left out unnoticed.
pub(super) fn note(group: Group, level: Isolation, user: &str) {
    real_part::worked(&format!("{level} attacked as {user}"), group.as_str());
}

fn make(world: &World, attempt: &Attempt) -> Outcome {
    world.renew();
    let made = catch_unwind(AssertUnwindSafe(|| (attempt.run)(world)));
    let outcome = made.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied());
        Outcome::breach(format!("the attempt panicked: {}", said.unwrap_or("no reason given")))
    });
    match world.others_go_on() {
        Ok(()) => outcome,
        Err(who) => Outcome::breach(format!("afterwards did not answer: {who}; {outcome:?}")),
    }
}

fn breach(line: &Line) -> Option<String> {
    match &line.outcome {
        Outcome::Breach { seen } => Some(format!("{}: {seen}", line.name)),
        _ => None,
    }
}

/// Who runs this, as results call them.
pub(super) fn user() -> &'static str {
    if rustix::process::geteuid().is_root() { "root" } else { "user" }
}

/// Where results are.
pub(super) fn results() -> PathBuf {
    if let Some(given) = std::env::var_os(RESULTS) {
        return given.into();
    }
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace.join(target).join("attacks")
}

fn write(report: &Report) {
    let results = results();
    std::fs::create_dir_all(&results).expect("a directory for results");
    let name = format!("{}-{}-{}.json", report.group.as_str(), report.level, report.user);
    let text = serde_json::to_vec_pretty(report).expect("JSON");
    std::fs::write(results.join(name), text).expect("results are written");
}
