//! The simulated backend keeps the contract, and its agentd behaves like the real one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::agentd::{
    CancelPrompt, CommitRequest, DeliverPrompt, Ending, ExecRequest, PtyRequest, PtySize,
    PushRequest, Report, ReportLine, SyncRequest,
};
use protocol::sandbox::{Isolation, Limits, StartPath};
use protocol::session::Author;
use protocol::{ImageId, PromptId, SandboxId, SessionId, UserId};
use sandbox::agentd::{Client, OutputEvent};
use sandbox::conformance::{self, Subject};
use sandbox::simulated::{Script, Simple, Simulated, Turn};
use sandbox::{Backend, Base, Spec};

fn spec() -> Spec {
    Spec {
        id: SandboxId::new(),
        image: ImageId::new(),
        layers: Vec::new(),
        base: Base::Host,
        isolation: Isolation::Simulated,
        environment: Vec::new(),
        limits: Limits::default(),
        upper_from: None,
        mirror: None,
        toolkit: "/nowhere".into(),
        path: StartPath::Image,
    }
}

fn author() -> Author {
    Author { user: UserId::new(), name: "Ada".into(), email: "ada@example.org".into() }
}

async fn start(script: impl Script + 'static) -> (tempfile::TempDir, Arc<Simulated>, Client) {
    let directory = tempfile::tempdir().expect("a directory");
    let backend = Arc::new(Simulated::new(directory.path(), script));
    let spec = spec();
    backend.create(&spec).await.expect("it starts");
    let client = Client::new(backend.clone(), spec.id);
    (directory, backend, client)
}

async fn sync(client: &Client) {
    let request = SyncRequest {
        remote: "/git/local/local/x.git".into(),
        branch: "hangar/x".into(),
        commit: "0".repeat(40),
        identity: author(),
    };
    assert!(client.sync(&request).await.expect("it syncs").changed);
}

fn prompt(text: &str) -> DeliverPrompt {
    DeliverPrompt { prompt: PromptId::new(), author: author(), text: text.into() }
}

#[tokio::test]
async fn keeps_the_contract() {
    let directory = tempfile::tempdir().expect("a directory");
    let backend = Arc::new(Simulated::new(directory.path(), Simple));
    let subject = Subject { backend, spec: spec(), file: "/home/agent/kept".into() };
    conformance::all(&subject).await;
}

#[tokio::test]
async fn a_prompt_becomes_reports_a_commit_and_a_push() {
    let (_directory, backend, client) = start(Simple).await;
    sync(&client).await;
    let mut reports = client.reports(0).await.expect("reports flow");
    let request = prompt("hello");
    assert!(!client.prompt(&request).await.expect("delivered").already);
    assert!(client.prompt(&request).await.expect("delivered").already, "once only");
    let mut numbers = Vec::new();
    loop {
        match reports.next().await.expect("a line").expect("no end") {
            ReportLine::Report { number, report } => {
                numbers.push(number);
                if let Report::PromptEnded { ending, .. } = report {
                    assert_eq!(ending, Ending::Completed);
                    break;
                }
            }
            ReportLine::Delta { text, .. } => assert_eq!(text, "Written."),
            ReportLine::Alive => {}
        }
    }
    assert_eq!(numbers, [1, 2]);
    let commit = CommitRequest {
        session: SessionId::new(),
        prompt: request.prompt,
        author: author(),
        subject: "hello".into(),
        body: String::new(),
        branch: "hangar/x".into(),
        base_commit: "0".repeat(40),
    };
    let made = client.commit(&commit).await.expect("committed").commit.expect("changes");
    assert_eq!(client.commit(&commit).await.expect("again").commit.as_ref(), Some(&made));
    assert_eq!(made.files[0].path, "SIMULATED.md");
    let push = PushRequest {
        remote: "/git/local/local/x.git".into(),
        branch: "hangar/x".into(),
        commit: made.id.clone(),
    };
    assert_eq!(client.push(&push).await.expect("pushed").commit, made.id);
    let world = backend.world(client.sandbox()).expect("it runs");
    assert_eq!(world.pushed().len(), 1);
    assert_eq!(world.delivered(), [request]);
}

