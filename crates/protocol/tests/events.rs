//! Events survive JSON, those of other versions too.

use std::collections::BTreeSet;

use proptest::prelude::*;
use protocol::event::{Envelope, KINDS, PlanStep, ToolKind, ToolStatus};
use protocol::sandbox::{
    Consequence, Enforcement, Isolation, LimitName, LimitReport, LimitRequest, Limits,
    SandboxDescription, StartPath,
};
use protocol::session::{
    Actor, Author, Delivery, Dialect, DiffStat, FileChange, FileChangeKind, ModelChoice, Phase,
    PromptOutcome, PullRequestState, PullRequestSummary,
};
use protocol::{
    Event, ImageId, PromptId, PullRequestId, RequestId, SandboxId, SessionId, Timestamp,
    ToolCallId, UserId,
};
use serde_json::{Value, json};

fn author() -> Author {
    Author {
        user: UserId::from_bytes([1; 16]),
        name: "Ada".to_owned(),
        email: "ada@example.org".to_owned(),
    }
}

fn prompt() -> PromptId {
    PromptId::from_bytes([2; 16])
}

fn sandbox() -> SandboxId {
    SandboxId::from_bytes([3; 16])
}

fn call() -> ToolCallId {
    ToolCallId::from_bytes([4; 16])
}

fn of_session() -> Vec<Event> {
    vec![
        Event::SessionCreated {
            title: "Try it".to_owned(),
            repository: "local/hangar".parse().expect("a name"),
            agent: "built-in".to_owned(),
            model: ModelChoice {
                provider: "rehearsal".to_owned(),
                name: "rehearsal".to_owned(),
                dialect: Dialect::OpenaiChat,
            },
            base_branch: "main".to_owned(),
            base_commit: "c0ffee".to_owned(),
            branch: "hangar/x".to_owned(),
            limits: LimitRequest { pids: Some(64), ..LimitRequest::default() },
            isolation: Some(Isolation::Gvisor),
        },
        Event::PromptAccepted {
            prompt: prompt(),
            request: RequestId::from_bytes([5; 16]),
            author: author(),
            text: "do \"it\"\n\u{0}\u{1b}".to_owned(),
            delivery: Delivery::Insert,
        },
        Event::PromptEdited { prompt: prompt(), text: "do that".to_owned() },
        Event::PromptWithdrawn { prompt: prompt() },
        Event::PromptStarted { prompt: prompt(), sandbox: sandbox(), attempt: 2 },
        Event::StopRequested { prompt: prompt(), by: author() },
        Event::AgentEnded { prompt: prompt(), outcome: PromptOutcome::Completed },
        Event::PromptFinished {
            prompt: prompt(),
            outcome: PromptOutcome::Failed { reason: "why".to_owned() },
        },
        Event::PhaseFinished { prompt: None, phase: Phase::FirstToken, milliseconds: 5 },
    ]
}

fn of_sandbox() -> Vec<Event> {
    let description = SandboxDescription {
        plain_secrets: Vec::new(),
        id: sandbox(),
        image: ImageId::from_bytes([6; 16]),
        isolation: Isolation::Namespaces,
        path: StartPath::Restore,
        limits: Limits::default(),
        enforcement: vec![
            LimitReport {
                limit: "memory".to_owned(),
                enforcement: Enforcement::Enforced { by: "cgroup".to_owned() },
            },
            LimitReport {
                limit: "disk".to_owned(),
                enforcement: Enforcement::NotEnforced { reason: "no quota".to_owned() },
            },
        ],
    };
    let reason = "killed".to_owned();
    vec![
        Event::SandboxRequested { sandbox: sandbox(), continues: Some(sandbox()) },
        Event::SandboxStarted { description, milliseconds: 12 },
        Event::SandboxFailed { sandbox: sandbox(), reason: reason.clone() },
        Event::SandboxLost { sandbox: sandbox(), reason: reason.clone() },
        Event::SandboxStopRequested { sandbox: sandbox(), reason: reason.clone() },
        Event::SandboxStopped { sandbox: sandbox(), reason: reason.clone() },
        Event::WorkspaceSynced { sandbox: sandbox(), commit: "c0ffee".to_owned(), milliseconds: 7 },
        Event::WorkspaceSyncFailed { sandbox: sandbox(), reason: reason.clone() },
        Event::AgentReady { sandbox: sandbox(), agent: "x 1".to_owned(), milliseconds: 3 },
        Event::Denied { what: "example.org".to_owned(), reason },
    ]
}

