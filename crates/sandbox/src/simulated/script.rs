//! What a simulated agent does when it is prompted.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use protocol::agentd::{
    CommitRequest, DeliverPrompt, Ending, PushRequest, Report, ReportLine, StartAgent, SyncRequest,
};
use protocol::client::DeltaKind;
use tokio_util::sync::CancellationToken;

use super::world::World;

/// A simulated agent's part, and where wanted the rest of its sandbox's.
#[async_trait]
pub trait Script: Send + Sync + Debug {
    /// Works on a prompt; the answer becomes its [`Report::PromptEnded`]. Dropped when the prompt
    /// is cancelled and the grace is over.
    async fn prompt(&self, turn: &Turn) -> Ending;

    /// Before the agent counts as started.
    async fn start(&self, _request: &StartAgent) -> Result<(), String> {
        Ok(())
    }

    /// Before the workspace counts as synced.
    async fn sync(&self, _request: &SyncRequest) -> Result<(), String> {
        Ok(())
    }

    /// What a commit is called instead of a name that follows from its prompt: where a test makes a
    /// real one, which its forge can be asked for after the push.
    fn commit(&self, _request: &CommitRequest) -> Option<String> {
        None
    }

    /// Before the branch counts as pushed: where a test moves its forge's branch.
    async fn push(&self, _request: &PushRequest) -> Result<(), String> {
        Ok(())
    }
}

/// One prompt being worked on.
#[derive(Debug)]
pub struct Turn {
    /// What was asked.
    pub request: DeliverPrompt,
    pub(super) world: Arc<World>,
    pub(super) cancelled: CancellationToken,
}

impl Turn {
    /// Records a report.
    pub fn report(&self, report: Report) {
        self.world.reports.report(report);
    }

    /// Records a finished piece of the agent's text.
    pub fn message(&self, text: &str) {
        self.report(Report::Message { prompt: self.request.prompt, text: text.to_owned() });
    }

    /// Shows live text.
    pub fn delta(&self, kind: DeltaKind, text: &str) {
        let prompt = self.request.prompt;
        self.world.reports.delta(ReportLine::Delta { prompt, kind, text: text.to_owned() });
    }

    /// Writes a file by its absolute path; refused in the workspace before it was synced.
    pub fn write(&self, path: &str, content: impl Into<Bytes>) -> Result<(), String> {
        self.world.write(path, content.into())
    }

    /// Reads a file by its absolute path.
    pub fn read(&self, path: &str) -> Option<Bytes> {
        self.world.read(path)
    }

    /// Resolves when somebody wants the prompt ended.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}

/// Writes the prompt's text to one file, says so, and is done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simple;

#[async_trait]
impl Script for Simple {
    async fn prompt(&self, turn: &Turn) -> Ending {
        let text = turn.request.text.clone();
        match turn.write("/workspace/SIMULATED.md", format!("{text}\n")) {
            Ok(()) => {
                turn.delta(DeltaKind::Message, "Written.");
                turn.message("Written.");
                Ending::Completed
            }
            Err(reason) => Ending::Failed { reason },
        }
    }
}
