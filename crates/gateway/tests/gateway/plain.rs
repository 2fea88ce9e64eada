//! Plain HTTP to other hosts: rewritten, judged, and never followed anywhere else.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use gateway::{Egress, Names, SystemNames, Unresolved};
use protocol::network::HostRule;
use serde_json::json;
use tokio::net::UdpSocket;

use crate::outside::{Internet, egress, plain, rule};
use crate::support::{NoForge, World, raw};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nset-cookie: a=b\r\n\
    connection: x-private\r\nx-private: 1\r\nx-kept: 2\r\n\r\nhello";

fn world(internet: &Arc<Internet>, egress: Egress) -> World {
    let world = World::bound(
        |config| {
            config.names = Arc::clone(internet) as _;
            config.connector = Arc::clone(internet) as _;
        },
        Arc::new(NoForge),
    );
    world.gateway.set_egress(world.sandbox, egress).expect("bound");
    world
}

fn plainly(host: &str) -> HostRule {
    HostRule { plain: true, ..rule(host) }
}

async fn ask(world: &World, request: &str) -> String {
    raw(&world.socket(), request.as_bytes()).await
}

#[tokio::test]
async fn a_request_is_rewritten_and_carried_alone() {
    let internet = Arc::new(Internet::default());
    let (real, seen) = plain(OK).await;
    internet.name("plain.example", &[&["1.1.1.1"]]);
    internet.server("1.1.1.1:80", real);
    let world = world(&internet, egress(vec![plainly("plain.example")]));
    let answer = ask(
        &world,
        "POST http://PLAIN.example/a%20b?c=d HTTP/1.1\r\nhost: plain.example\r\n\
         proxy-authorization: Basic secret\r\nauthorization: Bearer secret\r\ncookie: secret\r\n\
         proxy-connection: keep-alive\r\nkeep-alive: timeout=5\r\nte: trailers\r\n\
         x-mine: yes\r\nx-hop: secret\r\nconnection: close, x-hop\r\ncontent-length: 3\r\n\r\nend",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"));
    assert!(answer.contains("x-kept: 2"), "{answer}");
    for gone in ["set-cookie", "x-private"] {
        assert!(!answer.contains(gone), "{answer}");
    }
    let seen = seen.lock().expect("unpoisoned").clone();
    assert_eq!(seen.len(), 1);
    assert!(seen[0].starts_with("POST /a%20b?c=d HTTP/1.1\r\n"), "{seen:?}");
    assert!(seen[0].contains("host: plain.example\r\n"), "{seen:?}");
    assert!(seen[0].contains("x-mine: yes") && seen[0].ends_with("\r\n\r\nend"), "{seen:?}");
    for gone in ["secret", "keep-alive", "trailers", "proxy"] {
        assert!(!seen[0].contains(gone), "{gone}: {seen:?}");
    }
    let line = &world.audited(1).await[0];
    assert_eq!((&line["verdict"], &line["address"]), (&json!("allowed"), &json!("1.1.1.1")));
    assert_eq!((&line["host"], &line["path"]), (&json!("plain.example:80"), &json!("/a%20b")));
    assert!(line["bytes_in"].as_u64() > Some(50) && line["bytes_out"].as_u64() > Some(50));
}

#[tokio::test]
async fn a_redirect_is_the_clients_to_follow_and_is_judged_again() {
    let internet = Arc::new(Internet::default());
    let (real, seen) = plain(
        b"HTTP/1.1 302 Found\r\nlocation: http://inside.example/\r\ncontent-length: 0\r\n\r\n",
    )
    .await;
    internet.name("plain.example", &[&["1.1.1.1"]]);
    internet.name("inside.example", &[&["10.0.0.1"]]);
    internet.server("1.1.1.1:80", real);
    internet.server("10.0.0.1:80", real);
    let world = world(&internet, egress(vec![plainly("plain.example"), plainly("inside.example")]));
    let get = |host: &str| {
        format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
    };
    let answer = ask(&world, &get("plain.example")).await;
    assert!(answer.contains("location: http://inside.example/"), "{answer}");
    let answer = ask(&world, &get("inside.example")).await;
    assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("a private address"));
    assert_eq!(internet.connected(), ["1.1.1.1:80"]);
    assert_eq!(seen.lock().expect("unpoisoned").len(), 1);
}

