//! Every word between host and agentd survives JSON and tolerates additions.

use std::collections::BTreeMap;
use std::fmt::Debug;

use proptest::prelude::*;
use protocol::agentd::{
    AgentStarted, CancelPrompt, CommitAnswer, CommitDescription, CommitRequest, DeliverPrompt,
    Ending, ExecExit, ExecRequest, Failure, Health, Listing, ListingEntry, PromptCancelled,
    PromptDelivered, PtyRequest, PtySize, PushAnswer, PushRequest, Report, ReportLine, StartAgent,
    SyncAnswer, SyncRequest,
};
use protocol::client::DeltaKind;
use protocol::event::{PlanStep, ToolKind, ToolStatus};
use protocol::session::{Author, Dialect, FileChange, FileChangeKind, ModelChoice};
use protocol::{PromptId, SessionId, ToolCallId, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// Reads back as itself, also with a field that this version does not know.
fn survives<T: Serialize + DeserializeOwned + PartialEq + Debug>(word: &T) {
    let text = serde_json::to_string(word).expect("is JSON");
    assert_eq!(&serde_json::from_str::<T>(&text).expect("reads back"), word, "{text}");
    let mut value = serde_json::to_value(word).expect("is JSON");
    if let Some(object) = value.as_object_mut() {
        object.insert("of_a_newer_version".to_owned(), json!([1]));
        assert_eq!(&serde_json::from_value::<T>(value).expect("is tolerated"), word);
    }
}

fn prompt() -> PromptId {
    PromptId::from_bytes([2; 16])
}

fn author() -> Author {
    Author {
        user: UserId::from_bytes([1; 16]),
        name: "Ada".to_owned(),
        email: "ada@example.org".to_owned(),
    }
}

#[test]
fn commands_and_terminals() {
    survives(&Health { version: 1, release: "0.1.0".to_owned() });
    survives(&ExecRequest {
        argv: vec!["echo".to_owned(), "a b".to_owned()],
        directory: Some("/tmp".to_owned()),
        environment: BTreeMap::from([("A".to_owned(), "b".to_owned())]),
        stdin: "in".to_owned(),
        timeout_milliseconds: Some(5),
    });
    survives(&ExecExit { code: Some(1), signal: None, timed_out: true, error: None });
    survives(&ExecExit { error: Some("no such program".to_owned()), ..ExecExit::default() });
    let size = PtySize { columns: 80, rows: 24 };
    survives(&size);
    survives(&PtyRequest { argv: vec![], size });
    survives(&Failure { error: "starting `x`: no such program".to_owned() });
}

#[test]
fn what_may_be_left_out_of_a_command() {
    let request: ExecRequest = serde_json::from_value(json!({"argv": ["true"]})).expect("enough");
    assert_eq!((request.directory, request.timeout_milliseconds), (None, None));
    assert!(request.environment.is_empty() && request.stdin.is_empty());
    assert!(serde_json::from_value::<ExecRequest>(json!({})).is_err(), "a program is needed");
}

#[test]
fn files_and_git() {
    let entry = ListingEntry { name: "a\\xff".to_owned(), kind: "file".to_owned(), size: u64::MAX };
    survives(&Listing { entries: vec![entry] });
    let (remote, branch) = ("/git/local/local/x.git".to_owned(), "hangar/x".to_owned());
    survives(&SyncRequest {
        remote: remote.clone(),
        branch: branch.clone(),
        commit: "aaa".to_owned(),
        identity: author(),
    });
    survives(&SyncAnswer { commit: "aaa".to_owned(), changed: true });
    survives(&CommitRequest {
        session: SessionId::from_bytes([3; 16]),
        prompt: prompt(),
        author: author(),
        subject: "Do it".to_owned(),
        body: String::new(),
        branch: branch.clone(),
        base_commit: "aaa".to_owned(),
    });
    survives(&CommitAnswer { commit: None });
    survives(&CommitAnswer {
        commit: Some(CommitDescription {
            id: "bbb".to_owned(),
            subject: "Do it".to_owned(),
            files: vec![FileChange {
                path: "a b\nc".to_owned(),
                kind: FileChangeKind::Renamed,
                added: 0,
                removed: u32::MAX,
            }],
        }),
    });
    survives(&PushRequest { remote, branch, commit: "bbb".to_owned() });
    survives(&PushAnswer { commit: "bbb".to_owned() });
}

#[test]
fn the_agent() {
    survives(&StartAgent {
        agent: "opencode".to_owned(),
        model: ModelChoice {
            provider: "anthropic".to_owned(),
            name: "m".to_owned(),
            dialect: Dialect::Anthropic,
        },
        instructions: "here".to_owned(),
    });
    survives(&AgentStarted { agent: "x 1".to_owned(), milliseconds: 3 });
    survives(&DeliverPrompt { prompt: prompt(), author: author(), text: "do it".to_owned() });
    survives(&PromptDelivered { already: true });
    survives(&CancelPrompt { prompt: prompt(), grace_milliseconds: 500 });
    survives(&PromptCancelled { killed: false });
}

fn reports(text: &str) -> Vec<Report> {
    let (prompt, call) = (prompt(), ToolCallId::from_bytes([4; 16]));
    let text = || text.to_owned();
    let ending = |ending| Report::PromptEnded { prompt, ending };
    vec![
        Report::Message { prompt, text: text() },
        Report::Thought { prompt, text: text() },
        Report::Plan { prompt, steps: vec![PlanStep { text: text(), status: text() }] },
        Report::ToolCallStarted {
            prompt,
            call,
            title: text(),
            tool: ToolKind::Search,
            input: json!({"kind": "message", "type": "delta"}),
        },
        Report::ToolCallFinished {
            prompt,
            call,
            status: ToolStatus::Completed,
            output: text(),
            paths: vec![text()],
        },
        Report::Notice { prompt: None, text: text() },
        Report::Notice { prompt: Some(prompt), text: text() },
        ending(Ending::Completed),
        ending(Ending::Cancelled),
        ending(Ending::Failed { reason: text() }),
    ]
}

#[test]
fn lines_of_reports() {
    for report in reports("words") {
        survives(&report);
        survives(&ReportLine::Report { number: u64::MAX, report });
    }
    for kind in [DeltaKind::Message, DeltaKind::Thought, DeltaKind::ToolOutput] {
        survives(&ReportLine::Delta { prompt: prompt(), kind, text: "wo".to_owned() });
    }
    survives(&ReportLine::Alive);
}

#[test]
fn a_report_of_no_kind_is_an_error() {
    for value in [json!({}), json!({"kind": "tea"}), json!({"kind": "message"})] {
        assert!(serde_json::from_value::<Report>(value.clone()).is_err(), "{value}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A line of the stream stays one line, whatever the agent writes.
    #[test]
    fn any_text_fits_on_one_line(text in any::<String>(), number in any::<u64>()) {
        for report in reports(&text) {
            let line = ReportLine::Report { number, report };
            let json = serde_json::to_string(&line).expect("is JSON");
            prop_assert!(!json.contains('\n'));
            prop_assert_eq!(serde_json::from_str::<ReportLine>(&json).expect("reads back"), line);
        }
    }
}
