//! The numbered reports of a simulated agentd: kept until acknowledged, told to every listener.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use protocol::agentd::{Report, ReportLine};
use tokio::sync::broadcast;

/// Lines a slow listener may be behind; one that is further behind reads the kept ones again.
const BEHIND: usize = 4096;

#[derive(Debug)]
pub(super) struct Reports {
    log: Mutex<Log>,
    lines: broadcast::Sender<ReportLine>,
}

#[derive(Debug, Default)]
struct Log {
    last: u64,
    kept: VecDeque<(u64, Report)>,
}

impl Reports {
    pub(super) fn new() -> Self {
        Self { log: Mutex::new(Log::default()), lines: broadcast::Sender::new(BEHIND) }
    }

    pub(super) fn report(&self, report: Report) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.last += 1;
        let number = log.last;
        log.kept.push_back((number, report.clone()));
        // Sent under the lock, so that listeners see the numbers in order.
        let _nobody_listens = self.lines.send(ReportLine::Report { number, report });
    }

    pub(super) fn delta(&self, line: ReportLine) {
        let _nobody_listens = self.lines.send(line);
    }

    pub(super) fn listen(&self, after: u64) -> Listener<'_> {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .kept
            .retain(|(number, _)| *number > after);
        let live = self.lines.subscribe();
        Listener { reports: self, live, last: after, missed: self.kept_after(after) }
    }

    fn kept_after(&self, after: u64) -> VecDeque<(u64, Report)> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.kept.iter().filter(|(number, _)| *number > after).cloned().collect()
    }
}

#[derive(Debug)]
pub(super) struct Listener<'a> {
    reports: &'a Reports,
    live: broadcast::Receiver<ReportLine>,
    last: u64,
    missed: VecDeque<(u64, Report)>,
}

impl Listener<'_> {
    pub(super) async fn next(&mut self) -> Option<ReportLine> {
        loop {
            if let Some((number, report)) = self.missed.pop_front() {
                self.last = number;
                return Some(ReportLine::Report { number, report });
            }
            match self.live.recv().await {
                Ok(ReportLine::Report { number, .. }) if number <= self.last => {}
                Ok(line) => {
                    if let ReportLine::Report { number, .. } = &line {
                        self.last = *number;
                    }
                    return Some(line);
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.missed = self.reports.kept_after(self.last);
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
