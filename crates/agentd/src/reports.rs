//! The numbered log of what happened: kept until the host has recorded it, never dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use protocol::PromptId;
use protocol::agentd::{Report, ReportLine};
use protocol::client::DeltaKind;
use tokio::sync::{broadcast, watch};

use crate::body::{Body, Gone, Writer, streamed};

/// Bytes of reports kept at most before their source is made to wait.
const ROOM: usize = 32 * 1024 * 1024;
/// Pieces of text on their way to one reader; a slower reader misses some, as it may.
const DELTAS: usize = 256;
/// How often a quiet connection shows that it lives.
const ALIVE: Duration = Duration::from_secs(10);

/// A number no report has or will have.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// They were acknowledged and are gone.
    #[error(
        "the reports up to {first} were acknowledged and are gone; ask for those after a number \
         from {first} on"
    )]
    Gone { first: u64 },
    /// Nothing was reported under such a number yet.
    #[error("the last report has the number {last}; nothing comes after {after}")]
    Future { after: u64, last: u64 },
}

/// The log, shared by its writer and its readers.
#[derive(Debug)]
pub(crate) struct Reports {
    log: Mutex<Log>,
    /// Changes with every report and acknowledgement.
    changed: watch::Sender<()>,
    deltas: broadcast::Sender<Bytes>,
}

#[derive(Debug, Default)]
struct Log {
    /// The number of the last acknowledged report.
    acknowledged: u64,
    /// The lines after it, as sent.
    lines: VecDeque<Bytes>,
    bytes: usize,
}

impl Log {
    fn last(&self) -> u64 {
        self.acknowledged + self.lines.len() as u64
    }
}

impl Default for Reports {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            changed: watch::Sender::new(()),
            deltas: broadcast::Sender::new(DELTAS),
        }
    }
}

impl Reports {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a report. It is always taken; who produces many asks for [`Reports::room`] first.
    pub(crate) fn add(&self, report: Report) {
        let mut log = self.log();
        let number = log.last() + 1;
        let bytes = line(&ReportLine::Report { number, report });
        log.bytes += bytes.len();
        log.lines.push_back(bytes);
        drop(log);
        self.changed.send_replace(());
    }

    /// Shows a piece of text to whoever reads now.
    pub(crate) fn show(&self, prompt: PromptId, kind: DeltaKind, text: String) {
        // Nobody may be reading.
        let _ = self.deltas.send(line(&ReportLine::Delta { prompt, kind, text }));
    }

    /// Waits until the host has recorded enough for more reports to be kept.
    pub(crate) async fn room(&self) {
        let mut changed = self.changed.subscribe();
        let _ = changed.wait_for(|()| self.log().bytes < ROOM).await;
    }

    /// Forgets what the host has recorded.
    pub(crate) fn acknowledge(&self, through: u64) -> Result<(), Error> {
        let mut log = self.log();
        if through > log.last() {
            return Err(Error::Future { after: through, last: log.last() });
        }
        while log.acknowledged < through {
            let length = log.lines.pop_front().map_or(0, |bytes| bytes.len());
            log.bytes -= length;
            log.acknowledged += 1;
        }
        drop(log);
        self.changed.send_replace(());
        Ok(())
    }

    /// Acknowledges what came before, then streams all that comes after, without end.
    pub(crate) fn follow(self: &Arc<Self>, after: u64) -> Result<Body, Error> {
        let first = self.log().acknowledged;
        if after < first {
            return Err(Error::Gone { first });
        }
        self.acknowledge(after)?;
        let (writer, body) = streamed();
        let reports = Arc::clone(self);
        tokio::spawn(async move {
            let _ = reports.pump(after, writer).await;
        });
        Ok(body)
    }

    /// The lines after a number, in one piece of bounded size; none when there are none.
    fn after(&self, after: u64) -> (u64, Option<Bytes>) {
        const PIECE: usize = 64 * 1024;
        let log = self.log();
        // Another reader may have acknowledged further; that host has them all.
        let start = after.max(log.acknowledged);
        let skip = usize::try_from(start - log.acknowledged).unwrap_or(usize::MAX);
        let mut piece = Vec::new();
        let mut last = start;
        for bytes in log.lines.iter().skip(skip) {
            piece.extend_from_slice(bytes);
            last += 1;
            if piece.len() > PIECE {
                break;
            }
        }
        (last, (!piece.is_empty()).then(|| piece.into()))
    }

    async fn pump(&self, mut after: u64, writer: Writer) -> Result<(), Gone> {
        let mut changed = self.changed.subscribe();
        let mut deltas = self.deltas.subscribe();
        loop {
            changed.mark_unchanged();
            let (last, piece) = self.after(after);
            after = last;
            if let Some(piece) = piece {
                // Text that led to a report is in it: what is still on its way goes first.
                while let Ok(delta) = deltas.try_recv() {
                    writer.send(delta).await?;
                }
                writer.send(piece).await?;
                continue;
            }
            tokio::select! {
                biased;
                delta = deltas.recv() => match delta {
                    Ok(delta) => writer.send(delta).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Ok(()),
                },
                _ = changed.changed() => {}
                () = writer.closed() => return Err(Gone),
                () = tokio::time::sleep(ALIVE) => writer.send(line(&ReportLine::Alive)).await?,
            }
        }
    }
}

fn line(line: &ReportLine) -> Bytes {
    // Plain data with text keys always serialises; an empty line would be skipped by the host.
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn notice(text: &str) -> Report {
        Report::Notice { prompt: None, text: text.to_owned() }
    }

    async fn next(body: &mut Body) -> String {
        let frame = body.frame().await.expect("no end").expect("cannot fail");
        String::from_utf8(frame.into_data().expect("data").to_vec()).expect("text")
    }

    #[tokio::test]
    async fn a_reader_gets_exactly_what_comes_after() {
        let reports = Arc::new(Reports::default());
        for text in ["one", "two", "three"] {
            reports.add(notice(text));
        }
        let mut body = reports.follow(1).expect("kept");
        let lines = next(&mut body).await;
        assert!(lines.contains(r#""number":2"#) && lines.contains(r#""number":3"#), "{lines}");
        assert!(!lines.contains(r#""number":1,"#), "{lines}");
        reports.add(notice("four"));
        assert!(next(&mut body).await.contains("four"));
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_gone_and_the_future_is_refused() {
        let reports = Arc::new(Reports::default());
        reports.add(notice("one"));
        reports.add(notice("two"));
        reports.acknowledge(1).expect("exists");
        assert_eq!(reports.follow(0).err(), Some(Error::Gone { first: 1 }));
        assert_eq!(reports.follow(9).err(), Some(Error::Future { after: 9, last: 2 }));
        assert!(next(&mut reports.follow(1).expect("kept")).await.contains("two"));
    }

    #[tokio::test]
    async fn a_full_log_makes_its_source_wait_for_an_acknowledgement() {
        let reports = Arc::new(Reports::default());
        reports.add(notice(&"x".repeat(ROOM)));
        let waiting = Arc::clone(&reports);
        let room = tokio::spawn(async move { waiting.room().await });
        tokio::task::yield_now().await;
        assert!(!room.is_finished());
        reports.acknowledge(1).expect("exists");
        room.await.expect("there is room");
    }
}
