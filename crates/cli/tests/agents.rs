//! What every agent must do, with each agent in a real sandbox of a real server.
//!
//! The checks of one agent share a session, in order: each must leave the agent able to go on.
//! They print their names and times; a failure names its check in the panic's backtrace.

#![expect(clippy::print_stdout, reason = "a test shows what it prints when it fails or is asked")]

#[path = "../../../tests/real_part.rs"]
mod real_part;
mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use cli::client::News;
use protocol::client::{CreateSession, Delta, DeltaKind, PromptAccepted};
use protocol::event::{ToolKind, ToolStatus};
use protocol::sandbox::LimitRequest;
use protocol::session::{Dialect, ModelChoice, Phase, PromptOutcome};
use protocol::{Envelope, Event, PromptId, RequestId, SessionId};
use support::{PATIENCE, Server};

/// Asking to stop until the agent has ended.
const STOPPED_WITHIN: Duration = Duration::from_secs(1);

/// One agent at work in one session.
struct Subject {
    server: Server,
    session: SessionId,
    /// The end of its process's command line.
    process: &'static str,
    /// The last event that was read.
    last: u64,
}

/// What happened during one prompt, until it was finished.
struct Work {
    prompt: PromptId,
    events: Vec<Event>,
    deltas: Vec<Delta>,
    /// Whether text was shown before the text was complete.
    streamed: bool,
}

impl Subject {
    async fn new(agent: &str, process: &'static str, dialect: Dialect) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        if agent == "opencode" {
            let version = support::opencode::into(&directory.path().join("data"));
            real_part::worked("opencode", &version);
        }
        let server = Server::start_in(directory, |_| {});
        let repository = server.repository("small").await;
        let request = CreateSession {
            request: RequestId::new(),
            repository,
            prompt: None,
            agent: Some(agent.to_owned()),
            model: Some(ModelChoice {
                provider: "rehearsal".to_owned(),
                name: "rehearsal".to_owned(),
                dialect,
            }),
            branch: None,
            limits: LimitRequest::default(),
            isolation: None,
        };
        let view = server.client().create(&request).await.expect("created");
        Self { server, session: view.summary.id, process, last: view.summary.last_sequence }
    }

    async fn send(&self, script: &str) -> PromptAccepted {
        self.server.send(self.session, &format!("@@ {script} @@END")).await
    }

    /// Sends a script and follows it to its end.
    async fn work(&mut self, script: &str) -> Work {
        let accepted = self.send(script).await;
        self.follow(accepted.prompt, |_| false).await
    }

    /// Follows a prompt to its end, or until something recorded or shown fits.
    async fn follow(&mut self, prompt: PromptId, enough: impl Fn(&Seen<'_>) -> bool) -> Work {
        let mut work = Work { prompt, events: Vec::new(), deltas: Vec::new(), streamed: false };
        let reading = async {
            let client = self.server.client();
            let mut stream = client.stream(self.session, self.last).await.expect("a stream");
            loop {
                let found = match stream.next().await.expect("readable") {
                    News::Event(envelope) => {
                        let Envelope { sequence, event, .. } = *envelope;
                        self.last = sequence;
                        let ours = matches!(&event, Event::PromptFinished { prompt: of, .. } if *of == prompt);
                        let found = ours || enough(&Seen::Event(&event));
                        work.events.push(event);
                        found
                    }
                    News::Delta(delta) => {
                        let said = work
                            .events
                            .iter()
                            .any(|event| matches!(event, Event::AgentMessage { .. }));
                        work.streamed |= delta.kind == DeltaKind::Message && !said;
                        let found = enough(&Seen::Delta(&delta));
                        work.deltas.push(delta);
                        found
                    }
                    News::CaughtUp | News::Reconnected => false,
                };
                if found {
                    return;
                }
            }
        };
        let read = tokio::time::timeout(PATIENCE, reading).await;
        let said = self.server.said();
        assert!(read.is_ok(), "no end of {prompt}: {:#?}\nthe server said: {said}", work.events);
        work
    }

    /// Stops the running prompt; the agent must have ended soon, and its outcome is that.
    async fn stop(&mut self, prompt: PromptId) {
        let asked = Instant::now();
        self.server.client().stop(self.session).await.expect("accepted");
        let ended = |seen: &Seen<'_>| matches!(seen, Seen::Event(Event::AgentEnded { prompt: of, .. }) if *of == prompt);
        let work = self.follow(prompt, ended).await;
        let took = asked.elapsed();
        let outcome = work.events.iter().find_map(|event| match event {
            Event::AgentEnded { outcome, .. } => Some(outcome),
            _ => None,
        });
        assert!(matches!(outcome, Some(PromptOutcome::Stopped { .. })), "{:#?}", work.events);
        assert!(took < STOPPED_WITHIN, "the stop took {took:?}");
        self.follow(prompt, |_| false).await;
    }

    /// Command lines of what runs in the sandbox, with their process numbers out here.
    fn processes(&self) -> Vec<(i32, String)> {
        support::processes_in_sandboxes(&self.server.data())
    }
}

