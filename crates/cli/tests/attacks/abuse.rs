//! Lying to the host: forged reports, broken answers, and reaching for agentd from inside.

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::world::World;

pub(crate) fn attempts() -> Vec<Attempt> {
    vec![Attempt {
        name: "take-agentd-listener",
        group: Group::Abuse,
        tries: "opens agentd's listening socket through /proc/1/fd/3",
        expected: "agentd's descriptors cannot be read, let alone opened",
        levels: EVERY_LEVEL,
        run: take_listener,
    }]
}

fn take_listener(world: &World) -> Outcome {
    let said = world.sandbox().shell("readlink /proc/1/fd/3; exec 4<>/proc/1/fd/3");
    Outcome::refused(&said, &["Permission denied", "No such", "Operation not permitted"])
}
