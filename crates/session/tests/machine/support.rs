//! A session to play with, short words for commands, and decisions as short lines.

use std::collections::BTreeMap;

use protocol::agentd::{CommitDescription, Ending, Report};
use protocol::event::{Envelope, ToolKind, ToolStatus};
use protocol::sandbox::{
    Consequence, Isolation, LimitName, LimitRequest, Limits, SandboxDescription, StartPath,
};
use protocol::session::{
    Actor, Author, Delivery, Dialect, DiffStat, FileChange, FileChangeKind, ModelChoice,
    PullRequestState, PullRequestSummary,
};
use protocol::{
    Event, ImageId, PromptId, PullRequestId, Refusal, RequestId, SandboxId, SessionId, Timestamp,
    ToolCallId, UserId,
};
use serde_json::Value;
use session::{
    Command, Create, Decision, Effect, LimitHit, Policy, State, decide, outstanding, sandbox_id,
};

pub(crate) const BASE: &str = "c0ffee";
pub(crate) const BRANCH: &str = "hangar/5e5510ff-try";

pub(crate) fn session() -> SessionId {
    SessionId::from_bytes([0x5e; 16])
}

/// The session's sandboxes in the order in which they are asked for.
pub(crate) fn sbx(number: u32) -> SandboxId {
    sandbox_id(session(), number)
}

pub(crate) fn prm(number: u8) -> PromptId {
    PromptId::from_bytes([number; 16])
}

pub(crate) fn call(number: u8) -> ToolCallId {
    ToolCallId::from_bytes([number; 16])
}

pub(crate) fn ada() -> Author {
    person(1, "Ada")
}

pub(crate) fn bob() -> Author {
    person(2, "Bob")
}

fn person(number: u8, name: &str) -> Author {
    Author {
        user: UserId::from_bytes([number; 16]),
        name: name.to_owned(),
        email: format!("{}@example.org", name.to_lowercase()),
    }
}

/// A session, the journal it would have, and its clock.
#[derive(Debug, Clone)]
pub(crate) struct Story {
    pub(crate) state: State,
    pub(crate) journal: Vec<Envelope>,
    pub(crate) now: Timestamp,
}

impl Story {
    pub(crate) fn new() -> Self {
        Self::with(Policy::default())
    }

    pub(crate) fn with(policy: Policy) -> Self {
        let state = State::new(session(), policy);
        Self { state, journal: Vec::new(), now: Timestamp(1_000_000) }
    }

    /// A created session.
    pub(crate) fn created() -> Self {
        Self::given([create()])
    }

    /// After these commands, none of them refused.
    pub(crate) fn given<const N: usize>(commands: [Command; N]) -> Self {
        Self::new().then(commands)
    }

    /// The first prompt is with the agent, everything is ready.
    pub(crate) fn running() -> Self {
        Self::created().then([send(1), started(1), ready(1), synced(1), delivered(1, 1)])
    }

    /// The agent has completed the first prompt.
    pub(crate) fn committing() -> Self {
        Self::running().then([ended(1, 1)])
    }

    /// The first prompt is over and published as pull request 1.
    pub(crate) fn published() -> Self {
        Self::committing().then([committed(1, 1, "aaa"), pushed(1, 1, "aaa"), offered(1, "aaa")])
    }

    pub(crate) fn then<const N: usize>(mut self, commands: [Command; N]) -> Self {
        for command in commands {
            self.say(command);
        }
        self
    }

    pub(crate) fn wait(mut self, milliseconds: i64) -> Self {
        self.now = self.now.plus_milliseconds(milliseconds);
        self
    }

    /// Decides, records, applies.
    pub(crate) fn try_say(&mut self, command: Command) -> Result<Decision, Refusal> {
        let decision = decide(&self.state, command, self.now)?;
        for (actor, event) in decision.events.clone() {
            let sequence = self.state.sequence() + 1;
            let envelope =
                Envelope { session: session(), sequence, at: self.now, actor, report: None, event };
            self.state.apply(&envelope);
            self.journal.push(envelope);
        }
        Ok(decision)
    }

    pub(crate) fn say(&mut self, command: Command) -> Decision {
        let shown = format!("{command:?}");
        self.try_say(command).unwrap_or_else(|refusal| panic!("{shown} is refused: {refusal}"))
    }

