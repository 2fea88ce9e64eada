//! Tunnels to other hosts: what passes, what does not, and when an open one ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::{Config, Denial, Egress, Observed, Why};
use protocol::network::{HostRule, NetworkPolicy};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::outside::{Internet, connect, echoes, egress, rule, tls, tls_echo};
use crate::support::{NoForge, SOON, World, raw, soon};

fn world(internet: &Arc<Internet>, egress: Egress, configure: impl FnOnce(&mut Config)) -> World {
    let world = World::bound(
        |config| {
            config.names = Arc::clone(internet) as _;
            config.connector = Arc::clone(internet) as _;
            configure(config);
        },
        Arc::new(NoForge),
    );
    world.gateway.set_egress(world.sandbox, egress).expect("bound");
    world
}

/// `a.example` and `b.example` at public addresses, both echoes.
async fn internet() -> (Arc<Internet>, tokio_rustls::TlsConnector, tokio_rustls::TlsConnector) {
    let internet = Arc::new(Internet::default());
    let (a, trusts_a) = tls_echo("a.example").await;
    let (b, trusts_b) = tls_echo("b.example").await;
    internet.name("a.example", &[&["2606:4700::1", "1.1.1.1"]]);
    internet.name("b.example", &[&["8.8.8.8"]]);
    internet.server("1.1.1.1:443", a);
    internet.server("8.8.8.8:443", b);
    (internet, trusts_a, trusts_b)
}

#[tokio::test]
async fn tls_passes_to_a_judged_address_and_is_written_down() {
    let (internet, trusts, _) = internet().await;
    let world = world(&internet, egress(vec![rule("a.example")]), |_| {});
    for target in ["a.example:443", "A.EXAMPLE.:443"] {
        let mut stream = tls(&world.socket(), target, &trusts, "a.example").await.expect("TLS");
        echoes(&mut stream).await.expect("carried");
        stream.shutdown().await.expect("ends");
        let mut rest = Vec::new();
        // The far end ends too, without a farewell.
        let _ = soon(stream.read_to_end(&mut rest)).await;
    }
    let lines = world.audited(2).await;
    for line in lines {
        assert_eq!(line["host"], "a.example:443");
        assert_eq!((&line["address"], &line["verdict"]), (&json!("1.1.1.1"), &json!("allowed")));
        assert_eq!((&line["method"], &line["status"]), (&json!("CONNECT"), &json!(200)));
        assert_eq!(line["outcome"], "completed");
        // A TLS greeting and its answer at least.
        assert!(line["bytes_in"].as_u64() > Some(200) && line["bytes_out"].as_u64() > Some(200));
    }
}

#[tokio::test]
async fn a_refused_tunnel_says_why_where_programs_show_it() {
    let (internet, ..) = internet().await;
    let mut world = world(&internet, egress(vec![rule("a.example")]), |_| {});
    let request = b"CONNECT other.example:443 HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answer = raw(&world.socket(), request).await;
    let reason = "other.example:443 cannot be reached from this sandbox: it is not among the hosts \
        that this repository's sandboxes may reach";
    assert!(answer.starts_with(&format!("HTTP/1.1 403 {reason}\r\n")), "{answer}");
    assert!(answer.contains(&format!("x-hangar-denied: {reason}\r\n")), "{answer}");
    assert!(answer.contains("\"hint\":\"work with what is there, or ask an admin"), "{answer}");
    let told = world.observed(|what| match what {
        Observed::Denied { denial, .. } => Some(denial),
        _ => None,
    });
    let denial = Denial::Host { host: "other.example:443".to_owned(), why: Why::NotListed };
    assert_eq!(told.await, denial);
    assert_eq!(internet.connected(), [""; 0]);
}

