//! agentd's HTTP API, answered from a [`World`].

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use protocol::agentd::{ExecExit, ExecRequest, Failure, Health, Listing, ListingEntry, frame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::commands;
use super::world::World;
use crate::agentd::{decode_frame, encode_frame};

type Body = UnsyncBoxBody<Bytes, Infallible>;
type Reply = Result<Response<Body>, (StatusCode, String)>;

/// Serves one connection until it ends.
pub(super) fn serve(world: Arc<World>, stream: DuplexStream) {
    let end = world.connection_end();
    let service = service_fn(move |request| {
        let world = Arc::clone(&world);
        async move { Ok::<_, Infallible>(answer(&world, request).await) }
    });
    tokio::spawn(async move {
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::select! {
            _client_went_away = connection => {}
            () = end => {}
        }
    });
}

async fn answer(world: &Arc<World>, request: Request<Incoming>) -> Response<Body> {
    route(world, request).await.unwrap_or_else(|(status, error)| {
        let body = serde_json::to_vec(&Failure { error }).unwrap_or_default();
        let mut response = Response::new(full(body));
        *response.status_mut() = status;
        response
    })
}

async fn route(world: &Arc<World>, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let failed = |error| (StatusCode::INTERNAL_SERVER_ERROR, error);
    match (request.method(), path.as_str()) {
        (&Method::GET, "/v1/health") => json(&Health {
            version: protocol::VERSION,
            release: format!("simulated {}", env!("CARGO_PKG_VERSION")),
        }),
        (&Method::PUT, "/v1/environment") => {
            world.set_environment(parse(request).await?);
            let mut response = Response::new(full(Bytes::new()));
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        (&Method::POST, "/v1/exec") => Ok(exec(Arc::clone(world), parse(request).await?)),
        (&Method::POST, "/v1/pty") => pty(request),
        (&Method::GET, "/v1/files") => read(world, &query(&request, "path")?),
        (&Method::PUT, "/v1/files") => write(world, request).await,
        (&Method::POST, "/v1/workspace/sync") => {
            json(&world.sync(&parse(request).await?).await.map_err(failed)?)
        }
        (&Method::POST, "/v1/workspace/commit") => {
            json(&world.commit(&parse(request).await?).map_err(failed)?)
        }
        (&Method::POST, "/v1/workspace/push") => {
            json(&world.push(&parse(request).await?).await.map_err(failed)?)
        }
        (&Method::GET, "/v1/workspace/diff") => Ok(Response::new(full(world.diff()))),
        (&Method::POST, "/v1/agent/start") => {
            json(&world.start_agent(&parse(request).await?).await.map_err(failed)?)
        }
        (&Method::POST, "/v1/agent/prompt") => json(&world.prompt(parse(request).await?)),
        (&Method::POST, "/v1/agent/cancel") => json(&world.cancel(&parse(request).await?).await),
        (&Method::GET, "/v1/reports") => {
            let after = query(&request, "after")?;
            let after = after.parse().map_err(|_| bad("`after` is no number"))?;
            Ok(reports(Arc::clone(world), after))
        }
        _ => Err((StatusCode::NOT_FOUND, format!("there is no {} {path}", request.method()))),
    }
}

fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).boxed_unsync()
}

fn json(answer: &impl Serialize) -> Reply {
    let body = serde_json::to_vec(answer).map_err(|error| bad(&error.to_string()))?;
    let mut response = Response::new(full(body));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

fn bad(why: &str) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, why.to_owned())
}

async fn parse<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, (StatusCode, String)> {
    let body = request.into_body().collect().await.map_err(|error| bad(&error.to_string()))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| bad(&error.to_string()))
}

fn query<B>(request: &Request<B>, name: &str) -> Result<String, (StatusCode, String)> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    let value = pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    let (_, value) = value.ok_or_else(|| bad(&format!("`{name}` is missing")))?;
    decode(value).ok_or_else(|| bad(&format!("`{name}` is not well-formed")))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    String::from_utf8(decoded).ok()
}