    /// What a command is refused with.
    pub(crate) fn refusal(&self, command: Command) -> Refusal {
        let shown = format!("{command:?}");
        match decide(&self.state, command, self.now) {
            Ok(decision) => panic!("{shown} is not refused but gives\n{}", lines(&decision)),
            Err(refusal) => refusal,
        }
    }

    /// Says a command and compares the decision with lines, see [`lines`].
    #[track_caller]
    pub(crate) fn expect(&mut self, command: Command, expected: &[&str]) {
        let shown = format!("{command:?}");
        let decision = self.say(command);
        let found = lines(&decision);
        let expected = expected.join("\n");
        assert_eq!(found, expected, "\nof {shown}, found:\n{found}\nexpected:\n{expected}\n");
    }

    /// A state made from the journal alone.
    pub(crate) fn replayed(&self, policy: Policy) -> State {
        let mut state = State::new(session(), policy);
        for envelope in &self.journal {
            state.apply(envelope);
        }
        state
    }

    pub(crate) fn outstanding(&self) -> Vec<String> {
        outstanding(&self.state).iter().map(effect_line).collect()
    }
}

/// Events as `who kind key=value …`, effects as `> effect …`; ids as `p1` and `s1`.
pub(crate) fn lines(decision: &Decision) -> String {
    let events = decision.events.iter().map(|(actor, event)| event_line(actor, event));
    events.chain(decision.effects.iter().map(effect_line)).collect::<Vec<_>>().join("\n")
}

pub(crate) fn event_line(actor: &Actor, event: &Event) -> String {
    let who = match actor {
        Actor::User(author) => author.name.as_str(),
        Actor::Agent => "agent",
        Actor::System => "system",
    };
    let json = serde_json::to_value(event).expect("an event is JSON");
    let fields = json.as_object().expect("an event is an object");
    let kind = fields["type"].as_str().expect("a kind is a string");
    let mut line = format!("{who} {kind}");
    // Sorted, because the order of an object's fields depends on who else is built with serde_json.
    for (key, value) in fields.iter().collect::<BTreeMap<_, _>>() {
        // What says nothing about the decision stays out of the tables.
        let noise = ["type", "request", "author", "description", "repository", "model", "input"];
        if !noise.contains(&key.as_str()) && !value.is_null() {
            line.extend([" ", key, "=", &short(value)]);
        }
    }
    named(line)
}

fn short(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.len().to_string(),
        Value::Object(author) if author.contains_key("email") => short(&author["name"]),
        Value::Object(fields) => {
            let sorted: BTreeMap<_, _> = fields.iter().collect();
            let rest = sorted.into_iter().filter(|(key, value)| *key != "kind" && !value.is_null());
            let kind = fields.get("kind").into_iter();
            kind.chain(rest.map(|(_, value)| value)).map(short).collect::<Vec<_>>().join(":")
        }
        other => other.to_string(),
    }
}

pub(crate) fn effect_line(effect: &Effect) -> String {
    named(match effect {
        Effect::StartSandbox { sandbox, continues: None } => format!("> start {sandbox}"),
        Effect::StartSandbox { sandbox, continues: Some(old) } => {
            format!("> start {sandbox} from {old}")
        }
        Effect::StopSandbox { sandbox, reason } => format!("> stop {sandbox}: {reason}"),
        Effect::StartAgent { sandbox } => format!("> agent {sandbox}"),
        Effect::SyncWorkspace { sandbox, branch, commit } => {
            format!("> sync {sandbox} {branch} {commit}")
        }
        Effect::DeliverPrompt { sandbox, prompt } => format!("> deliver {prompt} {sandbox}"),
        Effect::CancelPrompt { sandbox, prompt } => format!("> cancel {prompt} {sandbox}"),
        Effect::Commit { sandbox, prompt } => format!("> commit {prompt} {sandbox}"),
        Effect::Push { sandbox, prompt, commit } => format!("> push {prompt} {sandbox} {commit}"),
        Effect::OfferPullRequest { prompt, commit, as_user } => {
            format!("> offer {prompt} {commit} as {}", as_user.name)
        }
        Effect::WakeAt(at) => format!("> wake at +{}", at.0 - 1_000_000),
    })
}

