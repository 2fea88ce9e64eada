//! `hangar-launch`: starts one sandbox from an OCI bundle and goes away.
//!
//! ```text
//!  hangar-launch run              PID 1 of the sandbox
//!  ───────────────────────────    ─────────────────────────────────────────────
//!  lock, listen, stage (root)
//!  open the limit groups
//!  clone3 ──────────────────────▶ wait
//!  map ids, write state.json ───▶ join the limit groups, become root inside,
//!                                 mount the root, pivot, drop what is not
//!                                 needed, exec agentd
//!  end of file ◀───────────────── (the pipe closes with exec, or says what failed)
//!  exit 0
//! ```
//!
//! Where the bundle names an OCI runtime, that program is executed in place of agentd, in a root of its
//! own that holds the sandbox's: see `world`.
//!
//! It is a program of its own and has one thread, because after `clone3` without `exec` only a
//! single-threaded process may go on allocating; and it is small, because it runs at each start.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a failure is told on standard output, and the exit status is the answer"
)]

mod bundle;
mod enter;
mod failure;
mod filter;
mod floor;
mod inside;
mod kernel;
mod outside;
mod privileges;
mod root;
mod stage;
mod unpack;
mod world;

use std::path::Path;

const USAGE: &str = "usage: hangar-launch run --bundle DIRECTORY
       hangar-launch enter --bundle DIRECTORY -- PROGRAM ARGUMENT…
       hangar-launch floor DIRECTORY RUNS UIDS GIDS
       hangar-launch unpack ORDER
       hangar-launch nothing
Starts the sandbox that an OCI bundle describes; run by hangar, not by hand.";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["run", "--bundle", bundle] => outside::run(Path::new(bundle)),
        ["enter", "--bundle", bundle, "--", program @ ..] => enter::run(Path::new(bundle), program),
        ["floor", directory, runs, uid_map, gid_map] if runs.parse::<u32>().is_ok() => {
            floor::run(Path::new(directory), runs.parse().unwrap_or(0), uid_map, gid_map)
        }
        ["unpack", order] => unpack::run(order),
        ["nothing"] => Ok(()),
        _ => {
            eprintln!("{USAGE}");
            std::process::exit(2);
        }
    };
    if let Err(failure) = outcome {
        println!("{}", serde_json::to_string(&failure).unwrap_or_default());
        std::process::exit(1);
    }
}
