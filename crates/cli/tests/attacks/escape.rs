//! Getting out of the sandbox, or more rights inside.

#[path = "escape/files.rs"]
mod files;
#[path = "escape/kernel.rs"]
mod kernel;
#[path = "escape/mounts.rs"]
mod mounts;
#[path = "escape/processes.rs"]
mod processes;

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::world::World;

pub(crate) fn attempts() -> Vec<Attempt> {
    [mounts::attempts(), files::attempts(), processes::attempts(), kernel::attempts()].concat()
}

/// An attempt at every level.
const fn attempt(
    name: &'static str,
    tries: &'static str,
    expected: &'static str,
    run: fn(&World) -> Outcome,
) -> Attempt {
    Attempt { name, group: Group::Escape, tries, expected, levels: EVERY_LEVEL, run }
}

/// Held if the attack program says that it was refused.
///
/// `crates/sandbox/tests/container/attacks.rs` shows that its attacks work where nothing prevents
/// them, so a refusal is a wall and not a mistake.
fn refused(world: &World, arguments: &[&str]) -> Outcome {
    let said = world.sandbox().attack(arguments);
    let told = said.stdout.starts_with("REFUSED: ") && said.code == Some(1);
    Outcome::check(told, said.to_string())
}
