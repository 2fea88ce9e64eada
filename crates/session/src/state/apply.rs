//! Taking in a recorded event.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::event::{Envelope, ToolKind};
use protocol::sandbox::SandboxDescription;
use protocol::session::{Actor, Author, Delivery, Phase, PromptOutcome};
use protocol::{Event, PromptId, RequestId, SandboxId, Timestamp};

use super::{End, Facts, Publish, Record, Recorded, Sandbox, Stage, Starts, State, Step, Turn};
use crate::bounds;

/// Editing calls remembered while the first edit is awaited; an agent that opens more at once has
/// its first edit measured late.
const PENDING_EDITS: usize = 256;

impl State {
    /// Takes in an event. One that was taken in before changes nothing.
    ///
    /// Never fails: what was recorded has happened, and an event that makes no sense here (of a
    /// newer version, or of a damaged journal) is passed over.
    pub fn apply(&mut self, envelope: &Envelope) {
        if envelope.sequence <= self.sequence {
            return;
        }
        self.take(envelope.at, &envelope.actor, &envelope.event);
        self.sequence = envelope.sequence;
    }

    /// Takes in the next event.
    pub(crate) fn take(&mut self, at: Timestamp, actor: &Actor, event: &Event) {
        self.sequence += 1;
        self.updated_at = at;
        self.count(actor, event);
        match event {
            Event::SessionCreated { .. } => self.take_creation(at, event),
            Event::PromptAccepted { prompt, request, author, text, delivery } => {
                self.take_prompt(at, *prompt, *request, author, text, *delivery);
            }
            Event::PromptEdited { prompt, text } => {
                self.change_record(*prompt, |record| record.text = text.as_str().into());
            }
            Event::PromptWithdrawn { prompt } => {
                self.queue.retain(|waiting| waiting != prompt);
                self.change_record(*prompt, |record| record.end = Some(End::Withdrawn));
            }
            Event::PromptFinished { prompt, outcome } => self.take_end(*prompt, outcome),
            Event::PullRequestOffered { prompt, pull_request } => {
                self.pull_request = Some(Arc::new(pull_request.clone()));
                self.unoffered = None;
                self.publish(*prompt, at, Publish::Done);
            }
            Event::PullRequestChanged { number, state } => {
                if let Some(known) = self.pull_request.as_mut().filter(|it| it.number == *number) {
                    Arc::make_mut(known).state = *state;
                }
            }
            Event::SandboxRequested { sandbox, continues } => {
                self.take_request(*sandbox, *continues);
            }
            Event::SandboxStarted { description, .. } => self.take_start(at, description),
            Event::SandboxFailed { sandbox, reason } => self.take_failure(at, *sandbox, reason),
            Event::SandboxLost { sandbox, reason } => self.take_loss(*sandbox, reason),
            Event::SandboxStopRequested { sandbox, reason } => {
                let stage = Stage::Stopping { reason: reason.clone() };
                self.change_sandbox(*sandbox, |it| it.stage = stage);
            }
            Event::SandboxStopped { sandbox, .. } => {
                self.sandbox.take_if(|it| it.id == *sandbox);
            }
            Event::LimitExceeded { sandbox, limit, .. } => {
                self.change_sandbox(*sandbox, |it| {
                    let told = it.limits.entry(*limit).or_insert((0, at));
                    *told = (told.0.saturating_add(1), at);
                });
            }
            Event::WorkspaceSynced { sandbox, .. } => self.take_sync(at, *sandbox),
            Event::AgentReady { sandbox, .. } => {
                self.change_sandbox(*sandbox, |it| it.agent_ready = true);
            }
            _ => self.take_work(at, event),
        }
        self.settle(at);
    }

