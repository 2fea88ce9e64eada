//! Terminals for people: frames both ways on an upgraded connection.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use http::{Request, Response, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use protocol::agentd::{ExecExit, PtyRequest, PtySize, frame};
use pty_process::{OwnedReadPty, OwnedWritePty, Size};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::body::{Body, frame as framed, whole};
use crate::children::{Children, Program, Running};
use crate::doorstep::Held;

/// A terminal could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request does not ask for the upgrade.
    #[error("a terminal needs the header `Upgrade: {PROTOCOL}`")]
    NoUpgrade,
    /// The kernel gave no terminal.
    #[error("opening a terminal; the sandbox needs its own /dev/pts")]
    Open(#[source] pty_process::Error),
    /// The program did not start.
    #[error(transparent)]
    Start(#[from] crate::children::Error),
}

/// The protocol named in the upgrade.
const PROTOCOL: &str = "hangar-frames";

/// Opens a terminal, starts the program on it and answers `101`.
pub(crate) fn open(
    children: &Arc<Children>,
    held: &Held,
    mut request: Request<Incoming>,
    order: &PtyRequest,
) -> Result<Response<Body>, Error> {
    if request.headers().get(header::UPGRADE).is_none_or(|value| value != PROTOCOL) {
        return Err(Error::NoUpgrade);
    }
    let (terminal, other_end) = pty_process::open().map_err(Error::Open)?;
    terminal.resize(size(order.size)).map_err(Error::Open)?;
    let shell = ["/bin/sh".to_owned(), "-l".to_owned()];
    let argv = if order.argv.is_empty() { &shell[..] } else { &order.argv };
    let mut program = Program::new(argv);
    program.on_terminal = true;
    program.for_agent = true;
    program.environment = BTreeMap::from([("TERM".into(), "xterm-256color".into())]);
    let prepared = children.prepare(&program)?;
    let running = children.start_by(prepared, move |command| {
        pty_process::Command::from(command).spawn(other_end).map_err(io::Error::other)
    })?;
    let upgrade = hyper::upgrade::on(&mut request);
    held.hold(async move {
        if let Ok(connection) = upgrade.await {
            // A connection that breaks closes the terminal: `running` is dropped and killed.
            let _ = converse(TokioIo::new(connection), terminal, running).await;
        }
    });
    let mut response = Response::new(whole(Vec::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, header::HeaderValue::from_static(PROTOCOL));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    Ok(response)
}

fn size(size: PtySize) -> Size {
    Size::new(size.rows, size.columns)
}

async fn converse(
    connection: impl AsyncRead + AsyncWrite + Send,
    terminal: pty_process::Pty,
    mut running: Running,
) -> io::Result<()> {
    let (mut from_host, mut to_host) = tokio::io::split(Box::pin(connection));
    if let Err(error) = running.started().await {
        let text = crate::text::chain(&error);
        return say_exit(&mut to_host, &ExecExit { error: Some(text), ..ExecExit::default() })
            .await;
    }
    let (reader, writer) = terminal.into_split();
    tokio::select! {
        result = outward(reader, &mut to_host) => result?,
        result = inward(&mut from_host, writer) => return result,
    }
    // The terminal is closed once its last process is gone, so the end is near.
    let exit = match running.wait().await {
        Ok(status) => ExecExit {
            code: status.code(),
            signal: std::os::unix::process::ExitStatusExt::signal(&status),
            ..ExecExit::default()
        },
        Err(error) => ExecExit { error: Some(error.to_string()), ..ExecExit::default() },
    };
    say_exit(&mut to_host, &exit).await
}

async fn say_exit(to_host: &mut (impl AsyncWrite + Unpin), exit: &ExecExit) -> io::Result<()> {
    to_host.write_all(&framed(frame::EXIT, &serde_json::to_vec(exit)?)).await?;
    to_host.shutdown().await
}

/// What the terminal shows; ends when every process on it is gone, which reads as an error.
async fn outward(
    mut terminal: OwnedReadPty,
    to_host: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = terminal.read(&mut buffer).await {
        to_host.write_all(&framed(frame::STDOUT, &buffer[..count])).await?;
        to_host.flush().await?;
    }
    Ok(())
}

/// What the person types, and new sizes; ends when the host hangs up.
async fn inward(
    from_host: &mut (impl AsyncRead + Unpin),
    mut terminal: OwnedWritePty,
) -> io::Result<()> {
    let mut payload = vec![0; frame::MAXIMUM];
    loop {
        let kind = from_host.read_u8().await?;
        let length = usize::try_from(from_host.read_u32().await?).unwrap_or(usize::MAX);
        let payload = payload
            .get_mut(..length)
            .ok_or_else(|| io::Error::other("a frame is longer than a frame may be"))?;
        from_host.read_exact(payload).await?;
        match kind {
            frame::STDIN => terminal.write_all(payload).await?,
            frame::RESIZE => {
                let wanted: PtySize = serde_json::from_slice(payload)?;
                terminal.resize(size(wanted)).map_err(io::Error::other)?;
            }
            // A kind of a newer host.
            _ => {}
        }
    }
}
