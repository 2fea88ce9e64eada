//! Everything that is not let out, and how it is told.

use std::sync::Arc;
use std::time::Duration;

use gateway::{Config, Observed};
use serde_json::json;

use crate::support::{
    self, KEY, NoForge, World, anthropic, json as json_of, raw, request, soon, text,
};

/// Nothing may listen there: a denied request that went out would fail the test.
fn with_anthropic(config: &mut Config) {
    config.providers.anthropic = Some(anthropic("http://127.0.0.1:9"));
}

#[tokio::test]
async fn everything_else_is_denied_with_a_reason_and_a_hint() {
    let world = World::bound(with_anthropic, Arc::new(NoForge));
    let table = [
        ("GET", "/", "unknown_route"),
        ("GET", "/model", "unknown_route"),
        ("GET", "/health", "unknown_route"),
        ("GET", "http://example.com/", "host"),
        ("GET", "http://169.254.169.254/latest/meta-data", "host_literal"),
        ("POST", "http://api.anthropic.com/v1/messages", "host"),
        ("POST", "/model/gemini/v1/messages", "unknown_provider"),
        ("POST", "/model/openai/v1/chat/completions", "provider_without_key"),
        ("POST", "/model/anthropic/v1/complete", "model_endpoint"),
        ("GET", "/model/anthropic/v1/messages", "model_endpoint"),
        ("DELETE", "/model/anthropic/v1/models", "model_endpoint"),
        ("POST", "/model/anthropic/v1/messages/", "model_endpoint"),
        ("POST", "/model/anthropic/v1/files", "model_endpoint"),
        ("POST", "/model/anthropic/v1/../v1/messages", "model_endpoint"),
        ("POST", "/model/anthropic/v1/chat/completions", "model_endpoint"),
        ("POST", "/model/anthropic/v1%2fmessages", "model_endpoint"),
        ("POST", "/model/rehearsal/v1/responses", "model_endpoint"),
        ("POST", "/mcp", "unknown_route"),
    ];
    for (method, target, code) in table {
        let response = world.send(request(method, target, "")).await;
        assert_eq!(response.status(), 403, "{method} {target}");
        let body = json_of(response).await;
        assert_eq!(body["code"], code, "{method} {target}");
        for field in ["denied", "hint"] {
            assert!(body[field].as_str().is_some_and(|text| text.len() > 10), "{body}");
        }
        if target.starts_with("/model/") {
            let message = body["error"]["message"].as_str().expect("as models write errors");
            assert!(message.contains(body["denied"].as_str().expect("text")), "{body}");
        }
    }
    let lines = world.audited(table.len()).await;
    for (line, (method, _, code)) in lines.iter().zip(table) {
        assert_eq!((&line["method"], &line["verdict"]), (&json!(method), &json!(code)));
        assert!(line["reason"].is_string());
    }
    assert_eq!(lines[3]["host"], "example.com");
    assert!(!world.audit().contains(KEY));
}

#[tokio::test]
async fn git_requests_that_are_none_are_denied_in_text() {
    let world = World::bound(with_anthropic, Arc::new(NoForge));
    for (method, target, reason) in [
        ("GET", "/git/local/local/hangar.git/HEAD", "smart HTTP"),
        ("GET", "/git/local/local/hangar.git/info/refs", "smart HTTP"),
        ("GET", "/git/local/local/hangar.git/objects/info/packs", "smart HTTP"),
        ("GET", "/git/local/local/hangar.git/info/refs?service=git-upload-archive", "smart HTTP"),
        ("GET", "/git/local/local/hangar.git/git-upload-pack", "smart HTTP"),
        ("GET", "/git/local/local/hangar/info/refs?service=git-upload-pack", "smart HTTP"),
        ("GET", "/git/local/../hangar.git/info/refs?service=git-upload-pack", "smart HTTP"),
        ("GET", "/git/local/local/other.git/info/refs?service=git-upload-pack", "local/other"),
        ("POST", "/git/local/else/hangar.git/git-upload-pack", "else/hangar"),
        ("GET", "/git/github.com/a/b.git/info/refs?service=git-upload-pack", "github.com"),
    ] {
        let response = world.send(request(method, target, "")).await;
        assert_eq!(response.status(), 403, "{method} {target}");
        assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
        let body = text(response).await;
        assert!(body.contains(reason) && body.contains("hint: "), "{target}: {body}");
    }
    let allowed = "/git/local/local/hangar.git/info/refs?service=git-upload-pack";
    assert_eq!(world.send(request("GET", allowed, "")).await.status(), 418, "reaches the forge");
}

