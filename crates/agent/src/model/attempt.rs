//! One attempt: connect, send, read the stream to its end.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use eventsource_stream::{EventStream, EventStreamError};
use futures_util::{Stream, StreamExt};
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::failure::{Error, reason};
use crate::dialect::{Decoder, Delta, Dialect};

/// An answer longer than this is an attack or an accident.
const MEGABYTES: usize = 64;
/// So much of an error's text is read.
const ERROR_BYTES: usize = 64 * 1024;

/// Where requests go.
#[derive(Debug, Clone)]
pub(super) struct Target {
    url: String,
    address: SocketAddr,
    authority: String,
    path: String,
}

impl Target {
    /// Names are not resolved: a sandbox has no resolver, only the gateway on the loopback.
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let unusable = || Error::Address { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| unusable())?;
        let authority = uri.authority().ok_or_else(unusable)?;
        if uri.scheme_str() != Some("http") || uri.query().is_some() {
            return Err(unusable());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let ip = match host {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            other => other.parse().map_err(|_| unusable())?,
        };
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            url: url.to_owned(),
            address: SocketAddr::new(ip, authority.port_u16().unwrap_or(80)),
            authority: authority.to_string(),
            // Some write the version into the base address, as OpenAI's own clients want it.
            path: path.strip_suffix("/v1").unwrap_or(path).to_owned(),
        })
    }

    fn dropped(&self, source: hyper::Error) -> Broken {
        Broken::again(Error::Dropped { url: self.url.clone(), source })
    }

    fn silent(&self, idle: Duration) -> Broken {
        Broken::again(Error::Silent { url: self.url.clone(), seconds: idle.as_secs() })
    }
}

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) error: Error,
    /// Whether another attempt makes sense.
    pub(super) again: bool,
    /// How long the server wants us to wait.
    pub(super) after: Option<Duration>,
}

impl Broken {
    pub(super) fn again(error: Error) -> Self {
        Self { error, again: true, after: None }
    }

    fn for_good(error: Error) -> Self {
        Self { error, again: false, after: None }
    }
}

/// Feeds `decoder` until its answer is complete or the stream ends. `idle` is the longest silence,
/// from the connection's beginning on.
pub(super) async fn run(
    target: &Target,
    dialect: Dialect,
    body: Bytes,
    idle: Duration,
    decoder: &mut Decoder,
    mut deltas: impl FnMut(Delta),
) -> Result<(), Broken> {
    let silent = |_| target.silent(idle);
    let (response, _connection) =
        tokio::time::timeout(idle, send(target, dialect, body)).await.map_err(silent)??;
    if !response.status().is_success() {
        return Err(tokio::time::timeout(idle, refusal(response)).await.map_err(silent)?);
    }
    let kind = response.headers().get(http::header::CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or("text/event-stream");
    if !kind.starts_with("text/event-stream") {
        return Err(Broken::for_good(Error::NotAStream { found: kind.to_owned() }));
    }
    let pieces = pieces(response.into_body(), target.clone(), idle);
    let mut events = EventStream::new(Box::pin(pieces));
    while let Some(event) = events.next().await {
        let data = match event {
            Ok(event) => event.data,
            Err(EventStreamError::Transport(broken)) => return Err(broken),
            Err(EventStreamError::Utf8(_) | EventStreamError::Parser(_)) => {
                let found = "bytes that are no event".to_owned();
                let source = crate::dialect::Error::Unreadable { found };
                return Err(Broken::again(Error::Answer { source }));
            }
        };
        let more =
            decoder.event(&data).map_err(|source| Broken::again(Error::Answer { source }))?;
        more.into_iter().for_each(&mut deltas);
        if decoder.is_complete() {
            return Ok(());
        }
    }
    Ok(())
}

/// Each request has a connection of its own: dropping it is what tells the model to stop, and on
/// the loopback interface a new one costs less than a tenth of a millisecond.
async fn send(
    target: &Target,
    dialect: Dialect,
    body: Bytes,
) -> Result<(http::Response<Incoming>, AbortOnDropHandle<()>), Broken> {
    let connect = |source| Broken::again(Error::Connect { url: target.url.clone(), source });
    let stream = TcpStream::connect(target.address).await.map_err(connect)?;
    // Without this a small write waits for the acknowledgement of the one before.
    stream.set_nodelay(true).map_err(connect)?;
    let (mut sender, connection) = http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|source| target.dropped(source))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        // The request's own future sees the same error.
        let _ = connection.await;
    }));
    let mut request = http::Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    let unusable = || Broken::for_good(Error::Address { url: target.url.clone() });
    *request.uri_mut() =
        format!("{}{}", target.path, dialect.path()).parse().map_err(|_| unusable())?;
    let headers = request.headers_mut();
    let authority = target.authority.parse().map_err(|_| unusable())?;
    headers.insert(http::header::HOST, authority);
    headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers.insert(http::header::ACCEPT, http::HeaderValue::from_static("text/event-stream"));
    for (name, value) in dialect.headers() {
        headers.insert(*name, http::HeaderValue::from_static(value));
    }
    let response = sender.send_request(request).await.map_err(|source| target.dropped(source))?;
    Ok((response, connection))
}

async fn refusal(response: http::Response<Incoming>) -> Broken {
    let status = response.status();
    let after = retry_after(response.headers());
    let body = Limited::new(response.into_body(), ERROR_BYTES).collect().await;
    // A body that cannot be read says nothing, but the status still does.
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let again = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    Broken {
        error: Error::Status { status: status.as_u16(), message: reason(&body) },
        again,
        after,
    }
}

/// Only the form in seconds; the form with a date falls back on the usual pauses.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: f64 =
        headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

fn pieces(
    body: Incoming,
    target: Target,
    idle: Duration,
) -> impl Stream<Item = Result<Bytes, Broken>> {
    futures_util::stream::try_unfold((body, 0), move |(mut body, read)| {
        let target = target.clone();
        async move {
            loop {
                let frame = tokio::time::timeout(idle, body.frame())
                    .await
                    .map_err(|_| target.silent(idle))?;
                let Some(frame) = frame else { return Ok(None) };
                let Ok(data) = frame.map_err(|source| target.dropped(source))?.into_data() else {
                    continue;
                };
                let read = read + data.len();
                if read > MEGABYTES * 1024 * 1024 {
                    return Err(Broken::for_good(Error::TooLong { megabytes: MEGABYTES }));
                }
                return Ok(Some((data, (body, read))));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_addresses_are_targets() {
        let target = Target::parse("http://127.0.0.1:7070/model/openai/v1").expect("usable");
        assert_eq!(target.address, "127.0.0.1:7070".parse().expect("an address"));
        assert_eq!(target.path, "/model/openai");
        assert_eq!(Target::parse("http://localhost").expect("usable").address.port(), 80);
        assert!(Target::parse("http://[::1]:8080/x").expect("usable").address.is_ipv6());
        for url in ["https://127.0.0.1/", "http://example.org/", "127.0.0.1:7070", "", "http://"] {
            assert!(matches!(Target::parse(url), Err(Error::Address { .. })), "{url}");
        }
    }

    #[test]
    fn waiting_times_are_read_in_seconds() {
        let after = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", value.parse().expect("a header"));
            retry_after(&headers)
        };
        assert_eq!(after("2"), Some(Duration::from_secs(2)));
        assert_eq!(after("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(after("-1"), None);
        assert_eq!(after("Fri, 20 Nov 2026 10:00:00 GMT"), None);
    }
}