fn exec(world: Arc<World>, request: ExecRequest) -> Response<Body> {
    let ran = stream::once(async move {
        let ran = commands::run(&world, &request).await;
        let mut wire = BytesMut::new();
        for (kind, bytes) in [(frame::STDOUT, &ran.stdout), (frame::STDERR, &ran.stderr)] {
            if !bytes.is_empty() {
                encode_frame(kind, bytes, &mut wire);
            }
        }
        encode_frame(frame::EXIT, &exit_payload(&ran.exit), &mut wire);
        Ok::<_, Infallible>(Frame::data(wire.freeze()))
    });
    Response::new(StreamBody::new(ran).boxed_unsync())
}

fn exit_payload(exit: &ExecExit) -> Vec<u8> {
    serde_json::to_vec(exit).unwrap_or_default()
}

fn reports(world: Arc<World>, after: u64) -> Response<Body> {
    let (lines, received) = tokio::sync::mpsc::channel::<Bytes>(64);
    tokio::spawn(async move {
        let mut listener = world.reports.listen(after);
        loop {
            let line = tokio::select! {
                line = listener.next() => line,
                () = lines.closed() => None,
            };
            let Some(line) = line else { return };
            let mut text = serde_json::to_vec(&line).unwrap_or_default();
            text.push(b'\n');
            if lines.send(text.into()).await.is_err() {
                return;
            }
        }
    });
    let lines = stream::unfold(received, |mut received| async move {
        received.recv().await.map(|line| (Ok::<_, Infallible>(Frame::data(line)), received))
    });
    Response::new(StreamBody::new(lines).boxed_unsync())
}

/// A terminal that shows what is typed and ends at a line `exit`.
fn pty(request: Request<Incoming>) -> Reply {
    let _shape_is_checked: protocol::agentd::PtyRequest =
        serde_json::from_str(&query(&request, "request")?)
            .map_err(|error| bad(&error.to_string()))?;
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(request).await {
            let _hung_up = terminal(TokioIo::new(upgraded)).await;
        }
    });
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, header::HeaderValue::from_static("hangar-frames"));
    Ok(response)
}

async fn terminal(mut stream: TokioIo<hyper::upgrade::Upgraded>) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    let mut typed = Vec::new();
    loop {
        while let Ok(Some(frame)) = decode_frame(&mut buffer) {
            if frame.kind != frame::STDIN {
                continue;
            }
            let mut wire = BytesMut::new();
            encode_frame(frame::STDOUT, &frame.payload, &mut wire);
            typed.extend_from_slice(&frame.payload);
            let ends = typed.ends_with(b"exit\n");
            if ends {
                let exit = ExecExit { code: Some(0), ..ExecExit::default() };
                encode_frame(frame::EXIT, &exit_payload(&exit), &mut wire);
            }
            stream.write_all(&wire).await?;
            if ends {
                return stream.shutdown().await;
            }
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

fn read(world: &World, path: &str) -> Reply {
    if let Some(content) = world.read(path) {
        let mut response = Response::new(full(content));
        let kind = header::HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        return Ok(response);
    }
    let directory = format!("{}/", path.trim_end_matches('/'));
    let mut entries: Vec<ListingEntry> = Vec::new();
    for (file, size) in world.paths() {
        let Some(rest) = file.strip_prefix(&directory) else { continue };
        let (name, kind, size) = match rest.split_once('/') {
            Some((name, _)) => (name, "directory", 0),
            None => (rest, "file", size as u64),
        };
        if entries.last().is_none_or(|last| last.name != name) {
            entries.push(ListingEntry { name: name.into(), kind: kind.into(), size });
        }
    }
    if entries.is_empty() && !["/", "/workspace/"].contains(&directory.as_str()) {
        return Err((StatusCode::NOT_FOUND, format!("{path}: no such file or directory")));
    }
    json(&Listing { entries })
}

async fn write(world: &World, request: Request<Incoming>) -> Reply {
    let path = query(&request, "path")?;
    let body = request.into_body().collect().await.map_err(|error| bad(&error.to_string()))?;
    world.write(&path, body.to_bytes()).map_err(|error| (StatusCode::CONFLICT, error))?;
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}
