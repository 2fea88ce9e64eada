//! What people see while they watch a session: whole transcripts, compared line by line.

use cli::style::Style;
use cli::summary::Document;
use cli::watch::Watch;
use protocol::client::{Delta, DeltaKind};
use protocol::event::{PlanStep, ToolKind, ToolStatus};
use protocol::sandbox::{
    Consequence, Enforcement, Isolation, LimitName, LimitReport, LimitRequest, Limits,
    SandboxDescription, StartPath,
};
use protocol::session::{
    Actor, Author, Delivery, Dialect, DiffStat, FileChange, FileChangeKind, ModelChoice, Phase,
    PromptOutcome, PullRequestState, PullRequestSummary,
};
use protocol::{
    Envelope, Event, ImageId, PromptId, PullRequestId, RequestId, SandboxId, SessionId, Timestamp,
    ToolCallId, UserId,
};

const SESSION: SessionId = SessionId::from_bytes([1; 16]);
const PROMPT: PromptId = PromptId::from_bytes([2; 16]);
const NEXT: PromptId = PromptId::from_bytes([3; 16]);
const SANDBOX: SandboxId = SandboxId::from_bytes([4; 16]);
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A watched session whose clock is moved by hand.
struct Scene {
    watch: Watch,
    now: i64,
    sequence: u64,
}

impl Scene {
    fn new() -> Self {
        Self { watch: Watch::new(Style::Plain), now: 1_000_000, sequence: 0 }
    }

    fn after(&mut self, milliseconds: i64, event: Event) -> Vec<String> {
        self.now += milliseconds;
        self.sequence += 1;
        let envelope = Envelope {
            session: SESSION,
            sequence: self.sequence,
            at: Timestamp(self.now),
            actor: Actor::System,
            report: None,
            event,
        };
        self.watch.event(&envelope)
    }

    fn all(&mut self, events: Vec<(i64, Event)>) -> String {
        let lines: Vec<_> =
            events.into_iter().flat_map(|(later, event)| self.after(later, event)).collect();
        lines.join("\n")
    }

    fn says(&mut self, kind: DeltaKind, text: &str) -> Vec<String> {
        let text = text.to_owned();
        self.watch.delta(&Delta { session: SESSION, prompt: PROMPT, kind, text })
    }

    fn waits_for(&self) -> Option<String> {
        self.watch.waiting().map(|waiting| waiting.what)
    }
}

fn ada() -> Author {
    let user = UserId::from_bytes([5; 16]);
    Author { user, name: "Ada".to_owned(), email: "ada@example.org".to_owned() }
}

fn created() -> Event {
    let provider = "rehearsal".to_owned();
    Event::SessionCreated {
        title: "Fix the failing test".to_owned(),
        repository: "local/site".parse().expect("a name"),
        agent: "built-in".to_owned(),
        model: ModelChoice { name: provider.clone(), provider, dialect: Dialect::Anthropic },
        base_branch: "main".to_owned(),
        base_commit: COMMIT.to_owned(),
        branch: "hangar/01010101-fix-the-failing-test".to_owned(),
        limits: LimitRequest::default(),
        isolation: None,
    }
}

fn limit(limit: LimitName, maximum: u64, consequence: Consequence) -> Event {
    Event::LimitExceeded { sandbox: SANDBOX, limit, usage: maximum, maximum, consequence }
}

fn accepted(prompt: PromptId, text: &str) -> Event {
    Event::PromptAccepted {
        prompt,
        request: RequestId::from_bytes([6; 16]),
        author: ada(),
        text: text.to_owned(),
        delivery: Delivery::Queue,
    }
}

fn sandbox_started() -> Event {
    let no_quota = Enforcement::NotEnforced { reason: "the file system has no quotas".to_owned() };
    let enforced = Enforcement::Enforced { by: "cgroup v2 memory".to_owned() };
    let report = |limit: &str, enforcement| LimitReport { limit: limit.to_owned(), enforcement };
    Event::SandboxStarted {
        description: SandboxDescription {
            plain_secrets: Vec::new(),
            id: SANDBOX,
            image: ImageId::from_bytes([7; 16]),
            isolation: Isolation::Namespaces,
            path: StartPath::Image,
            limits: Limits::default(),
            enforcement: vec![report("memory", enforced), report("disk", no_quota)],
        },
        milliseconds: 12,
    }
}

