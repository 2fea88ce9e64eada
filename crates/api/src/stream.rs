//! The WebSocket of a client: any number of sessions, each from the event the client names.
//!
//! One task serves one client. Messages are made when the socket takes them, so a slow client
//! costs the memory of one message; what it misses meanwhile is bounded by its subscriptions, which
//! end with `lagged`.

use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::StatusCode;
use protocol::SessionId;
use protocol::client::{ClientMessage, ServerMessage};
use protocol::session::Author;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_stream::StreamMap;

use crate::Api;
use crate::extract::Caller;
use crate::feed::{self, Messages};
use crate::problem::Failure;

/// Bytes of the buffers of one connection: the default of 128 KiB would be most of what a quiet
/// client costs.
const BUFFER_BYTES: usize = 4096;
/// Bytes of one message from a client: they only name sessions.
const CLIENT_MESSAGE_BYTES: usize = 64 * 1024;
/// Bytes of one message to a client: the longest prompt, with every byte escaped, fits.
const SERVER_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// Sessions that one connection follows at most.
const SUBSCRIPTIONS: usize = 1000;
/// Between two pings.
const PING: Duration = Duration::from_secs(20);
/// Without any sign of life for so long a client is gone.
const SILENCE: Duration = Duration::from_mins(1);
/// A client that takes nothing for so long is gone.
const STALLED: Duration = Duration::from_mins(1);

/// `GET /v1/stream`
pub(crate) async fn open(
    State(api): State<Api>,
    Caller(user): Caller,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    match upgrade {
        Ok(upgrade) => accept(upgrade, move |socket| Client::serve(api, user, socket)),
        Err(rejection) => {
            Failure::new(rejection.status(), "websocket_expected", rejection.body_text())
                .hint("open this address as a WebSocket, or read /v1/sessions/{session}/events")
                .into_response()
        }
    }
}

/// The only place where a WebSocket is accepted, so that none has larger buffers.
fn accept<F>(
    upgrade: WebSocketUpgrade,
    serve: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = ()> + Send + 'static,
{
    #[expect(clippy::disallowed_methods, reason = "the buffers are set here")]
    upgrade
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(SERVER_MESSAGE_BYTES)
        .max_message_size(CLIENT_MESSAGE_BYTES)
        .max_frame_size(CLIENT_MESSAGE_BYTES)
        .on_upgrade(serve)
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client left, or cannot be reached.
    Gone,
    /// The client broke a rule, or the server stops.
    Close(u16, &'static str),
}

struct Client {
    api: Api,
    user: Author,
    socket: WebSocket,
    sessions: StreamMap<SessionId, Messages>,
    heard: Instant,
}

impl Client {
    async fn serve(api: Api, user: Author, socket: WebSocket) {
        let sessions = StreamMap::new();
        let mut client = Self { api, user, socket, sessions, heard: Instant::now() };
        if let Err(End::Close(code, reason)) = client.run().await {
            let frame = CloseFrame { code, reason: reason.into() };
            // Whether the client still hears the reason is up to the network.
            let _ = timeout(STALLED, client.socket.send(Message::Close(Some(frame)))).await;
        }
    }

    async fn run(&mut self) -> Result<(), End> {
        let hello = ServerMessage::Hello { version: protocol::VERSION, user: self.user.clone() };
        self.send(&hello).await?;
        let mut ping = interval_at(Instant::now() + PING, PING);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let shutdown = self.api.shutdown.clone();
        loop {
            // What the client says comes first, so that floods of events cannot keep it from
            // unsubscribing.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => {
                    return Err(End::Close(close_code::AWAY, "the server stops"));
                }
                message = self.socket.recv() => self.hear(message).await?,
                _ = ping.tick() => self.ping().await?,
                Some((_, message)) = self.sessions.next() => self.send(&message).await?,
            }
        }
    }

    async fn hear(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let message = message.ok_or(End::Gone)?.map_err(|_| End::Gone)?;
        self.heard = Instant::now();
        match message {
            Message::Text(text) => match serde_json::from_str(&text) {
                Ok(message) => self.obey(message).await,
                Err(error) => {
                    self.refuse(Failure::new(
                        StatusCode::BAD_REQUEST,
                        "invalid_json",
                        format!("a message could not be read: {error}"),
                    ))
                    .await
                }
            },
            Message::Binary(_) => {
                Err(End::Close(close_code::UNSUPPORTED, "messages are JSON text frames"))
            }
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => Err(End::Gone),
        }
    }

    async fn obey(&mut self, message: ClientMessage) -> Result<(), End> {
        match message {
            ClientMessage::Subscribe { session, after } => self.subscribe(session, after).await,
            ClientMessage::Unsubscribe { session } => {
                self.sessions.remove(&session);
                Ok(())
            }
            ClientMessage::Unknown => {
                self.refuse(Failure::new(
                    StatusCode::BAD_REQUEST,
                    "unknown_message",
                    "this server does not know this kind of message",
                ))
                .await
            }
        }
    }

    /// Begins, or begins again, to follow a session after an event.
    async fn subscribe(&mut self, session: SessionId, after: u64) -> Result<(), End> {
        self.sessions.remove(&session);
        if self.sessions.len() >= SUBSCRIPTIONS {
            let detail = format!("{session} is not followed: {SUBSCRIPTIONS} sessions are already");
            let failure = Failure::new(StatusCode::CONFLICT, "too_many_subscriptions", detail)
                .hint("unsubscribe from one, or open another connection");
            return self.refuse(failure).await;
        }
        match self.api.door.subscribe(&self.user, session, after).await {
            Ok(updates) => {
                self.sessions.insert(session, feed::messages(session, after, updates));
                Ok(())
            }
            Err(error) => self.refuse(error.into()).await,
        }
    }

    async fn refuse(&mut self, failure: Failure) -> Result<(), End> {
        self.send(&ServerMessage::Problem(*failure.0)).await
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.heard.elapsed() > SILENCE {
            return Err(End::Gone);
        }
        self.put(Message::Ping(bytes::Bytes::new())).await
    }

    async fn send(&mut self, message: &ServerMessage) -> Result<(), End> {
        let text = serde_json::to_string(message)
            .map_err(|_| End::Close(close_code::ERROR, "a message could not be written"))?;
        self.put(Message::Text(text.into())).await
    }

    async fn put(&mut self, message: Message) -> Result<(), End> {
        match timeout(STALLED, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }
}