    /// The events of a turn.
    fn take_work(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::PromptStarted { prompt, sandbox, .. } => {
                self.change_turn(*prompt, |turn| start(turn, *sandbox, at));
            }
            Event::StopRequested { prompt, by } => {
                let outcome = PromptOutcome::Stopped { by: by.clone() };
                self.change_turn(*prompt, |turn| turn.step = Step::Cancelling { outcome });
            }
            Event::AgentEnded { prompt, outcome } => self.change_turn(*prompt, |turn| {
                turn.step = Step::Publishing { outcome: outcome.clone(), publish: Publish::Commit };
                turn.since = at;
            }),
            Event::Committed { prompt, commit, .. } => {
                self.unpushed = Some(commit.clone());
                self.publish(*prompt, at, Publish::Push { commit: commit.clone() });
            }
            Event::NothingToCommit { prompt } => {
                let left = self.left_to_publish();
                self.publish(*prompt, at, left);
            }
            Event::Pushed { prompt, commit, .. } => {
                self.unpushed = None;
                self.unoffered = Some(commit.clone());
                self.publish(*prompt, at, Publish::Offer { commit: commit.clone() });
            }
            Event::PublishFailed { prompt, reason } => {
                self.change_turn(*prompt, |turn| fail_publishing(turn, reason));
            }
            Event::ToolCallStarted { prompt, call, kind: ToolKind::Edit, .. } => {
                self.change_turn(*prompt, |turn| {
                    let wanted = !turn.measured.contains(&Phase::FirstEdit);
                    if wanted && turn.edits.len() < PENDING_EDITS {
                        turn.edits.insert(*call);
                    }
                });
            }
            Event::ToolCallFinished { prompt, call, .. } => {
                self.change_turn(*prompt, |turn| {
                    turn.edits.remove(call);
                });
            }
            Event::PhaseFinished { prompt: Some(prompt), phase, milliseconds } => {
                self.take_phase(*prompt, *phase, *milliseconds);
            }
            _ => {}
        }
    }

    fn take_creation(&mut self, at: Timestamp, event: &Event) {
        let Event::SessionCreated {
            title,
            repository,
            agent,
            model,
            base_branch,
            base_commit,
            branch,
            limits,
            isolation,
        } = event
        else {
            return;
        };
        self.facts = Some(Arc::new(Facts {
            title: title.clone(),
            repository: repository.clone(),
            agent: agent.clone(),
            model: model.clone(),
            base_branch: base_branch.clone(),
            base_commit: base_commit.clone(),
            branch: branch.clone(),
            limits: *limits,
            isolation: *isolation,
            created_at: at,
        }));
    }

    fn take_prompt(
        &mut self,
        at: Timestamp,
        prompt: PromptId,
        request: RequestId,
        author: &Author,
        text: &str,
        delivery: Delivery,
    ) {
        Arc::make_mut(&mut self.history).push(Arc::new(Record {
            id: prompt,
            request,
            author: author.clone(),
            text: text.into(),
            delivery,
            accepted_at: at,
            end: None,
        }));
        match delivery {
            Delivery::Queue => self.queue.push_back(prompt),
            Delivery::Insert => {
                let inserts = self.queue.iter().take_while(|waiting| {
                    self.record_of(**waiting).is_some_and(|it| it.delivery == Delivery::Insert)
                });
                let place = inserts.count();
                self.queue.insert(place, prompt);
                if let Some(turn) = &mut self.turn {
                    supersede(turn);
                }
            }
        }
    }

    fn take_end(&mut self, prompt: PromptId, outcome: &PromptOutcome) {
        self.queue.retain(|waiting| *waiting != prompt);
        self.turn.take_if(|turn| turn.prompt == prompt);
        self.last_failed = matches!(outcome, PromptOutcome::Failed { .. });
        self.starts = Starts::default();
        let end = End::Finished(outcome.clone());
        self.change_record(prompt, |record| record.end = Some(end));
    }

    fn take_request(&mut self, sandbox: SandboxId, continues: Option<SandboxId>) {
        self.sandboxes += 1;
        self.sandbox = Some(Sandbox {
            id: sandbox,
            continues,
            stage: Stage::Asked,
            description: None,
            agent_ready: false,
            synced: false,
            recorded: Recorded::default(),
            limits: BTreeMap::new(),
        });
    }

    fn take_start(&mut self, at: Timestamp, description: &SandboxDescription) {
        let id = description.id;
        self.files = Some(id);
        self.image = Some(description.image);
        self.starts.failures = 0;
        self.change_sandbox(id, |sandbox| {
            sandbox.stage = Stage::Up;
            sandbox.description = Some(Arc::new(description.clone()));
        });
        if let Some(turn) = &mut self.turn {
            turn.since = at;
        }
    }

    fn take_failure(&mut self, at: Timestamp, sandbox: SandboxId, reason: &str) {
        if self.sandbox.take_if(|it| it.id == sandbox).is_some() {
            let failures = self.starts.failures + 1;
            self.starts = Starts { failures, failed_at: at, reason: reason.to_owned() };
        }
    }

    fn take_loss(&mut self, sandbox: SandboxId, reason: &str) {
        let Some(lost) = self.sandbox.take_if(|it| it.id == sandbox) else { return };
        reason.clone_into(&mut self.starts.reason);
        if let Some(turn) = self.turn.as_mut().filter(|_| lost.stage == Stage::Up) {
            turn.losses += 1;
            turn.started_in = None;
            if turn.step == Step::Running {
                turn.step = Step::Delivering;
            }
        }
    }

    fn take_sync(&mut self, at: Timestamp, sandbox: SandboxId) {
        self.change_sandbox(sandbox, |it| it.synced = true);
        if let Some(turn) = &mut self.turn {
            turn.since = at;
        }
    }

    fn take_phase(&mut self, prompt: PromptId, phase: Phase, milliseconds: u64) {
        let Some(accepted_at) = self.record_of(prompt).map(|record| record.accepted_at) else {
            return;
        };
        self.change_turn(prompt, |turn| {
            turn.measured.insert(phase);
            match phase {
                Phase::FirstEdit => turn.edits.clear(),
                Phase::FirstModelRequest => {
                    let after = i64::try_from(milliseconds).unwrap_or(i64::MAX);
                    turn.first_model_request_at = Some(accepted_at.plus_milliseconds(after));
                }
                _ => {}
            }
        });
    }

    /// What an earlier prompt could not publish.
    fn left_to_publish(&self) -> Publish {
        if let Some(commit) = self.unpushed.clone() {
            Publish::Push { commit }
        } else if let Some(commit) = self.unoffered.clone() {
            Publish::Offer { commit }
        } else {
            Publish::Done
        }
    }

    fn publish(&mut self, prompt: PromptId, at: Timestamp, next: Publish) {
        self.change_turn(prompt, |turn| {
            if let Step::Publishing { publish, .. } = &mut turn.step {
                *publish = next;
                turn.since = at;
            }
        });
    }

    /// Counts what was recorded of untrusted text.
    fn count(&mut self, actor: &Actor, event: &Event) {
        let Some(bytes) = bounds::untrusted_bytes(event) else { return };
        let recorded = match (&mut self.turn, &mut self.sandbox) {
            (Some(turn), _) => &mut turn.recorded,
            (None, Some(sandbox)) => &mut sandbox.recorded,
            (None, None) => return,
        };
        recorded.events = recorded.events.saturating_add(1);
        recorded.bytes = recorded.bytes.saturating_add(bytes);
        // Agents' own notices are theirs; the session's is written once, when the limit is reached.
        recorded.noted |= *actor == Actor::System && matches!(event, Event::Notice { .. });
    }

    /// Takes the next prompt where one can be taken, and notes since when nothing is to do.
    fn settle(&mut self, at: Timestamp) {
        if self.turn.is_none()
            && self.up().is_some()
            && let Some(prompt) = self.queue.pop_front()
        {
            self.turn = Some(Turn::new(prompt, at));
        }
        let idle = self.up().is_some() && self.turn.is_none();
        self.idle_since = idle.then(|| self.idle_since.unwrap_or(at));
        if !self.wants_sandbox() {
            self.starts = Starts::default();
        }
    }

    fn change_record(&mut self, prompt: PromptId, change: impl FnOnce(&mut Record)) {
        let history = Arc::make_mut(&mut self.history);
        if let Some(record) = history.iter_mut().rev().find(|record| record.id == prompt) {
            change(Arc::make_mut(record));
        }
    }

    fn change_turn(&mut self, prompt: PromptId, change: impl FnOnce(&mut Turn)) {
        if let Some(turn) = self.turn.as_mut().filter(|turn| turn.prompt == prompt) {
            change(turn);
        }
    }

    fn change_sandbox(&mut self, sandbox: SandboxId, change: impl FnOnce(&mut Sandbox)) {
        if let Some(known) = self.sandbox.as_mut().filter(|known| known.id == sandbox) {
            change(known);
        }
    }
}

