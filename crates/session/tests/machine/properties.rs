//! Random stories: people who say anything at any time, a world that is slow, fails, repeats itself
//! and forgets, and a server that crashes at any moment.

use std::collections::BTreeMap;

use proptest::prelude::*;
use protocol::agentd::Ending;
use protocol::event::Envelope;
use protocol::session::{Delivery, PromptState, SessionStatus};
use protocol::{Event, PromptId, Refusal, Timestamp};
use session::{Command, Effect, Policy, outstanding};

use super::support::{
    Story, answers, calls, cancelled, changed, committed, create, delivered, edit, ended, ends,
    insert, lost, no_agent, not_committed, not_delivered, not_offered, not_pushed, not_started,
    not_synced, nothing_to_commit, offered, pushed, ready, says, sbx, send, started, stop, stopped,
    synced, withdraw,
};

/// One thing that happens.
#[derive(Debug, Clone, Copy)]
enum Happening {
    /// A person does something; the number is the prompt it is about.
    Send(u8),
    Insert(u8),
    Edit(u8),
    Withdraw(u8),
    Stop,
    Park,
    /// The world performs one of the outstanding effects, well or badly.
    Perform {
        which: usize,
        how: u8,
    },
    /// The agent of the running prompt does something.
    Agent(u8),
    /// The sandbox dies.
    Lose,
    /// Something is said that belongs to another sandbox, prompt or step.
    Nonsense {
        what: u8,
        sandbox: u8,
        prompt: u8,
    },
    /// The last command is said once more.
    Again,
    /// Time passes, and the alarm rings.
    Wait(u16),
    /// The server is killed: the state is replayed from the journal.
    Crash,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (1..12_u8).prop_map(Happening::Send),
        2 => (1..12_u8).prop_map(Happening::Insert),
        1 => (1..12_u8).prop_map(Happening::Edit),
        1 => (1..12_u8).prop_map(Happening::Withdraw),
        1 => Just(Happening::Stop),
        1 => Just(Happening::Park),
        14 => (any::<usize>(), 0..8_u8)
            .prop_map(|(which, how)| Happening::Perform { which, how }),
        6 => (0..8_u8).prop_map(Happening::Agent),
        1 => Just(Happening::Lose),
        3 => (0..20_u8, 0..6_u8, 0..12_u8)
            .prop_map(|(what, sandbox, prompt)| Happening::Nonsense { what, sandbox, prompt }),
        1 => Just(Happening::Again),
        2 => (0..8_000_u16).prop_map(Happening::Wait),
        1 => Just(Happening::Crash),
    ]
}

/// The session under test beside a plain account of what must hold.
struct Trial {
    story: Story,
    policy: Policy,
    reference: Reference,
    last: Option<Command>,
}

/// What an honest clerk would write down about the queue, reading nothing but the events.
#[derive(Default)]
struct Reference {
    waiting: Vec<(PromptId, Delivery)>,
    ends: BTreeMap<PromptId, u32>,
    accepted: Vec<PromptId>,
    with_agent: Option<PromptId>,
    /// Taken from the front of the queue, not over.
    current: Option<PromptId>,
    /// Whether a sandbox is up: the first waiting prompt is taken as soon as one is.
    up: bool,
}

impl Reference {
    fn read(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::PromptAccepted { prompt, delivery, .. } => self.accept(*prompt, *delivery),
            Event::PromptWithdrawn { prompt } => {
                assert!(self.waits(*prompt), "{prompt} is withdrawn and was not waiting");
                self.end(*prompt);
            }
            Event::SandboxStarted { .. } => self.up = true,
            Event::SandboxStopRequested { .. } | Event::SandboxLost { .. } => {
                self.up = false;
                self.with_agent = None;
            }
            Event::PromptStarted { prompt, .. } => {
                assert!(self.with_agent.is_none_or(|with| with == *prompt), "two with the agent");
                assert_eq!(self.current, Some(*prompt), "begins without being taken");
                assert!(self.up, "begins without a sandbox");
                self.with_agent = Some(*prompt);
            }
            Event::AgentEnded { prompt, .. } => {
                assert_eq!(self.current, Some(*prompt), "ends without being taken");
                self.with_agent = None;
            }
            Event::PromptFinished { prompt, .. } => {
                if self.current != Some(*prompt) {
                    self.first_is(*prompt);
                }
                self.end(*prompt);
                self.with_agent = None;
            }
            _ => {}
        }
        if self.up && self.current.is_none() && !self.waiting.is_empty() {
            self.current = Some(self.waiting.remove(0).0);
        }
    }

    fn accept(&mut self, prompt: PromptId, delivery: Delivery) {
        assert!(!self.accepted.contains(&prompt), "{prompt} is accepted twice");
        self.accepted.push(prompt);
        let inserts =
            self.waiting.iter().take_while(|(_, delivery)| *delivery == Delivery::Insert).count();
        let place = if delivery == Delivery::Insert { inserts } else { self.waiting.len() };
        self.waiting.insert(place, (prompt, delivery));
    }

    fn waits(&self, prompt: PromptId) -> bool {
        self.waiting.iter().any(|(waiting, _)| *waiting == prompt)
    }

    fn first_is(&self, prompt: PromptId) {
        assert_eq!(self.waiting.first().map(|first| first.0), Some(prompt), "out of order");
    }

    fn end(&mut self, prompt: PromptId) {
        assert!(self.accepted.contains(&prompt), "{prompt} ends and was never accepted");
        *self.ends.entry(prompt).or_default() += 1;
        assert_eq!(self.ends[&prompt], 1, "{prompt} ends twice");
        self.waiting.retain(|(waiting, _)| *waiting != prompt);
        if self.current == Some(prompt) {
            self.current = None;
        }
    }
}

