//! Getting out of the sandbox, or more rights inside.

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::world::World;

pub(crate) fn attempts() -> Vec<Attempt> {
    vec![Attempt {
        name: "mount-tmpfs",
        group: Group::Escape,
        tries: "mounts a tmpfs over /etc",
        expected: "it may not, and /etc stays",
        levels: EVERY_LEVEL,
        run: mount_tmpfs,
    }]
}

fn mount_tmpfs(world: &World) -> Outcome {
    let said =
        world.sandbox().shell("mount -t tmpfs none /etc; code=$?; ls /etc/passwd; exit $code");
    if !said.stdout.contains("/etc/passwd") {
        return Outcome::breach(said.to_string());
    }
    Outcome::refused(&said, &["permission denied", "not permitted", "must be superuser"])
}