impl Turn {
    fn new(prompt: PromptId, at: Timestamp) -> Self {
        Self {
            prompt,
            step: Step::Delivering,
            since: at,
            started_in: None,
            started_at: None,
            attempts: 0,
            losses: 0,
            superseded: false,
            recorded: Recorded::default(),
            measured: BTreeSet::new(),
            first_model_request_at: None,
            edits: BTreeSet::new(),
        }
    }
}

fn start(turn: &mut Turn, sandbox: SandboxId, at: Timestamp) {
    turn.attempts += 1;
    turn.started_in = Some(sandbox);
    turn.started_at = Some(at);
    if turn.step == Step::Delivering {
        turn.step = Step::Running;
    }
    if turn.superseded {
        supersede(turn);
    }
}

// A prompt that the agent does not have yet is not cancelled: the agent is to know both texts.
fn supersede(turn: &mut Turn) {
    turn.superseded = true;
    if turn.step == Step::Running {
        turn.step = Step::Cancelling { outcome: PromptOutcome::Superseded };
    }
}

// A prompt that ended otherwise than completed keeps that outcome: it says more about it.
fn fail_publishing(turn: &mut Turn, reason: &str) {
    if let Step::Publishing { outcome, publish } = &mut turn.step {
        *publish = Publish::Done;
        if *outcome == PromptOutcome::Completed {
            *outcome = PromptOutcome::Failed { reason: reason.to_owned() };
        }
    }
}