#[tokio::test]
async fn connect_is_denied_and_told_once() {
    let mut world = World::bound(with_anthropic, Arc::new(NoForge));
    let connect =
        b"CONNECT packages.example.org:443 HTTP/1.1\r\nhost: packages.example.org:443\r\n\r\n";
    for _ in 0..3 {
        let mut bytes = connect.to_vec();
        bytes.truncate(bytes.len() - 2);
        bytes.extend_from_slice(b"connection: close\r\n\r\n");
        let answer = raw(&world.socket(), &bytes).await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        assert!(
            answer.contains("\"denied\":\"packages.example.org:443 cannot be reached"),
            "{answer}"
        );
        assert!(answer.contains("\"hint\":"), "{answer}");
    }
    let socket = world.socket();
    let own = raw(&socket, b"CONNECT 127.0.0.1:7070 HTTP/1.1\r\nconnection: close\r\n\r\n");
    assert!(own.await.starts_with("HTTP/1.1 403"));
    let mut told = Vec::new();
    for _ in 0..2 {
        let found = world
            .observed(|what| match what {
                Observed::Denied { denial, method, count } => Some((denial, method, count)),
                _ => None,
            })
            .await;
        told.push((found.0.to_string(), found.1, found.2));
    }
    // The second observation is already about the second host.
    assert!(told[0].0.starts_with("packages.example.org:443"), "{told:?}");
    assert!(told[1].0.starts_with("127.0.0.1:7070"), "{told:?}");
    assert!(told.iter().all(|(_, method, count)| method == "CONNECT" && *count == 1));
    assert_eq!(world.audited(4).await.len(), 4, "each has its line");
}

#[tokio::test]
async fn an_unbound_sandbox_reaches_only_the_rehearsal() {
    let world = World::start(with_anthropic, Arc::new(NoForge));
    for (method, target) in [
        ("POST", "/model/anthropic/v1/messages"),
        ("GET", "/git/local/local/hangar.git/info/refs?service=git-upload-pack"),
    ] {
        let response = world.send(request(method, target, "{}")).await;
        assert_eq!(response.status(), 403);
        let body = text(response).await;
        assert!(body.contains("belongs to no session yet"), "{body}");
    }
    let hello = json!({ "messages": [{ "role": "user", "content": "hello" }] }).to_string();
    let rehearsal = "/model/rehearsal/v1/messages";
    assert_eq!(world.send(request("POST", rehearsal, &hello)).await.status(), 200);
    let lines = world.audited(3).await;
    assert!(lines.iter().all(|line| line["session"].is_null()), "{lines:?}");
    assert_eq!(lines[2]["host"], "rehearsal");
}

#[tokio::test]
async fn a_flood_of_denials_is_slowed_down() {
    let world = World::bound(
        |config| {
            config.limits.denials_per_minute = 3;
            config.limits.denial_delay = Duration::from_millis(300);
        },
        Arc::new(NoForge),
    );
    for number in 0..5 {
        let began = std::time::Instant::now();
        assert_eq!(world.send(request("GET", "/", "")).await.status(), 403);
        if number >= 3 {
            assert!(began.elapsed() >= Duration::from_millis(300), "answer {number} came at once");
        }
    }
}

#[tokio::test]
async fn without_an_audit_file_nothing_passes() {
    let mut audit = std::path::PathBuf::new();
    let world = World::bound(
        |config| {
            audit.clone_from(&config.audit);
            std::fs::create_dir_all(&audit).expect("a directory");
            // Opens, and every write to it finds the disk full.
            let file = audit.join("gateway.jsonl");
            std::os::unix::fs::symlink("/dev/full", file).expect("a link");
        },
        Arc::new(NoForge),
    );
    let body = json!({ "messages": [{ "role": "user", "content": "hello" }] }).to_string();
    let rehearsal = || request("POST", "/model/rehearsal/v1/messages", &body);
    // The first request finds out; it was allowed when nothing was known yet.
    text(world.send(rehearsal()).await).await;
    soon(async {
        while world.send(rehearsal()).await.status() != 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let response = world.send(rehearsal()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(json_of(response).await["code"], "no_audit");
}

#[tokio::test]
async fn heads_that_are_too_large_or_no_http_are_refused() {
    let world = World::bound(|config| config.limits.head_bytes = 8192, Arc::new(NoForge));
    let large = format!("GET / HTTP/1.1\r\nhost: x\r\nx-large: {}\r\n\r\n", "x".repeat(10_000));
    let answer = raw(&world.socket(), large.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    let answer = raw(&world.socket(), many.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer =
        raw(&world.socket(), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let lines = world.audited(3).await;
    assert!(lines.iter().all(|line| line["verdict"] == "unreadable_head"), "{lines:?}");
}

#[tokio::test]
async fn slow_heads_and_bodies_are_given_up() {
    let world = World::bound(
        |config| {
            config.limits.head_time = Duration::from_millis(200);
            config.limits.body_idle = Duration::from_millis(200);
        },
        Arc::new(NoForge),
    );
    let answer = raw(&world.socket(), b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    // A kept connection on which nothing more is asked.
    let answer = raw(&world.socket(), b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let head =
        b"POST /model/rehearsal/v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
    let answer = raw(&world.socket(), head).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("stopped arriving"), "{answer}");
}

#[tokio::test]
async fn a_credential_in_a_proxy_address_is_not_written_down() {
    let world = World::bound(with_anthropic, Arc::new(NoForge));
    let target = "http://user:hunter2@example.com/?token=hunter2";
    let response = world.send(request("GET", target, "")).await;
    let body = support::text(response).await;
    assert!(!body.contains("hunter2"), "{body}");
    world.audited(1).await;
    assert!(!world.audit().contains("hunter2"), "{}", world.audit());
}
