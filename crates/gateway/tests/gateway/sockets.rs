//! Opening, replacing and closing a sandbox's socket.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::sync::Arc;
use std::time::Duration;

use gateway::{Config, Error, Gateway, Observation, Observer};
use protocol::{SandboxId, SessionId};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::support::{NoForge, World, raw, request, send, soon};

#[derive(Debug)]
struct Silent;

impl Observer for Silent {
    fn observed(&self, _: Observation) {}
}

fn gateway(directory: &std::path::Path) -> Gateway {
    let config = Config::new(directory);
    Gateway::new(config, Arc::new(NoForge), Arc::new(Silent)).expect("a gateway")
}

#[tokio::test]
async fn a_restarted_server_takes_the_place_of_the_old_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("gateway.sock");
    let sandbox = SandboxId::new();
    let old = gateway(directory.path());
    old.open(sandbox, &socket).expect("opens");
    drop(old);
    let left = std::fs::symlink_metadata(&socket).expect("an ended server leaves its socket");
    assert!(left.file_type().is_socket());
    let new = gateway(directory.path());
    new.open(sandbox, &socket).expect("opens in its place");
    assert_eq!(send(&socket, request("GET", "/", "")).await.status(), 403);
    let mode = std::fs::metadata(&socket).expect("exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o666, "the sandbox's root is another user here");
    let mut names: Vec<_> = std::fs::read_dir(directory.path())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(
        names,
        ["audit", "authority.json", "gateway.sock", "trust.pem"],
        "nothing is left beside it"
    );
}

#[tokio::test]
async fn an_old_gateway_does_not_remove_the_new_ones_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("gateway.sock");
    let sandbox = SandboxId::new();
    let (old, new) = (gateway(directory.path()), gateway(directory.path()));
    old.open(sandbox, &socket).expect("opens");
    new.open(sandbox, &socket).expect("opens in its place");
    old.close(sandbox);
    assert_eq!(send(&socket, request("GET", "/", "")).await.status(), 403);
    new.close(sandbox);
    new.close(sandbox);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_path_longer_than_a_sockets_address_works() {
    let directory = tempfile::tempdir().expect("a directory");
    let deep = directory.path().join("d".repeat(100)).join("e".repeat(100));
    std::fs::create_dir_all(&deep).expect("a deep directory");
    let gateway = gateway(directory.path());
    gateway.open(SandboxId::new(), &deep.join("gateway.sock")).expect("opens");
    let short = directory.path().join("short");
    std::os::unix::fs::symlink(&deep, &short).expect("a link");
    assert_eq!(send(&short.join("gateway.sock"), request("GET", "/", "")).await.status(), 403);
}

#[tokio::test]
async fn closing_ends_connections() {
    let world = World::bound(|_| {}, Arc::new(NoForge));
    let mut idle = UnixStream::connect(world.socket()).await.expect("listens");
    world.gateway.close(world.sandbox);
    let mut nothing = [0];
    assert_eq!(soon(idle.read(&mut nothing)).await.unwrap_or(0), 0);
    assert!(UnixStream::connect(world.socket()).await.is_err());
    let error = world.gateway.bind(world.sandbox, world.binding()).expect_err("is closed");
    assert!(matches!(error, Error::NotOpen(_)), "{error}");
}

#[tokio::test]
async fn a_sandbox_belongs_to_one_session_and_keeps_it_when_opened_again() {
    let world = World::bound(|_| {}, Arc::new(NoForge));
    world.gateway.bind(world.sandbox, world.binding()).expect("twice is once");
    let mut other = world.binding();
    other.session = SessionId::new();
    let error = world.gateway.bind(world.sandbox, other).expect_err("is another");
    assert!(matches!(error, Error::BoundToAnother { .. }), "{error}");
    world.gateway.open(world.sandbox, &world.socket()).expect("opens again");
    let bound = "/git/local/local/hangar.git/info/refs?service=git-upload-pack";
    assert_eq!(world.send(request("GET", bound, "")).await.status(), 418, "reaches the forge");
}

#[tokio::test]
async fn connections_over_the_limit_wait_their_turn() {
    let world = World::bound(|config| config.limits.connections = 2, Arc::new(NoForge));
    let first = UnixStream::connect(world.socket()).await.expect("listens");
    let second = UnixStream::connect(world.socket()).await.expect("listens");
    let socket = world.socket();
    let third = tokio::spawn(async move {
        raw(&socket, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!third.is_finished(), "the third was served beside two others");
    drop(first);
    assert!(soon(third).await.expect("ends").starts_with("HTTP/1.1 403"));
    drop(second);
}

#[tokio::test]
async fn a_directory_that_is_missing_is_named() {
    let world = World::start(|_| {}, Arc::new(NoForge));
    let nowhere = world.directory.path().join("nowhere/gateway.sock");
    let error = world.gateway.open(SandboxId::new(), &nowhere).expect_err("is missing");
    assert!(error.to_string().contains("nowhere/gateway.sock"), "{error}");
}

#[tokio::test]
async fn links_that_a_sandbox_left_are_not_followed() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = directory.path().join("run");
    std::fs::create_dir(&run).expect("a directory");
    let victim = directory.path().join("victim");
    std::fs::write(&victim, "kept").expect("a file");
    let private = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&victim, private).expect("is ours");
    for name in ["gateway.sock".to_owned(), format!(".{}.new", std::process::id())] {
        std::os::unix::fs::symlink(&victim, run.join(name)).expect("links");
    }
    let gateway = gateway(directory.path());
    gateway.open(SandboxId::new(), &run.join("gateway.sock")).expect("opens");
    assert_eq!(send(&run.join("gateway.sock"), request("GET", "/", "")).await.status(), 403);
    assert_eq!(std::fs::read_to_string(&victim).expect("exists"), "kept");
    let mode = std::fs::metadata(&victim).expect("exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
