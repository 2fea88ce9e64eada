//! The body of an answer: one line of text, or what a process writes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http_body::{Frame, SizeHint};
use tokio::process::ChildStdout;
use tokio_util::io::ReaderStream;

use super::backend::Keeper;

/// Bytes read from git at once: the size of a pipe.
const PIECE: usize = 64 * 1024;

/// The body of an answer to a git client. Dropping it early ends the processes that write it.
#[derive(Debug)]
pub struct Body {
    first: Option<Bytes>,
    rest: Option<Rest>,
}

#[derive(Debug)]
struct Rest {
    output: ReaderStream<ChildStdout>,
    keeper: Keeper,
}

impl Body {
    pub(super) fn text(text: String) -> Self {
        Self { first: Some(text.into()), rest: None }
    }

    pub(super) fn stream(first: Bytes, output: ChildStdout, keeper: Keeper) -> Self {
        let output = ReaderStream::with_capacity(output, PIECE);
        let first = (!first.is_empty()).then_some(first);
        Self { first, rest: Some(Rest { output, keeper }) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(rest) = self.rest.as_mut() else { return Poll::Ready(None) };
        if let Some(piece) = ready!(Pin::new(&mut rest.output).poll_next(context)) {
            rest.keeper.moved();
            return Poll::Ready(Some(piece.map(Frame::data)));
        }
        // Git's protocol marks its own end, so a client sees when an answer stops too early.
        if let Some(rest) = self.rest.take() {
            rest.keeper.let_finish();
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.rest) {
            (first, None) => {
                let bytes = first.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(bytes).unwrap_or(u64::MAX))
            }
            _ => SizeHint::default(),
        }
    }
}
