//! The tree: what is mounted stays, and nothing more is.

use protocol::sandbox::Isolation;

use super::{attempt, refused};
use crate::support::attempt::{Attempt, Outcome};
use crate::support::world::World;

const MAY_NOT: &str = "it may not, and nothing changes";

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt("mount-tmpfs", "mounts a tmpfs over /etc", MAY_NOT, |world| {
            let outcome = refused(world, &["mount", "/etc"]);
            intact(world, outcome, "test -e /etc/passwd")
        }),
        attempt(
            "mount-by-descriptors",
            "mounts by fsopen, open_tree and move_mount",
            MAY_NOT,
            |world| {
                let outcome = refused(world, &["mount-new", "/etc"]);
                intact(world, outcome, "test -e /etc/passwd")
            },
        ),
        attempt("remount-toolkit", "makes the toolkit writable by remounting", MAY_NOT, |world| {
            refused(world, &["remount", "/opt/hangar"])
        }),
        attempt(
            "unlock-toolkit",
            "makes the toolkit writable by mount_setattr",
            MAY_NOT,
            |world| refused(world, &["set-attributes", "/opt/hangar"]),
        ),
        attempt("unlock-processes", "makes /proc writable by mount_setattr", MAY_NOT, |world| {
            let outcome = refused(world, &["set-attributes", "/proc"]);
            intact(world, outcome, "grep -q ' /proc ro,' /proc/self/mountinfo")
        }),
        attempt("unmask-memory", "takes the cover off /proc/kcore", MAY_NOT, |world| {
            refused(world, &["unmask", "/proc/kcore"])
        }),
        attempt("pivot-root", "makes another directory the root", MAY_NOT, |world| {
            refused(world, &["pivot"])
        }),
        attempt("chroot-breakout", "changes the root and leaves it again", "it may not", |world| {
            refused(world, &["chroot"])
        }),
        attempt(
            "release-agent",
            "mounts the limit groups, to name a program that the host runs",
            "it may not",
            |world| refused(world, &["groups"]),
        ),
        attempt(
            "masked-paths",
            "reads the kernel's memory, keys, symbols and boot options in /proc, and its firmware in /sys",
            "they are empty or not there; at gvisor they tell of its own kernel only",
            masked,
        ),
        Attempt {
            // gVisor's kernel does not list these: there `set-user-id` and the attempts at devices say
            // that neither counts.
            levels: &[Isolation::Namespaces, Isolation::Microvm],
            ..attempt(
                "mounts-nosuid",
                "looks for a mount where set-user-id programs or devices would count",
                "every mount has nosuid, and nodev but where the standard devices are",
                flags,
            )
        },
    ]
}

/// Held only if the wall is where it was as well.
fn intact(world: &World, outcome: Outcome, line: &str) -> Outcome {
    let said = world.sandbox().shell(line);
    if said.succeeded() { outcome } else { Outcome::breach(format!("{outcome:?}, but {said}")) }
}

fn masked(world: &World) -> Outcome {
    let line = "for path in /proc/kcore /proc/keys /proc/key-users /proc/kallsyms /proc/cmdline \
                /proc/kmsg /proc/interrupts /proc/timer_list /proc/sched_debug /proc/slabinfo \
                /proc/vmallocinfo /proc/kpagecount /proc/kpageflags /proc/acpi /proc/scsi \
                /proc/latency_stats /sys/firmware /sys/devices/virtual/powercap /sys/kernel \
                /sys/class /sys/fs /sys/module; do \
                if [ -d $path ]; then [ -z \"$(ls -A $path)\" ] || echo \"open: $path\"; \
                elif timeout 2 head -c 1 $path 2>/dev/null | grep -q .; then echo \"open: $path\"; \
                fi; done; echo looked";
    let said = world.sandbox().shell(line);
    if world.level != Isolation::Gvisor {
        return Outcome::check(said.stdout == "looked\n", said.to_string());
    }
    // The kernel there is not the host's: it has boot options and directories of its own.
    let own = ["open: /proc/cmdline", "open: /sys/class", "open: /sys/fs", "looked"];
    let known =
        said.stdout.ends_with("looked\n") && said.stdout.lines().all(|it| own.contains(&it));
    let host = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let line = "cat /proc/cmdline; find /sys/class /sys/fs ! -type d";
    let inside = world.sandbox().shell(line);
    let told = inside.stdout.trim();
    let is_own = told.contains("gvisor") && !told.contains('\n') && told != host.trim();
    Outcome::check(known && is_own, format!("{said}; {inside}"))
}

fn flags(world: &World) -> Outcome {
    let said = world.sandbox().run(&["cat", "/proc/self/mountinfo"]);
    let mut wrong = Vec::new();
    for line in said.stdout.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [_, _, _, root, place, options, ..] = fields[..] else { continue };
        let has = |option: &str| options.split(',').any(|it| it == option);
        // What hides a file is `/dev/null` itself.
        let is_device = place.starts_with("/dev") || root == "/null";
        if !has("nosuid") || !(has("nodev") || is_device) {
            wrong.push(format!("{place} {options}"));
        }
    }
    let many = said.stdout.lines().count();
    Outcome::check(wrong.is_empty() && many > 5, format!("{many} mounts, wrong: {wrong:?}"))
}
