//! Events without a WebSocket: pages, waiting, and SSE.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use protocol::Envelope;

use crate::bench::Bench;

#[tokio::test]
async fn pages_follow_after_and_limit() {
    let bench = Bench::start().await;
    let session = bench.door.new_session();
    for number in 1..=10 {
        bench.door.record(session, &format!("event {number}"));
    }
    let all = bench.door.recorded(session);
    for (query, expected) in [
        ("", &all[..]),
        ("?after=4", &all[4..]),
        ("?after=4&limit=3", &all[4..7]),
        ("?after=10", &[]),
        ("?limit=0", &all[..1]),
    ] {
        let events: Vec<Envelope> =
            bench.get(&format!("/v1/sessions/{session}/events{query}")).await.json();
        assert_eq!(events, expected, "{query}");
    }
}

#[tokio::test]
async fn a_wait_ends_with_the_next_event_or_with_nothing() {
    let bench = Arc::new(Bench::start().await);
    let session = bench.door.new_session();
    bench.door.record(session, "one");
    let path = format!("/v1/sessions/{session}/events?wait_milliseconds=20000&after=");
    let begin = Instant::now();
    assert_eq!(bench.get(&format!("{path}0")).await.json::<Vec<Envelope>>().len(), 1);

    let waiting = tokio::spawn({
        let (bench, path) = (Arc::clone(&bench), format!("{path}1"));
        async move { bench.get(&path).await.json::<Vec<Envelope>>() }
    });
    // However the two race, the waiting request sees the second event.
    bench.door.record(session, "two");
    let events = waiting.await.expect("no panic");
    assert_eq!(events, bench.door.recorded(session)[1..]);
    assert!(begin.elapsed() < Duration::from_secs(15), "nothing waited to its end");

    let short = format!("/v1/sessions/{session}/events?wait_milliseconds=50&after=2");
    assert_eq!(bench.get(&short).await.json::<Vec<Envelope>>(), []);
}

#[tokio::test]
async fn server_sent_events_go_on_where_the_browser_was() {
    let bench = Bench::start().await;
    let session = bench.door.new_session();
    for number in 1..=3 {
        bench.door.record(session, &format!("event {number}\nsecond line"));
    }
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("http://{}/v1/sessions/{session}/events", bench.address))
        .header("authorization", bench.bearer())
        .header("accept", "text/event-stream")
        .header("last-event-id", "1")
        .body(Body::empty())
        .expect("a request");
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let mut answer = client.request(request).await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    bench.door.record(session, "live");
    let mut text = String::new();
    while !text.contains("live") {
        let frame = tokio::time::timeout(Duration::from_secs(30), answer.frame());
        let frame = frame.await.expect("in time").expect("more").expect("whole");
        text.push_str(&String::from_utf8_lossy(&frame.into_data().expect("data")));
    }
    let ids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["2", "3", "4"], "{text}");
    assert!(text.contains("event: caught_up"), "{text}");
    bench.stop();
    let rest = tokio::time::timeout(Duration::from_secs(30), answer.collect());
    rest.await.expect("the answer ends with the server").expect("whole");
}
