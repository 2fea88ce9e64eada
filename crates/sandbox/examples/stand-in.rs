//! PID 1 for this crate's own tests: the parts of agentd's API that the conformance suite uses.
//!
//! It drops nothing and gates nothing, so that a test sees the sandbox's walls and not agentd's.

use std::os::fd::FromRawFd as _;
use std::process::Stdio;

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use protocol::agentd::{ExecExit, ExecRequest, Failure, Health, frame};
use sandbox::agentd::encode_frame;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;

type Reply = Result<Response<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next().and_then(|_listen| arguments.next()) else {
        let listener = inherited();
        listener.set_nonblocking(true).expect("a socket");
        let listener = UnixListener::from_std(listener).expect("a listening socket");
        return serve(&listener, &mut JoinSet::new()).await;
    };
    loop {
        let listener = UnixListener::bind(&path).expect("a socket");
        let mut connections = JoinSet::new();
        tokio::select! {
            () = serve(&listener, &mut connections) => {}
            () = SLEEP.notified() => {}
        }
        connections.shutdown().await;
        drop(listener);
        std::fs::remove_file(&path).expect("ours");
        let mark = std::path::Path::new(&path).with_file_name(protocol::layout::ASLEEP);
        std::fs::write(&mark, "").expect("a file");
        while mark.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

/// Somebody asked for sleep.
static SLEEP: Notify = Notify::const_new();

async fn serve(listener: &UnixListener, connections: &mut JoinSet<()>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let service = service_fn(|request| async {
            Ok::<_, std::convert::Infallible>(answer(request).await.unwrap_or_else(|error| {
                let failure = Failure { error: error.to_string() };
                let body = serde_json::to_vec(&failure).unwrap_or_default();
                let mut response = Response::new(Full::new(body.into()));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }))
        });
        let connection = hyper::server::conn::http1::Builder::new();
        let served = connection.serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            let _broken_by_the_host = served.await;
        });
    }
}

fn inherited() -> std::os::unix::net::UnixListener {
    #[expect(unsafe_code, reason = "the launcher hands the listener over by number")]
    // SAFETY: descriptor 3 is the listening socket, and nothing else here owns it.
    unsafe {
        std::os::unix::net::UnixListener::from_raw_fd(3)
    }
}

async fn answer(request: Request<Incoming>) -> Reply {
    let query = request.uri().query().unwrap_or_default();
    let path = query.strip_prefix("path=").unwrap_or_default().to_owned();
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/health") => {
            let health = Health { version: protocol::VERSION, release: "stand-in".into() };
            Ok(Response::new(Full::new(serde_json::to_vec(&health)?.into())))
        }
        (&Method::GET, "/v1/files") => Ok(Response::new(Full::new(std::fs::read(path)?.into()))),
        (&Method::PUT, "/v1/files") => {
            std::fs::write(path, request.into_body().collect().await?.to_bytes())?;
            Ok(Response::new(Full::default()))
        }
        (&Method::POST, "/v1/exec") => exec(request).await,
        (&Method::POST, "/v1/sleep") => {
            SLEEP.notify_one();
            Ok(Response::new(Full::default()))
        }
        (method, path) => Err(format!("a stand-in has no {method} {path}").into()),
    }
}

async fn exec(request: Request<Incoming>) -> Reply {
    let body = request.into_body().collect().await?.to_bytes();
    let request: ExecRequest = serde_json::from_slice(&body)?;
    let (program, arguments) = request.argv.split_first().ok_or("no program")?;
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .current_dir(request.directory.as_deref().unwrap_or("/workspace"))
        .envs(&request.environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(request.stdin.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let mut wire = BytesMut::new();
    encode_frame(frame::STDOUT, &output.stdout, &mut wire);
    encode_frame(frame::STDERR, &output.stderr, &mut wire);
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    let exit = ExecExit { code: output.status.code(), signal, ..ExecExit::default() };
    encode_frame(frame::EXIT, &serde_json::to_vec(&exit)?, &mut wire);
    Ok(Response::new(Full::new(wire.freeze())))
}