fn call(number: u8) -> ToolCallId {
    ToolCallId::from_bytes([number; 16])
}

fn tool(number: u8, kind: ToolKind, title: &str) -> Event {
    let input = serde_json::json!({});
    Event::ToolCallStarted {
        prompt: PROMPT,
        call: call(number),
        title: title.to_owned(),
        kind,
        input,
    }
}

fn tool_end(number: u8, status: ToolStatus, output: &str, paths: &[&str]) -> Event {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Event::ToolCallFinished {
        prompt: PROMPT,
        call: call(number),
        status,
        output: output.to_owned(),
        paths,
    }
}

fn message(text: &str) -> Event {
    Event::AgentMessage { prompt: PROMPT, text: text.to_owned() }
}

fn phase(phase: Phase, milliseconds: u64) -> Event {
    Event::PhaseFinished { prompt: Some(PROMPT), phase, milliseconds }
}

fn finished(prompt: PromptId, outcome: PromptOutcome) -> Event {
    Event::PromptFinished { prompt, outcome }
}

fn pull_request() -> PullRequestSummary {
    PullRequestSummary {
        id: PullRequestId::from_bytes([8; 16]),
        number: 1,
        title: "Fix the failing test".to_owned(),
        branch: "hangar/01010101-fix-the-failing-test".to_owned(),
        commit: COMMIT.to_owned(),
        diff_stat: DiffStat { files: 1, added: 3, removed: 1 },
        state: PullRequestState::Open,
    }
}

fn published() -> Vec<(i64, Event)> {
    let file = FileChange {
        path: "src/lib.rs".to_owned(),
        kind: FileChangeKind::Modified,
        added: 3,
        removed: 1,
    };
    let branch = "hangar/01010101-fix-the-failing-test".to_owned();
    vec![
        (5, Event::AgentEnded { prompt: PROMPT, outcome: PromptOutcome::Completed }),
        (
            9,
            Event::Committed {
                prompt: PROMPT,
                commit: COMMIT.to_owned(),
                subject: "Fix the failing test".to_owned(),
                files: vec![file],
            },
        ),
        (0, phase(Phase::Commit, 9)),
        (20, Event::Pushed { prompt: PROMPT, branch, commit: COMMIT.to_owned() }),
        (0, phase(Phase::Push, 20)),
        (3, Event::PullRequestOffered { prompt: PROMPT, pull_request: pull_request() }),
        (1, finished(PROMPT, PromptOutcome::Completed)),
    ]
}

#[test]
fn a_whole_job() {
    let mut scene = Scene::new();
    let mut events = vec![
        (0, created()),
        (1, accepted(PROMPT, "Fix the failing test.\nThen say why.")),
        (1, Event::SandboxRequested { sandbox: SANDBOX, continues: None }),
        (12, sandbox_started()),
        (
            30,
            Event::WorkspaceSynced {
                sandbox: SANDBOX,
                commit: COMMIT.to_owned(),
                milliseconds: 30,
            },
        ),
        (
            4,
            Event::AgentReady {
                sandbox: SANDBOX,
                agent: "hangar-agent 0.1.0".to_owned(),
                milliseconds: 4,
            },
        ),
        (0, Event::PromptStarted { prompt: PROMPT, sandbox: SANDBOX, attempt: 1 }),
        (5, phase(Phase::FirstModelRequest, 52)),
        (80, phase(Phase::FirstToken, 80)),
        (10, message("I look at the tests first.")),
        (0, tool(1, ToolKind::Read, "src/lib.rs")),
        (2, tool_end(1, ToolStatus::Completed, "fn add() {}", &[])),
        (1, tool(2, ToolKind::Edit, "Correct the sum")),
        (3, tool_end(2, ToolStatus::Completed, "", &["src/lib.rs"])),
        (0, tool(3, ToolKind::Execute, "cargo test")),
        (1200, tool_end(3, ToolStatus::Completed, "running 1 test\ntest result: ok\n", &[])),
        (9, message("The sum was wrong.\nNow it is right.")),
    ];
    events.extend(published());
    let expected = "\
Fix the failing test
  session    ses_01010101010101010101010101010101
  repository local/site, from main at 0123456789
  branch     hangar/01010101-fix-the-failing-test
  agent      built-in, model rehearsal
! this is a rehearsal: a built-in script answers in place of a model, and its edits show the way, not skill
Ada:
  > Fix the failing test.
  > Then say why.
✓ sandbox 04040404, isolation namespaces, from the image (12 ms)
  ! disk is not limited here: the file system has no quotas
✓ repository at 0123456789 (30 ms)
✓ agent hangar-agent 0.1.0 (4 ms)
· prompt accepted → first model request (52 ms)
· first model request → first token (80 ms)
I look at the tests first.
✓ read src/lib.rs (2 ms)
✓ edit Correct the sum (3 ms)
    changed src/lib.rs
✓ run cargo test (1.2 s)
    │ running 1 test
    │ test result: ok
The sum was wrong.
Now it is right.
✓ commit 0123456789 Fix the failing test
    M src/lib.rs +3 -1
✓ pushed hangar/01010101-fix-the-failing-test
✓ pull request #1 Fix the failing test (+3 -1 in 1 file)
✓ done (1.3 s)";
    assert_eq!(scene.all(events), expected);
    assert_eq!(scene.waits_for(), None);
    assert!(scene.watch.is_idle());
    assert_eq!(scene.watch.outcome(PROMPT), Some(&PromptOutcome::Completed));
}

