//! A session as clients see it.

use std::sync::Arc;

use protocol::PromptId;
use protocol::session::{
    Prompt, PromptOutcome, PromptState, SessionStatus, SessionSummary, SessionView,
};

use super::{End, Record, Stage, State, Step, Turn};

impl State {
    /// What the session is doing.
    pub fn status(&self) -> SessionStatus {
        match &self.turn {
            Some(turn) => match &turn.step {
                Step::Delivering => SessionStatus::Preparing,
                Step::Running | Step::Cancelling { outcome: PromptOutcome::Superseded } => {
                    SessionStatus::Running
                }
                Step::Cancelling { .. } => SessionStatus::Stopping,
                Step::Publishing { .. } => SessionStatus::Publishing,
            },
            None if !self.queue.is_empty() => SessionStatus::Preparing,
            None if self.last_failed => SessionStatus::Failed,
            None => SessionStatus::Idle,
        }
    }

    /// What lists show; `None` before the session was created.
    pub fn summary(&self) -> Option<SessionSummary> {
        let facts = self.facts.as_ref()?;
        Some(SessionSummary {
            id: self.session,
            title: facts.title.clone(),
            repository: facts.repository.clone(),
            status: self.status(),
            agent: facts.agent.clone(),
            created_at: facts.created_at,
            updated_at: self.updated_at,
            last_sequence: self.sequence,
        })
    }

    /// The whole session; `None` before it was created.
    pub fn view(&self) -> Option<SessionView> {
        let facts = self.facts.as_ref()?;
        Some(SessionView {
            summary: self.summary()?,
            model: facts.model.clone(),
            base_branch: facts.base_branch.clone(),
            base_commit: facts.base_commit.clone(),
            branch: facts.branch.clone(),
            limits: facts.limits,
            isolation: facts.isolation,
            prompts: self.prompts(),
            // One that is being stopped is still shown, one that was only asked for is nothing yet.
            sandbox: self
                .sandbox
                .as_ref()
                .filter(|sandbox| sandbox.stage != Stage::Asked)
                .and_then(|sandbox| sandbox.description.as_deref().cloned()),
            pull_request: self.pull_request.as_deref().cloned(),
        })
    }

    /// The waiting prompts, in the order in which they will run.
    pub fn queue(&self) -> impl Iterator<Item = PromptId> {
        self.queue.iter().copied()
    }

    fn prompts(&self) -> Vec<Prompt> {
        let begun = self.history.iter().filter(|record| !self.queue.contains(&record.id));
        let waiting = self.queue.iter().filter_map(|prompt| self.record_of(*prompt));
        begun.map(Arc::as_ref).chain(waiting).map(|record| self.shown(record)).collect()
    }

    fn shown(&self, record: &Record) -> Prompt {
        let turn = self.turn.as_ref().filter(|turn| turn.prompt == record.id);
        let state = match (&record.end, turn) {
            (Some(End::Finished(outcome)), _) => PromptState::Finished { outcome: outcome.clone() },
            (Some(End::Withdrawn), _) => PromptState::Withdrawn,
            (None, Some(turn)) => state_of(turn),
            (None, None) => PromptState::Queued,
        };
        Prompt {
            id: record.id,
            author: record.author.clone(),
            text: record.text.as_ref().to_owned(),
            delivery: record.delivery,
            state,
            accepted_at: record.accepted_at,
        }
    }
}

fn state_of(turn: &Turn) -> PromptState {
    match turn.step {
        // Once an agent had it, it shows as running while it is brought to the next one.
        Step::Delivering if turn.attempts == 0 => PromptState::Queued,
        Step::Delivering | Step::Running | Step::Cancelling { .. } => PromptState::Running,
        Step::Publishing { .. } => PromptState::Publishing,
    }
}
