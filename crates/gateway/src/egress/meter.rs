//! How fast a sandbox may send, and how much may pass between it and hosts in its life.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use protocol::network::NetworkPolicy;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::{Egress, Why};

/// Below this nothing works any more: a limit of zero would cut agents from their models.
const SLOWEST: u64 = 64_000;
/// What may come at once after a pause.
const BURST: Duration = Duration::from_millis(50);
/// The same for slow rates.
const SMALLEST_BURST: u64 = 64 * 1024;
/// How often it is told that a sandbox is slowed down.
const TELLING: Duration = Duration::from_mins(1);

/// Lets bytes through at a rate. What was read cannot be put back, so it may owe: then the next
/// read waits until the debt is paid.
#[derive(Debug)]
struct Bucket {
    bytes_per_second: u64,
    credit: f64,
    at: Instant,
    /// Since when it was not full, and the bytes since then.
    busy: (Instant, u64),
    told: Option<Instant>,
}

/// What to do after some bytes were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pause {
    wait: Duration,
    /// The rate that was tried, in bits per second, if it is time to tell.
    tell: Option<u64>,
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate is a measure: bytes of a debt are far below 2^52"
)]
impl Bucket {
    fn new(bits_per_second: u64, now: Instant) -> Self {
        let bytes_per_second = bits_per_second.max(SLOWEST) / 8;
        let burst = Self::burst(bytes_per_second);
        Self { bytes_per_second, credit: burst, at: now, busy: (now, 0), told: None }
    }

    fn burst(bytes_per_second: u64) -> f64 {
        (bytes_per_second as f64 * BURST.as_secs_f64()).max(SMALLEST_BURST as f64)
    }

    fn set(&mut self, bits_per_second: u64) {
        self.bytes_per_second = bits_per_second.max(SLOWEST) / 8;
        self.credit = self.credit.min(Self::burst(self.bytes_per_second));
    }

    fn take(&mut self, bytes: u64, now: Instant) -> Pause {
        let rate = self.bytes_per_second as f64;
        let full = Self::burst(self.bytes_per_second);
        self.credit += now.duration_since(self.at).as_secs_f64() * rate;
        self.at = now;
        if self.credit >= full {
            self.credit = full;
            self.busy = (now, 0);
        }
        self.credit -= bytes as f64;
        self.busy.1 += bytes;
        if self.credit >= 0.0 {
            return Pause { wait: Duration::ZERO, tell: None };
        }
        let due = self.told.is_none_or(|told| now.duration_since(told) >= TELLING);
        let tell = due.then(|| {
            self.told = Some(now);
            let span = now.duration_since(self.busy.0).max(BURST).as_millis().max(1);
            u64::try_from(u128::from(self.busy.1) * 8000 / span).unwrap_or(u64::MAX)
        });
        Pause { wait: Duration::from_secs_f64(-self.credit / rate), tell }
    }
}

/// The bytes of one sandbox.
#[derive(Debug)]
pub(crate) struct Flow {
    bucket: Mutex<Bucket>,
    sent: Used,
    received: Used,
}

#[derive(Debug)]
struct Used {
    bytes: AtomicU64,
    limit: AtomicU64,
}

impl Used {
    fn left(&self) -> u64 {
        self.limit.load(Ordering::Relaxed).saturating_sub(self.bytes.load(Ordering::Relaxed))
    }

