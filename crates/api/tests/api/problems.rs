//! Every answer that is not a success is a problem document with a stable code.

use http::{Method, StatusCode};
use protocol::client::{Page, PromptAccepted, ServerDescription};
use protocol::repository::Repository;
use protocol::session::{SessionSummary, SessionView};
use protocol::settings::RepositorySettings;
use protocol::{PromptId, RequestId, SessionId};
use serde_json::json;

use crate::bench::Bench;

#[tokio::test]
async fn mistakes_have_names() {
    let bench = Bench::start().await;
    let session = bench.door.new_session();
    let (missing, prompt) = (SessionId::new(), PromptId::new());
    for (path, status, code) in [
        ("/nothing".to_owned(), 404, "not_found"),
        (format!("/v1/sessions/{missing}"), 404, "not_found"),
        (format!("/v1/sessions/{missing}/events"), 404, "not_found"),
        (format!("/v1/sessions/{missing}/diff"), 404, "not_found"),
        ("/v1/sessions/prm_1".to_owned(), 400, "invalid_path"),
        (format!("/v1/sessions/{session}/events?after=-1"), 400, "invalid_query"),
        ("/v1/sessions?limit=many".to_owned(), 400, "invalid_query"),
        ("/v1/repositories/local/missing".to_owned(), 404, "not_found"),
        ("/v1/repositories/local/-x".to_owned(), 400, "invalid_repository_name"),
        ("/v1/repositories/local/..%2fx".to_owned(), 400, "invalid_repository_name"),
        ("/v1/repositories/local/x/pulls/2".to_owned(), 404, "not_found"),
        ("/v1/repositories/local/x/pulls/two".to_owned(), 400, "invalid_path"),
        ("/git/local/x/info/refs".to_owned(), 404, "not_found"),
        ("/v1/stream".to_owned(), 400, "websocket_expected"),
    ] {
        let answer = bench.get(&path).await;
        let problem = answer.problem();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{path}: {problem:?}");
    }
    let request = RequestId::new();
    let prompts = format!("/v1/sessions/{session}/prompts");
    for (path, body, status, code) in [
        (prompts.as_str(), json!({"request": request, "text": ""}), 422, "empty_prompt"),
        (&prompts, json!({"text": "x"}), 422, "invalid_json"),
        (&prompts, json!({"request": "ses_1", "text": "x"}), 422, "invalid_json"),
        (&format!("/v1/sessions/{session}/stop"), json!({}), 409, "nothing_to_stop"),
        ("/v1/repositories", json!({"path": "x"}), 422, "invalid"),
    ] {
        let problem = bench.post(path, &body).await.problem();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{path}: {problem:?}");
    }
    let bearer = bench.bearer();
    let json = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let plain = [("authorization", bearer.as_str())];
    let one = format!("{prompts}/{prompt}");
    for (method, path, headers, body, status, code) in [
        (Method::POST, "/v1/sessions", &json[..], "{".to_owned(), 400, "invalid_json"),
        (Method::POST, "/v1/sessions", &plain, "{}".to_owned(), 415, "unsupported_media_type"),
        (Method::POST, "/v1/sessions", &json, "[".repeat(9 << 20), 413, "too_large"),
        (Method::PATCH, "/v1/sessions", &plain, String::new(), 405, "method_not_allowed"),
        (Method::PUT, &one, &json, "{\"text\":\"x\"}".to_owned(), 403, "not_the_author"),
        (Method::DELETE, &one, &plain, String::new(), 404, "unknown_prompt"),
    ] {
        let answer = bench.send(method.clone(), path, headers, body).await;
        let problem = answer.problem();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{path}: {problem:?}");
        assert_eq!(answer.headers.contains_key("allow"), status == 405, "{method} {path}");
    }
}

