//! The WebSocket: exact tails, slow readers, many sessions, text in the making.

use std::time::{Duration, Instant};

use protocol::client::ServerMessage;
use protocol::{Envelope, PromptId, SessionId};
use tokio_tungstenite::tungstenite::Message;

use crate::bench::{Bench, Socket};
use crate::door::BUFFERED;

impl Socket {
    async fn event(&mut self) -> Envelope {
        match self.next().await {
            ServerMessage::Event(envelope) => envelope,
            other => panic!("expected an event and got {other:?}"),
        }
    }

    async fn caught_up(&mut self, expected: SessionId, number: u64) {
        match self.next().await {
            ServerMessage::CaughtUp { session, sequence } => {
                assert_eq!((session, sequence), (expected, number));
            }
            other => panic!("expected to have caught up and got {other:?}"),
        }
    }

    async fn problem(&mut self) -> String {
        match self.next().await {
            ServerMessage::Problem(problem) => problem.code,
            other => panic!("expected a problem and got {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_that_connects_again_has_the_same_list() {
    let bench = Bench::start().await;
    let session = bench.door.new_session();
    let record = |count: usize| (0..count).for_each(|_| bench.door.record(session, "x"));
    record(20);
    let mut steady = bench.socket().await;
    steady.subscribe(session, 0).await;
    let mut faithful = Vec::new();
    let mut returning = Vec::new();
    for _ in 0..10 {
        let mut socket = bench.socket().await;
        let after = returning.last().map_or(0, |envelope: &Envelope| envelope.sequence);
        socket.subscribe(session, after).await;
        record(7);
        // Leaves in the middle of what it was going to get.
        while returning.len() < bench.door.recorded(session).len() - 3 {
            match socket.next().await {
                ServerMessage::Event(envelope) => returning.push(envelope),
                ServerMessage::CaughtUp { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        drop(socket);
        record(5);
    }
    let mut socket = bench.socket().await;
    socket.subscribe(session, returning.last().expect("some").sequence).await;
    let all = bench.door.recorded(session);
    while returning.len() < all.len() {
        returning.push(socket.event().await);
    }
    socket.caught_up(session, all.len() as u64).await;
    while faithful.len() < all.len() {
        match steady.next().await {
            ServerMessage::Event(envelope) => faithful.push(envelope),
            ServerMessage::CaughtUp { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(faithful, all);
    assert_eq!(returning, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_is_told_and_nobody_waits_for_it() {
    let bench = Bench::start().await;
    let session = bench.door.new_session();
    let mut slow = bench.socket().await;
    let mut quick = bench.socket().await;
    for socket in [&mut slow, &mut quick] {
        socket.subscribe(session, 0).await;
        socket.caught_up(session, 0).await;
    }
    // Far more than the kernel buffers for a connection, so that the slow one stalls the server's
    // side of its own connection.
    let text = "x".repeat(64 * 1024);
    let total = 1024;
    let begin = Instant::now();
    for number in 1..=total {
        bench.door.record(session, &text);
        let event = quick.event().await;
        assert_eq!(event.sequence, number, "the quick one misses nothing");
    }
    assert!(begin.elapsed() < Duration::from_secs(25), "{:?}", begin.elapsed());

    let mut last = 0;
    let after = loop {
        match slow.next().await {
            ServerMessage::Event(envelope) => {
                assert_eq!(envelope.sequence, last + 1, "no gap before the end");
                last = envelope.sequence;
            }
            ServerMessage::Lagged { session: about, after } => {
                assert_eq!(about, session);
                break after;
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(after, last);
    assert!(last + (BUFFERED as u64) < total, "what waited was bounded: {last}");
    slow.subscribe(session, after).await;
    for number in after + 1..=total {
        assert_eq!(slow.event().await.sequence, number);
    }
    slow.caught_up(session, total).await;
}

#[tokio::test]
async fn one_socket_follows_many_sessions_and_lets_go_of_one() {
    let bench = Bench::start().await;
    let sessions: Vec<_> = (0..20).map(|_| bench.door.new_session()).collect();
    let mut socket = bench.socket().await;
    for session in &sessions {
        bench.door.record(*session, "before");
        socket.subscribe(*session, 0).await;
        assert_eq!(socket.event().await.session, *session);
        socket.caught_up(*session, 1).await;
    }
    socket.unsubscribe(sessions[0]).await;
    // An answer to something later shows that the unsubscription was taken.
    socket.say("{\"type\":\"dance\"}").await;
    assert_eq!(socket.problem().await, "unknown_message");
    for session in &sessions {
        bench.door.record(*session, "after");
    }
    let mut heard: Vec<_> = Vec::new();
    while heard.len() < sessions.len() - 1 {
        heard.push(socket.event().await.session);
    }
    heard.sort_unstable();
    assert_eq!(heard, sessions[1..]);

    socket.subscribe(sessions[0], 1).await;
    assert_eq!(socket.event().await.sequence, 2, "nothing of the others came between");
}

#[tokio::test]
async fn mistakes_are_answered_and_the_connection_stays() {
    let bench = Bench::start().await;
    let session = bench.door.new_session();
    let mut socket = bench.socket().await;
    for (text, code) in [
        ("{", "invalid_json"),
        ("{\"type\":\"subscribe\"}", "invalid_json"),
        ("{\"type\":\"subscribe\",\"session\":\"x\"}", "invalid_json"),
        ("{\"type\":\"sing\",\"song\":1}", "unknown_message"),
    ] {
        socket.say(text).await;
        assert_eq!(socket.problem().await, code, "{text}");
    }
    socket.subscribe(SessionId::new(), 0).await;
    assert_eq!(socket.problem().await, "not_found");
    socket.subscribe(session, 0).await;
    socket.caught_up(session, 0).await;
}

#[tokio::test]
async fn subscribing_again_starts_over_and_sends_nothing_twice() {
    let bench = Bench::start().await;
    let session = bench.door.new_session();
    bench.door.record(session, "one");
    let mut socket = bench.socket().await;
    for _ in 0..2 {
        socket.subscribe(session, 0).await;
        assert_eq!(socket.event().await.sequence, 1);
        socket.caught_up(session, 1).await;
    }
    bench.door.record(session, "two");
    bench.door.record(session, "three");
    assert_eq!(socket.event().await.sequence, 2);
    assert_eq!(socket.event().await.sequence, 3);
}

#[tokio::test]
async fn text_in_the_making_comes_whole_in_few_frames() {
    let bench = Bench::start().await;
    let session = bench.door.new_session();
    let mut socket = bench.socket().await;
    socket.subscribe(session, 0).await;
    socket.caught_up(session, 0).await;
    let prompt = PromptId::new();
    let begin = Instant::now();
    let mut expected = String::new();
    for number in 0..BUFFERED / 2 {
        let text = format!("{number} ");
        bench.door.delta(session, prompt, &text);
        expected.push_str(&text);
    }
    let (mut text, mut frames) = (String::new(), 0);
    while text.len() < expected.len() {
        match socket.next().await {
            ServerMessage::Delta(delta) => text.push_str(&delta.text),
            other => panic!("{other:?}"),
        }
        frames += 1;
    }
    assert_eq!(text, expected);
    let most = begin.elapsed().as_millis() / 50 + 1;
    assert!(frames <= most, "{frames} frames in {:?}", begin.elapsed());
}

#[tokio::test]
async fn messages_from_clients_are_small_text() {
    let bench = Bench::start().await;
    let mut socket = bench.socket().await;
    socket.say(&"x".repeat(100_000)).await;
    assert!(!matches!(socket.frame().await, Some(Message::Text(_))), "too large");
    assert_eq!(bench.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_stopping_server_says_goodbye() {
    let bench = Bench::start().await;
    let mut socket = bench.socket().await;
    bench.stop();
    match socket.frame().await {
        Some(Message::Close(Some(frame))) => assert_eq!(frame.reason, "the server stops"),
        other => panic!("{other:?}"),
    }
}
