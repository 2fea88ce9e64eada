//! Bodies of answers: whole ones, and streamed ones that make their writer wait for the reader.

use std::convert::Infallible;

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use tokio::sync::mpsc;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Chunks on their way at most; the reader's pace beyond that is the writer's.
const CHUNKS: usize = 2;

/// A body known as a whole.
pub(crate) fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// The writing end of a streamed body.
#[derive(Debug, Clone)]
pub(crate) struct Writer(mpsc::Sender<Bytes>);

/// The reader of a streamed body is gone.
#[derive(Debug, thiserror::Error)]
#[error("the client is gone")]
pub(crate) struct Gone;

impl Writer {
    /// Waits until the reader has taken enough, then gives it a chunk.
    pub(crate) async fn send(&self, chunk: Bytes) -> Result<(), Gone> {
        self.0.send(chunk).await.map_err(|_| Gone)
    }

    /// Gives the reader a frame of [`protocol::agentd::frame`].
    pub(crate) async fn send_frame(&self, kind: u8, payload: &[u8]) -> Result<(), Gone> {
        self.send(frame(kind, payload)).await
    }

    /// Resolves when the reader is gone.
    pub(crate) async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A body that grows while it is read.
pub(crate) fn streamed() -> (Writer, Body) {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS);
    let chunks = stream::poll_fn(move |context| {
        receiver.poll_recv(context).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
    });
    (Writer(sender), StreamBody::new(chunks).boxed_unsync())
}

/// One frame: kind, length, payload.
pub(crate) fn frame(kind: u8, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(payload.len() + 5);
    bytes.put_u8(kind);
    bytes.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    bytes.put_slice(payload);
    bytes.freeze()
}