    /// Takes up to so many of the bytes that are left.
    fn take(&self, wanted: u64) -> u64 {
        let limit = self.limit.load(Ordering::Relaxed);
        let taken = |used: u64| limit.saturating_sub(used).min(wanted);
        let before = self
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used + taken(used)));
        before.map_or(0, taken)
    }

    fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Flow {
    pub(crate) fn new(now: Instant) -> Self {
        let used = || Used { bytes: AtomicU64::new(0), limit: AtomicU64::new(u64::MAX) };
        let bucket = Mutex::new(Bucket::new(Egress::default().bits_per_second, now));
        Self { bucket, sent: used(), received: used() }
    }

    /// What was used stays used.
    pub(crate) fn set(&self, egress: &Egress) {
        self.bucket().set(egress.bits_per_second);
        let NetworkPolicy { bytes_out, bytes_in, .. } = &egress.policy;
        self.sent.limit.store(bytes_out.unwrap_or(u64::MAX), Ordering::Relaxed);
        self.received.limit.store(bytes_in.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Why no further host may be reached, if the policy's bytes are used up.
    pub(crate) fn used_up(&self) -> Option<Why> {
        let budget = |used: &Used, direction| {
            let limit = used.limit.load(Ordering::Relaxed);
            (used.left() == 0).then_some(Why::Budget { direction, limit })
        };
        budget(&self.sent, "sent").or_else(|| budget(&self.received, "received"))
    }

    fn bucket(&self) -> std::sync::MutexGuard<'_, Bucket> {
        self.bucket.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Is told the rate a sandbox tried and the one it has, in bits per second.
pub(crate) type Tell = Box<dyn Fn(u64, u64) + Send + Sync>;

/// A sandbox's connection to the gateway, read no faster than the sandbox may send.
pub(crate) struct Throttled<S> {
    inner: S,
    flow: Arc<Flow>,
    pause: Option<Pin<Box<Sleep>>>,
    tell: Tell,
}

impl<S> Throttled<S> {
    pub(crate) fn new(inner: S, flow: Arc<Flow>, tell: Tell) -> Self {
        Self { inner, flow, pause: None, tell }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Throttled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Some(pause) = this.pause.as_mut() {
            ready!(pause.as_mut().poll(context));
            this.pause = None;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(context, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        let (pause, maximum) = {
            let mut bucket = this.flow.bucket();
            (bucket.take(read, Instant::now()), bucket.bytes_per_second * 8)
        };
        if !pause.wait.is_zero() {
            this.pause = Some(Box::pin(tokio::time::sleep(pause.wait)));
        }
        if let Some(tried) = pause.tell {
            (this.tell)(tried, maximum);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Throttled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// What passed over one connection to a host.
#[derive(Debug)]
pub(crate) struct Passage {
    flow: Arc<Flow>,
    sent: AtomicU64,
    received: AtomicU64,
    over: AtomicBool,
}

impl Passage {
    pub(crate) fn new(flow: Arc<Flow>) -> Self {
        let (sent, received) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { flow, sent, received, over: AtomicBool::new(false) }
    }

    /// Bytes to and from the host.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed))
    }

    /// Why it was cut off, if it was because of the policy's bytes.
    pub(crate) fn over(&self) -> Option<Why> {
        self.over.load(Ordering::Relaxed).then(|| self.flow.used_up()).flatten()
    }

    fn used_up(&self) -> io::Error {
        self.over.store(true, Ordering::Relaxed);
        io::Error::other("the bytes that the sandbox may exchange with hosts are used up")
    }
}

/// A connection to a host, on which no byte passes that the policy does not allow.
#[derive(Debug)]
pub(crate) struct Counted<S> {
    inner: S,
    passage: Arc<Passage>,
}

impl<S> Counted<S> {
    pub(crate) fn new(inner: S, passage: Arc<Passage>) -> Self {
        Self { inner, passage }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(context, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        let passage = &self.passage;
        if passage.flow.received.take(read) < read {
            buffer.set_filled(before);
            return Poll::Ready(Err(passage.used_up()));
        }
        passage.received.fetch_add(read, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let passage = Arc::clone(&self.passage);
        let taken = passage.flow.sent.take(bytes.len() as u64);
        if taken == 0 && !bytes.is_empty() {
            return Poll::Ready(Err(passage.used_up()));
        }
        let allowed = usize::try_from(taken).unwrap_or(bytes.len()).min(bytes.len());
        let written = Pin::new(&mut self.inner).poll_write(context, &bytes[..allowed]);
        let done = match &written {
            Poll::Ready(Ok(done)) => *done as u64,
            _ => 0,
        };
        passage.flow.sent.give_back(taken - done);
        passage.sent.fetch_add(done, Ordering::Relaxed);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn bytes_pass_at_the_rate_after_a_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(8_000_000, start);
        let mut now = start;
        let mut passed = 0;
        while now < start + Duration::from_secs(10) {
            passed += 50_000;
            now += bucket.take(50_000, now).wait;
        }
        let rate = passed / 10;
        assert!((1_000_000..1_020_000).contains(&rate), "{rate} bytes a second");
    }

    #[test]
    fn a_pause_gives_a_burst_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(8_000_000, start);
        assert!(bucket.take(65_536, start).wait.is_zero());
        assert!(!bucket.take(1, start).wait.is_zero());
        let later = start + Duration::from_secs(100);
        assert!(bucket.take(65_536, later).wait.is_zero());
        assert_eq!(bucket.take(1_000_000, later).wait, Duration::from_secs(1));
    }

    #[test]
    fn slowing_down_is_told_once_a_minute_with_the_rate_that_was_tried() {
        let start = Instant::now();
        let mut bucket = Bucket::new(8_000_000, start);
        let told = bucket.take(1_000_000, start).tell.expect("the first time");
        // 8 megabits within the burst's 50 ms.
        assert_eq!(told, 160_000_000);
        assert_eq!(bucket.take(1_000_000, start + Duration::from_secs(59)).tell, None);
        let again = start + Duration::from_mins(1);
        assert!(bucket.take(2_000_000, again).tell.is_some());
    }

    #[test]
    fn a_rate_of_nothing_is_the_slowest() {
        assert_eq!(Bucket::new(0, Instant::now()).bytes_per_second, SLOWEST / 8);
    }

    fn flow(bytes_out: u64, bytes_in: u64) -> Arc<Flow> {
        let policy = NetworkPolicy {
            bytes_out: Some(bytes_out),
            bytes_in: Some(bytes_in),
            ..NetworkPolicy::default()
        };
        let flow = Flow::new(Instant::now());
        flow.set(&Egress { policy, ..Egress::default() });
        Arc::new(flow)
    }

    #[tokio::test]
    async fn not_one_byte_more_than_the_policy_allows_is_sent() {
        let flow = flow(10, 100);
        let passage = Arc::new(Passage::new(Arc::clone(&flow)));
        let (near, mut far) = tokio::io::duplex(64);
        let mut counted = Counted::new(near, Arc::clone(&passage));
        counted.write_all(b"1234567").await.expect("within");
        assert_eq!((passage.over(), flow.used_up()), (None, None));
        counted.write_all(b"8901234").await.expect_err("three too many of seven");
        assert_eq!(passage.over(), Some(Why::Budget { direction: "sent", limit: 10 }));
        assert_eq!(passage.bytes(), (10, 0));
        drop(counted);
        let mut arrived = Vec::new();
        far.read_to_end(&mut arrived).await.expect("reads");
        assert_eq!(arrived, b"1234567890");
        assert!(flow.used_up().is_some(), "and no other connection may");
    }

    #[tokio::test]
    async fn what_is_received_is_counted_over_all_connections() {
        let flow = flow(100, 10);
        for (bytes, good) in [(6, true), (4, true), (1, false)] {
            let passage = Arc::new(Passage::new(Arc::clone(&flow)));
            let (near, mut far) = tokio::io::duplex(64);
            let mut counted = Counted::new(near, Arc::clone(&passage));
            far.write_all(&vec![b'x'; bytes]).await.expect("fits");
            let read = counted.read(&mut [0; 64]).await;
            assert_eq!(read.is_ok(), good, "{bytes}: {read:?}");
        }
        assert_eq!(flow.used_up(), Some(Why::Budget { direction: "received", limit: 10 }));
    }
}
