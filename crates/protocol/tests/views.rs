//! What clients are shown, ask for and are refused survives JSON and tolerates additions.

use std::fmt::Debug;

use proptest::prelude::*;
use protocol::client::{
    ClientMessage, CreateSession, Delta, DeltaKind, EditPrompt, Page, PromptAccepted, PullRequest,
    RegisterRepository, SendPrompt, ServerDescription, ServerMessage,
};
use protocol::event::Envelope;
use protocol::problem::Problem;
use protocol::repository::{Image, ImageState, Repository, RepositoryName};
use protocol::sandbox::{
    Enforcement, Isolation, LimitName, LimitReport, LimitRequest, Limits, SandboxDescription,
    StartPath,
};
use protocol::session::{
    Actor, Author, Delivery, Dialect, DiffStat, ModelChoice, Phase, Prompt, PromptOutcome,
    PromptState, PullRequestState, PullRequestSummary, SessionStatus, SessionSummary, SessionView,
};
use protocol::{
    Event, ImageId, PromptId, PullRequestId, Refusal, RequestId, SandboxId, SessionId, Timestamp,
    UserId,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

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

fn author() -> Author {
    Author {
        user: UserId::from_bytes([1; 16]),
        name: "Ada".to_owned(),
        email: "ada@example.org".to_owned(),
    }
}

fn model() -> ModelChoice {
    ModelChoice {
        provider: "rehearsal".to_owned(),
        name: "rehearsal".to_owned(),
        dialect: Dialect::Anthropic,
    }
}

fn name() -> RepositoryName {
    "local/hangar".parse().expect("a name")
}

fn session() -> SessionId {
    SessionId::from_bytes([2; 16])
}

fn request() -> RequestId {
    RequestId::from_bytes([3; 16])
}

fn summary(status: SessionStatus) -> SessionSummary {
    SessionSummary {
        id: session(),
        title: "Try it".to_owned(),
        repository: name(),
        status,
        agent: "built-in".to_owned(),
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
        last_sequence: 3,
    }
}

fn outcomes() -> [PromptOutcome; 4] {
    [
        PromptOutcome::Completed,
        PromptOutcome::Stopped { by: author() },
        PromptOutcome::Superseded,
        PromptOutcome::Failed { reason: "why".to_owned() },
    ]
}

fn prompt(state: PromptState) -> Prompt {
    Prompt {
        id: PromptId::from_bytes([4; 16]),
        author: author(),
        text: "do it".to_owned(),
        delivery: Delivery::Queue,
        state,
        accepted_at: Timestamp(5),
    }
}

fn prompts() -> Vec<Prompt> {
    let finished = outcomes().map(|outcome| PromptState::Finished { outcome });
    let others = [
        PromptState::Queued,
        PromptState::Running,
        PromptState::Publishing,
        PromptState::Withdrawn,
    ];
    others.into_iter().chain(finished).map(prompt).collect()
}

fn sandbox(isolation: Isolation) -> SandboxDescription {
    SandboxDescription {
        plain_secrets: Vec::new(),
        id: SandboxId::from_bytes([5; 16]),
        image: ImageId::from_bytes([6; 16]),
        isolation,
        path: StartPath::Pool,
        limits: Limits::default(),
        enforcement: vec![LimitReport {
            limit: "pids".to_owned(),
            enforcement: Enforcement::NotEnforced { reason: "no cgroup".to_owned() },
        }],
    }
}

#[test]
fn sessions() {
    let statuses = [
        SessionStatus::Idle,
        SessionStatus::Preparing,
        SessionStatus::Running,
        SessionStatus::Stopping,
        SessionStatus::Publishing,
        SessionStatus::Failed,
    ];
    for status in statuses {
        survives(&summary(status));
        survives(&SessionView {
            summary: summary(status),
            model: model(),
            base_branch: "main".to_owned(),
            base_commit: "aaa".to_owned(),
            branch: "hangar/x".to_owned(),
            limits: LimitRequest { memory_bytes: Some(1 << 30), ..LimitRequest::default() },
            isolation: Some(Isolation::Gvisor),
            prompts: prompts(),
            sandbox: Some(sandbox(Isolation::Microvm)),
            pull_request: Some(PullRequestSummary {
                id: PullRequestId::from_bytes([7; 16]),
                number: 1,
                title: "Try it".to_owned(),
                branch: "hangar/x".to_owned(),
                commit: "bbb".to_owned(),
                diff_stat: DiffStat::default(),
                state: PullRequestState::Closed,
            }),
        });
    }
    for prompt in prompts() {
        survives(&prompt);
    }
    for outcome in outcomes() {
        survives(&outcome);
    }
    for actor in [Actor::User(author()), Actor::Agent, Actor::System] {
        survives(&actor);
    }
}

#[test]
fn words_in_tables_are_the_words_in_json() {
    let phases = [
        Phase::Image,
        Phase::Sandbox,
        Phase::Sync,
        Phase::FirstModelRequest,
        Phase::FirstToken,
        Phase::FirstEdit,
        Phase::Agent,
        Phase::Commit,
        Phase::Push,
        Phase::PullRequest,
    ];
    for phase in phases {
        assert_eq!(serde_json::to_value(phase).expect("is JSON"), json!(phase.as_str()));
        survives(&phase);
    }
    let levels =
        [Isolation::Simulated, Isolation::Namespaces, Isolation::Gvisor, Isolation::Microvm];
    for isolation in levels {
        assert_eq!(serde_json::to_value(isolation).expect("is JSON"), json!(isolation.as_str()));
        survives(&sandbox(isolation));
    }
    assert!(levels.is_sorted(), "from weakest to strongest");
}

#[test]
fn repositories() {
    let states = [
        ImageState::Building,
        ImageState::Ready,
        ImageState::Failed { reason: "no space".to_owned() },
        ImageState::Superseded,
    ];
    for state in states {
        let image = Image {
            id: ImageId::from_bytes([6; 16]),
            commit: "aaa".to_owned(),
            base: "host".to_owned(),
            state,
            started_at: Timestamp(1),
            milliseconds: Some(5),
        };
        survives(&image);
        survives(&Repository {
            name: name(),
            source: "/srv/x".to_owned(),
            default_branch: "main".to_owned(),
            registered_at: Timestamp(1),
            image: Some(image),
        });
    }
    survives(&name());
    assert!(serde_json::from_value::<RepositoryName>(json!("../x")).is_err());
}

#[test]
fn requests_and_answers() {
    survives(&RegisterRepository { path: "/srv/x".to_owned(), name: Some("x".to_owned()) });
    survives(&CreateSession {
        request: request(),
        repository: name(),
        prompt: Some("do it".to_owned()),
        agent: Some("opencode".to_owned()),
        model: Some(model()),
        branch: Some("main".to_owned()),
        limits: LimitRequest { cpu_millicores: Some(500), ..LimitRequest::default() },
        isolation: Some(Isolation::Microvm),
    });
    survives(&SendPrompt {
        request: request(),
        text: "do it".to_owned(),
        delivery: Delivery::Insert,
    });
    survives(&PromptAccepted { prompt: PromptId::from_bytes([4; 16]), sequence: 9 });
    survives(&EditPrompt { text: "do that".to_owned() });
    survives(&Page { items: vec![summary(SessionStatus::Idle)], next: Some("c".to_owned()) });
    survives(&Page::<Repository> { items: vec![], next: None });
    survives(&PullRequest {
        id: PullRequestId::from_bytes([7; 16]),
        number: 1,
        repository: name(),
        session: Some(session()),
        title: "Try it".to_owned(),
        body: "# It".to_owned(),
        author: author(),
        base_branch: "main".to_owned(),
        branch: "hangar/x".to_owned(),
        commit: "bbb".to_owned(),
        state: PullRequestState::Merged,
        diff_stat: DiffStat { files: 1, added: 2, removed: 3 },
        created_at: Timestamp(1),
        updated_at: Timestamp(2),
    });
}

#[test]
fn what_may_be_left_out_of_a_request() {
    let value = json!({"request": request(), "text": "do it"});
    let send: SendPrompt = serde_json::from_value(value).expect("enough");
    assert_eq!(send.delivery, Delivery::Queue);
    let value = json!({"request": request(), "repository": "local/hangar"});
    let create: CreateSession = serde_json::from_value(value).expect("enough");
    assert_eq!((create.prompt, create.agent, create.branch), (None, None, None));
}

#[test]
fn the_stream() {
    survives(&ClientMessage::Subscribe { session: session(), after: 7 });
    survives(&ClientMessage::Unsubscribe { session: session() });
    let envelope = Envelope {
        session: session(),
        sequence: 1,
        at: Timestamp(1),
        actor: Actor::User(author()),
        report: Some(3),
        event: Event::Notice { prompt: None, text: "x".to_owned() },
    };
    survives(&ServerMessage::Hello { version: 1, user: author() });
    survives(&ServerMessage::Event(envelope));
    survives(&ServerMessage::Delta(Delta {
        session: session(),
        prompt: PromptId::from_bytes([4; 16]),
        kind: DeltaKind::Thought,
        text: "hm".to_owned(),
    }));
    survives(&ServerMessage::CaughtUp { session: session(), sequence: 3 });
    survives(&ServerMessage::Lagged { session: session(), after: 3 });
    survives(&ServerMessage::Problem(problem()));
    let message = serde_json::to_value(ServerMessage::Problem(problem())).expect("is JSON");
    assert_eq!(message["type"], json!("problem"));
    assert_eq!(message["problem"]["type"], json!("/errors/not_found"));
}

#[test]
fn messages_of_a_newer_version_are_told_apart_from_nonsense() {
    let tea = json!({"type": "tea", "cups": 2});
    assert_eq!(
        serde_json::from_value::<ClientMessage>(tea.clone()).ok(),
        Some(ClientMessage::Unknown)
    );
    assert_eq!(serde_json::from_value::<ServerMessage>(tea).ok(), Some(ServerMessage::Unknown));
    for nonsense in [json!({}), json!({"type": "subscribe"}), json!([1]), Value::Null] {
        assert!(serde_json::from_value::<ClientMessage>(nonsense.clone()).is_err(), "{nonsense}");
    }
    let value = json!({"type": "subscribe", "session": session()});
    let subscribe: ClientMessage = serde_json::from_value(value).expect("enough");
    assert_eq!(subscribe, ClientMessage::Subscribe { session: session(), after: 0 });
}

fn problem() -> Problem {
    Problem {
        kind: "/errors/not_found".to_owned(),
        title: "Not found".to_owned(),
        status: 404,
        detail: "there is no such session".to_owned(),
        code: "not_found".to_owned(),
        hint: Some("list the sessions".to_owned()),
    }
}

#[test]
fn problems_and_descriptions() {
    survives(&problem());
    let value = serde_json::to_value(problem()).expect("is JSON");
    assert_eq!(value["type"], json!("/errors/not_found"), "as RFC 9457 names it");
    survives(&ServerDescription {
        version: 1,
        release: "0.1.0".to_owned(),
        user: author(),
        agents: vec!["built-in".to_owned()],
        default_model: model(),
        default_agent: "built-in".to_owned(),
        isolation: Isolation::Namespaces,
        limits: Limits::default(),
        maximum_limits: Limits::MOST,
    });
}

#[test]
fn a_refusal_carries_its_code_and_a_sentence() {
    let prompt = PromptId::from_bytes([4; 16]);
    let refusals = [
        Refusal::EmptyPrompt,
        Refusal::PromptTooLong { bytes: 2, limit: 1 },
        Refusal::QueueFull { limit: 1 },
        Refusal::UnknownPrompt { prompt },
        Refusal::PromptNotQueued { prompt },
        Refusal::NotTheAuthor { prompt },
        Refusal::NothingToStop,
        Refusal::AlreadyStopping,
        Refusal::Busy { prompt },
        Refusal::LimitTooHigh { limit: LimitName::Disk, asked: 2, maximum: 1 },
        Refusal::LimitTooLow { limit: LimitName::RunTime, asked: 1, minimum: 2 },
        Refusal::WeakerIsolation { asked: Isolation::Namespaces, least: Isolation::Gvisor },
        Refusal::NotCreated,
        Refusal::AlreadyCreated,
        Refusal::Stale { about: "sandbox 1".to_owned() },
    ];
    for refusal in refusals {
        let value = serde_json::to_value(&refusal).expect("is JSON");
        assert_eq!(value["code"], json!(refusal.code()));
        assert!(refusal.to_string().len() > 20, "{refusal}");
        survives(&refusal);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A name that parses is the same after JSON and never leaves its directory.
    #[test]
    fn a_repository_name_is_safe_or_refused(text in "[a-zA-Z0-9._/ -]{0,20}") {
        if let Ok(name) = text.parse::<RepositoryName>() {
            prop_assert_eq!(name.to_string(), text.clone());
            prop_assert!(!text.contains("..") || !text.split('/').any(|part| part.starts_with('.')));
            let json = serde_json::to_string(&name).expect("is JSON");
            prop_assert_eq!(serde_json::from_str::<RepositoryName>(&json).expect("reads back"), name);
        }
    }

    #[test]
    fn any_prompt_survives(text in any::<String>(), at in any::<i64>()) {
        let prompt = Prompt {
            text,
            accepted_at: Timestamp(at),
            ..prompt(PromptState::Queued)
        };
        let json = serde_json::to_string(&prompt).expect("is JSON");
        prop_assert_eq!(serde_json::from_str::<Prompt>(&json).expect("reads back"), prompt);
    }
}
