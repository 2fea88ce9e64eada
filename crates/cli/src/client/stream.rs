//! What happens in one session, without gaps, over as many connections as it takes.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::{SinkExt as _, StreamExt as _};
use protocol::client::{ClientMessage, Delta, ServerMessage};
use protocol::{Envelope, SessionId};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::failure::{Exit, Failure};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Attempts to reach a server again before giving up; with the pauses below about half a minute.
const ATTEMPTS: u32 = 12;
/// The first pause; each one after is twice as long, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A silent connection is asked for a sign of life this often, so that a dead one is noticed.
const PING: Duration = Duration::from_secs(20);
/// The longest message that is taken: an event holds at most a few recorded texts.
const MESSAGE_BYTES: usize = 8 << 20;

/// Something new about the session.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// A recorded event, in order and without gaps.
    Event(Box<Envelope>),
    /// Text in the making.
    Delta(Delta),
    /// Everything recorded when the connection was made was sent.
    CaughtUp,
    /// The connection was lost and made again; nothing is missing.
    Reconnected,
}

/// A subscription to one session.
#[derive(Debug)]
pub struct Stream {
    address: String,
    token: SecretString,
    session: SessionId,
    /// The number of the last event handed out.
    last: u64,
    socket: Socket,
    unanswered: u32,
}

impl Stream {
    /// Subscribes to `session` at the server `base`, from after the event numbered `after` on.
    pub(super) async fn open(
        base: &str,
        token: SecretString,
        session: SessionId,
        after: u64,
    ) -> anyhow::Result<Self> {
        let Some(host) = base.strip_prefix("http://") else {
            let text =
                format!("the event stream of {base} cannot be read: only http:// addresses can");
            let failure = Failure::new(Exit::Usage, text);
            return Err(failure.hint("reach the server through a tunnel, as in ssh -L").into());
        };
        let address = format!("ws://{host}/v1/stream");
        let socket = connect(&address, &token, session, after)
            .await
            .with_context(|| format!("following {session}"))?;
        Ok(Self { address, token, session, last: after, socket, unanswered: 0 })
    }

    /// The next news; an error only when the server stays away or refuses.
    ///
    /// May be dropped while it waits: nothing that was received is lost.
    pub async fn next(&mut self) -> anyhow::Result<News> {
        loop {
            match tokio::time::timeout(PING, self.socket.next()).await {
                Err(_) if self.unanswered >= 2 => return self.reconnect().await,
                Err(_) => {
                    self.unanswered += 1;
                    if self.socket.send(Message::Ping(Vec::new().into())).await.is_err() {
                        return self.reconnect().await;
                    }
                }
                Ok(Some(Ok(message))) => {
                    self.unanswered = 0;
                    match self.understand(message)? {
                        Understood::News(news) => return Ok(news),
                        Understood::Nothing => {}
                        Understood::Gone => return self.reconnect().await,
                    }
                }
                Ok(Some(Err(_)) | None) => return self.reconnect().await,
            }
        }
    }

    fn understand(&mut self, message: Message) -> anyhow::Result<Understood> {
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => return Ok(Understood::Gone),
            _ => return Ok(Understood::Nothing),
        };
        let message: ServerMessage = serde_json::from_str(&text)
            .context("a message of the event stream was not understood: is the server newer?")?;
        Ok(match message {
            // After a reconnection the server may know more than was asked for; never twice.
            ServerMessage::Event(envelope) if envelope.sequence <= self.last => Understood::Nothing,
            ServerMessage::Event(envelope) if envelope.sequence == self.last + 1 => {
                self.last = envelope.sequence;
                Understood::News(News::Event(Box::new(envelope)))
            }
            // A gap: what is missing is asked for again.
            ServerMessage::Event(_) | ServerMessage::Lagged { .. } => Understood::Gone,
            ServerMessage::Delta(delta) => Understood::News(News::Delta(delta)),
            ServerMessage::CaughtUp { .. } => Understood::News(News::CaughtUp),
            ServerMessage::Problem(problem) => {
                let failure =
                    Failure { exit: Exit::Failed, text: problem.detail, hint: problem.hint };
                return Err(failure.into());
            }
            ServerMessage::Hello { .. } | ServerMessage::Unknown => Understood::Nothing,
        })
    }

    async fn reconnect(&mut self) -> anyhow::Result<News> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            match connect(&self.address, &self.token, self.session, self.last).await {
                Ok(socket) => {
                    self.socket = socket;
                    self.unanswered = 0;
                    return Ok(News::Reconnected);
                }
                Err(error) if attempt == ATTEMPTS => {
                    return Err(error.context("the connection was lost and the server stays away"));
                }
                Err(_) => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    attempt += 1;
                }
            }
        }
    }
}

enum Understood {
    News(News),
    Nothing,
    Gone,
}

async fn connect(
    address: &str,
    token: &SecretString,
    session: SessionId,
    after: u64,
) -> anyhow::Result<Socket> {
    let mut request = address.into_client_request().context("writing the request")?;
    let mut bearer = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .context("the token holds characters that no token has")?;
    bearer.set_sensitive(true);
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let limits = WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES));
    let connecting = connect_async_with_config(request, Some(limits), true);
    let (mut socket, _) = connecting.await.map_err(|error| not_connected(address, error))?;
    let subscribe = serde_json::to_string(&ClientMessage::Subscribe { session, after })?;
    socket.send(Message::text(subscribe)).await.context("subscribing")?;
    Ok(socket)
}

fn not_connected(address: &str, error: Error) -> anyhow::Error {
    match error {
        Error::Http(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
            let failure = Failure::new(Exit::NoServer, "the server does not accept this token");
            failure.hint("give --token, or --data with the server's data directory").into()
        }
        Error::Io(error) => {
            let text = format!("no server answers at {address}: {error}");
            Failure::new(Exit::NoServer, text).hint("start one with `hangar serve`").into()
        }
        other => anyhow::Error::new(other).context(format!("connecting to {address}")),
    }
}
