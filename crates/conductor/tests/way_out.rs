//! What people decide about a repository's network reaches its running sandboxes at once.

mod common;

use std::path::Path;

use common::{World, finished, until};
use protocol::Event;
use protocol::network::{HostRule, Network, NetworkPolicy};
use protocol::sandbox::{Consequence, LimitName, LimitRequest};
use protocol::settings::RepositorySettings;
use sandbox::Backend as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// A name that never has an address.
const HOST: &str = "registry.invalid";

/// The status line of the gateway's answer to CONNECT.
async fn connect(socket: &Path) -> String {
    let mut stream = UnixStream::connect(socket).await.expect("the gateway listens");
    let request = format!("CONNECT {HOST}:443 HTTP/1.1\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("is answered");
    answer.lines().next().unwrap_or_default().to_owned()
}

fn settings(hosts: &[&str]) -> RepositorySettings {
    let rules = hosts.iter().map(|host| HostRule::new(host.parse().expect("a pattern")));
    let run = NetworkPolicy { hosts: rules.collect(), ..NetworkPolicy::default() };
    RepositorySettings {
        network: Network { run, build: NetworkPolicy::default() },
        ..RepositorySettings::default()
    }
}

#[tokio::test]
async fn a_running_sandbox_follows_the_settings_of_its_repository() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let session = world.session(&hangar, &repository, "Improve the readme").await;
    let id = session.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, finished).await;
    let view = hangar.session(&world.user, id).await.expect("there");
    let sandbox = view.sandbox.expect("it runs").id;
    let socket = world.backend.gateway_directory(sandbox).join("gateway.sock");

    let refused = connect(&socket).await;
    assert!(
        refused.starts_with("HTTP/1.1 403 registry.invalid:443 cannot be reached"),
        "{refused}"
    );
    let denied = |event: &Event| matches!(event, Event::Denied { .. });
    let seen = until(&mut subscription, denied).await;
    let Some(Event::Denied { what, reason }) = seen.last().map(|envelope| &envelope.event) else {
        panic!("people are not told: {seen:?}");
    };
    assert_eq!(what, "registry.invalid:443");
    assert!(reason.contains("not among the hosts"), "{reason}");

    let put = |settings| hangar.put_repository_settings(&world.user, &repository, settings);
    put(settings(&[HOST])).await.expect("taken");
    let allowed = connect(&socket).await;
    assert!(allowed.starts_with("HTTP/1.1 502"), "allowed, and there is no such host: {allowed}");
    put(settings(&["other.invalid"])).await.expect("taken");
    let again = connect(&socket).await;
    assert!(again.starts_with("HTTP/1.1 403"), "{again}");
}

#[tokio::test]
async fn a_server_that_starts_again_knows_what_its_sandboxes_may_reach() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    hangar
        .put_repository_settings(&world.user, &repository, settings(&[HOST]))
        .await
        .expect("taken");
    let session = world.session(&hangar, &repository, "Improve the readme").await;
    let id = session.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, finished).await;
    let view = hangar.session(&world.user, id).await.expect("there");
    let sandbox = view.sandbox.expect("it runs").id;
    let socket = world.backend.gateway_directory(sandbox).join("gateway.sock");
    assert!(connect(&socket).await.starts_with("HTTP/1.1 502"));
    let again = world.open().await;
    assert!(connect(&socket).await.starts_with("HTTP/1.1 502"), "the new server's gateway");
    drop((hangar, again));
}

#[tokio::test]
async fn people_hear_that_a_sandbox_sends_faster_than_it_may() {
    const MAXIMUM: u64 = 64_000;
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let limits = LimitRequest { egress_bits_per_second: Some(MAXIMUM), ..LimitRequest::default() };
    let slow = RepositorySettings { limits, ..RepositorySettings::default() };
    hangar.put_repository_settings(&world.user, &repository, slow).await.expect("taken");
    let id = world.session(&hangar, &repository, "wait for ever").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, |event| matches!(event, Event::AgentMessage { .. })).await;
    let view = hangar.session(&world.user, id).await.expect("there");
    let sandbox = view.sandbox.expect("it runs").id;
    let socket = world.backend.gateway_directory(sandbox).join("gateway.sock");

    // Together more than may pass at once, and than this rate allows in the next ten seconds.
    let head = format!("GET /nothing HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(50_000));
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&socket).await.expect("the gateway listens");
        stream.write_all(head.as_bytes()).await.expect("is taken");
        held.push(stream);
    }
    let exceeded = |event: &Event| matches!(event, Event::LimitExceeded { .. });
    let seen = until(&mut subscription, exceeded).await;
    let Some(Event::LimitExceeded { sandbox: of, limit, usage, maximum, consequence }) =
        seen.last().map(|envelope| &envelope.event)
    else {
        panic!("{seen:?}");
    };
    assert_eq!((*of, *limit, *maximum), (sandbox, LimitName::Egress, MAXIMUM));
    assert_eq!(*consequence, Consequence::Throttled);
    assert!(*usage > MAXIMUM, "{usage}");
}