fn named(mut line: String) -> String {
    for number in 0..=60 {
        line = line.replace(&prm(number).to_string(), &format!("p{number}"));
        line = line.replace(&sbx(number.into()).to_string(), &format!("s{number}"));
        line = line.replace(&call(number).to_string(), &format!("c{number}"));
    }
    line
}

// === commands ===

pub(crate) fn create() -> Command {
    Command::Create(Create {
        by: ada(),
        title: "Try it".to_owned(),
        repository: "local/hangar".parse().expect("a name"),
        agent: "built-in".to_owned(),
        model: model(),
        base_branch: "main".to_owned(),
        base_commit: BASE.to_owned(),
        branch: BRANCH.to_owned(),
        limits: LimitRequest::default(),
        isolation: None,
    })
}

pub(crate) fn model() -> ModelChoice {
    ModelChoice {
        provider: "rehearsal".to_owned(),
        name: "rehearsal".to_owned(),
        dialect: Dialect::Anthropic,
    }
}

pub(crate) fn send(number: u8) -> Command {
    prompt(number, Delivery::Queue, "do it")
}

pub(crate) fn insert(number: u8) -> Command {
    prompt(number, Delivery::Insert, "do it")
}

pub(crate) fn prompt(number: u8, delivery: Delivery, text: &str) -> Command {
    Command::SendPrompt {
        prompt: prm(number),
        request: RequestId::from_bytes([number; 16]),
        author: ada(),
        text: text.to_owned(),
        delivery,
    }
}

pub(crate) fn edit(number: u8, text: &str) -> Command {
    Command::EditPrompt { prompt: prm(number), by: ada(), text: text.to_owned() }
}

pub(crate) fn withdraw(number: u8) -> Command {
    Command::WithdrawPrompt { prompt: prm(number), by: ada() }
}

pub(crate) fn stop() -> Command {
    Command::Stop { by: bob() }
}

pub(crate) fn description(sandbox: u32) -> SandboxDescription {
    SandboxDescription {
        plain_secrets: Vec::new(),
        id: sbx(sandbox),
        image: ImageId::from_bytes([1; 16]),
        isolation: Isolation::Simulated,
        path: StartPath::Image,
        limits: Limits::default(),
        enforcement: Vec::new(),
    }
}

pub(crate) fn started(sandbox: u32) -> Command {
    Command::SandboxStarted { description: description(sandbox), milliseconds: 12 }
}

pub(crate) fn not_started(sandbox: u32) -> Command {
    Command::SandboxFailed { sandbox: sbx(sandbox), reason: "no namespaces".to_owned() }
}

pub(crate) fn lost(sandbox: u32) -> Command {
    Command::SandboxLost { sandbox: sbx(sandbox), reason: "killed".to_owned() }
}

pub(crate) fn hit(sandbox: u32, limit: LimitName, consequence: Consequence) -> Command {
    let what = "it took more".to_owned();
    let sandbox = sbx(sandbox);
    Command::LimitHit(LimitHit { sandbox, limit, usage: 70, maximum: 64, consequence, what })
}

/// A limit that ends the sandbox.
pub(crate) fn over(sandbox: u32) -> Command {
    hit(sandbox, LimitName::RunTime, Consequence::Ended)
}

pub(crate) fn stopped(sandbox: u32) -> Command {
    Command::SandboxStopped { sandbox: sbx(sandbox) }
}

pub(crate) fn synced(sandbox: u32) -> Command {
    let commit = BASE.to_owned();
    Command::WorkspaceSynced { sandbox: sbx(sandbox), commit, milliseconds: 7 }
}

pub(crate) fn not_synced(sandbox: u32) -> Command {
    Command::SyncFailed { sandbox: sbx(sandbox), reason: "no such commit".to_owned() }
}

pub(crate) fn ready(sandbox: u32) -> Command {
    let agent = "built-in 0.1".to_owned();
    Command::AgentReady { sandbox: sbx(sandbox), agent, milliseconds: 5 }
}

pub(crate) fn no_agent(sandbox: u32) -> Command {
    Command::AgentFailed { sandbox: sbx(sandbox), reason: "no such program".to_owned() }
}

