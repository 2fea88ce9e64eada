//! Other processes: agentd, the host's, the neighbours'.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use protocol::sandbox::Isolation;

use super::{attempt, refused};
use crate::support::attempt::{Attempt, Outcome};
use crate::support::world::World;

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt("trace-agentd", "traces PID 1 as a debugger does", "it may not", |world| {
            refused(world, &["trace", "1"])
        }),
        attempt(
            "agentd-memory",
            "reads and writes PID 1's memory by file and by call",
            "it may not",
            |world| refused(world, &["memory", "1"]),
        ),
        attempt(
            "agentd-secrets",
            "reads PID 1's environment, maps, root and descriptors in /proc",
            "it may not; at gvisor it sees what it has itself: the environment, and pipes to its commands",
            |world| look(world, 1),
        ),
        attempt(
            "agentd-threads",
            "looks into PID 1 by the numbers of its threads",
            "it may not; at gvisor it sees what it has itself: the environment, and pipes to its commands",
            |world| {
                let tried = (2..8).map(|number| look(world, number));
                let breach = tried.into_iter().find(|it| matches!(it, Outcome::Breach { .. }));
                breach.unwrap_or_else(|| Outcome::held("no thread shows more than PID 1"))
            },
        ),
        attempt(
            "agentd-socket",
            "takes the listening socket out of PID 1",
            "it may not",
            |world| refused(world, &["take-descriptor", "1", "3"]),
        ),
        attempt(
            "enter-namespaces",
            "enters PID 1's namespaces by file and by process",
            "it may not",
            |world| refused(world, &["enter", "1"]),
        ),
        attempt(
            "signal-agentd",
            "sends PID 1 every signal",
            "it goes on; at gvisor it may end its own sandbox, which the host is told at once",
            signal,
        ),
        attempt(
            "end-everything",
            "kills every process it can",
            "agentd goes on and answers",
            |world| {
                let killed = world.sandbox().shell("kill -KILL -1");
                let answers = world.sandbox().answers();
                Outcome::check(answers.is_ok(), format!("{killed}; afterwards {answers:?}"))
            },
        ),
        attempt(
            "slow-agentd",
            "gives PID 1 the lowest priority and one processor",
            "it may not",
            |world| refused(world, &["slow", "1"]),
        ),
        attempt(
            "limit-agentd",
            "takes PID 1's descriptors away by its limits",
            "it may not",
            |world| refused(world, &["limit", "1"]),
        ),
        attempt(
            "oom-agentd",
            "makes PID 1 the first to be killed when memory is short",
            "it may not",
            |world| {
                let paths = [
                    "/proc/1/oom_score_adj",
                    "/proc/1/task/1/oom_score_adj",
                    "/proc/2/oom_score_adj",
                ];
                refused(world, &[&["write-back"], &paths[..]].concat())
            },
        ),
        attempt(
            "nested-user-namespace",
            "makes a user namespace, in which it has every capability",
            "it may not",
            |world| refused(world, &["namespaces", "user"]),
        ),
        attempt(
            "unshare",
            "makes every other kind of namespace, by clone, clone3 and unshare",
            "it may not",
            |world| refused(world, &["namespaces"]),
        ),
        attempt(
            "terminal-input",
            "types into a terminal that somebody reads",
            "it may not",
            |world| refused(world, &["type"]),
        ),
        attempt(
            "host-abstract-socket",
            "connects to an abstract Unix socket of the host",
            "there is none",
            host_socket,
        ),
        attempt(
            "neighbour-abstract-socket",
            "connects to an abstract Unix socket of another sandbox",
            "there is none",
            neighbour_socket,
        ),
        attempt(
            "other-processes",
            "looks for processes of the host and of other sandboxes",
            "it sees its own only",
            |world| {
                let line = "for pid in $(cd /proc; ls -d [0-9]*); do tr '\\0' ' ' < /proc/$pid/cmdline; echo; done";
                let said = world.sandbox().shell(line);
                let count = said.stdout.lines().filter(|it| !it.trim().is_empty()).count();
                let first = said.stdout.lines().next().unwrap_or_default();
                let ours = first.contains("hangar-agentd") && count < 10;
                Outcome::check(ours, said.to_string())
            },
        ),
        attempt(
            "no-capabilities",
            "looks for a capability or a way to one",
            "there is none",
            |world| {
                let said =
                    world.sandbox().shell("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status");
                let none = said
                    .stdout
                    .lines()
                    .filter(|line| line.starts_with("Cap"))
                    .all(|line| line.ends_with("\t0000000000000000"));
                // gVisor lists all but this, so there the kernel is asked itself.
                let asked = world.sandbox().run(&["setpriv", "--dump"]);
                let locked = (said.stdout.contains("NoNewPrivs:\t1")
                    || asked.stdout.contains("no_new_privs: 1"))
                    && said.stdout.contains("Seccomp:\t2");
                Outcome::check(none && locked, format!("{said}; {asked}"))
            },
        ),
    ]
}