impl Trial {
    fn new() -> Self {
        // Small limits, so that they are reached.
        let policy = Policy { recorded_events: 30, recorded_bytes: 2000, ..Policy::default() };
        let mut trial = Self {
            story: Story::with(policy),
            policy,
            reference: Reference::default(),
            last: None,
        };
        trial.say(create()).expect("a new session can be created");
        trial
    }

    /// Says a command and checks everything that must hold whatever it was.
    fn say(&mut self, command: Command) -> Result<(), Refusal> {
        let before = outstanding(&self.story.state);
        let recorded = self.story.journal.len();
        let wake = command == Command::Wake;
        self.last = Some(command.clone());
        let decision = match self.story.try_say(command) {
            Ok(decision) => decision,
            Err(refusal) => {
                assert!(!refusal.code().is_empty() && !refusal.to_string().is_empty());
                assert_eq!(self.story.journal.len(), recorded, "a refusal records nothing");
                return Err(refusal);
            }
        };
        for envelope in &self.story.journal[recorded..] {
            self.reference.read(envelope);
        }
        let after = outstanding(&self.story.state);
        for (index, effect) in after.iter().enumerate() {
            assert!(!after[..index].contains(effect), "{effect:?} is outstanding twice");
            let new = !before.contains(effect) || (wake && matches!(effect, Effect::WakeAt(_)));
            assert_eq!(decision.effects.contains(effect), new, "{effect:?}");
        }
        assert!(decision.effects.iter().all(|effect| after.contains(effect)));
        self.check_effects(&after);
        self.check_view();
        Ok(())
    }

    /// What may be wanted together.
    fn check_effects(&self, effects: &[Effect]) {
        let count = |test: fn(&Effect) -> bool| effects.iter().filter(|it| test(it)).count();
        let prompts = count(|effect| {
            matches!(
                effect,
                Effect::DeliverPrompt { .. }
                    | Effect::CancelPrompt { .. }
                    | Effect::Commit { .. }
                    | Effect::Push { .. }
                    | Effect::OfferPullRequest { .. }
            )
        });
        assert!(prompts <= 1, "one thing at a time happens to prompts: {effects:?}");
        let sandboxes = count(|effect| {
            matches!(effect, Effect::StartSandbox { .. } | Effect::StopSandbox { .. })
        });
        assert!(sandboxes <= 1, "one sandbox at a time: {effects:?}");
        assert!(count(|effect| matches!(effect, Effect::WakeAt(_))) <= 1, "{effects:?}");
        if self.story.state.status() == SessionStatus::Preparing {
            assert!(!effects.is_empty(), "something waits and nothing is done about it");
        }
    }

    /// The view agrees with the clerk.
    fn check_view(&self) {
        let view = self.story.state.view().expect("the session was created");
        assert_eq!(view.prompts.len(), self.reference.accepted.len());
        for prompt in &view.prompts {
            let over =
                matches!(prompt.state, PromptState::Finished { .. } | PromptState::Withdrawn);
            assert_eq!(over, self.reference.ends.contains_key(&prompt.id), "{prompt:?}");
        }
        let unbegun = view.prompts.iter().filter(|prompt| {
            prompt.state == PromptState::Queued && self.reference.waits(prompt.id)
        });
        let shown: Vec<PromptId> = unbegun.map(|prompt| prompt.id).collect();
        let waiting: Vec<PromptId> = self.reference.waiting.iter().map(|it| it.0).collect();
        assert_eq!(shown, waiting, "the waiting prompts are shown in their order");
    }

