//! A terminal in the sandbox: frames both ways over an upgraded connection.

use bytes::BytesMut;
use http::StatusCode;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use protocol::agentd::{PtySize, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};

use super::exchange::Answer;
use super::{Error, OutputEvent, decode_frame, encode_frame};

const DOING: &str = "use the terminal";

/// An open terminal. Dropping it hangs up.
#[derive(Debug)]
pub struct Pty {
    /// What the terminal shows.
    pub output: PtyOutput,
    /// What the person types.
    pub input: PtyInput,
}

/// What a terminal shows.
#[derive(Debug)]
pub struct PtyOutput {
    from: ReadHalf<TokioIo<Upgraded>>,
    buffer: BytesMut,
}

/// What a person types into a terminal.
#[derive(Debug)]
pub struct PtyInput {
    into: WriteHalf<TokioIo<Upgraded>>,
}

impl Pty {
    pub(super) async fn open(answer: Answer) -> Result<Self, Error> {
        let Answer { doing, response, connection } = answer;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let why = format!("status {} instead of an upgrade", response.status());
            return Err(Error::Damaged { doing, why });
        }
        let upgraded = hyper::upgrade::on(response)
            .await
            .map_err(|source| Error::Broken { doing, source: source.into() })?;
        // The connection's task has handed its stream over and ended.
        drop(connection);
        let (from, into) = split(TokioIo::new(upgraded));
        Ok(Self { output: PtyOutput { from, buffer: BytesMut::new() }, input: PtyInput { into } })
    }
}

impl PtyOutput {
    /// The next thing the terminal shows; none after its end.
    pub async fn next(&mut self) -> Result<Option<OutputEvent>, Error> {
        loop {
            if let Some(frame) = decode_frame(&mut self.buffer)
                .map_err(|error| Error::Damaged { doing: DOING.into(), why: error.to_string() })?
            {
                if let Some(event) = OutputEvent::from_frame(DOING, frame)? {
                    return Ok(Some(event));
                }
                continue;
            }
            if self.from.read_buf(&mut self.buffer).await.map_err(broken)? == 0 {
                return Ok(None);
            }
        }
    }
}

impl PtyInput {
    /// Types.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.send(frame::STDIN, bytes).await
    }

    /// Tells the terminal its new size.
    pub async fn resize(&mut self, size: PtySize) -> Result<(), Error> {
        let payload = serde_json::to_vec(&size)
            .map_err(|error| Error::Damaged { doing: DOING.into(), why: error.to_string() })?;
        self.send(frame::RESIZE, &payload).await
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) -> Result<(), Error> {
        let mut wire = BytesMut::new();
        encode_frame(kind, payload, &mut wire);
        self.into.write_all(&wire).await.map_err(broken)?;
        self.into.flush().await.map_err(broken)
    }
}

fn broken(source: std::io::Error) -> Error {
    Error::Broken { doing: DOING.into(), source: source.into() }
}
