//! Running a command for the host: streamed output, an exit at the end, nothing left behind by a kill.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use protocol::agentd::{ExecExit, ExecRequest, frame};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use crate::body::{Body, Gone, Writer, streamed};
use crate::children::{Children, Error, Program, Running};

/// How long a pipe that a background process keeps open may stay silent after the command's end.
const TRAILING_SILENCE: Duration = Duration::from_millis(100);

/// Starts a command and streams what it does.
pub(crate) fn run(children: &Arc<Children>, request: ExecRequest) -> Body {
    let (writer, body) = streamed();
    let children = Arc::clone(children);
    tokio::spawn(async move {
        let done = tokio::select! {
            done = carry_out(&children, request, &writer) => done,
            // Dropping the other branch kills the command and all it started.
            () = writer.closed() => return,
        };
        let Ok((exit, rest)) = done else { return };
        let payload = serde_json::to_vec(&exit).unwrap_or_default();
        let _ = writer.send_frame(frame::EXIT, &payload).await;
        drop(writer);
        // The host need not wait for a look at what the command left running.
        tokio::task::yield_now().await;
        if let Some(rest) = rest {
            rest.leave_rest();
        }
    });
    body
}

async fn carry_out(
    children: &Arc<Children>,
    request: ExecRequest,
    writer: &Writer,
) -> Result<(ExecExit, Option<Running>), Gone> {
    let limit = request.timeout_milliseconds.map(Duration::from_millis);
    let mut running = match start(children, request).await {
        Ok(running) => running,
        Err(error) => return Ok((failed(&error), None)),
    };
    let ended = match limit {
        None => Some(stream(&mut running, writer).await?),
        Some(limit) => match tokio::time::timeout(limit, stream(&mut running, writer)).await {
            Ok(ended) => Some(ended?),
            Err(_) => None,
        },
    };
    let Some(status) = ended else {
        running.kill().await;
        let exit = ExecExit { timed_out: true, signal: Some(libc::SIGKILL), ..ExecExit::default() };
        return Ok((exit, None));
    };
    Ok((describe(status), Some(running)))
}

async fn start(children: &Arc<Children>, request: ExecRequest) -> Result<Running, Error> {
    if request.argv.is_empty() {
        return Err(Error::Told("there is no program to start: `argv` is empty".to_owned()));
    }
    let mut program = Program::new(request.argv);
    program.for_agent = true;
    program.directory = request.directory.map(Into::into);
    program.environment =
        request.environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    let mut prepared = children.prepare(&program)?;
    prepared.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = children.start(prepared)?;
    running.started().await?;
    if let Some(mut stdin) = running.child.stdin.take() {
        tokio::spawn(async move {
            // A command may end without reading what it is given.
            let _ = stdin.write_all(request.stdin.as_bytes()).await;
        });
    }
    Ok(running)
}

/// Streams both outputs until the command ended and they are closed or silent.
async fn stream(
    running: &mut Running,
    writer: &Writer,
) -> Result<std::io::Result<ExitStatus>, Gone> {
    let out = running.child.stdout.take();
    let err = running.child.stderr.take();
    let (ended, watch) = tokio::sync::watch::channel(false);
    let outputs = async {
        tokio::try_join!(
            forward(out, frame::STDOUT, writer, watch.clone()),
            forward(err, frame::STDERR, writer, watch.clone()),
        )
    };
    let end = async {
        let status = running.wait().await;
        let _ = ended.send(true);
        Ok(status)
    };
    let (_, status) = tokio::try_join!(outputs, end)?;
    Ok(status)
}

async fn forward(
    stream: Option<impl AsyncRead + Unpin>,
    kind: u8,
    writer: &Writer,
    mut ended: tokio::sync::watch::Receiver<bool>,
) -> Result<(), Gone> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut buffer = vec![0; frame::MAXIMUM];
    loop {
        let silence = async {
            let _ = ended.wait_for(|ended| *ended).await;
            tokio::time::sleep(TRAILING_SILENCE).await;
        };
        let count = tokio::select! {
            biased;
            count = stream.read(&mut buffer) => count.unwrap_or(0),
            () = silence => 0,
        };
        if count == 0 {
            return Ok(());
        }
        writer.send_frame(kind, &buffer[..count]).await?;
    }
}

fn describe(status: std::io::Result<ExitStatus>) -> ExecExit {
    match status {
        Ok(status) => {
            ExecExit { code: status.code(), signal: status.signal(), ..ExecExit::default() }
        }
        Err(error) => ExecExit {
            error: Some(format!("waiting for the command's end: {error}")),
            ..ExecExit::default()
        },
    }
}

fn failed(error: &Error) -> ExecExit {
    ExecExit { error: Some(crate::text::chain(error)), ..ExecExit::default() }
}
