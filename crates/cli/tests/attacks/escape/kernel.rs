//! The kernel: doors that no program of a sandbox needs are shut.

use super::{attempt, refused};
use crate::support::attempt::{Attempt, Outcome};

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt(
            "bpf",
            "loads something into the kernel's virtual machine",
            "it may not",
            |world| refused(world, &["bpf"]),
        ),
        attempt("perf-events", "counts events of the processor", "it may not", |world| {
            refused(world, &["perf"])
        }),
        attempt(
            "userfaultfd",
            "handles page faults, to hold the kernel in the middle of a call",
            "it may not",
            |world| refused(world, &["userfaultfd"]),
        ),
        attempt("io-uring", "makes a ring for calls that no filter sees", "it may not", |world| {
            refused(world, &["io-uring"])
        }),
        attempt(
            "keyrings",
            "keeps and finds keys where its user id has them on the host",
            "it may not",
            |world| refused(world, &["keyring", "hangar-attack"]),
        ),
        attempt("clock", "sets the machine's clock, by four calls", "it may not", |world| {
            refused(world, &["clock"])
        }),
        attempt(
            "kernel-code",
            "loads a module and another kernel",
            "the kernel does not look at it",
            |world| refused(world, &["load"]),
        ),
        attempt(
            "kernel-log",
            "reads the kernel's log by call and by file",
            "it may not",
            |world| refused(world, &["log"]),
        ),
        attempt(
            "machine",
            "restarts, swaps, accounts, sets quotas and opens ports of the machine",
            "it may not",
            |world| refused(world, &["machine"]),
        ),
        attempt(
            "executable-data",
            "makes all its data executable by its personality",
            "it may not",
            |world| refused(world, &["personality"]),
        ),
        attempt("host-name", "gives the sandbox another name", "it may not", |world| {
            refused(world, &["name"])
        }),
        attempt(
            "32-bit-calls",
            "calls the kernel by the numbers of 32-bit programs",
            "it is ended",
            |world| refused(world, &["i386"]),
        ),
        attempt(
            "x32-calls",
            "calls the kernel by the second set of numbers",
            "there is none",
            |world| refused(world, &["x32"]),
        ),
        attempt("raw-sockets", "opens sockets for raw packets and frames", "it may not", |world| {
            refused(world, &["raw"])
        }),
        attempt("vsock", "opens a socket to the hypervisor", "it may not", |world| {
            refused(world, &["families", "40"])
        }),
        attempt("odd-sockets", "opens sockets of every other family", "it may not", |world| {
            refused(world, &["families"])
        }),
        attempt(
            "netlink",
            "talks to the firewall, tunnels and audit of the kernel",
            "it may not",
            |world| refused(world, &["netlink"]),
        ),
        attempt(
            "identity",
            "compares name and machine id with the host's",
            "they are its own",
            |world| {
                let said = world.sandbox().shell("cat /proc/sys/kernel/hostname /etc/machine-id");
                let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
                let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
                let lines: Vec<&str> = said.stdout.lines().collect();
                let own = lines.len() == 2
                    && lines[0].starts_with("hangar-")
                    && lines[0] != host
                    && lines[1] != machine.trim()
                    && lines[1].len() == 32;
                Outcome::check(own, said.to_string())
            },
        ),
    ]
}
