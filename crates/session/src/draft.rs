//! A decision in the making: the state as it will be, and the events that lead there.

use std::ops::Deref;

use protocol::sandbox::LimitName;
use protocol::session::{Actor, PromptOutcome};
use protocol::{Event, PromptId, Timestamp};

use crate::bounds;
use crate::phase;
use crate::state::State;

/// Reads as the state with everything recorded so far.
#[derive(Debug)]
pub(crate) struct Draft {
    state: State,
    pub(crate) now: Timestamp,
    pub(crate) events: Vec<(Actor, Event)>,
    pub(crate) already: Option<PromptId>,
}

impl Deref for Draft {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Draft {
    pub(crate) fn new(state: &State, now: Timestamp) -> Self {
        Self { state: state.clone(), now, events: Vec::new(), already: None }
    }

    /// Adds an event, and the measured time of the phase it ends, if it ends one.
    pub(crate) fn record(&mut self, actor: Actor, event: Event) {
        let phase = phase::ended_by(&self.state, &event, self.now);
        self.push(actor, event);
        if let Some(phase) = phase {
            self.push(Actor::System, phase);
        }
    }

    fn push(&mut self, actor: Actor, event: Event) {
        self.state.take(self.now, &actor, &event);
        self.events.push((actor, event));
    }

    /// Adds an event of Hangar's own.
    pub(crate) fn system(&mut self, event: Event) {
        self.record(Actor::System, event);
    }

    /// Adds an event caused by a sandbox, unless so much was recorded that it is dropped.
    pub(crate) fn untrusted(&mut self, actor: Actor, event: Event) {
        let recorded = match (&self.state.turn, &self.state.sandbox) {
            (Some(turn), _) => turn.recorded,
            (None, Some(sandbox)) => sandbox.recorded,
            (None, None) => return,
        };
        let policy = self.state.policy;
        let room =
            recorded.events < policy.recorded_events && recorded.bytes < policy.recorded_bytes;
        if room {
            self.record(actor, bounds::cut_event(event));
        } else if !recorded.noted {
            self.system(bounds::flood_notice(self.state.current_prompt(), policy));
        }
    }

    /// Whether people are told that the sandbox hit a limit, or were told of it a moment ago.
    pub(crate) fn tells_of(&self, limit: LimitName) -> bool {
        let told = self.state.sandbox.as_ref().and_then(|it| it.limits.get(&limit));
        told.is_none_or(|(times, last)| {
            let pause = self.state.policy.limit_milliseconds << times.saturating_sub(1).min(6);
            self.now.milliseconds_since(*last) >= pause
        })
    }

    /// Ends the agent's work on the turn. What was never with an agent has nothing to publish.
    pub(crate) fn end_agent(&mut self, actor: Actor, prompt: PromptId, outcome: PromptOutcome) {
        let started = self.state.turn.as_ref().is_some_and(|turn| turn.attempts > 0);
        // Delivery may have happened without our knowledge; then the workspace tells.
        if started || self.state.up().is_some_and(|sandbox| sandbox.synced) {
            self.record(actor, Event::AgentEnded { prompt, outcome });
        } else {
            self.system(Event::PromptFinished { prompt, outcome });
        }
    }
}