fn of_agent() -> Vec<Event> {
    let text = "words".to_owned();
    vec![
        Event::AgentMessage { prompt: prompt(), text: text.clone() },
        Event::AgentThought { prompt: prompt(), text: text.clone() },
        Event::PlanUpdated {
            prompt: prompt(),
            steps: vec![PlanStep { text: text.clone(), status: "pending".to_owned() }],
        },
        Event::ToolCallStarted {
            prompt: prompt(),
            call: call(),
            title: "Edit".to_owned(),
            kind: ToolKind::Edit,
            input: json!({"type": "not an event", "path": ["a", null, 1.5]}),
        },
        Event::ToolCallFinished {
            prompt: prompt(),
            call: call(),
            status: ToolStatus::Failed,
            output: text.clone(),
            paths: vec!["a b\n".to_owned()],
        },
        Event::Notice { prompt: Some(prompt()), text },
        Event::LimitExceeded {
            sandbox: sandbox(),
            limit: LimitName::RunTime,
            usage: 61,
            maximum: 60,
            consequence: Consequence::Ended,
        },
        Event::ModelAnswered {
            prompt: None,
            model: "m".to_owned(),
            input_tokens: u64::MAX,
            output_tokens: 0,
            first_token_milliseconds: 1,
            milliseconds: 2,
        },
    ]
}

fn of_publishing() -> Vec<Event> {
    let commit = "aaa".to_owned();
    let pull_request = PullRequestSummary {
        id: PullRequestId::from_bytes([7; 16]),
        number: 1,
        title: "Try it".to_owned(),
        branch: "hangar/x".to_owned(),
        commit: commit.clone(),
        diff_stat: DiffStat { files: 1, added: 2, removed: 3 },
        state: PullRequestState::Open,
    };
    let kinds = [
        FileChangeKind::Added,
        FileChangeKind::Modified,
        FileChangeKind::Deleted,
        FileChangeKind::Renamed,
    ];
    let files = kinds.map(|kind| FileChange { path: "ä".to_owned(), kind, added: 1, removed: 0 });
    vec![
        Event::Committed {
            prompt: prompt(),
            commit: commit.clone(),
            subject: "Do it".to_owned(),
            files: files.to_vec(),
        },
        Event::NothingToCommit { prompt: prompt() },
        Event::Pushed { prompt: prompt(), branch: "hangar/x".to_owned(), commit },
        Event::PublishFailed { prompt: prompt(), reason: "no route".to_owned() },
        Event::PullRequestOffered { prompt: prompt(), pull_request },
        Event::PullRequestChanged { number: 1, state: PullRequestState::Merged },
    ]
}

fn all() -> Vec<Event> {
    [of_session(), of_sandbox(), of_agent(), of_publishing()].concat()
}

/// The variant's place in [`KINDS`]. Without a wildcard, so that a new variant does not compile
/// until it is here, and then fails the test below until it has an example and its kind.
fn place(event: &Event) -> Option<usize> {
    Some(match event {
        Event::SessionCreated { .. } => 0,
        Event::PromptAccepted { .. } => 1,
        Event::PromptEdited { .. } => 2,
        Event::PromptWithdrawn { .. } => 3,
        Event::PromptStarted { .. } => 4,
        Event::StopRequested { .. } => 5,
        Event::AgentEnded { .. } => 6,
        Event::PromptFinished { .. } => 7,
        Event::SandboxRequested { .. } => 8,
        Event::SandboxStarted { .. } => 9,
        Event::SandboxFailed { .. } => 10,
        Event::SandboxLost { .. } => 11,
        Event::SandboxStopRequested { .. } => 12,
        Event::SandboxStopped { .. } => 13,
        Event::WorkspaceSynced { .. } => 14,
        Event::WorkspaceSyncFailed { .. } => 15,
        Event::AgentReady { .. } => 16,
        Event::AgentMessage { .. } => 17,
        Event::AgentThought { .. } => 18,
        Event::PlanUpdated { .. } => 19,
        Event::ToolCallStarted { .. } => 20,
        Event::ToolCallFinished { .. } => 21,
        Event::Notice { .. } => 22,
        Event::Denied { .. } => 23,
        Event::LimitExceeded { .. } => 24,
        Event::ModelAnswered { .. } => 25,
        Event::Committed { .. } => 26,
        Event::NothingToCommit { .. } => 27,
        Event::Pushed { .. } => 28,
        Event::PublishFailed { .. } => 29,
        Event::PullRequestOffered { .. } => 30,
        Event::PullRequestChanged { .. } => 31,
        Event::PhaseFinished { .. } => 32,
        Event::Unknown(_) => return None,
    })
}

