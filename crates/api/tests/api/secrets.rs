//! Values of secrets go in and never come out; levels of isolation are told as the server found them.

use http::{Method, StatusCode};
use protocol::client::Page;
use protocol::sandbox::{Isolation, LevelReport};
use protocol::secret::{SecretDescription, SecretScope, SecretStored, SecretsRotated};
use serde_json::json;

use crate::bench::{Answer, Bench};

const VALUE: &str = "hunter2-hunter2";
const PATH: &str = "/v1/secrets/run/NPM_TOKEN";

/// The answer, if the value is in no part of it.
fn without_value(answer: Answer) -> Answer {
    assert!(!answer.text().contains(VALUE), "{}", answer.text());
    assert!(!format!("{:?}", answer.headers).contains(VALUE), "{:?}", answer.headers);
    answer
}

async fn list(bench: &Bench, query: &str) -> Vec<SecretDescription> {
    let answer = without_value(bench.get(&format!("/v1/secrets{query}")).await);
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    answer.json::<Page<SecretDescription>>().items
}

async fn delete(bench: &Bench, path: &str) -> Answer {
    let bearer = bench.bearer();
    without_value(bench.send(Method::DELETE, path, &[("authorization", &bearer)], "").await)
}

#[tokio::test]
async fn a_secret_is_set_listed_and_removed_and_its_value_never_told() {
    let bench = Bench::start().await;
    assert_eq!(list(&bench, "").await, []);
    let body = json!({"value": VALUE, "hosts": ["registry.example"]});
    let answer = without_value(bench.put(PATH, &body).await);
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let of_server = answer.json::<SecretStored>().secret;
    assert_eq!((of_server.name.as_str(), &of_server.scope), ("NPM_TOKEN", &SecretScope::Server));
    let for_repository = format!("{PATH}?scope=repository:local/x");
    let answer = without_value(bench.put(&for_repository, &body).await);
    let of_repository = answer.json::<SecretStored>().secret;
    assert_eq!(of_repository.scope.to_string(), "repository:local/x");

    assert_eq!(list(&bench, "").await, [of_server.clone(), of_repository.clone()]);
    assert_eq!(list(&bench, "?scope=server").await, std::slice::from_ref(&of_server));
    assert_eq!(list(&bench, "?scope=repository:local/x").await, [of_repository]);
    assert_eq!(list(&bench, "?scope=team:shop").await, []);

    assert_eq!(delete(&bench, &for_repository).await.status, StatusCode::NO_CONTENT);
    assert_eq!(list(&bench, "").await, [of_server]);
    assert_eq!(delete(&bench, &for_repository).await.problem().code, "not_found");
}

#[tokio::test]
async fn keys_are_rotated() {
    let bench = Bench::start().await;
    let answer = bench.post("/v1/secrets/rotate", &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let rotated: SecretsRotated = answer.json();
    assert_eq!((rotated.key.as_str(), rotated.secrets), ("k2", 1));
    assert_eq!(bench.get("/v1/secrets/rotate").await.problem().code, "method_not_allowed");
}

#[tokio::test]
async fn mistakes_do_not_repeat_the_value() {
    let bench = Bench::start().await;
    let good = json!({"value": VALUE});
    for (path, body, status, code) in [
        ("/v1/secrets/later/NPM_TOKEN", &good, 400, "invalid_phase"),
        ("/v1/secrets/run/PATH", &good, 400, "invalid_secret_name"),
        ("/v1/secrets/run/NPM_TOKEN?scope=user:ada", &good, 400, "invalid_scope"),
        (PATH, &json!({"value": [VALUE]}), 422, "invalid_json"),
        (PATH, &json!({"value": VALUE, "worth": 1}), 422, "invalid_json"),
        (PATH, &json!({"value": VALUE, "hosts": ["a b"]}), 422, "invalid_json"),
    ] {
        let problem = without_value(bench.put(path, body).await).problem();
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{path}: {problem:?}");
    }
    assert_eq!(bench.get("/v1/secrets?scope=all").await.problem().code, "invalid_scope");
    assert_eq!(list(&bench, "").await, []);
}

#[tokio::test]
async fn levels_are_told_with_reasons() {
    let bench = Bench::start().await;
    let answer = bench.get("/v1/server/levels").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let levels: Vec<LevelReport> = answer.json();
    let [level] = levels.as_slice() else { panic!("{levels:?}") };
    assert_eq!((level.isolation, level.works), (Isolation::Gvisor, false));
    assert_eq!(level.reason.as_deref(), Some("there is no program runsc"));
    assert_eq!(level.hint.as_deref(), Some("install it"));
}