pub(crate) fn delivered(sandbox: u32, prompt: u8) -> Command {
    Command::Delivered { sandbox: sbx(sandbox), prompt: prm(prompt) }
}

pub(crate) fn not_delivered(sandbox: u32, prompt: u8) -> Command {
    let reason = "the agent is gone".to_owned();
    Command::DeliveryFailed { sandbox: sbx(sandbox), prompt: prm(prompt), reason }
}

pub(crate) fn cancelled(sandbox: u32, prompt: u8) -> Command {
    Command::CancelFinished { sandbox: sbx(sandbox), prompt: prm(prompt) }
}

pub(crate) fn reported(sandbox: u32, report: Report) -> Command {
    Command::Reported { sandbox: sbx(sandbox), report }
}

pub(crate) fn says(sandbox: u32, prompt: u8, text: &str) -> Command {
    reported(sandbox, Report::Message { prompt: prm(prompt), text: text.to_owned() })
}

pub(crate) fn calls(sandbox: u32, prompt: u8, number: u8, tool: ToolKind) -> Command {
    let input = serde_json::json!({"path": "a"});
    let title = "Look".to_owned();
    let (prompt, call) = (prm(prompt), call(number));
    reported(sandbox, Report::ToolCallStarted { prompt, call, title, tool, input })
}

pub(crate) fn answers(sandbox: u32, prompt: u8, number: u8, status: ToolStatus) -> Command {
    let (prompt, call) = (prm(prompt), call(number));
    let paths = vec!["a".to_owned()];
    let output = "done".to_owned();
    reported(sandbox, Report::ToolCallFinished { prompt, call, status, output, paths })
}

pub(crate) fn ends(sandbox: u32, prompt: u8, ending: Ending) -> Command {
    reported(sandbox, Report::PromptEnded { prompt: prm(prompt), ending })
}

pub(crate) fn ended(sandbox: u32, prompt: u8) -> Command {
    ends(sandbox, prompt, Ending::Completed)
}

pub(crate) fn committed(sandbox: u32, prompt: u8, commit: &str) -> Command {
    Command::Committed {
        sandbox: sbx(sandbox),
        prompt: prm(prompt),
        commit: CommitDescription {
            id: commit.to_owned(),
            subject: "Do it".to_owned(),
            files: vec![FileChange {
                path: "a".to_owned(),
                kind: FileChangeKind::Modified,
                added: 1,
                removed: 0,
            }],
        },
    }
}

pub(crate) fn nothing_to_commit(sandbox: u32, prompt: u8) -> Command {
    Command::NothingToCommit { sandbox: sbx(sandbox), prompt: prm(prompt) }
}

pub(crate) fn not_committed(sandbox: u32, prompt: u8) -> Command {
    let reason = "disk full".to_owned();
    Command::CommitFailed { sandbox: sbx(sandbox), prompt: prm(prompt), reason }
}

pub(crate) fn pushed(sandbox: u32, prompt: u8, commit: &str) -> Command {
    Command::Pushed { sandbox: sbx(sandbox), prompt: prm(prompt), commit: commit.to_owned() }
}

pub(crate) fn not_pushed(sandbox: u32, prompt: u8) -> Command {
    let reason = "no route".to_owned();
    Command::PushFailed { sandbox: sbx(sandbox), prompt: prm(prompt), reason }
}

pub(crate) fn pull_request(commit: &str) -> PullRequestSummary {
    PullRequestSummary {
        id: PullRequestId::from_bytes([1; 16]),
        number: 1,
        title: "Try it".to_owned(),
        branch: BRANCH.to_owned(),
        commit: commit.to_owned(),
        diff_stat: DiffStat { files: 1, added: 1, removed: 0 },
        state: PullRequestState::Open,
    }
}

pub(crate) fn offered(prompt: u8, commit: &str) -> Command {
    Command::PullRequestOffered { prompt: prm(prompt), pull_request: pull_request(commit) }
}

pub(crate) fn not_offered(prompt: u8) -> Command {
    Command::PullRequestFailed { prompt: prm(prompt), reason: "the forge is full".to_owned() }
}

pub(crate) fn changed(number: u32, state: PullRequestState) -> Command {
    Command::PullRequestChanged { number, state }
}