#[tokio::test]
async fn reports_survive_a_broken_connection_and_end_when_acknowledged() {
    let (_directory, backend, client) = start(Simple).await;
    sync(&client).await;
    client.prompt(&prompt("one")).await.expect("delivered");
    let mut first = client.reports(0).await.expect("reports flow");
    while !matches!(first.next().await, Ok(Some(ReportLine::Report { number: 2, .. }))) {}
    backend.drop_connections(client.sandbox());
    while let Ok(Some(_)) = first.next().await {}
    let mut again = client.reports(1).await.expect("reports flow");
    let line = again.next().await.expect("a line");
    assert!(matches!(line, Some(ReportLine::Report { number: 2, .. })), "{line:?}");
    let mut acknowledged = client.reports(2).await.expect("reports flow");
    client.prompt(&prompt("two")).await.expect("delivered");
    while let Some(line) = acknowledged.next().await.expect("a line") {
        if let ReportLine::Report { number, .. } = line {
            assert_eq!(number, 3);
            break;
        }
    }
}

#[derive(Debug)]
struct Stubborn;

#[async_trait]
impl Script for Stubborn {
    async fn prompt(&self, turn: &Turn) -> Ending {
        if turn.request.text == "willing" {
            turn.cancelled().await;
            return Ending::Cancelled;
        }
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn cancel_asks_first_and_kills_after_the_grace() {
    let (_directory, _backend, client) = start(Stubborn).await;
    for (text, killed) in [("willing", false), ("stubborn", true)] {
        let request = prompt(text);
        client.prompt(&request).await.expect("delivered");
        let cancel = CancelPrompt { prompt: request.prompt, grace_milliseconds: 500 };
        assert_eq!(client.cancel(&cancel).await.expect("cancelled").killed, killed, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_command_is_stopped_at_its_time_limit() {
    let (_directory, _backend, client) = start(Simple).await;
    let request = ExecRequest {
        argv: vec!["sleep".into(), "1000".into()],
        directory: None,
        environment: [].into(),
        stdin: String::new(),
        timeout_milliseconds: Some(100),
    };
    let output = client.exec(&request, 10).await.expect("it runs");
    assert!(output.exit.timed_out);
    let mut echo = request.clone();
    echo.argv = vec!["echo".into(), "0123456789abcdef".into()];
    let output = client.exec(&echo, 10).await.expect("it runs");
    assert_eq!((output.stdout.as_slice(), output.cut), (&b"0123456789"[..], true));
}

#[tokio::test]
async fn the_workspace_is_read_only_until_it_was_synced() {
    let (_directory, _backend, client) = start(Simple).await;
    let refused = client.write_file("/workspace/a b\n", "x".into()).await;
    assert!(refused.expect_err("read-only").to_string().contains("read-only"));
    sync(&client).await;
    client.write_file("/workspace/a b\n", "x".into()).await.expect("writable");
    assert_eq!(client.read_file("/workspace/a b\n", 9).await.expect("there"), "x");
    assert_eq!(client.list("/workspace").await.expect("listed").entries[0].name, "a b\n");
}

#[tokio::test]
async fn a_terminal_speaks_both_ways() {
    let (_directory, _backend, client) = start(Simple).await;
    let size = PtySize { columns: 80, rows: 24 };
    let mut pty = client.pty(&PtyRequest { argv: Vec::new(), size }).await.expect("opened");
    pty.input.resize(size).await.expect("resized");
    pty.input.write(b"exit\n").await.expect("typed");
    let shown = pty.output.next().await.expect("shown");
    assert_eq!(shown, Some(OutputEvent::Stdout("exit\n".into())));
    assert!(matches!(pty.output.next().await, Ok(Some(OutputEvent::Exit(_)))));
    assert_eq!(pty.output.next().await.expect("closed"), None);
}

#[tokio::test]
async fn failures_happen_when_asked_for() {
    let (_directory, backend, client) = start(Simple).await;
    backend.fail_next_create("no room");
    let error = backend.create(&spec()).await.expect_err("as asked");
    assert!(error.to_string().contains("no room"), "{error}");
    backend.create(&spec()).await.expect("only once");
    backend.lose(client.sandbox(), "the machine forgot it");
    let ended = tokio::time::timeout(Duration::from_secs(5), backend.ended(client.sandbox()));
    assert_eq!(ended.await.expect("told").expect("reason"), "the machine forgot it");
}
