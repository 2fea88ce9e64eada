//! Follows one running sandbox: its reports in order, its run time, and its end.
//!
//! The number of each report is recorded with the events that follow from it, so a follower that
//! starts after a crash continues behind the last recorded report: nothing is missed or doubled.

use std::sync::Arc;
use std::time::Duration;

use protocol::agentd::ReportLine;
use protocol::sandbox::{Consequence, LimitName};
use protocol::{SandboxId, Timestamp};
use session::{Command, LimitHit};
use tokio::sync::oneshot;

use crate::Error;
use crate::clock;
use crate::shared::Shared;
use crate::task::{Handle, Message};

/// Reports taken before agentd is told, by a new request, that it may forget them.
const ACKNOWLEDGE_EVERY: u64 = 256;
/// Between two attempts to reach agentd.
const RETRY: Duration = Duration::from_millis(200);

/// Until when a sandbox may run. Counted from the recorded start, so that no restart of the server
/// gives it more.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RunLimit {
    seconds: u64,
    until: Timestamp,
}

impl RunLimit {
    /// So many seconds from a start.
    pub(crate) fn new(started_at: Timestamp, seconds: u64) -> Self {
        let milliseconds = i64::try_from(seconds.saturating_mul(1000)).unwrap_or(i64::MAX);
        Self { seconds, until: started_at.plus_milliseconds(milliseconds) }
    }
}

/// Runs until the sandbox ends; then says so to the session's task. Says before that when it has run
/// for too long.
pub(crate) async fn follow(
    shared: Arc<Shared>,
    session: Handle,
    sandbox: SandboxId,
    after: u64,
    limit: RunLimit,
) {
    let reason = tokio::select! {
        ended = shared.backend.ended(sandbox) => match ended {
            Ok(reason) => reason,
            Err(error) => crate::error::chain(&error),
        },
        () = run_out(&session, sandbox, limit) => {
            "the session's task has ended".to_owned()
        }
        () = follow_reports(&shared, &session, sandbox, after) => {
            "the session's task has ended".to_owned()
        }
    };
    let command = Command::SandboxLost { sandbox, reason };
    session.send(Message::Command { command, report: None, reply: None }).await;
}

/// Says when the sandbox has run for as long as it may; the session has it stopped then. Returns
/// only when the session's task has ended.
async fn run_out(session: &Handle, sandbox: SandboxId, limit: RunLimit) {
    tokio::time::sleep(clock::until(limit.until)).await;
    let command = Command::LimitHit(LimitHit {
        sandbox,
        limit: LimitName::RunTime,
        usage: limit.seconds,
        maximum: limit.seconds,
        consequence: Consequence::Ended,
        what: "its time is over".to_owned(),
    });
    if session.send(Message::Command { command, report: None, reply: None }).await {
        std::future::pending::<()>().await;
    }
}

/// Passes on reports for ever; returns only when the session's task has ended.
async fn follow_reports(shared: &Shared, session: &Handle, sandbox: SandboxId, mut after: u64) {
    let client = shared.client(sandbox);
    loop {
        match client.reports(after).await {
            Ok(mut lines) => {
                let asked_after = after;
                while after < asked_after + ACKNOWLEDGE_EVERY {
                    match lines.next().await {
                        Ok(Some(line)) => {
                            if !pass_on(session, sandbox, line, &mut after).await {
                                return;
                            }
                        }
                        Ok(None) => break,
                        Err(error) => {
                            tracing::debug!(%sandbox, %error, "reports broke off");
                            tokio::time::sleep(RETRY).await;
                            break;
                        }
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%sandbox, %error, "agentd does not answer");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

/// Hands one line to the session's task and waits until it is recorded; false if the task ended.
async fn pass_on(session: &Handle, sandbox: SandboxId, line: ReportLine, after: &mut u64) -> bool {
    match line {
        ReportLine::Report { number, report } => {
            if number != *after + 1 {
                // agentd may be replaced by hostile code: numbers that jump are not believed.
                tracing::warn!(%sandbox, number, after = *after, "a report out of order is dropped");
                return true;
            }
            let (reply, answer) = oneshot::channel();
            let command = Command::Reported { sandbox, report };
            let message = Message::Command { command, report: Some(number), reply: Some(reply) };
            match session.ask(message, answer).await {
                Ok(Ok(_)) => {}
                Ok(Err(Error::Refused(refusal))) => {
                    tracing::debug!(%sandbox, number, %refusal, "report refused");
                }
                // Not recorded, so not to be acknowledged.
                Ok(Err(_)) | Err(_) => return false,
            }
            *after = number;
            true
        }
        ReportLine::Delta { prompt, kind, text } => {
            session.send(Message::Delta { prompt, kind, text }).await
        }
        ReportLine::Alive => true,
    }
}
