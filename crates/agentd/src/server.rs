//! The API's door: HTTP/1.1 on one Unix socket, dialled only by the host.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use protocol::agentd::{
    CancelPrompt, CommitRequest, DeliverPrompt, ExecRequest, Failure, Health, PtyRequest,
    PushRequest, StartAgent, SyncRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixListener;

use crate::agentd::Agentd;
use crate::body::{Body, whole};
use crate::files::{self, Found};
use crate::{driver, exec, git, pty, reports, text};

/// Bytes of a JSON request at most: a prompt of the largest size, escaped.
const REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// Why a request is answered with a [`Failure`].
#[derive(Debug)]
pub(crate) struct Refusal {
    status: StatusCode,
    text: String,
}

impl Refusal {
    fn caller(text: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    fn with(status: StatusCode, error: &dyn std::error::Error) -> Self {
        Self { status, text: text::chain(error) }
    }
}

impl From<files::Error> for Refusal {
    fn from(error: files::Error) -> Self {
        let status = match &error {
            files::Error::Relative(_) | files::Error::Upload(_) => StatusCode::BAD_REQUEST,
            files::Error::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            files::Error::Start(crate::children::Error::Told(_)) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            files::Error::Start(_) | files::Error::Pipe(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::with(status, &error)
    }
}

impl From<reports::Error> for Refusal {
    fn from(error: reports::Error) -> Self {
        let status = match error {
            reports::Error::Gone { .. } => StatusCode::GONE,
            reports::Error::Future { .. } => StatusCode::CONFLICT,
        };
        Self::with(status, &error)
    }
}

impl From<git::Error> for Refusal {
    fn from(error: git::Error) -> Self {
        Self::with(error.status(), &error)
    }
}

impl From<driver::Error> for Refusal {
    fn from(error: driver::Error) -> Self {
        Self::with(error.status(), &error)
    }
}

type Answer = Result<Response<Body>, Refusal>;

/// Serves every connection, and sleeps when the host asks for it.
pub(crate) async fn serve(mut listener: UnixListener, agentd: Arc<Agentd>) -> std::io::Result<()> {
    loop {
        tokio::select! {
            () = accept(&listener, &agentd) => {}
            () = asked(&agentd) => {
                drop(listener);
                agentd.held.let_go().await;
                let Some(doorstep) = &agentd.doorstep else { return Ok(()) };
                doorstep.sleep().await?;
                agentd.held.wake();
                listener = doorstep.listen()?;
            }
        }
    }
}

async fn asked(agentd: &Agentd) {
    match &agentd.doorstep {
        Some(doorstep) => doorstep.asked().await,
        None => std::future::pending().await,
    }
}

async fn accept(listener: &UnixListener, agentd: &Arc<Agentd>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, most likely: those of ending connections come back.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        };
        let held = Arc::clone(&agentd.held);
        let agentd = Arc::clone(agentd);
        held.hold(async move {
            let service = service_fn(|request| {
                let agentd = Arc::clone(&agentd);
                async move { Ok::<_, Infallible>(answer(&agentd, request).await) }
            });
            // A connection that breaks is the host's to make again.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

async fn answer(agentd: &Arc<Agentd>, request: Request<Incoming>) -> Response<Body> {
    route(agentd, request).await.unwrap_or_else(|refusal| {
        let mut response = Response::new(whole(encoded(&Failure { error: refusal.text })));
        *response.status_mut() = refusal.status;
        json_type(&mut response);
        response
    })
}

async fn route(agentd: &Arc<Agentd>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/v1/health") => Ok(json(&health())),
        (&Method::PUT, "/v1/environment") => {
            agentd.children.give(body(request).await?);
            Ok(nothing())
        }
        (&Method::POST, "/v1/exec") => {
            let order: ExecRequest = body(request).await?;
            Ok(Response::new(exec::run(&agentd.children, order)))
        }
        (&Method::POST, "/v1/pty") => {
            let order: PtyRequest = serde_json::from_str(&parameter(&request, "request")?)
                .map_err(|error| Refusal::caller(format!("reading `request`: {error}")))?;
            pty::open(&agentd.children, &agentd.held, request, &order)
                .map_err(|error| Refusal::with(StatusCode::UNPROCESSABLE_ENTITY, &error))
        }
        (&Method::GET, "/v1/files") => {
            match files::get(&agentd.children, &parameter(&request, "path")?).await? {
                Found::File(bytes) => Ok(Response::new(bytes)),
                Found::Directory(listing) => {
                    let mut response = Response::new(listing);
                    json_type(&mut response);
                    Ok(response)
                }
            }
        }
        (&Method::PUT, "/v1/files") => {
            let path = parameter(&request, "path")?;
            files::put(&agentd.children, &path, request.into_body()).await?;
            Ok(nothing())
        }
        (&Method::POST, "/v1/sleep") => match &agentd.doorstep {
            Some(doorstep) => {
                doorstep.ask();
                Ok(nothing())
            }
            None => Err(Refusal {
                status: StatusCode::CONFLICT,
                text: "this sandbox has no kernel of its own to be put away with".to_owned(),
            }),
        },
        (_, path) if path.starts_with("/v1/workspace/") => workspace(agentd, request).await,
        (_, path) if path.starts_with("/v1/agent/") => agent(agentd, request).await,
        (&Method::GET, "/v1/reports") => {
            Ok(Response::new(agentd.reports.follow(number(&request, "after")?)?))
        }
        (&Method::POST, "/v1/reports/acknowledge") => {
            agentd.reports.acknowledge(number(&request, "through")?)?;
            Ok(nothing())
        }
        _ => Err(unknown(&request)),
    }
}

async fn workspace(agentd: &Arc<Agentd>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/v1/workspace/sync") => {
            let order: SyncRequest = body(request).await?;
            let agentd = Arc::clone(agentd);
            let work = async move { agentd.git.sync(&order, &agentd.gate, &agentd.reports).await };
            Ok(json(&to_its_end(work).await?))
        }
        (&Method::POST, "/v1/workspace/commit") => {
            let order: CommitRequest = body(request).await?;
            let git = Arc::clone(&agentd.git);
            Ok(json(&to_its_end(async move { git.commit(&order).await }).await?))
        }
        (&Method::POST, "/v1/workspace/push") => {
            let order: PushRequest = body(request).await?;
            let git = Arc::clone(&agentd.git);
            Ok(json(&to_its_end(async move { git.push(&order).await }).await?))
        }
        (&Method::GET, "/v1/workspace/diff") => {
            Ok(Response::new(agentd.git.diff(&parameter(&request, "base")?).await?))
        }
        _ => Err(unknown(&request)),
    }
}

/// Work that goes on when the host goes away: half a checkout helps nobody, and the host, once it is
/// back, asks again and finds the work done.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, git::Error>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::spawn(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Refusal::with(StatusCode::INTERNAL_SERVER_ERROR, &error)),
    }
}

