//! A PID 1 that is not agentd answers the host's requests, each in another wrong way.

use std::time::{Duration, Instant};

use protocol::agentd::ExecRequest;
use sandbox::agentd::{Error, Output};

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::sandbox::{Sandbox, chain};
use crate::support::world::World;

/// What a request costs the host at most, whatever comes back: far below what is sent.
const MEMORY: u64 = 256 << 20;
const SOON: Duration = Duration::from_secs(20);

pub(super) const ATTEMPTS: &[Attempt] = &[
    attempt(
        "oversized-frame",
        "announces a frame of 2 GiB in a command's output",
        "the answer is refused as damaged before anything is set aside for it",
        |world| damaged(world, "oversized-frame"),
    ),
    attempt(
        "cut-frame",
        "closes the connection in the middle of a frame",
        "the answer is refused as damaged",
        |world| damaged(world, "cut-frame"),
    ),
    attempt(
        "odd-exit",
        "ends a command with bytes that are no exit status",
        "the answer is refused as damaged",
        |world| damaged(world, "odd-exit"),
    ),
    attempt(
        "frames-after-the-end",
        "sends unknown frames before a command's end, and output after it",
        "what is unknown or too late is not taken for output",
        after_the_end,
    ),
    attempt(
        "endless-head",
        "answers with a head of header lines without end",
        "the connection is given up, at no more than a bounded cost of memory",
        |world| damaged(world, "endless-head"),
    ),
    attempt(
        "two-answers",
        "answers with two contradictory lengths and a second answer behind (smuggling)",
        "the second answer is never taken for that of the next request",
        two_answers,
    ),
    attempt(
        "endless-output",
        "prints without end",
        "the host keeps what was asked for and drops the rest, at a bounded cost of memory",
        endless_output,
    ),
    attempt(
        "endless-file",
        "sends a file without end",
        "the host stops reading at its limit",
        endless_file,
    ),
    attempt(
        "deep-json",
        "answers with JSON nested a million deep",
        "the answer is refused as damaged, and no stack overflows",
        |world| listing(world, "/deep"),
    ),
    attempt(
        "not-utf8",
        "answers with JSON that is no UTF-8",
        "the answer is refused as damaged",
        |world| listing(world, "/not-utf8"),
    ),
    attempt(
        "wrong-type",
        "answers with JSON of another shape",
        "the answer is refused as damaged",
        |world| listing(world, "/wrong-type"),
    ),
];

const fn attempt(
    name: &'static str,
    tries: &'static str,
    expected: &'static str,
    run: fn(&World) -> Outcome,
) -> Attempt {
    Attempt { name, group: Group::Abuse, tries, expected, levels: EVERY_LEVEL, run }
}

/// Asks the hostile PID 1 to run its trick; what the host makes of it.
fn ask(
    sandbox: &Sandbox,
    trick: &str,
    limit: usize,
    time: Duration,
) -> Option<Result<Output, Error>> {
    let request = ExecRequest {
        argv: vec![trick.to_owned()],
        directory: None,
        environment: [].into(),
        stdin: String::new(),
        timeout_milliseconds: None,
    };
    let asked = async { tokio::time::timeout(time, sandbox.client.exec(&request, limit)).await };
    sandbox.block_on(asked).ok()
}

/// It must say so, soon, cheaply, and go on with the next request.
fn damaged(world: &World, trick: &str) -> Outcome {
    let sandbox = world.hostile();
    let (begun, before) = (Instant::now(), resident());
    let seen = match ask(&sandbox, trick, 1 << 20, SOON) {
        None => return Outcome::breach(format!("the host still waited after {SOON:?}")),
        Some(Ok(output)) => return Outcome::breach(format!("the host believed {output:?}")),
        Some(Err(error)) => chain(&error),
    };
    let grown = resident().saturating_sub(before);
    let cheap = grown < MEMORY;
    let next = ask(&sandbox, "exit", 100, SOON);
    let goes_on = matches!(next, Some(Ok(_)));
    let took = begun.elapsed().as_millis();
    Outcome::check(cheap && goes_on, format!("{seen} ({took} ms, {} MiB)", grown >> 20))
}

fn after_the_end(world: &World) -> Outcome {
    let sandbox = world.hostile();
    let unknown = ask(&sandbox, "unknown-frames", 1 << 20, SOON);
    let late = ask(&sandbox, "after-exit", 1 << 20, SOON);
    let empty = |said: &Option<Result<Output, Error>>| matches!(said, Some(Ok(output)) if output.stdout.is_empty() && output.is_success());
    Outcome::check(empty(&unknown) && empty(&late), format!("{unknown:?} {late:?}"))
}

fn two_answers(world: &World) -> Outcome {
    let sandbox = world.hostile();
    let first = ask(&sandbox, "two-answers", 1 << 20, SOON);
    let next = ask(&sandbox, "exit", 1 << 20, SOON);
    let text = format!("{first:?} {next:?}");
    let own = matches!(&next, Some(Ok(output)) if output.is_success() && output.stdout.is_empty());
    let believed = matches!(&first, Some(Ok(_)) | None);
    Outcome::check(own && !believed && !text.contains("smuggled"), text)
}

fn endless_output(world: &World) -> Outcome {
    let sandbox = world.hostile();
    let before = resident();
    let time = Duration::from_secs(2);
    let ended = ask(&sandbox, "endless-output", 1 << 20, time);
    let grown = resident().saturating_sub(before);
    let seen = format!("after {time:?} of output the host had grown by {} MiB", grown >> 20);
    // Nothing ends it but the caller, who gives up; that ends the connection.
    Outcome::check(ended.is_none() && grown < MEMORY, seen)
}

fn endless_file(world: &World) -> Outcome {
    let sandbox = world.hostile();
    let before = resident();
    let read =
        async { tokio::time::timeout(SOON, sandbox.client.read_file("/endless", 1 << 20)).await };
    let read = sandbox.block_on(read);
    let grown = resident().saturating_sub(before);
    let stopped = matches!(read, Ok(Err(Error::TooLong { .. })));
    Outcome::check(stopped && grown < MEMORY, format!("{read:?}, {} MiB", grown >> 20))
}

fn listing(world: &World, path: &str) -> Outcome {
    let sandbox = world.hostile();
    let listed = async { tokio::time::timeout(SOON, sandbox.client.list(path)).await };
    let listed = sandbox.block_on(listed);
    let damaged = matches!(listed, Ok(Err(Error::Damaged { .. })));
    Outcome::check(damaged, format!("{listed:?}"))
}

/// Memory of this process.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("memory");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}
