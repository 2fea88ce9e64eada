//! One request and its answer over one new connection.

use bytes::Bytes;
use futures_util::future::AbortHandle;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use protocol::SandboxId;
use protocol::agentd::Failure;
use serde::de::DeserializeOwned;

use super::Error;
use crate::Backend;

/// Bytes of a JSON answer at most.
pub(super) const JSON_LIMIT: usize = 8 * 1024 * 1024;

/// An answer's head, with the connection that carries its body.
#[derive(Debug)]
pub(super) struct Answer {
    /// What was asked for, for errors.
    pub(super) doing: String,
    /// Status, headers and the body to come.
    pub(super) response: Response<Incoming>,
    /// Ends the connection when the answer is dropped unread.
    pub(super) connection: ConnectionGuard,
}

/// Aborts the task that drives a connection.
#[derive(Debug)]
pub(super) struct ConnectionGuard(AbortHandle);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends a request and waits for a successful head.
pub(super) async fn send(
    backend: &dyn Backend,
    sandbox: SandboxId,
    doing: String,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Error> {
    let stream = match backend.connect(sandbox).await {
        Ok(stream) => stream,
        Err(source) => return Err(Error::Connect { doing, source }),
    };
    let broken = |doing: &str, source: hyper::Error| Error::Broken {
        doing: doing.to_owned(),
        source: source.into(),
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|source| broken(&doing, source))?;
    let (connection, abort) = futures_util::future::abortable(connection.with_upgrades());
    tokio::spawn(connection);
    let guard = ConnectionGuard(abort);
    let response = sender.send_request(request).await.map_err(|source| broken(&doing, source))?;
    let answer = Answer { doing, response, connection: guard };
    let status = answer.response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    Err(refusal(answer, status).await)
}

async fn refusal(answer: Answer, status: StatusCode) -> Error {
    let doing = answer.doing.clone();
    match answer.bytes(64 * 1024).await {
        Ok(body) => {
            let error = serde_json::from_slice::<Failure>(&body)
                .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |it| it.error);
            Error::Refused { doing, status: status.as_u16(), error }
        }
        Err(error) => error,
    }
}

impl Answer {
    /// The whole body, up to `limit` bytes.
    pub(super) async fn bytes(self, limit: usize) -> Result<Bytes, Error> {
        let Self { doing, response, connection } = self;
        let collected = Limited::new(response.into_body(), limit).collect().await;
        drop(connection);
        collected.map(http_body_util::Collected::to_bytes).map_err(|source| {
            if source.is::<LengthLimitError>() {
                Error::TooLong { doing, limit }
            } else {
                Error::Broken { doing, source }
            }
        })
    }

    /// The body as JSON.
    pub(super) async fn json<T: DeserializeOwned>(self) -> Result<T, Error> {
        let doing = self.doing.clone();
        let body = self.bytes(JSON_LIMIT).await?;
        serde_json::from_slice(&body)
            .map_err(|error| Error::Damaged { doing, why: error.to_string() })
    }
}