enum Seen<'a> {
    Event(&'a Event),
    Delta(&'a Delta),
}

impl Work {
    fn outcome(&self) -> &PromptOutcome {
        let outcome = self.events.iter().find_map(|event| match event {
            Event::PromptFinished { prompt, outcome } if *prompt == self.prompt => Some(outcome),
            _ => None,
        });
        outcome.unwrap_or_else(|| panic!("it has not ended: {:#?}", self.events))
    }

    fn completed(self) -> Self {
        assert_eq!(self.outcome(), &PromptOutcome::Completed, "{:#?}", self.events);
        self
    }

    /// All the agent said.
    fn said(&self) -> String {
        let texts = self.events.iter().filter_map(|event| match event {
            Event::AgentMessage { prompt, text } if *prompt == self.prompt => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// Each tool call: kind, title, status, output, changed paths.
    fn calls(&self) -> Vec<(ToolKind, &str, ToolStatus, &str, &[String])> {
        let started = self.events.iter().filter_map(|event| match event {
            Event::ToolCallStarted { call, title, kind, .. } => Some((call, *kind, title)),
            _ => None,
        });
        let finished = |wanted| {
            self.events.iter().find_map(|event| match event {
                Event::ToolCallFinished { call, status, output, paths, .. } if call == wanted => {
                    Some((*status, output.as_str(), paths.as_slice()))
                }
                _ => None,
            })
        };
        let whole = started.map(|(call, kind, title)| {
            let (status, output, paths) = finished(call)
                .unwrap_or_else(|| panic!("`{title}` has no end: {:#?}", self.events));
            (kind, title.as_str(), status, output, paths)
        });
        whole.collect()
    }

    fn phase(&self, wanted: Phase) -> Option<u64> {
        self.events.iter().find_map(|event| match event {
            Event::PhaseFinished { phase, milliseconds, .. } if *phase == wanted => {
                Some(*milliseconds)
            }
            _ => None,
        })
    }
}

// === The checks ===

/// It reads, edits, runs a command and answers; every call has its kind, a telling title, its
/// output and the paths it changed; the model's usage is told once for each of its answers.
async fn the_loop(subject: &mut Subject) {
    let work = subject
        .work("read README.md ;; write notes/new.txt one\\ntwo ;; bash cat notes/new.txt ;; say Finished.")
        .await
        .completed();
    let calls = work.calls();
    let kinds: Vec<_> = calls.iter().map(|call| call.0).collect();
    assert_eq!(kinds, [ToolKind::Read, ToolKind::Edit, ToolKind::Execute], "{calls:?}");
    assert!(calls.iter().all(|call| call.2 == ToolStatus::Completed), "{calls:?}");
    let titles: Vec<_> = calls.iter().map(|call| call.1).collect();
    assert_eq!(titles, ["Read README.md", "Write notes/new.txt", "cat notes/new.txt"]);
    assert!(calls[0].3.contains("A small thing."), "{calls:?}");
    assert!(calls[2].3.contains("one\ntwo"), "{calls:?}");
    assert_eq!(calls[1].4, ["notes/new.txt"]);
    assert_eq!(work.said().trim(), "Finished.");
    let answers = work.events.iter().filter(|event| {
        matches!(event, Event::ModelAnswered { prompt: Some(of), input_tokens: 1.., output_tokens: 1.., .. }
            if *of == work.prompt)
    });
    assert_eq!(answers.count(), 4, "one request for each step: {:#?}", work.events);
    for phase in [Phase::FirstModelRequest, Phase::FirstToken, Phase::FirstEdit, Phase::Push] {
        assert!(work.phase(phase).is_some(), "{phase:?} is missing: {:#?}", work.events);
    }
    println!("  first prompt → model: {} ms", work.phase(Phase::FirstModelRequest).unwrap_or(0));
    let changed = work.events.iter().find_map(|event| match event {
        Event::Committed { files, .. } => Some(files),
        _ => None,
    });
    let paths: Vec<_> = changed.into_iter().flatten().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["notes/new.txt"], "the commit holds the agent's change and nothing else");
}

/// Text is shown while it is being written, in order; what is recorded has the end of it too.
async fn streaming(subject: &mut Subject) {
    let work = subject.work("slow 12 100 ;; say and the end").await.completed();
    println!("  follow-up → model: {} ms", work.phase(Phase::FirstModelRequest).unwrap_or(0));
    assert!(work.streamed, "nothing was shown before the end: {:?}", work.deltas);
    let shown: String = work
        .deltas
        .iter()
        .filter(|delta| delta.kind == DeltaKind::Message)
        .map(|delta| delta.text.as_str())
        .collect();
    assert!(work.said().starts_with(&shown), "{shown:?} is not in {:?}", work.said());
    assert!(work.said().ends_with("12 and the end"), "{}", work.said());
    assert!(work.deltas.len() > 3, "in too few pieces: {:?}", work.deltas);
}

/// A failed search, an unknown tool: the model is told, the prompt goes on.
async fn wrong_calls(subject: &mut Subject) {
    let work = subject
        .work("read no/such/file ;; tool no_such_tool {\"a\":1} ;; bash exit 3 ;; say Still here.")
        .await
        .completed();
    assert_eq!(work.said().trim(), "Still here.");
    let calls = work.calls();
    assert_eq!(calls[0].2, ToolStatus::Failed, "{calls:?}");
    assert_eq!(calls.len(), 3, "{calls:?}");
}

/// Prompts sent at once are carried out one after the other.
async fn two_in_order(subject: &mut Subject) {
    let first = subject.send("slow 10 50 ;; bash echo first >> order.txt ;; say One.").await;
    let second = subject.send("bash echo second >> order.txt; cat order.txt ;; say Two.").await;
    let first = subject.follow(first.prompt, |_| false).await.completed();
    let second = subject.follow(second.prompt, |_| false).await.completed();
    assert!(first.said().ends_with("One."), "{}", first.said());
    assert_eq!(second.said().trim(), "Two.");
    assert!(second.calls()[0].3.contains("first\nsecond"), "{:?}", second.calls());
}

/// A stop during a command ends the command too.
async fn stop_in_a_command(subject: &mut Subject) {
    let accepted = subject.send("bash sleep 4711 & sleep 4712 ;; say Never.").await;
    let started = |seen: &Seen<'_>| matches!(seen, Seen::Event(Event::ToolCallStarted { .. }));
    subject.follow(accepted.prompt, started).await;
    let sleeps = |subject: &Subject| -> BTreeSet<String> {
        let all = subject.processes().into_iter().map(|(_, command)| command);
        all.filter(|command| command.starts_with("sleep 471")).collect()
    };
    let began = Instant::now();
    while sleeps(subject).len() < 2 {
        assert!(began.elapsed() < PATIENCE, "the command does not run: {:?}", subject.processes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    subject.stop(accepted.prompt).await;
    assert_eq!(sleeps(subject), BTreeSet::new(), "the command outlived its prompt");
}

/// A stop while the model speaks; then the next prompt goes on with what was said before.
async fn stop_in_the_stream_and_go_on(subject: &mut Subject) {
    let accepted = subject.send("slow 600 100 ;; say the word is marzipan").await;
    let shown =
        |seen: &Seen<'_>| matches!(seen, Seen::Delta(delta) if delta.kind == DeltaKind::Message);
    subject.follow(accepted.prompt, shown).await;
    subject.stop(accepted.prompt).await;
    let work = subject.work("recall marzipan").await.completed();
    assert_eq!(work.said().trim(), "I do recall marzipan.");
}

/// A model that fails for a moment is asked again.
async fn a_failing_model(subject: &mut Subject) {
    let work = subject.work("fail 500 ;; say Back again.").await.completed();
    assert_eq!(work.said().trim(), "Back again.");
}

/// A model that refuses for good fails the prompt with its reason, and the next one works.
async fn a_refusing_model(subject: &mut Subject) {
    let work = subject.work("fail 400 1000 ;; say Never.").await;
    let PromptOutcome::Failed { reason } = work.outcome() else {
        panic!("it did not fail: {:#?}", work.events);
    };
    assert!(reason.contains("the rehearsal's script asks for this failure"), "{reason}");
    let work = subject.work("say Fine.").await.completed();
    assert_eq!(work.said().trim(), "Fine.");
}

/// The death of its process fails the prompt with a reason; the next prompt starts it again.
async fn a_crash(subject: &mut Subject) {
    let accepted = subject.send("bash sleep 4713 ;; say Never.").await;
    let started = |seen: &Seen<'_>| matches!(seen, Seen::Event(Event::ToolCallStarted { .. }));
    subject.follow(accepted.prompt, started).await;
    let processes = subject.processes();
    let agent = processes.iter().find(|(_, command)| command.ends_with(subject.process));
    let (pid, _) = agent.unwrap_or_else(|| panic!("no agent in {processes:?}"));
    let pid = rustix::process::Pid::from_raw(*pid).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
    let work = subject.follow(accepted.prompt, |_| false).await;
    let PromptOutcome::Failed { reason } = work.outcome() else {
        panic!("it did not fail: {:#?}", work.events);
    };
    assert!(reason.contains("the agent ended with signal: 9"), "{reason}");
    let left = subject.processes();
    assert!(!left.iter().any(|(_, command)| command.starts_with("sleep 4713")), "{left:?}");
    let work = subject.work("bash cat order.txt ;; say Here again.").await.completed();
    assert_eq!(work.said().trim(), "Here again.");
    assert!(work.calls()[0].3.contains("second"), "the workspace is kept");
}

macro_rules! conformance {
    ($subject:ident: $($check:ident),+ $(,)?) => {$(
        let began = Instant::now();
        println!("{}", stringify!($check));
        $check(&mut $subject).await;
        println!("  {:.1} s", began.elapsed().as_secs_f64());
    )+};
}

/// All of them, over one dialect.
async fn conforms(agent: &str, process: &'static str) {
    let mut subject = Subject::new(agent, process, Dialect::Anthropic).await;
    conformance!(subject:
        the_loop,
        streaming,
        wrong_calls,
        two_in_order,
        stop_in_a_command,
        stop_in_the_stream_and_go_on,
        a_failing_model,
        a_refusing_model,
        a_crash,
    );
}

/// What differs with the other dialect: the loop and the stream.
async fn speaks_the_other_dialect(agent: &str, process: &'static str) {
    let mut subject = Subject::new(agent, process, Dialect::OpenaiChat).await;
    conformance!(subject: the_loop, streaming, a_failing_model);
}

#[tokio::test]
async fn the_built_in_agent_conforms() {
    conforms("built-in", "/hangar-agent").await;
    real_part::worked("built-in agent", env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn the_built_in_agent_speaks_the_other_dialect() {
    speaks_the_other_dialect("built-in", "/hangar-agent").await;
}

#[tokio::test]
async fn opencode_conforms() {
    conforms("opencode", "opencode acp").await;
}

#[tokio::test]
async fn opencode_speaks_the_other_dialect() {
    speaks_the_other_dialect("opencode", "opencode acp").await;
}