#[tokio::test]
async fn the_greeting_must_name_the_host_of_the_tunnel() {
    let (internet, trusts, _) = internet().await;
    let world = world(&internet, egress(vec![rule("a.example"), rule("b.example")]), |config| {
        config.limits.greeting_time = Duration::from_millis(300);
    });
    // Another name, though it is an allowed one.
    let refused = tls(&world.socket(), "a.example:443", &trusts, "b.example").await;
    let error = refused.expect_err("another name").to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    // An address is no name, so none is sent.
    tls(&world.socket(), "a.example:443", &trusts, "1.1.1.1").await.expect_err("no name");
    for bytes in [
        b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n" as &[u8],
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"CONNECT b.example:443 HTTP/1.1\r\nhost: b.example:443\r\n\r\n",
        // The start of a greeting that never goes on.
        &[22, 3, 1, 2, 0, 1, 0, 1, 0xfc],
    ] {
        let (head, mut stream) = connect(&world.socket(), "a.example:443").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream.write_all(bytes).await.expect("is taken");
        let mut answer = Vec::new();
        let _ = soon(stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty(), "{answer:?}");
    }
    let lines = world.audited(6).await;
    let verdicts: Vec<_> = lines.iter().map(|line| line["verdict"].as_str()).collect();
    let (name, none) = (Some("host_server_name"), Some("host_no_tls"));
    assert_eq!(verdicts, [name, name, none, none, none, none]);
    assert!(lines.iter().all(|line| line["bytes_in"] == 0), "nothing was sent: {lines:?}");
}

#[tokio::test]
async fn a_request_sent_right_behind_connect_goes_nowhere() {
    let (internet, ..) = internet().await;
    let world = world(&internet, egress(vec![rule("a.example")]), |_| {});
    let both = b"CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n\
        GET /model/rehearsal/v1/models HTTP/1.1\r\nhost: 127.0.0.1:7070\r\n\r\n";
    let answer = raw(&world.socket(), both).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    assert_eq!(world.audited(1).await[0]["verdict"], "host_no_tls");
}