#[test]
fn the_document_has_exactly_the_promised_fields() {
    let mut scene = Scene::new();
    let mut events = vec![
        (0, created()),
        (1, accepted(PROMPT, "Fix it")),
        (12, sandbox_started()),
        (5, phase(Phase::FirstModelRequest, 52)),
        // A phase of another prompt does not belong here.
        (
            0,
            Event::PhaseFinished { prompt: Some(NEXT), phase: Phase::FirstEdit, milliseconds: 999 },
        ),
    ];
    events.extend(published());
    scene.all(events);
    let document = serde_json::to_value(Document::new(scene.watch.facts(), PROMPT)).expect("JSON");
    let expected = serde_json::json!({
        "repository": "local/site",
        "session": "ses_01010101010101010101010101010101",
        "agent": "built-in",
        "model": "rehearsal",
        "isolation": "namespaces",
        "branch": "hangar/01010101-fix-the-failing-test",
        "commit": COMMIT,
        "pull_request": {
            "id": "pul_08080808080808080808080808080808",
            "title": "Fix the failing test",
            "diff_stat": {"files": 1, "added": 3, "removed": 1}
        },
        "phases": [
            {"name": "sandbox", "milliseconds": 12},
            {"name": "first_model_request", "milliseconds": 52},
            {"name": "commit", "milliseconds": 9},
            {"name": "push", "milliseconds": 20}
        ]
    });
    assert_eq!(document, expected);
}

#[test]
fn streamed_text_is_shown_once() {
    let mut scene = Scene::new();
    scene.all(vec![(0, created()), (1, accepted(PROMPT, "Go"))]);
    assert!(scene.says(DeltaKind::Message, "I look ").is_empty());
    assert_eq!(scene.waits_for().as_deref(), Some("I look "));
    assert_eq!(scene.says(DeltaKind::Message, "around.\nThen "), ["I look around."]);
    assert_eq!(scene.after(5, message("I look around.\nThen I stop.")), ["Then I stop."]);
    assert_eq!(scene.waits_for().as_deref(), Some("the session"));
}

#[test]
fn text_before_a_tool_call_comes_before_it() {
    let mut scene = Scene::new();
    scene.all(vec![(0, created()), (1, accepted(PROMPT, "Go"))]);
    assert!(scene.says(DeltaKind::Message, "Let me run it.").is_empty());
    let mut lines = scene.after(1, tool(1, ToolKind::Execute, "make check"));
    lines.extend(scene.after(0, message("Let me run it.")));
    lines.extend(scene.after(900, tool_end(1, ToolStatus::Failed, "no rule", &[])));
    assert_eq!(lines, ["Let me run it.", "✗ run make check (900 ms)", "    │ no rule"]);
}

