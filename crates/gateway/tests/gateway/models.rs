//! Model requests through the gateway to a provider on loopback.

use std::sync::Arc;

use bytes::Bytes;
use gateway::{Body, Observed, Outcome, Usage, empty_body, full_body};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::{Mutex, mpsc};

use crate::support::{self, KEY, NoForge, World, anthropic, openai, request, soon, text};

const ANTHROPIC: &str = "/model/anthropic/v1/messages";
const CHAT: &str = "/model/openai/v1/chat/completions";

/// A request with every credential a program might send.
fn with_credentials(target: &str, body: &str) -> Request<http_body_util::Full<Bytes>> {
    let mut request = request("POST", target, body);
    for (name, value) in [
        ("authorization", "Bearer client-credential"),
        ("x-api-key", "client-credential"),
        ("cookie", "client-credential"),
        ("proxy-authorization", "client-credential"),
        ("connection", "keep-alive, x-hop"),
        ("x-hop", "client-credential"),
        ("anthropic-version", "2023-06-01"),
        ("anthropic-beta", "beta-1"),
        ("content-type", "application/json"),
    ] {
        request.headers_mut().append(name, value.parse().expect("a value"));
    }
    request
}

#[tokio::test]
async fn the_key_is_added_outside_and_the_clients_own_stays_behind() {
    let (seen_by_provider, mut seen) = mpsc::unbounded_channel();
    let base = support::provider(move |request: Request<Incoming>| {
        let seen = seen_by_provider.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.expect("arrives").to_bytes();
            let target = head.uri.to_string();
            seen.send((head.method, target, head.headers, body)).expect("the test listens");
            Response::new(full_body("{}"))
        }
    })
    .await;
    let world = World::bound(
        |config| {
            config.providers.anthropic = Some(anthropic(&base));
            config.providers.openai = Some(openai(&base));
        },
        Arc::new(NoForge),
    );
    let paths = [
        (ANTHROPIC, "/v1/messages"),
        ("/model/anthropic/v1/messages?beta=true", "/v1/messages?beta=true"),
        ("/model/anthropic/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        (CHAT, "/v1/chat/completions"),
        ("/model/openai/v1/responses", "/v1/responses"),
        // As programs ask that ignore NO_PROXY.
        ("http://127.0.0.1:7070/model/openai/v1/responses", "/v1/responses"),
    ];
    for (asked, arrived) in paths {
        let response = world.send(with_credentials(asked, "{\"a\":1}")).await;
        assert_eq!(response.status(), 200, "{asked}");
        assert_eq!(text(response).await, "{}");
        let (method, target, headers, body): (_, _, HeaderMap, _) =
            soon(seen.recv()).await.expect("the provider was asked");
        assert_eq!((method.as_str(), target.as_str()), ("POST", arrived));
        assert_eq!(body, "{\"a\":1}");
        assert_eq!(headers["content-length"], "7", "the body's length is kept");
        assert!(!format!("{headers:?}").contains("client-credential"), "{headers:?}");
        assert_eq!(headers["anthropic-version"], "2023-06-01");
        assert_eq!(headers["anthropic-beta"], "beta-1");
        let (wanted, other) = if asked.contains("anthropic") {
            (("x-api-key", KEY.to_owned()), "authorization")
        } else {
            (("authorization", format!("Bearer {KEY}")), "x-api-key")
        };
        assert_eq!(headers[wanted.0], wanted.1, "{asked}");
        assert!(!headers.contains_key(other), "{asked}");
    }
    let lines = world.audited(paths.len()).await;
    assert!(!world.audit().contains(KEY) && !world.audit().contains("client-credential"));
    assert_eq!(lines[0]["credential"], "server/anthropic");
    assert_eq!(lines[0]["verdict"], "allowed");
    assert_eq!(lines[0]["session"], world.session.to_string());
    assert_eq!(lines[0]["sandbox"], world.sandbox.to_string());
    assert_eq!(lines[0]["host"], base.trim_start_matches("http://"));
    assert_eq!((&lines[0]["bytes_in"], &lines[0]["bytes_out"]), (&json!(7), &json!(2)));
    assert_eq!((&lines[0]["status"], &lines[0]["outcome"]), (&json!(200), &json!("completed")));
    assert_eq!(lines[1]["path"], ANTHROPIC, "without its query");
}

/// A provider whose answer is fed piece by piece, and who notices when nobody listens.
async fn fed_provider(kind: &'static str) -> (String, mpsc::Receiver<mpsc::Sender<Bytes>>) {
    let (feeders, feeder) = mpsc::channel(4);
    let base = support::provider(move |_| {
        let feeders = feeders.clone();
        async move {
            let (sender, receiver) = mpsc::channel::<Bytes>(1);
            feeders.send(sender).await.expect("the test listens");
            let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
                let piece = receiver.recv().await?;
                Some((Ok(Frame::data(piece)), receiver))
            });
            let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(pieces)));
            response.headers_mut().insert("content-type", kind.parse().expect("a value"));
            response
        }
    })
    .await;
    (base, feeder)
}