#[tokio::test]
async fn names_that_lead_out_of_the_internet_are_not_followed() {
    let internet = Arc::new(Internet::default());
    let names: [(&str, &[&str], &str); 12] = [
        ("loopback.example", &["127.0.0.1"], "loopback"),
        ("six.example", &["::1"], "loopback"),
        ("metadata.example", &["169.254.169.254"], "metadata"),
        ("metadata-six.example", &["fd00:ec2::254"], "metadata"),
        ("private.example", &["10.0.0.1"], "private"),
        ("carrier.example", &["100.64.1.1"], "shared behind a carrier"),
        ("link.example", &["fe80::1"], "link-local"),
        ("mapped.example", &["::ffff:127.0.0.1"], "loopback"),
        ("translated.example", &["64:ff9b::a00:1"], "private"),
        ("unique.example", &["fd12:3456::1"], "private"),
        ("nothing.example", &["0.0.0.0"], "unspecified"),
        ("mixed.example", &["1.1.1.1", "192.168.1.1"], "at once"),
    ];
    let mut rules = Vec::new();
    for (host, addresses, _) in names {
        internet.name(host, &[addresses]);
        rules.push(HostRule { plain: true, ..rule(host) });
    }
    let world = world(&internet, egress(rules), |_| {});
    for (host, _, class) in names {
        for request in [
            format!("CONNECT {host}:443 HTTP/1.1\r\nconnection: close\r\n\r\n"),
            format!("GET http://{host}/ HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"),
        ] {
            let answer = raw(&world.socket(), request.as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403"), "{host}: {answer}");
            assert!(answer.contains(class), "{host}: {answer}");
        }
    }
    assert_eq!(internet.connected(), [""; 0], "nobody was asked");
}

#[tokio::test]
async fn a_network_of_ones_own_is_reached_where_its_rule_names_it() {
    let (internet, trusts, _) = internet().await;
    let (real, _) = tls_echo("x.example").await;
    internet.name("own.example", &[&["10.1.2.3"]]);
    internet.server("10.1.2.3:443", real);
    let networks = vec!["10.1.0.0/16".parse().expect("a network")];
    let own = HostRule { networks, ..rule("own.example") };
    let world = world(&internet, egress(vec![own, rule("a.example")]), |_| {});
    let (head, _) = connect(&world.socket(), "own.example:443").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(internet.connected(), ["10.1.2.3:443"]);
    // The other rule's hosts gain nothing by it.
    internet.name("a.example", &[&["10.1.2.3"]]);
    let (head, _) = connect(&world.socket(), "a.example:443").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    drop(trusts);
}

#[tokio::test]
async fn a_name_that_is_bound_again_is_judged_again() {
    let (internet, trusts, _) = internet().await;
    internet.name("a.example", &[&["1.1.1.1"], &["127.0.0.1"], &["1.1.1.1", "127.0.0.1"]]);
    let world = world(&internet, egress(vec![rule("a.example")]), |_| {});
    let mut stream =
        tls(&world.socket(), "a.example:443", &trusts, "a.example").await.expect("TLS");
    for _ in 0..2 {
        let (head, _) = connect(&world.socket(), "a.example:443").await;
        assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    }
    echoes(&mut stream).await.expect("the pinned connection stays");
    assert_eq!(internet.connected(), ["1.1.1.1:443"], "one lookup for one connection");
}

#[tokio::test]
async fn hosts_that_do_not_answer_are_no_denials() {
    let internet = Arc::new(Internet::default());
    internet.name("silent.example", &[&["1.1.1.1"]]);
    let rules = vec![rule("silent.example"), rule("missing.example")];
    let world = world(&internet, egress(rules), |_| {});
    for (host, reason) in [
        ("silent.example", "silent.example:443 could not be connected to"),
        ("missing.example", "the name missing.example has no address"),
    ] {
        let request = format!("CONNECT {host}:443 HTTP/1.1\r\nconnection: close\r\n\r\n");
        let answer = raw(&world.socket(), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
        assert!(answer.contains(reason), "{answer}");
    }
    let lines = world.audited(2).await;
    assert!(lines.iter().all(|line| line["verdict"] == "allowed"), "{lines:?}");
    assert!(lines.iter().all(|line| line["outcome"]["failed"].is_string()), "{lines:?}");
}

#[tokio::test]
async fn a_change_of_rules_ends_what_they_forbid_and_nothing_else() {
    let (internet, trusts_a, trusts_b) = internet().await;
    let mut world = world(&internet, egress(vec![rule("a.example"), rule("b.example")]), |_| {});
    let socket = world.socket();
    let mut a = tls(&socket, "a.example:443", &trusts_a, "a.example").await.expect("TLS");
    let mut b = tls(&socket, "b.example:443", &trusts_b, "b.example").await.expect("TLS");
    echoes(&mut a).await.expect("carried");
    let changed = Instant::now();
    world.gateway.set_egress(world.sandbox, egress(vec![rule("b.example")])).expect("bound");
    let ended = soon(a.read(&mut [0; 1])).await;
    assert!(!matches!(ended, Ok(count) if count > 0), "{ended:?}");
    assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
    echoes(&mut b).await.expect("the other one stays");
    let why = world.observed(|what| match what {
        Observed::Denied { denial: Denial::Host { why, .. }, .. } => Some(why),
        _ => None,
    });
    assert_eq!(why.await, Why::Withdrawn);
    assert_eq!(world.audited(1).await[0]["verdict"], "host_withdrawn");
    let (head, _) = connect(&socket, "a.example:443").await;
    assert!(head.starts_with("HTTP/1.1 403"), "{head}");
    // Rules that make the gateway look inside end a tunnel into which it cannot look.
    let methods = vec!["GET".to_owned()];
    let looked_into = HostRule { methods, ..rule("b.example") };
    world.gateway.set_egress(world.sandbox, egress(vec![looked_into])).expect("bound");
    let ended = soon(b.read(&mut [0; 1])).await;
    assert!(!matches!(ended, Ok(count) if count > 0), "{ended:?}");
}

#[tokio::test]
async fn a_closed_sandbox_has_no_tunnels() {
    let (internet, trusts, _) = internet().await;
    let world = world(&internet, egress(vec![rule("a.example")]), |_| {});
    let mut stream =
        tls(&world.socket(), "a.example:443", &trusts, "a.example").await.expect("TLS");
    world.gateway.close(world.sandbox);
    let ended = soon(stream.read(&mut [0; 1])).await;
    assert!(!matches!(ended, Ok(count) if count > 0), "{ended:?}");
    assert_eq!(world.audited(1).await[0]["outcome"], "client_gone");
}

#[tokio::test]
async fn the_policys_bytes_are_all_that_pass() {
    let (internet, trusts, _) = internet().await;
    let rules = egress(vec![rule("a.example")]);
    let policy = NetworkPolicy { bytes_out: Some(20_000), ..rules.policy.clone() };
    let mut world = world(&internet, Egress { policy, ..rules.clone() }, |_| {});
    let socket = world.socket();
    let mut stream = tls(&socket, "a.example:443", &trusts, "a.example").await.expect("TLS");
    echoes(&mut stream).await.expect("within");
    // Echoes nobody reads must not stand in the way.
    let (mut reader, mut writer) = tokio::io::split(stream);
    let reading = tokio::spawn(async move {
        let mut read = Vec::new();
        let _ = reader.read_to_end(&mut read).await;
    });
    let _ = soon(writer.write_all(&vec![7; 100_000])).await;
    soon(reading).await.expect("the tunnel was closed");
    let why = world.observed(|what| match what {
        Observed::Denied { denial: Denial::Host { why, .. }, .. } => Some(why),
        _ => None,
    });
    assert_eq!(why.await, Why::Budget { direction: "sent", limit: 20_000 });
    let line = &world.audited(1).await[0];
    assert_eq!((&line["verdict"], &line["bytes_in"]), (&json!("host_budget"), &json!(20_000)));
    let (head, _) = connect(&socket, "a.example:443").await;
    assert!(head.starts_with("HTTP/1.1 403") && head.contains("all 20000 bytes"), "{head}");
    // More is allowed: what was sent still counts.
    let policy = NetworkPolicy { bytes_out: Some(40_000), ..rules.policy };
    world.gateway.set_egress(world.sandbox, Egress { policy, ..Egress::default() }).expect("bound");
    let mut stream = tls(&socket, "a.example:443", &trusts, "a.example").await.expect("TLS");
    echoes(&mut stream).await.expect("carried");
}

#[tokio::test]
async fn a_sandbox_sends_no_faster_than_it_may() {
    let (internet, trusts, _) = internet().await;
    let mut rules = egress(vec![rule("a.example")]);
    rules.bits_per_second = 1_600_000;
    let mut world = world(&internet, rules, |_| {});
    let mut stream =
        tls(&world.socket(), "a.example:443", &trusts, "a.example").await.expect("TLS");
    let began = Instant::now();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    let send = async {
        writer.write_all(&vec![7; 300_000]).await.expect("is taken");
        writer.flush().await.expect("is taken");
    };
    let mut back = vec![0; 300_000];
    let read = reader.read_exact(&mut back);
    let ((), read) =
        tokio::time::timeout(SOON, async { tokio::join!(send, read) }).await.expect("it arrives");
    read.expect("all of it");
    // 300 kB at 200 kB a second, less the burst of 64 KiB.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1100), "{took:?}");
    let (tried, maximum) = world
        .observed(|what| match what {
            Observed::Throttled { tried, maximum } => Some((tried, maximum)),
            _ => None,
        })
        .await;
    assert_eq!(maximum, 1_600_000);
    assert!(tried > maximum, "{tried}");
}

#[tokio::test]
async fn hosts_do_not_take_all_connections_from_models() {
    let (internet, trusts, _) = internet().await;
    let world = world(&internet, egress(vec![rule("a.example")]), |config| {
        config.limits.host_connections = 2;
        config.limits.connections = 4;
    });
    let socket = world.socket();
    let mut open = Vec::new();
    for _ in 0..2 {
        open.push(tls(&socket, "a.example:443", &trusts, "a.example").await.expect("TLS"));
    }
    let request = b"CONNECT a.example:443 HTTP/1.1\r\nconnection: close\r\n\r\n";
    let answer = raw(&socket, request).await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("holds 2 connections to hosts already"), "{answer}");
    let models = world.send(crate::support::request("GET", "/model/rehearsal/v1/models", ""));
    assert_eq!(models.await.status(), 200);
    drop(open.pop());
    soon(async {
        while connect(&socket, "a.example:443").await.0.starts_with("HTTP/1.1 503") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