#[test]
fn what_a_running_command_prints_is_seen_but_not_kept() {
    let mut scene = Scene::new();
    scene.all(vec![(0, created()), (1, accepted(PROMPT, "Go"))]);
    scene.after(1, tool(1, ToolKind::Execute, "make"));
    assert_eq!(scene.waits_for().as_deref(), Some("run make"));
    assert!(scene.says(DeltaKind::ToolOutput, "compiling a\ncompiling b\n").is_empty());
    assert_eq!(scene.waits_for().as_deref(), Some("run make │ compiling b"));
}

#[test]
fn a_flood_is_bounded_at_its_end() {
    let mut scene = Scene::new();
    let flood = (0..100_000).fold(String::new(), |text, number| text + &format!("line {number}\n"));
    scene.after(0, tool(1, ToolKind::Execute, "yes"));
    let lines = scene.after(1, tool_end(1, ToolStatus::Completed, &flood, &[]));
    assert_eq!(lines.len(), 14);
    assert_eq!(lines[1], "    │ … 99988 lines before");
    assert_eq!(lines[13], "    │ line 99999");
    let lines = scene.after(0, accepted(PROMPT, &flood));
    assert_eq!(lines.len(), 12);
    assert_eq!(lines[11], "  > … 99990 more lines");
}

#[test]
fn nothing_reaches_the_terminal_unescaped() {
    let mut scene = Scene::new();
    let evil = "\x1b]0;owned\x07\u{202e}\r";
    let file =
        FileChange { path: evil.to_owned(), kind: FileChangeKind::Added, added: 1, removed: 0 };
    let mut author = ada();
    author.name = evil.to_owned();
    let step = PlanStep { text: evil.to_owned(), status: evil.to_owned() };
    let text = evil.to_owned();
    let mut all = scene.says(DeltaKind::Message, &format!("{evil}\n"));
    scene.says(DeltaKind::Message, evil);
    all.extend(scene.waits_for());
    for event in [
        accepted(PROMPT, evil),
        Event::StopRequested { prompt: PROMPT, by: author.clone() },
        message(&format!("said {evil}")),
        Event::AgentThought { prompt: PROMPT, text: text.clone() },
        Event::PlanUpdated { prompt: PROMPT, steps: vec![step] },
        tool(1, ToolKind::Execute, evil),
        tool_end(1, ToolStatus::Failed, evil, &[evil]),
        Event::Notice { prompt: None, text: text.clone() },
        Event::Denied { what: text.clone(), reason: text.clone() },
        Event::AgentReady { sandbox: SANDBOX, agent: text.clone(), milliseconds: 1 },
        Event::SandboxFailed { sandbox: SANDBOX, reason: text.clone() },
        Event::SandboxLost { sandbox: SANDBOX, reason: text.clone() },
        Event::SandboxStopRequested { sandbox: SANDBOX, reason: text.clone() },
        Event::SandboxStopped { sandbox: SANDBOX, reason: text.clone() },
        Event::WorkspaceSyncFailed { sandbox: SANDBOX, reason: text.clone() },
        Event::Committed {
            prompt: PROMPT,
            commit: text.clone(),
            subject: text.clone(),
            files: vec![file],
        },
        Event::Pushed { prompt: PROMPT, branch: text.clone(), commit: text.clone() },
        Event::PublishFailed { prompt: PROMPT, reason: text.clone() },
        Event::Unknown(serde_json::json!({"type": evil})),
        finished(PROMPT, PromptOutcome::Stopped { by: author }),
        finished(NEXT, PromptOutcome::Failed { reason: text }),
    ] {
        let kind = format!("{event:?}");
        let lines = scene.after(1, event);
        all.extend(scene.waits_for());
        assert!(!lines.is_empty() || kind.starts_with("ToolCallStarted"), "{kind} shows nothing");
        all.extend(lines);
    }
    let bad = |character: char| character.is_control() || character == '\u{202e}';
    let broken: Vec<_> = all.iter().filter(|line| line.contains(bad)).collect();
    assert!(broken.is_empty(), "{broken:?}");
}

#[test]
fn a_follow_up_waits_its_turn() {
    let mut scene = Scene::new();
    scene.all(vec![(0, created()), (1, accepted(PROMPT, "First"))]);
    let lines = scene.after(1, accepted(NEXT, "Second"));
    assert_eq!(lines, ["Ada (waits its turn):", "  > Second"]);
    assert_eq!(scene.after(9, finished(PROMPT, PromptOutcome::Completed)), ["✓ done (10 ms)"]);
    assert!(!scene.watch.is_idle());
    assert_eq!(scene.waits_for().as_deref(), Some("the next prompt"));
    scene.after(1, Event::PromptWithdrawn { prompt: NEXT });
    assert!(scene.watch.is_idle());
}

