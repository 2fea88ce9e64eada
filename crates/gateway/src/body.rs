//! Bodies that are counted, limited and put together while they stream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, Sleep};

use crate::Denial;

/// Any failure of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request to, and of an answer from, the forge.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body of known bytes.
pub fn full_body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body without bytes.
pub fn empty_body() -> Body {
    full_body(Bytes::new())
}

/// What is known about a request's body from outside while it streams elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    exceeded: AtomicBool,
    stalled: AtomicBool,
}

impl Meter {
    /// Bytes that have passed.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why the body was cut off, if it was.
    pub(crate) fn denial(&self, limit: u64) -> Option<Denial> {
        if self.exceeded.load(Ordering::Relaxed) {
            Some(Denial::BodyTooLarge { limit })
        } else if self.stalled.load(Ordering::Relaxed) {
            Some(Denial::BodyStalled)
        } else {
            None
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("the body is over the limit of {0} bytes")]
    TooLarge(u64),
    #[error("the body stopped arriving")]
    Stalled,
}

/// A request's body that ends in an error when it grows too large or stops arriving.
#[derive(Debug)]
pub(crate) struct Metered<B> {
    inner: B,
    meter: Arc<Meter>,
    limit: u64,
    patience: Duration,
    timer: Pin<Box<Sleep>>,
    /// Whether the timer runs: only while a piece is waited for, so that a reader who takes long
    /// between two pieces is not held against the sender.
    waiting: bool,
}

impl<B> Metered<B> {
    pub(crate) fn new(inner: B, meter: Arc<Meter>, limit: u64, patience: Duration) -> Self {
        Self {
            inner,
            meter,
            limit,
            patience,
            timer: Box::pin(tokio::time::sleep(patience)),
            waiting: false,
        }
    }
}

impl<B> HttpBody for Metered<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(context) else {
            if !std::mem::replace(&mut this.waiting, true) {
                this.timer.as_mut().reset(Instant::now() + this.patience);
            }
            ready!(this.timer.as_mut().poll(context));
            this.meter.stalled.store(true, Ordering::Relaxed);
            return Poll::Ready(Some(Err(Cut::Stalled.into())));
        };
        this.waiting = false;
        if let Some(Ok(data)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::data_ref)) {
            let arrived = data.map_or(0, |data| data.len() as u64);
            let before = this.meter.bytes.fetch_add(arrived, Ordering::Relaxed);
            if before + arrived > this.limit {
                this.meter.exceeded.store(true, Ordering::Relaxed);
                return Poll::Ready(Some(Err(Cut::TooLarge(this.limit).into())));
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body whose first bytes were already read.
#[derive(Debug)]
pub(crate) struct Prefixed<B> {
    pub(crate) prefix: Option<Bytes>,
    pub(crate) rest: B,
}

impl<B> HttpBody for Prefixed<B>
where
    B: HttpBody<Data = Bytes, Error = BoxError> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(prefix) = self.prefix.take() {
            return Poll::Ready(Some(Ok(Frame::data(prefix))));
        }
        Pin::new(&mut self.rest).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_none() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::StreamBody;

    use super::*;

    fn metered(pauses: &'static [u64]) -> (Metered<Body>, Arc<Meter>) {
        let pieces = stream::unfold(pauses.iter(), |mut pauses| async move {
            tokio::time::sleep(Duration::from_secs(*pauses.next()?)).await;
            Some((Ok::<_, BoxError>(Frame::data(Bytes::from_static(b"piece"))), pauses))
        });
        let body = StreamBody::new(Box::pin(pieces)).boxed_unsync();
        let meter = Arc::new(Meter::default());
        (Metered::new(body, Arc::clone(&meter), 12, Duration::from_secs(10)), meter)
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_slow_sender_is_given_up() {
        let (mut body, meter) = metered(&[9, 9]);
        for _ in 0..2 {
            body.frame().await.expect("a piece").expect("in time");
            // The reader's own pause does not count.
            tokio::time::sleep(Duration::from_secs(100)).await;
        }
        assert!(body.frame().await.is_none());
        assert_eq!((meter.bytes(), meter.denial(12)), (10, None));
        let (mut body, meter) = metered(&[9, 11]);
        body.frame().await.expect("a piece").expect("in time");
        body.frame().await.expect("an end").expect_err("too late");
        assert_eq!(meter.denial(12), Some(Denial::BodyStalled));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_byte_too_many_ends_it() {
        let (mut body, meter) = metered(&[0, 0, 0]);
        for _ in 0..2 {
            body.frame().await.expect("a piece").expect("within the limit");
        }
        body.frame().await.expect("an end").expect_err("over the limit");
        assert_eq!(meter.denial(12), Some(Denial::BodyTooLarge { limit: 12 }));
    }
}