fn kind(event: &Event) -> String {
    let json = serde_json::to_value(event).expect("an event is JSON");
    json["type"].as_str().expect("an event has a type").to_owned()
}

#[test]
fn every_kind_is_known_by_its_name() {
    let mut places = BTreeSet::new();
    for event in all() {
        let place = place(&event).expect("no example is unknown");
        assert_eq!(KINDS.get(place).copied(), Some(kind(&event).as_str()));
        places.insert(place);
    }
    assert_eq!(places.len(), KINDS.len(), "every kind has an example, and no example is missing");
}

#[test]
fn every_event_reads_back_as_itself() {
    for event in all() {
        let text = serde_json::to_string(&event).expect("an event is JSON");
        let back: Event = serde_json::from_str(&text).expect("an event reads back");
        assert_eq!(back, event, "{text}");
        let value = serde_json::to_value(&event).expect("an event is JSON");
        assert_eq!(serde_json::from_value::<Event>(value).expect("reads back"), event);
    }
}

#[test]
fn unknown_fields_are_ignored() {
    for event in all() {
        let mut value = serde_json::to_value(&event).expect("an event is JSON");
        value["of_a_newer_version"] = json!({"deep": [1, 2, 3]});
        assert_eq!(serde_json::from_value::<Event>(value).expect("is tolerated"), event);
    }
}

#[test]
fn a_missing_field_is_an_error_and_no_unknown_event() {
    let error = serde_json::from_value::<Event>(json!({"type": "prompt_withdrawn"}))
        .expect_err("a prompt is needed");
    assert!(error.to_string().contains("prompt"), "{error}");
    let wrong = json!({"type": "prompt_withdrawn", "prompt": sandbox().to_string()});
    let error = serde_json::from_value::<Event>(wrong).expect_err("a sandbox is no prompt");
    assert!(error.to_string().contains("is not a prompt id"), "{error}");
}

#[test]
fn what_has_no_type_is_no_event() {
    for value in [json!({}), json!({"type": 7}), json!({"type": ""}), json!([]), json!("x")] {
        assert!(serde_json::from_value::<Event>(value.clone()).is_err(), "{value}");
    }
}

#[test]
fn an_unknown_kind_of_tool_is_another_tool() {
    let mut value = serde_json::to_value(&of_agent()[3]).expect("an event is JSON");
    value["kind"] = json!("teleport");
    let event: Event = serde_json::from_value(value).expect("is tolerated");
    assert!(matches!(event, Event::ToolCallStarted { kind: ToolKind::Other, .. }));
}

#[test]
fn an_envelope_reads_back_whoever_caused_it() {
    for actor in [Actor::User(author()), Actor::Agent, Actor::System] {
        for event in all() {
            let envelope = Envelope {
                session: SessionId::from_bytes([8; 16]),
                sequence: u64::MAX,
                at: Timestamp(-1),
                actor: actor.clone(),
                report: Some(7),
                event,
            };
            let text = serde_json::to_string(&envelope).expect("an envelope is JSON");
            let back: Envelope = serde_json::from_str(&text).expect("an envelope reads back");
            assert_eq!(back, envelope);
        }
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What a newer version recorded is kept to the letter.
    #[test]
    fn an_event_of_a_newer_version_is_kept(
        kind in "[a-z]{1,10}_of_tomorrow",
        fields in prop::collection::btree_map("[a-z]{1,8}", json_value(), 0..5),
    ) {
        let mut object: serde_json::Map<String, Value> = fields.into_iter().collect();
        object.insert("type".to_owned(), Value::from(kind));
        let value = Value::Object(object);
        let event: Event = serde_json::from_value(value.clone()).expect("is tolerated");
        prop_assert_eq!(&event, &Event::Unknown(value.clone()));
        prop_assert_eq!(place(&event), None);
        prop_assert_eq!(serde_json::to_value(&event).expect("is JSON"), value);
    }

    #[test]
    fn any_text_and_input_survive(text in any::<String>(), input in json_value()) {
        let message = Event::AgentMessage { prompt: prompt(), text: text.clone() };
        let started = Event::ToolCallStarted {
            prompt: prompt(),
            call: call(),
            title: text,
            kind: ToolKind::Execute,
            input,
        };
        for event in [message, started] {
            let json = serde_json::to_string(&event).expect("an event is JSON");
            prop_assert_eq!(serde_json::from_str::<Event>(&json).expect("reads back"), event);
        }
    }
}
