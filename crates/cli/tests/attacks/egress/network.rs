//! Past the gateway: there is no network in a sandbox to do it with.

use super::attempt;
use crate::support::attempt::{Attempt, Outcome};
use crate::support::world::World;

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt(
            "raw-address",
            "connects to 1.1.1.1:443 past the gateway",
            "there is no route",
            |world| unreachable(world, &["tcp/1.1.1.1/443"]),
        ),
        attempt(
            "raw-address-six",
            "connects to an IPv6 address past the gateway",
            "there is no route",
            |world| unreachable(world, &["tcp/2606:4700:4700::1111/443"]),
        ),
        attempt(
            "metadata-address",
            "connects to the addresses of cloud metadata services",
            "there is no route",
            |world| unreachable(world, &["tcp/169.254.169.254/80", "tcp/fd00:ec2::254/80"]),
        ),
        attempt("dns-udp", "asks a public name server over UDP", "there is no route", |world| {
            unreachable(world, &["udp/1.1.1.1/53", "udp/2606:4700:4700::1111/53"])
        }),
        attempt(
            "dns-tcp-and-tls",
            "asks public name servers over TCP and over TLS",
            "there is no route",
            |world| unreachable(world, &["tcp/8.8.8.8/53", "tcp/1.1.1.1/853"]),
        ),
        attempt(
            "dns-multicast",
            "asks the local network for names over multicast",
            "there is no route",
            |world| unreachable(world, &["udp/224.0.0.251/5353", "udp/ff05::fb/5353"]),
        ),
        attempt("dns-of-the-system", "looks up a name as programs do", "no name is known", lookup),
        attempt(
            "quic",
            "sends QUIC to a public address",
            "there is no route: nothing but the gateway's socket leads out",
            |world| unreachable(world, &["udp/1.1.1.1/443"]),
        ),
        attempt(
            "interfaces",
            "looks for a network interface besides loopback",
            "there is none",
            interfaces,
        ),
        attempt(
            "neighbours-and-host",
            "connects to private networks in which hosts and neighbours usually are",
            "there is no route",
            |world| {
                unreachable(
                    world,
                    &["tcp/10.0.0.1/22", "tcp/172.17.0.1/2375", "tcp/192.168.0.1/80"],
                )
            },
        ),
    ]
}

fn unreachable(world: &World, addresses: &[&str]) -> Outcome {
    let mut last = None;
    for address in addresses {
        // A datagram's first write meets the missing route where connecting does not.
        let said = world
            .sandbox()
            .shell(&format!("exec 3<>/dev/{address} && echo hello >&3 && echo it was sent"));
        // gVisor's kernel calls a missing route by the second name.
        let words = [
            "unreachable",
            "No route to host",
            "Cannot assign requested address",
            "Permission denied",
        ];
        let outcome = Outcome::refused(&said, &words);
        if !matches!(outcome, Outcome::Held { .. }) {
            return outcome;
        }
        last = Some(outcome);
    }
    last.expect("there are addresses")
}

fn lookup(world: &World) -> Outcome {
    let said = world.sandbox().run(&["getent", "ahosts", "example.com"]);
    // 2: the key was not found.
    Outcome::check(said.code == Some(2) && said.stdout.is_empty(), said.to_string())
}

fn interfaces(world: &World) -> Outcome {
    let said = world.sandbox().shell("tail -n +3 /proc/net/dev | cut -d: -f1");
    let names: Vec<&str> = said.stdout.split_whitespace().collect();
    // Tunnels that exist in every network namespace, down and leading nowhere.
    let real = names.iter().filter(|name| !matches!(**name, "lo" | "sit0" | "tunl0" | "ip6tnl0"));
    Outcome::check(names.contains(&"lo") && real.count() == 0, said.to_string())
}
