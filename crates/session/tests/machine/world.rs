//! The world's side of it: effects arrive late, twice or after a crash, and still no agent ever has
//! two prompts, and none has one twice.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use protocol::agentd::Ending;
use protocol::{PromptId, SandboxId};
use session::{Command, Effect, Policy, outstanding, sandbox_id};

use super::support::{
    Story, cancelled, committed, create, delivered, ends, insert, lost, offered, pushed, ready,
    send, session, started, stop, stopped, synced,
};

/// An agentd that keeps its promises and trusts its caller in everything else.
#[derive(Debug, Default)]
struct Agentd {
    delivered: BTreeSet<PromptId>,
    cancelled: BTreeSet<PromptId>,
    running: Option<PromptId>,
}

struct World {
    story: Story,
    sandboxes: BTreeMap<SandboxId, Agentd>,
    ever_up: u32,
    /// Effects on their way, with those that a crashed server had sent.
    under_way: Vec<Effect>,
    /// Commands on their way back; lost in a crash.
    answers: Vec<Command>,
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Send(u8),
    Insert(u8),
    Stop,
    Arrive(usize),
    Answer(usize),
    Finish,
    Lose,
    Crash,
}

fn moves() -> impl Strategy<Value = Move> {
    prop_oneof![
        2 => (1..9_u8).prop_map(Move::Send),
        1 => (1..9_u8).prop_map(Move::Insert),
        1 => Just(Move::Stop),
        8 => any::<usize>().prop_map(Move::Arrive),
        8 => any::<usize>().prop_map(Move::Answer),
        3 => Just(Move::Finish),
        1 => Just(Move::Lose),
        1 => Just(Move::Crash),
    ]
}

fn number(sandbox: SandboxId) -> u32 {
    (1..500).find(|number| sandbox_id(session(), *number) == sandbox).expect("few are asked for")
}

fn short(prompt: PromptId) -> u8 {
    prompt.as_bytes()[0]
}

impl World {
    fn new() -> Self {
        Self {
            story: Story::new().then([create()]),
            sandboxes: BTreeMap::new(),
            ever_up: 0,
            under_way: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn say(&mut self, command: Command) {
        if let Ok(decision) = self.story.try_say(command) {
            self.under_way.extend(decision.effects);
        }
    }

    fn step(&mut self, step: Move) {
        match step {
            Move::Send(prompt) => self.say(send(prompt)),
            Move::Insert(prompt) => self.say(insert(prompt)),
            Move::Stop => self.say(stop()),
            Move::Arrive(which) if !self.under_way.is_empty() => {
                let effect = self.under_way.remove(which % self.under_way.len());
                self.arrive(effect);
            }
            Move::Answer(which) if !self.answers.is_empty() => {
                let answer = self.answers.remove(which % self.answers.len());
                self.say(answer);
            }
            Move::Arrive(_) | Move::Answer(_) => {}
            Move::Finish => self.finish_running(),
            Move::Lose => {
                if let Some((sandbox, _)) = self.sandboxes.pop_last() {
                    self.answers.push(lost(number(sandbox)));
                }
            }
            Move::Crash => self.crash(),
        }
    }

    fn finish_running(&mut self) {
        for (sandbox, agentd) in &mut self.sandboxes {
            if let Some(prompt) = agentd.running.take() {
                self.answers.push(ends(number(*sandbox), short(prompt), Ending::Completed));
            }
        }
    }

    /// Answers are lost, what was sent still arrives; a new server asks for everything again.
    fn crash(&mut self) {
        // Reports and ends of sandboxes are found again by looking.
        self.answers.retain(|answer| {
            matches!(answer, Command::Reported { .. } | Command::SandboxLost { .. })
        });
        self.story.state = self.story.replayed(Policy::default());
        self.under_way.extend(outstanding(&self.story.state));
    }

    fn arrive(&mut self, effect: Effect) {
        let answer = match effect {
            Effect::StartSandbox { sandbox, .. } => {
                // Asked for a second time: it is there, or it was and is gone.
                if number(sandbox) > self.ever_up {
                    self.ever_up = number(sandbox);
                    self.sandboxes.insert(sandbox, Agentd::default());
                }
                started(number(sandbox))
            }
            Effect::StopSandbox { sandbox, .. } => {
                self.sandboxes.remove(&sandbox);
                stopped(number(sandbox))
            }
            Effect::StartAgent { sandbox } => ready(number(sandbox)),
            Effect::SyncWorkspace { sandbox, .. } => synced(number(sandbox)),
            Effect::DeliverPrompt { sandbox, prompt } => {
                let Some(agentd) = self.sandboxes.get_mut(&sandbox) else { return };
                deliver(agentd, prompt);
                delivered(number(sandbox), short(prompt))
            }
            Effect::CancelPrompt { sandbox, prompt } => {
                let Some(agentd) = self.sandboxes.get_mut(&sandbox) else { return };
                agentd.cancelled.insert(prompt);
                agentd.running.take_if(|running| *running == prompt);
                cancelled(number(sandbox), short(prompt))
            }
            Effect::Commit { sandbox, prompt } => {
                let busy = self.sandboxes.get(&sandbox).and_then(|agentd| agentd.running);
                // A commit that comes late finds the trailer and does nothing.
                let late = self.story.state.current_prompt() != Some(prompt);
                assert!(busy.is_none() || late, "{prompt} is committed while {busy:?} runs");
                committed(number(sandbox), short(prompt), "aaa")
            }
            Effect::Push { sandbox, prompt, commit } => {
                pushed(number(sandbox), short(prompt), &commit)
            }
            Effect::OfferPullRequest { prompt, commit, .. } => offered(short(prompt), &commit),
            Effect::WakeAt(at) => {
                self.story.now = self.story.now.max(at);
                Command::Wake
            }
        };
        self.answers.push(answer);
    }

    /// Whether everything accepted is over.
    fn done(&self) -> bool {
        self.story.state.current_prompt().is_none() && self.story.state.queue().next().is_none()
    }
}

fn deliver(agentd: &mut Agentd, prompt: PromptId) {
    if agentd.cancelled.contains(&prompt) || !agentd.delivered.insert(prompt) {
        return;
    }
    assert_eq!(agentd.running, None, "{prompt} is given to an agent that is at work");
    agentd.running = Some(prompt);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_agent_has_two_prompts_or_one_twice(steps in prop::collection::vec(moves(), 0..200)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        // A crash at the end, so that nothing is left to luck; then a world that only works.
        world.step(Move::Crash);
        for _ in 0..3000 {
            if world.done() {
                break;
            }
            let working = world.sandboxes.values().any(|agentd| agentd.running.is_some());
            if !world.answers.is_empty() {
                world.step(Move::Answer(0));
            } else if !world.under_way.is_empty() {
                world.step(Move::Arrive(0));
            } else if working {
                world.step(Move::Finish);
            } else {
                // A server that looks: a sandbox that is gone is noticed.
                let here = world.story.state.current_sandbox();
                let gone = here.filter(|sandbox| !world.sandboxes.contains_key(sandbox));
                prop_assert!(gone.is_some(), "stuck at {:?}", world.story.outstanding());
                world.answers.extend(gone.map(|sandbox| lost(number(sandbox))));
            }
        }
        prop_assert!(world.done(), "left: {:?}", world.story.outstanding());
    }
}