    fn happen(&mut self, happening: Happening) {
        let command = match happening {
            Happening::Send(prompt) => send(prompt),
            Happening::Insert(prompt) => insert(prompt),
            Happening::Edit(prompt) => edit(prompt, "do something else"),
            Happening::Withdraw(prompt) => withdraw(prompt),
            Happening::Stop => stop(),
            Happening::Park => Command::Park,
            Happening::Perform { which, how } => {
                let effects = outstanding(&self.story.state);
                if effects.is_empty() {
                    return;
                }
                return self.perform(&effects[which % effects.len()], how);
            }
            Happening::Agent(what) => {
                return self.agent(what);
            }
            Happening::Lose => match self.story.state.current_sandbox() {
                Some(_) => lost(self.sandbox()),
                None => return,
            },
            Happening::Nonsense { what, sandbox, prompt } => nonsense(what, sandbox.into(), prompt),
            Happening::Again => match self.last.clone() {
                Some(command) => command,
                None => return,
            },
            Happening::Wait(milliseconds) => {
                self.story.now = self.story.now.plus_milliseconds(milliseconds.into());
                Command::Wake
            }
            Happening::Crash => return self.crash(),
        };
        // Refused or not: what must hold is checked in `say`.
        let _ = self.say(command);
    }

    /// The number of the newest sandbox.
    fn sandbox(&self) -> u32 {
        let newest = self.story.state.current_sandbox();
        (1..2000).find(|number| Some(sbx(*number)) == newest).unwrap_or(0)
    }

    /// The world does what it was asked to; `how` 0 and 1 mean badly.
    fn perform(&mut self, effect: &Effect, how: u8) {
        let here = self.sandbox();
        let number = |prompt: &PromptId| prompt.as_bytes()[0];
        let command = match effect {
            Effect::StartSandbox { .. } if how == 0 => not_started(here),
            Effect::StartSandbox { .. } => started(here),
            Effect::StopSandbox { .. } => stopped(here),
            Effect::StartAgent { .. } if how == 0 => no_agent(here),
            Effect::StartAgent { .. } => ready(here),
            Effect::SyncWorkspace { .. } if how == 0 => not_synced(here),
            Effect::SyncWorkspace { .. } => synced(here),
            Effect::DeliverPrompt { prompt, .. } if how == 0 => not_delivered(here, number(prompt)),
            // The answer is overtaken by a report.
            Effect::DeliverPrompt { prompt, .. } if how == 1 => says(here, number(prompt), "hello"),
            Effect::DeliverPrompt { prompt, .. } => delivered(here, number(prompt)),
            Effect::CancelPrompt { prompt, .. } if how < 4 => {
                ends(here, number(prompt), Ending::Cancelled)
            }
            Effect::CancelPrompt { prompt, .. } => cancelled(here, number(prompt)),
            Effect::Commit { prompt, .. } if how == 0 => not_committed(here, number(prompt)),
            Effect::Commit { prompt, .. } if how == 1 => nothing_to_commit(here, number(prompt)),
            Effect::Commit { prompt, .. } => committed(here, number(prompt), "aaa"),
            Effect::Push { prompt, .. } if how == 0 => not_pushed(here, number(prompt)),
            Effect::Push { prompt, commit, .. } => pushed(here, number(prompt), commit),
            Effect::OfferPullRequest { prompt, .. } if how == 0 => not_offered(number(prompt)),
            Effect::OfferPullRequest { prompt, commit, .. } => offered(number(prompt), commit),
            Effect::WakeAt(at) => {
                self.story.now = self.story.now.max(*at);
                Command::Wake
            }
        };
        let shown = format!("{command:?}");
        let done = self.say(command);
        assert_eq!(done, Ok(()), "the answer to {effect:?} is refused: {shown}");
        let left = outstanding(&self.story.state);
        assert!(!left.contains(effect), "{effect:?} was answered and is wanted again: {shown}");
    }

    fn agent(&mut self, what: u8) {
        let (here, Some(with)) = (self.sandbox(), self.reference.with_agent) else { return };
        let prompt = with.as_bytes()[0];
        let command = match what {
            0 | 1 => ended(here, prompt),
            2 => ends(here, prompt, Ending::Failed { reason: "confused".to_owned() }),
            3 => says(here, prompt, &"many words ".repeat(30)),
            4 => calls(here, prompt, 1, protocol::event::ToolKind::Edit),
            5 => answers(here, prompt, 1, protocol::event::ToolStatus::Completed),
            _ => says(here, prompt, "working"),
        };
        // The sandbox may be gone or going.
        let _ = self.say(command);
    }

    fn crash(&mut self) {
        let replayed = self.story.replayed(self.policy);
        assert_eq!(replayed, self.story.state, "the journal tells everything");
        assert_eq!(outstanding(&replayed), outstanding(&self.story.state));
        self.story.state = replayed;
        // A server that starts again looks at every open session once.
        self.say(Command::Wake).expect("waking is never refused");
    }

