//! Taking more than the limits give.

use std::time::Duration;

use protocol::sandbox::{Enforcement, Isolation, LimitName};

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::meanwhile::Lasted;
use crate::support::sandbox::Sandbox;
use crate::support::world::World;

mod files;
mod processes;

pub(crate) fn attempts() -> Vec<Attempt> {
    [processes::attempts(), files::attempts()].concat()
}

/// An attempt at every level.
const fn attempt(
    name: &'static str,
    tries: &'static str,
    expected: &'static str,
    run: fn(&World) -> Outcome,
) -> Attempt {
    Attempt { name, group: Group::Exhaustion, tries, expected, levels: EVERY_LEVEL, run }
}

/// Time for one attack.
const TIME: Duration = Duration::from_secs(40);

/// Perl, as the agent would run it, while everybody else is asked.
fn perl(world: &World, sandbox: &Sandbox, program: &str) -> Lasted {
    world.meanwhile(sandbox, &["perl", "-e", program], TIME)
}

/// Held if so and everybody else answered all the while.
fn judge(held: bool, lasted: &Lasted) -> Outcome {
    Outcome::check(held && lasted.unanswered.is_none(), lasted.to_string())
}

/// Whether it goes on, or has ended as a whole where gVisor's kernel is the process that is stopped:
/// the host knows no other in there.
fn goes_on_or_ended(world: &World, sandbox: &Sandbox) -> bool {
    sandbox.answers().is_ok() || (world.level == Isolation::Gvisor && sandbox.ended().is_ok())
}

/// Whether the kernel counts what is refused: a limit held by other means is held and not told of.
fn is_counted(sandbox: &Sandbox, limit: LimitName) -> bool {
    sandbox.description.enforcement.iter().any(|report| {
        report.limit == limit.as_str()
            && matches!(&report.enforcement, Enforcement::Enforced { by } if by.contains("cgroup"))
    })
}
