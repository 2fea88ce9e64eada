//! agentd's numbered reports, one JSON object a line.

use bytes::BytesMut;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::agentd::ReportLine;

use super::Error;
use super::exchange::{Answer, ConnectionGuard};

/// Bytes of one report at most: recorded texts are bounded by agentd far below this.
const LINE_LIMIT: usize = 4 * 1024 * 1024;

/// The reports of one sandbox, as they come.
#[derive(Debug)]
pub struct Reports {
    doing: String,
    body: Incoming,
    buffer: BytesMut,
    searched: usize,
    _connection: ConnectionGuard,
}

impl Reports {
    pub(super) fn new(answer: Answer) -> Self {
        Self {
            doing: answer.doing,
            body: answer.response.into_body(),
            buffer: BytesMut::new(),
            searched: 0,
            _connection: answer.connection,
        }
    }

    /// The next line; none when agentd closed the stream, which is not the end of the sandbox:
    /// ask again after the last number seen. Safe to drop and call again.
    pub async fn next(&mut self) -> Result<Option<ReportLine>, Error> {
        loop {
            if let Some(line) = self.take_line() {
                if line.is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|error| self.damaged(error.to_string()));
            }
            if self.buffer.len() > LINE_LIMIT {
                return Err(Error::TooLong { doing: self.doing.clone(), limit: LINE_LIMIT });
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
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(self.damaged("it ended in the middle of a line".into())),
            }
        }
    }

    fn take_line(&mut self) -> Option<BytesMut> {
        let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let mut line = self.buffer.split_to(self.searched + end + 1);
        self.searched = 0;
        line.truncate(line.len() - 1);
        Some(line)
    }

    fn damaged(&self, why: String) -> Error {
        Error::Damaged { doing: self.doing.clone(), why }
    }
}