/// Looks into a process that agents may not look into.
fn look(world: &World, number: u32) -> Outcome {
    if world.level != Isolation::Gvisor {
        return refused(world, &["look", &number.to_string()]);
    }
    // gVisor's /proc shows some of it to every process of the same user. What the environment says
    // is no secret from the agent only as long as the agent has all of it as well; of the descriptors
    // it may open the pipes to its own commands, and no socket or file.
    let line = format!(
        "cd /proc; tr '\\0' '\\n' < {number}/environ 2>/dev/null | sort > ~/theirs; \
         tr '\\0' '\\n' < self/environ | sort > ~/mine; \
         echo \"more: $(comm -23 ~/theirs ~/mine | cut -d= -f1 | xargs)\"; \
         for name in mem root/. cwd/. map_files/. $(ls {number}/fd 2>/dev/null | sed s:^:fd/:); do \
         to=$(readlink {number}/$name); if [ \"${{to#pipe:}}\" = \"$to\" ]; then \
         timeout 2 bash -c ': < $0' {number}/$name && [ $to != /dev/null ] && echo \"read: $name $to\"; \
         timeout 2 bash -c ': >> $0' {number}/$name && [ $to != /dev/null ] && echo \"write: $name $to\"; fi; \
         done 2>/dev/null; echo looked"
    );
    let said = world.sandbox().shell(&line);
    Outcome::check(said.stdout == "more: \nlooked\n", said.to_string())
}

fn signal(world: &World) -> Outcome {
    let sandbox = world.sandbox();
    let (before, said) = (sandbox.pid(), sandbox.attack(&["signal", "1"]));
    let alive = std::path::Path::new(&format!("/proc/{before}")).exists();
    let answers = sandbox.answers();
    if world.level == Isolation::Gvisor && answers.is_err() {
        // That kernel neither spares a first process nor has Landlock. With it all else in there
        // ends, so there is nothing to gain.
        let ended = sandbox.ended();
        return Outcome::check(ended.is_ok(), format!("{said}; afterwards {answers:?}, {ended:?}"));
    }
    Outcome::check(alive && answers.is_ok(), format!("{said}; afterwards {answers:?}"))
}

fn host_socket(world: &World) -> Outcome {
    let name = format!("hangar-attacks-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("bound");
    let outcome = refused(world, &["abstract", &name]);
    listener.set_nonblocking(true).expect("set");
    if listener.accept().is_ok() {
        return Outcome::breach(format!("somebody came; {outcome:?}"));
    }
    let reached = std::os::unix::net::UnixStream::connect_addr(&address).is_ok();
    if reached { outcome } else { Outcome::breach("the host itself does not reach it") }
}

fn neighbour_socket(world: &World) -> Outcome {
    let (name, neighbour) = ("hangar-neighbour", world.neighbour());
    let listen =
        format!("setsid /opt/hangar/bin/attack abstract-listen {name} 20 >/dev/null 2>&1 &");
    neighbour.shell(&listen);
    let end = Instant::now() + Duration::from_secs(10);
    while !neighbour.run(&["grep", "-q", name, "/proc/net/unix"]).succeeded() {
        if Instant::now() > end {
            return Outcome::breach("the neighbour does not listen");
        }
    }
    let outcome = refused(world, &["abstract", name]);
    let control = neighbour.attack(&["abstract", name]);
    if control.succeeded() {
        outcome
    } else {
        Outcome::breach(format!("nor does the neighbour: {control}"))
    }
}
