//! What a watched session turned out to be: the material of the closing summary.

use protocol::repository::RepositoryName;
use protocol::sandbox::Isolation;
use protocol::session::{ModelChoice, Phase, PullRequestSummary};
use protocol::{Envelope, Event, PromptId, SessionId};

/// Facts from a session's events; each is `None` until its event came.
#[derive(Debug, Default, Clone)]
pub struct Facts {
    /// Which session.
    pub session: Option<SessionId>,
    /// Where it works.
    pub repository: Option<RepositoryName>,
    /// The agent that works.
    pub agent: Option<String>,
    /// The model that answers.
    pub model: Option<ModelChoice>,
    /// The wall around its newest sandbox.
    pub isolation: Option<Isolation>,
    /// The branch it started from.
    pub base_branch: Option<String>,
    /// The branch it pushes to.
    pub branch: Option<String>,
    /// Its newest commit.
    pub commit: Option<String>,
    /// Its pull request.
    pub pull_request: Option<PullRequestSummary>,
    /// Tokens read and written by models so far.
    pub tokens: (u64, u64),
    times: Vec<(Option<PromptId>, Phase, u64)>,
}

impl Facts {
    pub(super) fn learn(&mut self, envelope: &Envelope) {
        self.session = Some(envelope.session);
        match &envelope.event {
            Event::SessionCreated { repository, agent, model, base_branch, branch, .. } => {
                self.repository = Some(repository.clone());
                self.agent = Some(agent.clone());
                self.model = Some(model.clone());
                self.base_branch = Some(base_branch.clone());
                self.branch = Some(branch.clone());
            }
            Event::SandboxStarted { description, milliseconds } => {
                self.isolation = Some(description.isolation);
                self.times.push((None, Phase::Sandbox, *milliseconds));
            }
            Event::WorkspaceSynced { milliseconds, .. } => {
                self.times.push((None, Phase::Sync, *milliseconds));
            }
            Event::PhaseFinished { prompt, phase, milliseconds } => {
                self.times.push((*prompt, *phase, *milliseconds));
            }
            Event::ModelAnswered { input_tokens, output_tokens, .. } => {
                self.tokens.0 += input_tokens;
                self.tokens.1 += output_tokens;
            }
            Event::Committed { commit, .. } => self.commit = Some(commit.clone()),
            Event::PullRequestOffered { pull_request, .. } => {
                self.pull_request = Some(pull_request.clone());
            }
            _ => {}
        }
    }

    pub(super) fn add_time(&mut self, phase: Phase, milliseconds: u64) {
        self.times.push((None, phase, milliseconds));
    }

    /// The times of one prompt, in the order of the way: its own, else the session's newest.
    pub fn times(&self, prompt: PromptId) -> Vec<(Phase, u64)> {
        let mut times = Vec::new();
        for wanted in [None, Some(prompt)] {
            for (of, phase, milliseconds) in &self.times {
                if *of == wanted {
                    times.retain(|(known, _)| known != phase);
                    times.push((*phase, *milliseconds));
                }
            }
        }
        times.sort_by_key(|(phase, _)| *phase);
        times
    }
}