async fn agent(agentd: &Arc<Agentd>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::POST, "/v1/agent/start") => {
            let order: StartAgent = body(request).await?;
            Ok(json(&agentd.driver.start(order).await?))
        }
        (&Method::POST, "/v1/agent/prompt") => {
            let order: DeliverPrompt = body(request).await?;
            Ok(json(&agentd.driver.deliver(order).await?))
        }
        (&Method::POST, "/v1/agent/cancel") => {
            let order: CancelPrompt = body(request).await?;
            Ok(json(&agentd.driver.cancel(order).await?))
        }
        _ => Err(unknown(&request)),
    }
}

fn health() -> Health {
    Health { version: protocol::VERSION, release: env!("CARGO_PKG_VERSION").to_owned() }
}

fn unknown(request: &Request<Incoming>) -> Refusal {
    Refusal {
        status: StatusCode::NOT_FOUND,
        text: format!("agentd has no `{} {}`", request.method(), request.uri().path()),
    }
}

async fn body<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Refusal> {
    let bytes = Limited::new(request.into_body(), REQUEST_BYTES)
        .collect()
        .await
        .map_err(|error| Refusal::caller(format!("receiving the request's body: {error}")))?
        .to_bytes();
    serde_json::from_slice(&bytes)
        .map_err(|error| Refusal::caller(format!("reading the request's body: {error}")))
}

fn number(request: &Request<Incoming>, name: &str) -> Result<u64, Refusal> {
    let text = parameter(request, name)?;
    text.parse().map_err(|_| Refusal::caller(format!("`{name}` is no number: `{text}`")))
}

fn parameter(request: &Request<Incoming>, name: &str) -> Result<String, Refusal> {
    let query = request.uri().query().unwrap_or_default();
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
        .and_then(decode)
        .ok_or_else(|| {
            Refusal::caller(format!("the query parameter `{name}` is missing or broken"))
        })
}

/// Undoes percent encoding; `+` stays, since paths hold it as it is.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digits = [rest.next()?, rest.next()?];
            bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    // The protocol's types are plain data with text keys, which always serialise.
    serde_json::to_vec(value).unwrap_or_default()
}

fn json(value: &impl Serialize) -> Response<Body> {
    let mut response = Response::new(whole(encoded(value)));
    json_type(&mut response);
    response
}

fn json_type(response: &mut Response<Body>) {
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
}

fn nothing() -> Response<Body> {
    let mut response = Response::new(whole(Vec::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_undone() {
        assert_eq!(decode("/a%20b%0A+c").as_deref(), Some("/a b\n+c"));
        assert_eq!(decode("%"), None);
        assert_eq!(decode("%zz"), None);
        assert_eq!(decode("%FF"), None);
    }
}
