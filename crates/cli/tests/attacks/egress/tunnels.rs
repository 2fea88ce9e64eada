//! Inside of a tunnel to an allowed host: another name, none, no TLS, or nothing at all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{allow, attempt, head, octal, speak, speak_until_arrived};
use crate::support::attempt::{Attempt, Outcome};
use crate::support::world::World;

pub(super) fn attempts() -> Vec<Attempt> {
    vec![
        attempt(
            "other-server-name",
            "asks for one allowed host and greets another in TLS",
            "a TLS alert, and the host gets not one byte",
            |world| greets(world, &greeting("two.example")),
        ),
        attempt(
            "no-server-name",
            "greets in TLS without naming a host",
            "the tunnel is closed, and the host gets not one byte",
            // An address is not sent as a name.
            |world| greets(world, &greeting("1.1.1.1")),
        ),
        attempt(
            "plain-text-in-tunnel",
            "speaks HTTP and SSH through a tunnel",
            "the tunnel is closed, and the host gets not one byte",
            plain_text,
        ),
        attempt(
            "request-behind-connect",
            "sends a second request in the same breath as CONNECT",
            "it is neither answered nor carried",
            pipelined,
        ),
        attempt(
            "silent-tunnel",
            "opens a tunnel and says nothing",
            "it is closed within seconds",
            silent,
        ),
        attempt(
            "tunnel-flood",
            "opens more tunnels than it may, all silent",
            "further ones get 503, and the way to models stays open",
            flood,
        ),
        attempt(
            "withdrawn-host",
            "goes on with a tunnel after its host was taken from the rules",
            "the tunnel is closed within a second",
            withdrawn,
        ),
    ]
}

/// The first bytes of a TLS client that wants to reach this name.
fn greeting(name: &str) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("writes to memory");
    bytes
}

fn connect() -> Vec<u8> {
    head(&["CONNECT one.example:443 HTTP/1.1", "host: one.example:443"])
}

/// The tunnel opens, and what is sent through it does not come out at the other end.
fn goes_nowhere(world: &World, bytes: &[u8]) -> Outcome {
    let said = speak(world, &[&connect(), bytes].concat());
    let seen = world.outside.take();
    let opened = said.stdout.starts_with("HTTP/1.1 200");
    Outcome::check(opened && seen.bytes.is_empty(), format!("{said}; it got {:?}", seen.bytes))
}

fn greets(world: &World, bytes: &[u8]) -> Outcome {
    allow(world, &["one.example", "two.example"]);
    // The right name passes: what follows is refused for its name and nothing else.
    let right = greeting("one.example");
    let said = speak_until_arrived(world, &[connect(), right.clone()].concat());
    if world.outside.take().bytes != right {
        return Outcome::breach(format!("the right greeting did not arrive: {said}"));
    }
    goes_nowhere(world, bytes)
}

fn plain_text(world: &World) -> Outcome {
    allow(world, &["one.example"]);
    let http = head(&["GET / HTTP/1.1", "host: one.example"]);
    match goes_nowhere(world, &http) {
        Outcome::Held { .. } => goes_nowhere(world, b"SSH-2.0-OpenSSH_9.6\r\n"),
        breach => breach,
    }
}

fn pipelined(world: &World) -> Outcome {
    allow(world, &["one.example"]);
    let second = head(&["GET /model/rehearsal/v1/models HTTP/1.1", "host: 127.0.0.1:7070"]);
    let said = speak(world, &[connect(), second].concat());
    let seen = world.outside.take();
    let once = said.stdout.matches("HTTP/1.1").count() == 1;
    Outcome::check(once && seen.bytes.is_empty(), said.to_string())
}

fn silent(world: &World) -> Outcome {
    allow(world, &["one.example"]);
    let begun = Instant::now();
    let said = world.sandbox().shell(
        "exec 3<>/dev/tcp/127.0.0.1/7070; \
         printf 'CONNECT one.example:443 HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3; echo closed",
    );
    let closed = said.succeeded() && said.stdout.ends_with("closed\n");
    Outcome::check(closed, format!("{:?}: {said}", begun.elapsed()))
}

fn flood(world: &World) -> Outcome {
    allow(world, &["one.example"]);
    // In one process, so that neither its files nor its processes are what runs out.
    let said = world.sandbox().perl(
        r#"use IO::Socket::INET;
           my %codes; my @open;
           for (1 .. 60) {
               my $s = IO::Socket::INET->new("127.0.0.1:7070") or last;
               print $s "CONNECT one.example:443 HTTP/1.1\r\n\r\n"; push @open, $s;
           }
           for my $s (@open) { my $l = <$s> // ""; $l =~ m{^HTTP/1.1 (\d+)} and $codes{$1}++; }
           my $m = IO::Socket::INET->new("127.0.0.1:7070");
           print $m "GET /model/rehearsal/v1/models HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
           my $answer = <$m> // "";
           print join(" ", map { "$_=$codes{$_}" } sort keys %codes), " models: $answer";"#,
        &[],
    );
    let held = said.stdout.contains("200=") && said.stdout.contains("503=");
    Outcome::check(held && said.stdout.contains("models: HTTP/1.1 200"), said.to_string())
}

fn withdrawn(world: &World) -> Outcome {
    allow(world, &["one.example", "two.example"]);
    let right = greeting("one.example");
    let sandbox = world.sandbox();
    let escaped = octal(&[connect(), right].concat());
    let file = format!("{}/.spoken", protocol::layout::HOME);
    sandbox.write(&file, escaped.as_bytes());
    let changing = world.gateway.clone();
    let (id, outside) = (sandbox.id, Arc::clone(&world.outside));
    let changer = std::thread::spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        while outside.peek().bytes.is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let changed = Instant::now();
        changing.set_egress(id, gateway::Egress::default()).expect("the sandbox is bound");
        changed
    });
    let said = sandbox.shell(&format!(
        "exec 3<>/dev/tcp/127.0.0.1/7070; printf \"$(cat {file})\" >&3; timeout 25 cat <&3; echo $?"
    ));
    let took = changer.join().expect("changed").elapsed();
    let closed = said.stdout.ends_with("\n0\n") && took < Duration::from_secs(2);
    Outcome::check(closed, format!("closed {took:?} after the change: {said}"))
}
