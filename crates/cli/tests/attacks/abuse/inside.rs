//! The agent's own code reaches for agentd, its door and its names.

use protocol::sandbox::Isolation;

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::world::World;

pub(super) const ATTEMPTS: &[Attempt] = &[
    attempt(
        "take-agentd-listener",
        "opens agentd's listening socket through /proc/1/fd/3",
        "agentd's descriptors cannot be read, let alone opened",
        take_listener,
    ),
    attempt(
        "find-agentd-socket",
        "connects to every path that is called agentd.sock, and to its abstract name",
        "no such path exists inside, and nothing listens",
        find_socket,
    ),
    attempt(
        "replace-gateway-socket",
        "removes and replaces the gateway's socket in /run/hangar",
        "the directory is read-only",
        replace_gateway,
    ),
    attempt(
        "take-relay-port",
        "listens on 127.0.0.1:7070 in agentd's place, with every reuse option",
        "the address stays agentd's",
        take_relay,
    ),
    attempt(
        "kill-agentd",
        "sends agentd every signal, and everything else it can reach too",
        "agentd lives; where the sandbox's own kernel lets it die, all of the sandbox ends and the host is told",
        kill_agentd,
    ),
    attempt(
        "gateway-connections",
        "opens as many connections to the gateway as it can, and holds them",
        "a neighbour's gateway answers at once",
        connections,
    ),
    attempt(
        "gateway-half-heads",
        "sends a request's head a byte at a time on a hundred connections",
        "a neighbour's gateway answers at once",
        half_heads,
    ),
];

const fn attempt(
    name: &'static str,
    tries: &'static str,
    expected: &'static str,
    run: fn(&World) -> Outcome,
) -> Attempt {
    Attempt { name, group: Group::Abuse, tries, expected, levels: EVERY_LEVEL, run }
}

fn take_listener(world: &World) -> Outcome {
    let said = world.sandbox().shell("readlink /proc/1/fd/3; exec 4<>/proc/1/fd/3");
    Outcome::refused(&said, &["Permission denied", "No such", "Operation not permitted"])
}

fn find_socket(world: &World) -> Outcome {
    let said = world.sandbox().shell(
        "find / \\( -path /proc -o -path /usr -o -path /sys \\) -prune -o \\( -name 'agentd.sock*' \
         -o -type s \\) -print 2>/dev/null; \
         grep -a agentd /proc/net/unix; echo looked",
    );
    let found: Vec<&str> = said.stdout.lines().collect();
    let sockets = found.iter().filter(|line| **line != "looked");
    let other: Vec<_> = sockets.filter(|line| **line != "/run/hangar/gateway.sock").collect();
    // The name under which the host bound it may be listed; it names nothing in here.
    let named = other.iter().all(|line| line.ends_with("agentd.sock") && line.contains(": "));
    Outcome::check(named && found.contains(&"looked"), said.to_string())
}

fn replace_gateway(world: &World) -> Outcome {
    let sandbox = world.sandbox();
    let said = sandbox.shell(
        "cd /run/hangar && { rm -f gateway.sock; touch mine; mv gateway.sock other; \
         ln -s /tmp/mine gateway.sock; mkdir sub; }; test ! -S gateway.sock",
    );
    let there = sandbox.gateway_socket().exists();
    match Outcome::refused(&said, &["Read-only", "Permission denied", "Operation not permitted"]) {
        Outcome::Held { seen } if !there => Outcome::breach(format!("the socket is gone: {seen}")),
        outcome => outcome,
    }
}

fn take_relay(world: &World) -> Outcome {
    let program = r"use Socket; socket(my $s, AF_INET, SOCK_STREAM, 0) or die;
        for my $option (SO_REUSEADDR, 15) { setsockopt($s, SOL_SOCKET, $option, 1) }
        for my $address ('127.0.0.1', '0.0.0.0') {
            bind($s, sockaddr_in(7070, inet_aton($address))) and listen($s, 9)
                and print qq(took $address\n);
            print qq($address: $!\n);
        } exit 1";
    let said = world.sandbox().perl(program, &[]);
    if said.stdout.contains("took") {
        return Outcome::breach(said.to_string());
    }
    Outcome::refused(&said, &["Address already in use", "Permission denied"])
}

fn kill_agentd(world: &World) -> Outcome {
    let sandbox = world.another(|_| {});
    let said = sandbox.shell(
        "for number in $(seq 1 64); do kill -$number 1; done 2>/dev/null; kill -9 -1; echo alive",
    );
    if world.level == Isolation::Namespaces {
        let lives = sandbox.answers();
        return Outcome::check(lives.is_ok(), format!("{said}; afterwards {lives:?}"));
    }
    // gVisor and guests' kernels do not shield PID 1 from its own user; only it is harmed by that.
    let lives = sandbox.answers().or_else(|_| sandbox.ended());
    Outcome::check(lives.is_ok(), format!("{said}; afterwards {lives:?}"))
}

fn connections(world: &World) -> Outcome {
    let program = r"use Socket; my @held;
        while (@held < 5000) {
            socket(my $s, AF_UNIX, SOCK_STREAM, 0) or last;
            use Fcntl; fcntl($s, F_SETFL, O_NONBLOCK);
            connect($s, pack_sockaddr_un('/run/hangar/gateway.sock')) or last;
            push @held, $s;
        } print scalar(@held), qq( held\n); sleep 5";
    besieged(world, program)
}

fn half_heads(world: &World) -> Outcome {
    let program = r"use Socket; my @held;
        for (1 .. 100) {
            socket(my $s, AF_UNIX, SOCK_STREAM, 0) or last;
            connect($s, pack_sockaddr_un('/run/hangar/gateway.sock')) or last;
            push @held, $s;
        } print scalar(@held), qq( held\n); $| = 1; $SIG{PIPE} = 'IGNORE';
        for my $byte (split //, 'GET / HTTP/1.1') {
            syswrite($_, $byte) for @held; select(undef, undef, undef, 0.3);
        }";
    besieged(world, program)
}

/// Runs a siege of some seconds, and asks the neighbour's gateway in the middle of it.
fn besieged(world: &World, program: &str) -> Outcome {
    let sandbox = world.another(|_| {});
    let (said, others) = std::thread::scope(|scope| {
        let siege = scope.spawn(|| sandbox.perl(program, &[]));
        let mut others = Ok(());
        while !siege.is_finished() && others.is_ok() {
            others = world.gateway_goes_on();
            std::thread::sleep(std::time::Duration::from_millis(200));
        }
        (siege.join().expect("no panic"), others)
    });
    // A kernel of the sandbox's own may itself come to a stand, which harms nobody else.
    let held = said.stdout.contains(" held")
        || (world.level != Isolation::Namespaces && (said.timed_out || said.broken.is_some()));
    Outcome::check(held && others.is_ok(), format!("{said}; the neighbour: {others:?}"))
}