async fn piece(body: &mut Incoming) -> Bytes {
    let frame = soon(body.frame()).await.expect("a piece").expect("arrives");
    frame.into_data().expect("is data")
}

#[tokio::test]
async fn pieces_pass_one_by_one_and_are_measured() {
    let (base, mut feeders) = fed_provider("text/event-stream").await;
    let mut world = World::bound(
        |config| config.providers.anthropic = Some(anthropic(&base)),
        Arc::new(NoForge),
    );
    let response = world.send(request("POST", ANTHROPIC, "{}")).await;
    let feeder = soon(feeders.recv()).await.expect("the provider was asked");
    let request = world
        .observed(|what| match what {
            Observed::ModelRequestStarted { request, .. } => Some(request),
            _ => None,
        })
        .await;
    let mut body = response.into_body();
    // The next piece exists only after this one has arrived, so nothing waits for more.
    for sent in [
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"m\",\"usage\":{\"input_tokens\":11,\"output_tokens\":1}}}\n\n",
        "data: {\"type\":\"content_block_de",
        "lta\",\"delta\":{\"text\":\"x\"}}\n\n",
        "data: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":5}}\n\n",
    ] {
        feeder.send(Bytes::from(sent)).await.expect("is taken");
        assert_eq!(piece(&mut body).await, sent);
    }
    drop(feeder);
    assert!(soon(body.frame()).await.is_none());
    let (first, after) = world
        .observed(|what| match what {
            Observed::ModelFirstToken { request, after } => Some((request, after)),
            _ => None,
        })
        .await;
    assert_eq!(first, request);
    let answered = world.observed(only_answered).await;
    assert_eq!(answered.usage, Usage { input: 11, output: 5, ..Usage::default() });
    assert_eq!(answered.model.as_deref(), Some("m"));
    assert_eq!(answered.first_token, Some(after));
    assert!(answered.first_byte.is_some_and(|first_byte| first_byte <= after));
    assert_eq!((answered.status, answered.outcome), (200, Outcome::Completed));
}

struct Answered {
    status: u16,
    model: Option<String>,
    usage: Usage,
    first_byte: Option<std::time::Duration>,
    first_token: Option<std::time::Duration>,
    outcome: Outcome,
}

fn only_answered(what: Observed) -> Option<Answered> {
    match what {
        Observed::ModelAnswered {
            status, model, usage, first_byte, first_token, outcome, ..
        } => Some(Answered { status, model, usage, first_byte, first_token, outcome }),
        _ => None,
    }
}

