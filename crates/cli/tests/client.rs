//! The API client against a scripted server on a real socket: no gaps, nothing twice, clear errors.

use std::time::Duration;

use cli::client::{Client, News};
use cli::failure::{Exit, explain};
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::client::{ClientMessage, ServerMessage};
use protocol::session::Actor;
use protocol::{Envelope, Event, SessionId, Timestamp};
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

const SESSION: SessionId = SessionId::from_bytes([1; 16]);
const PATIENCE: Duration = Duration::from_secs(20);

struct Script {
    listener: TcpListener,
    client: Client,
}

impl Script {
    async fn new() -> Self {
        // Fails only when another test was first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let client = Client::new(&address, SecretString::from("secret")).expect("a client");
        Self { listener, client }
    }

    /// The next connection's socket and the number it subscribes after.
    async fn subscriber(&self) -> (WebSocketStream<TcpStream>, u64) {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a WebSocket");
        let message = socket.next().await.expect("a message").expect("intact");
        let text = message.into_text().expect("text");
        match serde_json::from_str(&text).expect("a client's message") {
            ClientMessage::Subscribe { session: SESSION, after } => (socket, after),
            other => panic!("expected a subscription, got {other:?}"),
        }
    }
}

async fn say(socket: &mut WebSocketStream<TcpStream>, message: &ServerMessage) {
    let text = serde_json::to_string(message).expect("JSON");
    socket.send(Message::text(text)).await.expect("sent");
}

fn event(sequence: u64) -> ServerMessage {
    ServerMessage::Event(Envelope {
        session: SESSION,
        sequence,
        at: Timestamp(0),
        actor: Actor::System,
        report: None,
        event: Event::Notice { prompt: None, text: format!("number {sequence}") },
    })
}

/// What a subscriber sees, up to an event's number.
async fn numbers(client: &Client, last: u64) -> Vec<u64> {
    let mut stream = client.stream(SESSION, 0).await.expect("a stream");
    let mut seen = Vec::new();
    while seen.last() != Some(&last) {
        let news = tokio::time::timeout(PATIENCE, stream.next()).await.expect("in time");
        if let News::Event(envelope) = news.expect("news") {
            seen.push(envelope.sequence);
        }
    }
    seen
}

#[tokio::test]
async fn a_lost_connection_is_made_again_without_gap_or_repetition() {
    let script = Script::new().await;
    let client = script.client.clone();
    let reader = tokio::spawn(async move { numbers(&client, 4).await });
    let (mut socket, after) = script.subscriber().await;
    assert_eq!(after, 0);
    say(&mut socket, &event(1)).await;
    say(&mut socket, &event(2)).await;
    // Cut in the middle, without a word.
    drop(socket);
    let (mut socket, after) = script.subscriber().await;
    assert_eq!(after, 2);
    // A server that sends too much does no harm.
    for sequence in 1..=4 {
        say(&mut socket, &event(sequence)).await;
    }
    assert_eq!(reader.await.expect("read"), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_gap_and_a_lag_are_filled_by_asking_again() {
    let script = Script::new().await;
    let client = script.client.clone();
    let reader = tokio::spawn(async move { numbers(&client, 3).await });
    let (mut socket, _) = script.subscriber().await;
    say(&mut socket, &event(1)).await;
    say(&mut socket, &event(3)).await;
    let (mut socket, after) = script.subscriber().await;
    assert_eq!(after, 1);
    say(&mut socket, &event(2)).await;
    say(&mut socket, &ServerMessage::Lagged { session: SESSION, after: 2 }).await;
    let (mut socket, after) = script.subscriber().await;
    assert_eq!(after, 2);
    say(&mut socket, &event(3)).await;
    assert_eq!(reader.await.expect("read"), [1, 2, 3]);
}

#[tokio::test]
async fn messages_of_a_newer_server_are_passed_over() {
    let script = Script::new().await;
    let client = script.client.clone();
    let reader = tokio::spawn(async move { numbers(&client, 1).await });
    let (mut socket, _) = script.subscriber().await;
    socket.send(Message::text(r#"{"type":"weather","sunny":true}"#)).await.expect("sent");
    say(&mut socket, &event(1)).await;
    assert_eq!(reader.await.expect("read"), [1]);
}

/// Answers one HTTP request with `answer` and gives back the request's head.
fn answer(script: Script, answer: &'static str) -> (Client, tokio::task::JoinHandle<String>) {
    let client = script.client.clone();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = script.listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a byte"));
        }
        stream.write_all(answer.as_bytes()).await.expect("answered");
        String::from_utf8(head).expect("text")
    });
    (client, serving)
}

#[tokio::test]
async fn a_refusal_keeps_the_servers_words_and_the_token_its_header() {
    let script = Script::new().await;
    let refusal = "HTTP/1.1 409 Conflict\r\ncontent-type: application/problem+json\r\n\
        connection: close\r\n\r\n\
        {\"type\":\"/errors/nothing_to_stop\",\"title\":\"Refused\",\"status\":409,\
        \"detail\":\"nothing is running that could be stopped\",\"code\":\"nothing_to_stop\"}";
    let (client, serving) = answer(script, refusal);
    let error = client.stop(SESSION).await.expect_err("a refusal");
    let (lines, exit) = explain(&error);
    assert_eq!(
        lines,
        [format!("error: stopping {SESSION}: nothing is running that could be stopped")]
    );
    assert_eq!(exit, Exit::Failed);
    let head = serving.await.expect("served");
    assert!(head.starts_with(&format!("POST /v1/sessions/{SESSION}/stop HTTP/1.1")), "{head}");
    assert!(head.contains("authorization: Bearer secret"), "{head}");
    assert!(!format!("{client:?}").contains("secret"), "the token can be printed");
}

#[tokio::test]
async fn a_redirect_is_not_followed_with_the_token() {
    let script = Script::new().await;
    let elsewhere =
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\nconnection: close\r\n\r\n";
    let (client, serving) = answer(script, elsewhere);
    let error = client.server().await.expect_err("no answer");
    assert!(explain(&error).0[0].contains("302 Found"), "{error:?}");
    serving.await.expect("served");
}

#[tokio::test]
async fn without_a_server_the_error_says_how_to_start_one() {
    let script = Script::new().await;
    drop(script.listener);
    let error = script.client.server().await.expect_err("nobody listens");
    let (lines, exit) = explain(&error);
    assert!(lines[0].contains("no server answers at http://127.0.0.1:"), "{lines:?}");
    assert!(lines[1].contains("hangar serve"), "{lines:?}");
    assert_eq!(exit, Exit::NoServer);
    let error = script.client.stream(SESSION, 0).await.expect_err("nobody listens");
    assert_eq!(explain(&error).1, Exit::NoServer);
}
