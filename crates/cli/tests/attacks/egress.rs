//! Reaching what the gateway does not allow.

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::world::World;

pub(crate) fn attempts() -> Vec<Attempt> {
    vec![Attempt {
        name: "raw-address",
        group: Group::Egress,
        tries: "connects to 1.1.1.1:443 past the gateway",
        expected: "there is no route",
        levels: EVERY_LEVEL,
        run: raw_address,
    }]
}

fn raw_address(world: &World) -> Outcome {
    let said = world.sandbox().shell("exec 3<>/dev/tcp/1.1.1.1/443");
    Outcome::refused(&said, &["unreachable", "Network is down"])
}