#[tokio::test]
async fn settings_of_a_repository_are_read_and_replaced() {
    let bench = Bench::start().await;
    let path = "/v1/repositories/local/x/settings";
    let empty: RepositorySettings = bench.get(path).await.json();
    assert_eq!(empty, RepositorySettings::default());
    let wanted = json!({
        "isolation": "gvisor",
        "limits": {"memory_bytes": 1_073_741_824, "pids": 64},
        "network": {"build": {}, "run": {"hosts": [{"host": "example.com", "methods": ["GET"]}]}},
        "blocked_commands": ["git push"],
    });
    let answer = bench.put(path, &wanted).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(bench.get(path).await.json::<serde_json::Value>(), wanted);
    for (body, status, code, told) in [
        (json!({"limits": {"pids": 99_999}}), 422, "limit_too_high", "maximum is 4096"),
        (json!({"limits": {"memory": 1}}), 422, "invalid_json", "memory"),
        (json!({"isolation": "none"}), 422, "invalid_json", "none"),
        (
            json!({"network": {"run": {"hosts": [{"host": "1.2.3.4"}]}}}),
            422,
            "invalid_json",
            "1.2.3.4",
        ),
        (json!({"colour": "red"}), 422, "invalid_json", "colour"),
    ] {
        let problem = bench.put(path, &body).await.problem();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{problem:?}");
        assert!(problem.detail.contains(told), "{problem:?}");
    }
    let missing = bench.put("/v1/repositories/local/missing/settings", &wanted).await.problem();
    assert_eq!(missing.status, 404);
    assert_eq!(bench.get(path).await.json::<serde_json::Value>(), wanted, "refused, unchanged");
}

#[tokio::test]
async fn a_hint_says_what_to_try() {
    let bench = Bench::start().await;
    let problem = bench.post("/v1/repositories", &json!({"path": "x"})).await.problem();
    assert_eq!(problem.hint.as_deref(), Some("write the whole path"));
    assert_eq!(problem.title, "Invalid");
}

#[tokio::test]
async fn a_panic_is_one_failed_request() {
    let bench = Bench::start().await;
    let problem = bench.post("/v1/repositories", &json!({"path": "/panic"})).await.problem();
    assert_eq!((problem.status, problem.code.as_str()), (500, "internal"));
    assert_eq!(bench.get("/v1/server").await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_was_begun_ends_without_its_client() {
    let bench = std::sync::Arc::new(Bench::start().await);
    let client = tokio::spawn({
        let bench = std::sync::Arc::clone(&bench);
        async move { bench.post("/v1/repositories/local/slow/image", &json!(null)).await.status }
    });
    let build = &bench.door.build;
    build.begun.notified().await;
    client.abort();
    assert!(client.await.expect_err("it left").is_cancelled());
    // The server sees the connection close before it answers this.
    assert_eq!(bench.get("/v1/server").await.status, StatusCode::OK);
    build.go_on.notify_one();
    let patience = std::time::Duration::from_secs(30);
    tokio::time::timeout(patience, build.ended.notified()).await.expect("the build ended");
}

#[tokio::test]
async fn answers_are_what_the_protocol_says() {
    let bench = Bench::start().await;
    let description: ServerDescription = bench.get("/v1/server").await.json();
    assert_eq!(description.version, protocol::VERSION);
    let repositories: Page<Repository> = bench.get("/v1/repositories").await.json();
    assert_eq!(repositories.items.len(), 1);

    let registered = bench.post("/v1/repositories", &json!({"path": "/x"})).await;
    assert_eq!(registered.status, StatusCode::CREATED);
    assert_eq!(registered.json::<Repository>().name.to_string(), "local/x");
    assert_eq!(registered.json::<serde_json::Value>()["notices"], json!(["a submodule"]));

    let body = json!({"request": RequestId::new(), "repository": "local/x"});
    let created = bench.post("/v1/sessions", &body).await;
    assert_eq!(created.status, StatusCode::CREATED);
    let session = created.json::<SessionView>().summary.id;
    let list: Page<SessionSummary> = bench.get("/v1/sessions?limit=5").await.json();
    assert_eq!(list.items[0].id, session);

    let body = json!({"request": RequestId::new(), "text": "do it"});
    let accepted = bench.post(&format!("/v1/sessions/{session}/prompts"), &body).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    assert_eq!(accepted.json::<PromptAccepted>().sequence, 1);

    let diff = bench.get(&format!("/v1/sessions/{session}/diff")).await;
    assert_eq!(diff.headers["content-type"], "text/x-diff; charset=utf-8");
    assert!(diff.text().starts_with("diff --git"));
    let image = bench.post("/v1/repositories/local/x/image", &json!(null)).await;
    assert_eq!(image.json::<serde_json::Value>()["state"]["name"], "ready");
}