#[tokio::test]
async fn usage_of_the_chat_dialect_is_observed() {
    let base = support::provider(|_| async {
        let mut response = Response::new(full_body(concat!(
            "data: {\"model\":\"g\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n",
            "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":2}}\n\n",
            "data: [DONE]\n\n",
        )));
        let kind = "text/event-stream".parse().expect("a value");
        response.headers_mut().insert("content-type", kind);
        response
    })
    .await;
    let mut world =
        World::bound(|config| config.providers.openai = Some(openai(&base)), Arc::new(NoForge));
    text(world.send(request("POST", CHAT, "{}")).await).await;
    let answered = world.observed(only_answered).await;
    assert_eq!(answered.usage, Usage { input: 8, output: 2, ..Usage::default() });
    assert!(answered.first_token.is_some());
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_providers_work() {
    let (base, mut feeders) = fed_provider("text/event-stream").await;
    let mut world = World::bound(
        |config| config.providers.anthropic = Some(anthropic(&base)),
        Arc::new(NoForge),
    );
    let response = world.send(request("POST", ANTHROPIC, "{}")).await;
    let feeder = soon(feeders.recv()).await.expect("the provider was asked");
    let mut body = response.into_body();
    feeder.send(Bytes::from("data: {}\n\n")).await.expect("is taken");
    piece(&mut body).await;
    drop(body);
    soon(feeder.closed()).await;
    assert_eq!(world.observed(only_answered).await.outcome, Outcome::ClientGone);
    let lines = world.audited(1).await;
    assert_eq!((&lines[0]["outcome"], &lines[0]["status"]), (&json!("client_gone"), &json!(200)));
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_ends_the_providers_work() {
    let (arrivals, mut arrived) = mpsc::channel::<mpsc::Sender<()>>(1);
    let arrivals = Arc::new(Mutex::new(Some(arrivals)));
    let base = support::provider(move |_| {
        let arrivals = Arc::clone(&arrivals);
        async move {
            let (alive, mut never) = mpsc::channel(1);
            let arrivals = arrivals.lock().await.take().expect("is asked once");
            arrivals.send(alive).await.expect("the test listens");
            never.recv().await;
            Response::new(empty_body())
        }
    })
    .await;
    let mut world = World::bound(
        |config| config.providers.anthropic = Some(anthropic(&base)),
        Arc::new(NoForge),
    );
    let socket = world.socket();
    let asking = tokio::spawn(async move {
        support::raw(
            &socket,
            b"POST /model/anthropic/v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}",
        )
        .await
    });
    let provider = soon(arrived.recv()).await.expect("the provider was asked");
    asking.abort();
    soon(provider.closed()).await;
    let answered = world.observed(only_answered).await;
    assert_eq!((answered.status, answered.outcome), (499, Outcome::ClientGone));
}

#[tokio::test]
async fn what_a_provider_answers_passes_as_it_is() {
    let base = support::provider(|_| async {
        let mut response: Response<Body> = Response::new(full_body("{\"error\":\"slow down\"}"));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        for (name, value) in
            [("retry-after", "7"), ("set-cookie", "a=b"), ("location", "http://127.0.0.1:1/")]
        {
            response.headers_mut().insert(name, value.parse().expect("a value"));
        }
        response
    })
    .await;
    let world = World::bound(
        |config| config.providers.anthropic = Some(anthropic(&base)),
        Arc::new(NoForge),
    );
    let response = world.send(request("POST", ANTHROPIC, "{}")).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "7");
    assert!(!response.headers().contains_key("set-cookie"));
    assert_eq!(text(response).await, "{\"error\":\"slow down\"}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_key() {
    let base = support::provider(|request: Request<Incoming>| async move {
        assert_eq!(request.uri().path(), "/v1/messages", "the redirect was followed");
        let mut response = Response::new(empty_body());
        *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
        let to = "/elsewhere".parse().expect("a value");
        response.headers_mut().insert("location", to);
        response
    })
    .await;
    let world = World::bound(
        |config| config.providers.anthropic = Some(anthropic(&base)),
        Arc::new(NoForge),
    );
    assert_eq!(world.send(request("POST", ANTHROPIC, "{}")).await.status(), 307);
}

#[tokio::test]
async fn an_unreachable_provider_is_told_in_the_dialect() {
    // A port that was free a moment ago and on which nobody listens.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://someone:password@{}", listener.local_addr().expect("an address"));
    drop(listener);
    let world = World::bound(
        |config| {
            config.providers.anthropic = Some(anthropic(&base));
            config.providers.openai = Some(openai(&base));
        },
        Arc::new(NoForge),
    );
    for (target, dialect_type) in [(ANTHROPIC, json!("error")), (CHAT, json!(null))] {
        let response = world.send(request("POST", target, "{}")).await;
        assert_eq!(response.status(), 502);
        let body = support::json(response).await;
        assert_eq!(body["type"], dialect_type);
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(message.contains("got no answer from"), "{message}");
        assert!(message.to_lowercase().contains("refused"), "{message}");
        assert!(!message.contains("password"), "{message}");
    }
    assert!(!world.audited(2).await.is_empty());
    assert!(!world.audit().contains("password"), "{}", world.audit());
}

#[tokio::test]
async fn bodies_over_the_limit_are_denied_announced_or_not() {
    let base = support::provider(|request: Request<Incoming>| async move {
        // Ends early when the gateway gives the body up.
        let _ = request.into_body().collect().await;
        Response::new(empty_body())
    })
    .await;
    let world = World::bound(
        |config| {
            config.providers.anthropic = Some(anthropic(&base));
            config.limits.model_bytes = 1000;
        },
        Arc::new(NoForge),
    );
    for target in [ANTHROPIC, "/model/rehearsal/v1/messages"] {
        let announced = world.send(request("POST", target, &"x".repeat(1001))).await;
        assert_eq!(announced.status(), 413, "{target}");
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let body = format!("{head}3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
        let answer = support::raw(&world.socket(), body.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413"), "{target}: {answer}");
        assert!(answer.contains("over the limit of 1000 bytes"), "{answer}");
    }
}

#[tokio::test]
async fn a_provider_that_breaks_off_is_seen_on_both_sides() {
    let base = support::provider(|_| async {
        let (sender, receiver) = mpsc::channel(1);
        sender.send(Ok(Bytes::from_static(b"data: {}\n\n"))).await.expect("has room");
        tokio::spawn(async move { sender.send(Err("the provider falls over".into())).await });
        let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let piece: Result<Bytes, gateway::BoxError> = receiver.recv().await?;
            Some((piece.map(Frame::data), receiver))
        });
        let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(pieces)));
        let kind = "text/event-stream".parse().expect("a value");
        response.headers_mut().insert("content-type", kind);
        response
    })
    .await;
    let mut world = World::bound(
        |config| config.providers.anthropic = Some(anthropic(&base)),
        Arc::new(NoForge),
    );
    let response = world.send(request("POST", ANTHROPIC, "{}")).await;
    soon(response.into_body().collect()).await.expect_err("no clean end is made up");
    let answered = world.observed(only_answered).await;
    assert!(matches!(answered.outcome, Outcome::Failed(_)), "{:?}", answered.outcome);
}
