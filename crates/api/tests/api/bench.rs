//! A server on a free port and a client for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::Api;
use api::access::{Access, new_secret};
use axum::body::Body;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use protocol::SessionId;
use protocol::client::{ClientMessage, ServerMessage};
use protocol::problem::Problem;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

use crate::door::MemoryDoor;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Bench {
    pub(crate) door: Arc<MemoryDoor>,
    pub(crate) address: SocketAddr,
    pub(crate) token: SecretString,
    access: Arc<Access>,
    shutdown: CancellationToken,
    client: Client<HttpConnector, Body>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The problem document, with everything every one of them has.
    pub(crate) fn problem(&self) -> Problem {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{}", self.text());
        let problem: Problem = self.json();
        assert_eq!(problem.status, self.status.as_u16());
        assert_eq!(problem.kind, format!("/errors/{}", problem.code));
        assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{problem:?}");
        problem
    }
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::with_title("a title").await
    }

    pub(crate) async fn with_title(title: &str) -> Self {
        let door = Arc::new(MemoryDoor::new(title));
        let token = new_secret().expect("random numbers");
        let access = Arc::new(Access::new(token.clone()));
        let shutdown = CancellationToken::new();
        let listener = api::bind::bind(([127, 0, 0, 1], 0).into()).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let api = Api {
            door: Arc::clone(&door) as Arc<dyn api::door::Door>,
            access: Arc::clone(&access),
            hosts: Arc::new(["hangar.example.org".to_owned()]),
            shutdown: shutdown.clone(),
        };
        tokio::spawn(api::serve(listener, api));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { door, address, token, access, shutdown, client }
    }

    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    pub(crate) fn code(&self) -> SecretString {
        self.access.issue_code(Instant::now()).expect("random numbers")
    }

    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.token.expose_secret())
    }

    /// A request with exactly these headers.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).expect("a request");
        let work = async {
            let (parts, body) = self.client.request(request).await.expect("an answer").into_parts();
            let body = body.collect().await.expect("a whole answer").to_bytes();
            Answer { status: parts.status, headers: parts.headers, body }
        };
        tokio::time::timeout(PATIENCE, work).await.expect("an answer in time")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[("authorization", &self.bearer())], Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> Answer {
        let bearer = self.bearer();
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.send(Method::POST, path, &headers, body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &serde_json::Value) -> Answer {
        let bearer = self.bearer();
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        self.send(Method::PUT, path, &headers, body.to_string()).await
    }

    /// A WebSocket whose greeting was read.
    pub(crate) async fn socket(&self) -> Socket {
        let mut socket =
            self.connect(&[("authorization", &self.bearer())]).await.expect("accepted");
        assert!(matches!(socket.next().await, ServerMessage::Hello { version: 1, .. }));
        socket
    }

    /// Tries to open a WebSocket with exactly these headers.
    pub(crate) async fn connect(&self, headers: &[(&str, &str)]) -> Result<Socket, StatusCode> {
        let address = format!("ws://{}/v1/stream", self.address);
        let mut request = address.into_client_request().expect("a request");
        for (name, value) in headers {
            let name = http::HeaderName::try_from(*name).expect("a name");
            request.headers_mut().insert(name, value.parse().expect("a value"));
        }
        match tokio_tungstenite::connect_async(request).await {
            Ok((stream, _)) => Ok(Socket { stream }),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Err(response.status()),
            Err(error) => panic!("{error}"),
        }
    }
}

pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    pub(crate) async fn say(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("sent");
    }

    pub(crate) async fn subscribe(&mut self, session: SessionId, after: u64) {
        let message = ClientMessage::Subscribe { session, after };
        self.say(&serde_json::to_string(&message).expect("JSON")).await;
    }

    pub(crate) async fn unsubscribe(&mut self, session: SessionId) {
        let message = ClientMessage::Unsubscribe { session };
        self.say(&serde_json::to_string(&message).expect("JSON")).await;
    }

    /// The next frame that is not a ping; `None` at the end.
    pub(crate) async fn frame(&mut self) -> Option<Message> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.stream.next());
            match next.await.expect("a frame in time") {
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(frame)) => return Some(frame),
                Some(Err(_)) | None => return None,
            }
        }
    }

    pub(crate) async fn next(&mut self) -> ServerMessage {
        match self.frame().await {
            Some(Message::Text(text)) => serde_json::from_str(&text).expect("a message"),
            other => panic!("expected a message and got {other:?}"),
        }
    }
}
