//! What a command prints, as it comes or gathered.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::agentd::{ExecExit, frame};

use super::exchange::{Answer, ConnectionGuard};
use super::{Error, decode_frame};

/// What a command printed and how it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output, from its beginning.
    pub stdout: Vec<u8>,
    /// Standard error, from its beginning.
    pub stderr: Vec<u8>,
    /// Whether more was printed than the caller wanted.
    pub cut: bool,
    /// How it ended.
    pub exit: ExecExit,
}

impl Output {
    /// Whether it ended by itself with exit code 0.
    pub fn is_success(&self) -> bool {
        self.exit.code == Some(0)
    }
}

/// One thing a running command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputEvent {
    /// It printed to standard output, or to its terminal.
    Stdout(Bytes),
    /// It printed to standard error.
    Stderr(Bytes),
    /// It ended; nothing follows.
    Exit(ExecExit),
}

impl OutputEvent {
    /// What a frame from agentd means; none for kinds this version does not know.
    pub(super) fn from_frame(doing: &str, frame: super::Frame) -> Result<Option<Self>, Error> {
        Ok(match frame.kind {
            frame::STDOUT => Some(Self::Stdout(frame.payload)),
            frame::STDERR => Some(Self::Stderr(frame.payload)),
            frame::EXIT => {
                Some(Self::Exit(serde_json::from_slice(&frame.payload).map_err(|error| {
                    Error::Damaged { doing: doing.to_owned(), why: error.to_string() }
                })?))
            }
            _ => None,
        })
    }
}

/// A running command. Dropping it kills the command.
#[derive(Debug)]
pub struct ExecStream {
    doing: String,
    body: Incoming,
    buffer: BytesMut,
    ended: bool,
    _connection: ConnectionGuard,
}

impl ExecStream {
    pub(super) fn new(answer: Answer) -> Self {
        Self {
            doing: answer.doing,
            body: answer.response.into_body(),
            buffer: BytesMut::new(),
            ended: false,
            _connection: answer.connection,
        }
    }

    /// The next thing the command did; none after [`OutputEvent::Exit`].
    pub async fn next(&mut self) -> Result<Option<OutputEvent>, Error> {
        while !self.ended {
            let damaged = |why: String| Error::Damaged { doing: self.doing.clone(), why };
            if let Some(frame) =
                decode_frame(&mut self.buffer).map_err(|error| damaged(error.to_string()))?
            {
                let Some(event) = OutputEvent::from_frame(&self.doing, frame)? else { continue };
                self.ended = matches!(event, OutputEvent::Exit(_));
                return Ok(Some(event));
            }
            match self.body.frame().await {
                Some(Ok(piece)) => {
                    if let Ok(data) = piece.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(source)) => {
                    return Err(Error::Broken { doing: self.doing.clone(), source: source.into() });
                }
                None => return Err(damaged("it ended without an exit frame".into())),
            }
        }
        Ok(None)
    }

    /// Everything until the end; beyond `limit` bytes the rest is read and dropped.
    pub async fn collect(mut self, limit: usize) -> Result<Output, Error> {
        let mut output = Output::default();
        while let Some(event) = self.next().await? {
            let kept = output.stdout.len() + output.stderr.len();
            let (into, piece) = match event {
                OutputEvent::Stdout(piece) => (&mut output.stdout, piece),
                OutputEvent::Stderr(piece) => (&mut output.stderr, piece),
                OutputEvent::Exit(exit) => {
                    output.exit = exit;
                    continue;
                }
            };
            let room = limit.saturating_sub(kept).min(piece.len());
            into.extend_from_slice(&piece[..room]);
            output.cut |= room < piece.len();
        }
        Ok(output)
    }
}
