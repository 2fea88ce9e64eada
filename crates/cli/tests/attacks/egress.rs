//! Reaching what the gateway does not allow.

mod git;
mod hosts;
mod network;
mod tunnels;

use gateway::Egress;
use protocol::network::{HostRule, NetworkPolicy};

use crate::support::attempt::{Attempt, EVERY_LEVEL, Group, Outcome};
use crate::support::outside::PUBLIC;
use crate::support::sandbox::Said;
use crate::support::world::World;

pub(crate) fn attempts() -> Vec<Attempt> {
    [network::attempts(), hosts::attempts(), tunnels::attempts(), git::attempts()].concat()
}

const fn attempt(
    name: &'static str,
    tries: &'static str,
    expected: &'static str,
    run: fn(&World) -> Outcome,
) -> Attempt {
    Attempt { name, group: Group::Egress, tries, expected, levels: EVERY_LEVEL, run }
}

fn rule(host: &str) -> HostRule {
    HostRule::new(host.parse().expect("a pattern"))
}

/// From now on the sandbox may reach these hosts, over plain HTTP as well, all at a public address.
fn allow(world: &World, hosts: &[&str]) {
    let rules = hosts.iter().map(|host| HostRule { plain: true, ..rule(host) }).collect();
    for host in hosts {
        world.outside.name(host, &[&[PUBLIC]]);
    }
    allow_rules(world, rules);
}

fn allow_rules(world: &World, hosts: Vec<HostRule>) {
    let policy = NetworkPolicy { hosts, ..NetworkPolicy::default() };
    let egress = Egress { policy, ..Egress::default() };
    world.gateway.set_egress(world.sandbox().id, egress).expect("the sandbox is bound");
    world.outside.answers("");
    let _before = world.outside.take();
}

fn octal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("\\{byte:03o}"))
}

/// Sends bytes to the gateway as they are, from inside, and gives what comes back until the gateway
/// closes, or for a few seconds.
fn speak(world: &World, bytes: &[u8]) -> Said {
    speak_and(world, bytes, "cat")
}

/// The same where the outside says [`ARRIVED`], which is waited for no longer than it takes.
fn speak_until_arrived(world: &World, bytes: &[u8]) -> Said {
    world.outside.answers(ARRIVED);
    let said = speak_and(world, bytes, "sed --unbuffered '/it arrived/q'");
    world.outside.answers("");
    said
}

const ARRIVED: &str = "it arrived\n";

fn speak_and(world: &World, bytes: &[u8], reader: &str) -> Said {
    // Octal, because bash then sends every byte there is, zero included.
    let escaped = octal(bytes);
    let file = format!("{}/.spoken", protocol::layout::HOME);
    world.sandbox().write(&file, escaped.as_bytes());
    world.sandbox().shell(&format!(
        // An early answer may close the connection while the rest is still being sent.
        "trap '' PIPE; exec 3<>/dev/tcp/127.0.0.1/7070 && \
         {{ printf \"$(cat {file})\" >&3; timeout 8 {reader} <&3; }}; exit 0"
    ))
}

/// A request head with its end; lines as given.
fn head(lines: &[&str]) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes()
}

/// Each of these is answered with an error and leads nowhere.
fn all_refused(world: &World, requests: &[(&str, Vec<u8>)]) -> Outcome {
    let mut last = String::new();
    for (what, bytes) in requests {
        let said = speak(world, bytes);
        let seen = world.outside.take();
        let refused = ["HTTP/1.1 4", "HTTP/1.0 4", "HTTP/1.1 503"]
            .iter()
            .any(|start| said.stdout.starts_with(start));
        if !refused || !seen.connected.is_empty() {
            return Outcome::breach(format!("{what}: {said}, connected to {:?}", seen.connected));
        }
        said.stdout.lines().next().unwrap_or_default().clone_into(&mut last);
    }
    Outcome::held(format!("{} refused; the last: {last}", requests.len()))
}