#[test]
fn failures_say_what_happened() {
    let mut scene = Scene::new();
    scene.all(vec![(0, created()), (1, accepted(PROMPT, "Go"))]);
    let reason = "the agent ended with code 139: send the prompt again".to_owned();
    let lines = scene.all(vec![
        (
            1,
            Event::SandboxLost {
                sandbox: SANDBOX,
                reason: "its first process was killed".to_owned(),
            },
        ),
        (1, Event::PromptStarted { prompt: PROMPT, sandbox: SANDBOX, attempt: 2 }),
        (1, Event::Denied { what: "example.org:443".to_owned(), reason: "not allowed".to_owned() }),
        (1, limit(LimitName::Memory, 4 << 30, Consequence::Throttled)),
        (1, limit(LimitName::Pids, 512, Consequence::Throttled)),
        (1, limit(LimitName::Cpu, 1500, Consequence::Throttled)),
        (1, limit(LimitName::Egress, 1_000_000_000, Consequence::Throttled)),
        (1, limit(LimitName::Disk, 10 << 30, Consequence::Ended)),
        (1, Event::NothingToCommit { prompt: PROMPT }),
        (1, finished(PROMPT, PromptOutcome::Failed { reason })),
    ]);
    let expected = "\
! the sandbox is gone, its files are kept: its first process was killed
! the prompt is given to the agent again, attempt 2
! the gateway refused example.org:443: not allowed
! a process was killed for want of memory: the sandbox may use 4 GiB
! a process could not be started: the sandbox may have 512 processes
! the sandbox has 1.5 cores, wants more and runs the slower for it
! what leaves the sandbox is slowed down to 1 Gbit/s
✗ the sandbox is stopped: it used 10 GiB of disk and may use 10 GiB
· no file was changed
✗ failed: the agent ended with code 139: send the prompt again";
    assert_eq!(lines, expected);
}

#[test]
fn a_plan_tells_what_changed() {
    let mut scene = Scene::new();
    let step =
        |text: &str, status: &str| PlanStep { text: text.to_owned(), status: status.to_owned() };
    let plan = |steps| Event::PlanUpdated { prompt: PROMPT, steps };
    let first = scene.after(0, plan(vec![step("read", "in_progress"), step("write", "pending")]));
    assert_eq!(first, ["  [>] read", "  [ ] write"]);
    let second = scene.after(0, plan(vec![step("read", "completed"), step("write", "pending")]));
    assert_eq!(second, ["  [x] read"]);
}

#[test]
fn a_bare_tool_name_gives_way_to_its_argument() {
    let mut scene = Scene::new();
    let bare = Event::ToolCallStarted {
        prompt: PROMPT,
        call: call(1),
        title: "bash".to_owned(),
        kind: ToolKind::Execute,
        input: serde_json::json!({"command": "make check"}),
    };
    scene.after(0, bare);
    let lines = scene.after(5, tool_end(1, ToolStatus::Completed, "", &[]));
    assert_eq!(lines, ["✓ run make check (5 ms)"]);
}

#[test]
fn a_tool_is_said_once_and_a_long_command_gives_way_to_its_purpose() {
    let mut scene = Scene::new();
    scene.after(0, tool(1, ToolKind::Edit, "Write src/a.rs"));
    let lines = scene.after(5, tool_end(1, ToolStatus::Completed, "", &["src/a.rs"]));
    assert_eq!(lines, ["✓ write src/a.rs (5 ms)"]);
    let long = Event::ToolCallStarted {
        prompt: PROMPT,
        call: call(2),
        title: "echo; ".repeat(50),
        kind: ToolKind::Execute,
        input: serde_json::json!({"command": "echo; ".repeat(50), "description": "Print nothing"}),
    };
    scene.after(0, long);
    let lines = scene.after(5, tool_end(2, ToolStatus::Completed, "", &[]));
    assert_eq!(lines, ["✓ run Print nothing (5 ms)"]);
}
