//! Taking more than the limits give.

use protocol::sandbox::LimitName;

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::world::World;

pub(crate) fn attempts() -> Vec<Attempt> {
    vec![Attempt {
        name: "fork-bomb",
        group: Group::Exhaustion,
        tries: "starts processes until no more can be started",
        expected: "it is stopped at its limit of processes, and a neighbour answers meanwhile",
        levels: EVERY_LEVEL,
        run: fork_bomb,
    }]
}

fn fork_bomb(world: &World) -> Outcome {
    let sandbox = world.another(|spec| spec.limits.pids = 100);
    if let Err(reason) = sandbox.holds(LimitName::Pids) {
        return Outcome::breach(format!("nothing holds the limit: {reason}"));
    }
    // Each of them lives on, so that the limit stays reached while the neighbour is asked.
    let bomb = "$n = 0; while ($n < 1000) { my $pid = fork(); last unless defined $pid; \
                if (!$pid) { sleep 20; exit } $n++ } print \"started $n\\n\"; exit($n < 1000)";
    let said = sandbox.perl(bomb, &[]);
    let alive = world.neighbour().answers();
    let started = said.stdout.trim().strip_prefix("started ").and_then(|it| it.parse::<u32>().ok());
    let bounded = started.is_some_and(|count| count < 100);
    Outcome::check(bounded && alive.is_ok(), format!("{said}; the neighbour: {alive:?}"))
}