#[tokio::test]
async fn odd_requests_do_not_go_out() {
    let internet = Arc::new(Internet::default());
    let (real, seen) = plain(OK).await;
    internet.name("plain.example", &[&["1.1.1.1"]]);
    internet.server("1.1.1.1:80", real);
    let world = world(&internet, egress(vec![plainly("plain.example"), rule("tls.example")]));
    let host = "host: plain.example\r\nconnection: close\r\n";
    for (request, status) in [
        (
            "GET http://tls.example/ HTTP/1.1\r\nhost: tls.example\r\nconnection: close\r\n\r\n"
                .to_owned(),
            403,
        ),
        (
            "GET http://plain.example/ HTTP/1.1\r\nhost: tls.example\r\nconnection: close\r\n\r\n"
                .to_owned(),
            400,
        ),
        (format!("GET http://plain.example/ HTTP/1.1\r\n{host}host: tls.example\r\n\r\n"), 400),
        (format!("GET http://plain.example:8080/ HTTP/1.1\r\n{host}\r\n"), 403),
        (format!("GET http://plain.example:22/ HTTP/1.1\r\n{host}\r\n"), 403),
        (format!("GET http://a:b@plain.example/ HTTP/1.1\r\n{host}\r\n"), 403),
        (format!("TRACE http://plain.example/ HTTP/1.1\r\n{host}\r\n"), 403),
        (format!("GET http://plain.example/ HTTP/1.1\r\n{host}upgrade: websocket\r\n\r\n"), 400),
        (
            format!(
                "POST http://plain.example/ HTTP/1.1\r\n{host}transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
        (
            format!(
                "POST http://plain.example/ HTTP/1.1\r\n{host}content-length: 3\r\ncontent-length: 5\r\n\r\nend"
            ),
            400,
        ),
        (
            format!(
                "POST http://plain.example/ HTTP/1.0\r\n{host}transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
    ] {
        let answer = ask(&world, &request).await;
        assert!(
            answer.starts_with("HTTP/1.") && answer[9..].starts_with(&status.to_string()),
            "{request}: {answer}"
        );
    }
    assert_eq!(internet.connected(), [""; 0]);
    assert!(seen.lock().expect("unpoisoned").is_empty());
}

#[tokio::test]
async fn two_ends_of_one_body_become_one() {
    let internet = Arc::new(Internet::default());
    let (real, seen) = plain(OK).await;
    internet.name("plain.example", &[&["1.1.1.1"]]);
    internet.server("1.1.1.1:80", real);
    let world = world(&internet, egress(vec![plainly("plain.example")]));
    // Whoever believes the length finds a second request in the body.
    let answer = ask(
        &world,
        "POST http://plain.example/ HTTP/1.1\r\nhost: plain.example\r\ncontent-length: 4\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         0\r\n\r\nGET http://plain.example/smuggled HTTP/1.1\r\nhost: plain.example\r\n\r\n",
    )
    .await;
    let seen = seen.lock().expect("unpoisoned").clone();
    assert!(seen.iter().all(|request| !request.contains("smuggled")), "{seen:?}");
    for request in &seen {
        let both = request.contains("content-length") && request.contains("transfer-encoding");
        assert!(!both, "{request}");
    }
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}

#[tokio::test]
async fn an_old_client_is_served() {
    let internet = Arc::new(Internet::default());
    let (real, seen) = plain(OK).await;
    internet.name("plain.example", &[&["1.1.1.1"]]);
    internet.server("1.1.1.1:80", real);
    let world = world(&internet, egress(vec![plainly("plain.example")]));
    let answer = ask(&world, "GET http://plain.example HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("hello"), "{answer}");
    assert!(
        seen.lock().expect("unpoisoned")[0].starts_with("GET / HTTP/1.1\r\nhost: plain.example")
    );
}

/// A name server that gives `a.test` two addresses and knows nothing else.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut buffer = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let Some(answer) = answer(&buffer[..length]) else { continue };
            let _ = socket.send_to(&answer, client).await;
        }
    });
    address
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let end = 12 + query.get(12..)?.iter().position(|byte| *byte == 0)? + 5;
    let question = query.get(12..end)?;
    let (name, kind) = (&question[..question.len() - 4], question[question.len() - 3]);
    let known = name == b"\x01a\x04test\0";
    let data: Option<Vec<u8>> = match (known, kind) {
        (true, 1) => Some(vec![203, 0, 113, 80]),
        (true, 28) => Some("2001:db8::80".parse::<std::net::Ipv6Addr>().ok()?.octets().to_vec()),
        _ => None,
    };
    let flags = if known { [0x81, 0x80] } else { [0x81, 0x83] };
    let mut answer =
        [&query[..2], &flags, &[0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]].concat();
    answer.extend_from_slice(question);
    if let Some(data) = data {
        answer.extend_from_slice(&[
            0xc0,
            12,
            0,
            kind,
            0,
            1,
            0,
            0,
            0,
            60,
            0,
            u8::try_from(data.len()).ok()?,
        ]);
        answer.extend_from_slice(&data);
    }
    Some(answer)
}

#[tokio::test]
async fn names_are_looked_up_as_the_machine_would_but_in_full() {
    let directory = tempfile::tempdir().expect("a directory");
    let (servers, hosts) = (directory.path().join("resolv.conf"), directory.path().join("hosts"));
    std::fs::write(&servers, "nameserver 127.0.0.1\nsearch test\n").expect("written");
    std::fs::write(&hosts, "192.0.2.7 in-the-file.example\n").expect("written");
    let names = SystemNames::new(&servers, &hosts).on_port(name_server().await.port());
    let parse = |one: &str| one.parse::<IpAddr>().expect("an address");
    let mut found = names.addresses("a.test").await.expect("known");
    found.sort();
    assert_eq!(found, [parse("203.0.113.80"), parse("2001:db8::80")]);
    assert_eq!(names.addresses("in-the-file.example").await, Ok(vec![parse("192.0.2.7")]));
    // With its search domain `a` would be `a.test`.
    assert_eq!(names.addresses("a").await, Err(Unresolved::NoAddress("a".to_owned())));
    let missing = "missing.test".to_owned();
    assert_eq!(names.addresses(&missing).await, Err(Unresolved::NoAddress(missing)));
    // A machine that moves to another network.
    std::fs::remove_file(&servers).expect("removed");
    let lost = names.addresses("a.test").await;
    assert!(matches!(lost, Err(Unresolved::Failed { .. })), "{lost:?}");
}