    /// From here on the world is kind; everything accepted comes to its end.
    fn finish(&mut self) {
        for _ in 0..2000 {
            let effects = outstanding(&self.story.state);
            let open = self.reference.accepted.len() > self.reference.ends.len();
            if !open {
                return;
            }
            // The alarm last: an idle sandbox is not to be stopped while there is work.
            match effects.iter().min_by_key(|effect| matches!(effect, Effect::WakeAt(_))) {
                Some(effect @ (Effect::WakeAt(_) | Effect::Commit { .. })) => {
                    self.perform(effect, 5);
                }
                Some(effect) => self.perform(effect, 5),
                None => self.agent(0),
            }
            self.agent(0);
        }
        panic!("prompts are left: {:?}", self.story.outstanding());
    }
}

fn nonsense(what: u8, sandbox: u32, prompt: u8) -> Command {
    use protocol::session::PullRequestState;
    match what {
        0 => create(),
        1 => started(sandbox),
        2 => not_started(sandbox),
        3 => stopped(sandbox),
        4 => synced(sandbox),
        5 => not_synced(sandbox + 7),
        6 => ready(sandbox),
        7 => no_agent(sandbox + 7),
        8 => delivered(sandbox + 7, prompt),
        9 => not_delivered(sandbox + 7, prompt),
        10 => cancelled(sandbox, prompt),
        11 => says(sandbox + 7, prompt, "late"),
        12 => ended(sandbox + 7, prompt),
        13 => committed(sandbox + 7, prompt, "bbb"),
        14 => not_committed(sandbox + 7, prompt),
        15 => pushed(sandbox + 7, prompt, "bbb"),
        16 => not_pushed(sandbox + 7, prompt),
        17 => nothing_to_commit(sandbox + 7, prompt),
        18 => changed(1, PullRequestState::Merged),
        _ => changed(1, PullRequestState::Open),
    }
}

/// The journals of random stories, for other tests to read.
pub(crate) fn journals() -> impl Strategy<Value = Vec<Envelope>> {
    prop::collection::vec(happening(), 0..150).prop_map(|happenings| {
        let mut trial = Trial::new();
        for happening in happenings {
            trial.happen(happening);
        }
        trial.finish();
        trial.story.journal
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 600,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The main promise: nothing accepted is lost, doubled or put out of order.
    #[test]
    fn every_accepted_prompt_comes_to_exactly_one_end(
        happenings in prop::collection::vec(happening(), 0..150)
    ) {
        let mut trial = Trial::new();
        for happening in happenings {
            trial.happen(happening);
        }
        trial.finish();
        prop_assert!(trial.reference.ends.values().all(|ends| *ends == 1));
        prop_assert_eq!(trial.reference.ends.len(), trial.reference.accepted.len());
        prop_assert_eq!(trial.story.replayed(trial.policy), trial.story.state.clone());
    }

    /// A journal cut anywhere, even inside one decision's events, leads to a session that goes on.
    #[test]
    fn a_session_goes_on_from_any_event(
        happenings in prop::collection::vec(happening(), 0..80),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut trial = Trial::new();
        for happening in happenings {
            trial.happen(happening);
        }
        let keep = 1 + cut.index(trial.story.journal.len());
        let mut shorter = Trial::new();
        for envelope in &trial.story.journal[1..keep] {
            shorter.story.state.apply(envelope);
            shorter.story.journal.push(envelope.clone());
            shorter.reference.read(envelope);
        }
        shorter.story.now = trial.story.now;
        shorter.say(Command::Wake).expect("waking is never refused");
        shorter.finish();
    }

    /// Deciding is a function: the same answer twice, and the state untouched by it.
    #[test]
    fn deciding_changes_nothing(
        happenings in prop::collection::vec(happening(), 0..60),
        prompt in 1..12_u8,
    ) {
        let mut trial = Trial::new();
        for happening in happenings {
            trial.happen(happening);
        }
        let before = trial.story.state.clone();
        let first = session::decide(&trial.story.state, insert(prompt), Timestamp(5_000_000));
        let second = session::decide(&trial.story.state, insert(prompt), Timestamp(5_000_000));
        prop_assert_eq!(first, second);
        prop_assert_eq!(before, trial.story.state);
    }

    /// An event that was applied already changes nothing.
    #[test]
    fn applying_twice_is_applying_once(happenings in prop::collection::vec(happening(), 0..60)) {
        let mut trial = Trial::new();
        for happening in happenings {
            trial.happen(happening);
        }
        let mut doubled = session::State::new(trial.story.state.session(), trial.policy);
        for envelope in &trial.story.journal {
            doubled.apply(envelope);
            doubled.apply(envelope);
        }
        prop_assert_eq!(doubled, trial.story.state);
    }
}
