//! The path of a prompt, and what happens when a part of it fails.

mod common;

use common::{World, events, finished, prompt, until};
use protocol::client::{CreateSession, SendPrompt};
use protocol::sandbox::{Consequence, LimitName, LimitRequest, Limits};
use protocol::session::{Delivery, PromptOutcome, PullRequestState, SessionStatus};
use protocol::settings::RepositorySettings;
use protocol::{Event, RequestId, SandboxId};
use sandbox::Exceeded;

fn kinds(events: &[protocol::Envelope]) -> Vec<String> {
    events
        .iter()
        .map(|envelope| {
            let json = serde_json::to_value(&envelope.event).expect("JSON");
            json["type"].as_str().expect("a type").to_owned()
        })
        .collect()
}

#[tokio::test]
async fn a_prompt_becomes_a_pull_request() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let session = world.session(&hangar, &repository, "Improve the readme").await;
    let id = session.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    let seen = until(&mut subscription, finished).await;

    let order = kinds(&seen);
    let place = |kind: &str| {
        order.iter().position(|one| one == kind).unwrap_or_else(|| panic!("no {kind}: {order:?}"))
    };
    let path = [
        "session_created",
        "prompt_accepted",
        "sandbox_requested",
        "sandbox_started",
        "prompt_started",
        "agent_message",
        "agent_ended",
        "committed",
        "pushed",
        "pull_request_offered",
        "prompt_finished",
    ];
    assert!(path.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{order:?}");

    let view = hangar.session(&world.user, id).await.expect("there");
    assert_eq!(view.summary.status, SessionStatus::Idle);
    let offered = view.pull_request.expect("a pull request");
    assert_eq!(offered.state, PullRequestState::Open);
    let pull_request =
        hangar.pull_request(&world.user, &repository, offered.number).await.expect("recorded");
    assert_eq!(pull_request.author, world.user, "the pull request is the asking person's");
    assert!(pull_request.body.contains("> Improve the readme"), "{}", pull_request.body);
    assert!(pull_request.body.contains("Written."), "{}", pull_request.body);
    assert_eq!(pull_request.session, Some(id));
}

#[tokio::test]
async fn a_second_reader_gets_what_the_first_got() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "Do something").await.summary.id;
    let mut first = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    let before = until(&mut first, |event| matches!(event, Event::PromptStarted { .. })).await;
    // The second one goes away and comes back with the number of its last event.
    let last = before.last().expect("some").sequence;
    let mut second = hangar.subscribe(&world.user, id, last).await.expect("subscribed");
    let rest_of_second = until(&mut second, finished).await;
    let rest_of_first = until(&mut first, finished).await;
    assert_eq!(rest_of_first, rest_of_second);
    let whole: Vec<_> = before.into_iter().chain(rest_of_first).collect();
    assert_eq!(whole, events(&hangar, &world.user, id).await[..whole.len()]);
    assert!(whole.iter().map(|envelope| envelope.sequence).eq(1..=whole.len() as u64));
}

#[tokio::test]
async fn the_same_request_twice_is_one_prompt() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "First").await.summary.id;
    let request = prompt("Second");
    let once = hangar.send_prompt(&world.user, id, request.clone()).await.expect("accepted");
    let again = hangar.send_prompt(&world.user, id, request).await.expect("accepted");
    assert_eq!(once, again);
    let recorded = events(&hangar, &world.user, id).await;
    let place = usize::try_from(once.sequence).expect("small") - 1;
    assert!(
        matches!(recorded[place].event, Event::PromptAccepted { prompt, .. } if prompt == once.prompt)
    );
    let accepted = events(&hangar, &world.user, id).await;
    let accepted =
        accepted.iter().filter(|one| matches!(one.event, Event::PromptAccepted { .. })).count();
    assert_eq!(accepted, 2);
}

#[tokio::test]
async fn follow_ups_wait_and_keep_one_pull_request() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "One").await.summary.id;
    hangar.send_prompt(&world.user, id, prompt("Two")).await.expect("accepted");
    hangar.send_prompt(&world.user, id, prompt("Three")).await.expect("accepted");
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    let mut started = Vec::new();
    for _ in 0..3 {
        for envelope in until(&mut subscription, finished).await {
            if let Event::PromptStarted { prompt, .. } = envelope.event {
                started.push(prompt);
            }
        }
    }
    let view = hangar.session(&world.user, id).await.expect("there");
    let asked: Vec<_> = view.prompts.iter().map(|prompt| prompt.id).collect();
    assert_eq!(started, asked, "in the order in which they were asked");
    let page = hangar.pull_requests(&world.user, &repository, None, 10).await.expect("listed");
    assert_eq!(page.items.len(), 1, "one branch, one pull request");
}

#[tokio::test]
async fn stop_ends_the_running_prompt_and_keeps_the_queue() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "wait for ever").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, |event| matches!(event, Event::PromptStarted { .. })).await;
    hangar.send_prompt(&world.user, id, prompt("Go on")).await.expect("accepted");
    hangar.stop(&world.user, id).await.expect("stopping");
    let stopped = until(&mut subscription, finished).await;
    let Some(Event::PromptFinished { outcome, .. }) = stopped.last().map(|last| &last.event) else {
        panic!("the last is the one waited for")
    };
    assert_eq!(*outcome, PromptOutcome::Stopped { by: world.user.clone() });
    let next = until(&mut subscription, finished).await;
    let Some(Event::PromptFinished { outcome, .. }) = next.last().map(|last| &last.event) else {
        panic!("the last is the one waited for")
    };
    assert_eq!(*outcome, PromptOutcome::Completed);
}

#[tokio::test]
async fn an_insert_comes_before_the_queue() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "wait here").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, |event| matches!(event, Event::PromptStarted { .. })).await;
    hangar.send_prompt(&world.user, id, prompt("Later")).await.expect("accepted");
    let insert = SendPrompt { delivery: Delivery::Insert, ..prompt("Now") };
    let now = hangar.send_prompt(&world.user, id, insert).await.expect("accepted");
    let superseded = until(&mut subscription, finished).await;
    assert!(matches!(
        superseded.last().expect("some").event,
        Event::PromptFinished { outcome: PromptOutcome::Superseded, .. }
    ));
    let next = until(&mut subscription, finished).await;
    assert!(matches!(next.last().expect("some").event,
            Event::PromptFinished { prompt, .. } if prompt == now.prompt));
}

#[tokio::test]
async fn a_lost_sandbox_is_replaced_and_the_prompt_carried_out() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "wait a little").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, |event| matches!(event, Event::PromptStarted { .. })).await;
    let sandbox = hangar.session(&world.user, id).await.expect("there").sandbox.expect("one").id;
    world.backend.lose(sandbox, "the test pulled the plug");
    let seen =
        until(&mut subscription, |event| matches!(event, Event::PromptStarted { attempt: 2, .. }))
            .await;
    assert!(kinds(&seen).contains(&"sandbox_lost".to_owned()));
    let continues = seen.iter().find_map(|envelope| match &envelope.event {
        Event::SandboxRequested { continues, .. } => Some(*continues),
        _ => None,
    });
    assert_eq!(continues, Some(Some(sandbox)), "the new one continues the old one's files");
}

#[tokio::test]
async fn a_start_that_fails_is_tried_again_and_then_named() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    hangar.build_image(&world.user, &repository).await.expect("built");
    for _ in 0..3 {
        world.backend.fail_next_create("no room on this machine");
    }
    let id = world.session(&hangar, &repository, "First").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    let seen = until(&mut subscription, finished).await;
    let Event::PromptFinished { outcome: PromptOutcome::Failed { reason }, .. } =
        &seen.last().expect("some").event
    else {
        panic!("{seen:#?}")
    };
    assert!(reason.contains("no room on this machine"), "{reason}");
    hangar.send_prompt(&world.user, id, prompt("Second")).await.expect("the session goes on");
    let seen = until(&mut subscription, finished).await;
    assert!(matches!(
        seen.last().expect("some").event,
        Event::PromptFinished { outcome: PromptOutcome::Completed, .. }
    ));
}

#[tokio::test]
async fn broken_connections_lose_and_double_nothing() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "wait for it").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, |event| matches!(event, Event::AgentMessage { .. })).await;
    let sandbox = hangar.session(&world.user, id).await.expect("there").sandbox.expect("one").id;
    world.backend.drop_connections(sandbox);
    hangar.stop(&world.user, id).await.expect("stopping");
    until(&mut subscription, finished).await;
    let messages = events(&hangar, &world.user, id).await;
    let messages =
        messages.iter().filter(|one| matches!(one.event, Event::AgentMessage { .. })).count();
    assert_eq!(messages, 1, "the report was acknowledged once and came once");
}

#[tokio::test]
async fn a_flood_of_reports_is_bounded_and_the_prompt_ends() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "flood everything").await.summary.id;
    let waiting = async {
        loop {
            let view = hangar.session(&world.user, id).await.expect("there");
            if view.summary.status == SessionStatus::Idle {
                return view.summary.last_sequence;
            }
            tokio::task::yield_now().await;
        }
    };
    let recorded = tokio::time::timeout(common::PATIENCE, waiting).await.expect("it ends");
    assert!((1000..21_000).contains(&recorded), "{recorded}");
}

#[tokio::test]
async fn a_session_sleeps_and_wakes_with_its_files() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "First").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, finished).await;
    hangar.park().await;
    until(&mut subscription, |event| matches!(event, Event::SandboxStopped { .. })).await;
    // A new process finds the session asleep and goes on when asked.
    let hangar = world.open().await;
    hangar.send_prompt(&world.user, id, prompt("Second")).await.expect("accepted");
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, finished).await;
    let seen = until(&mut subscription, finished).await;
    let continues = seen.iter().find_map(|envelope| match &envelope.event {
        Event::SandboxRequested { continues, .. } => *continues,
        _ => None,
    });
    assert!(continues.is_some(), "the second sandbox continues the first one's files");
}

fn exceeded(event: &Event) -> bool {
    matches!(event, Event::LimitExceeded { .. })
}

#[tokio::test]
async fn a_sandbox_is_stopped_at_its_run_time_limit() {
    let world = World::new().await;
    let hangar = world.open_with(Limits { run_seconds: 1, ..Limits::default() }).await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "wait for ever").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    let mut seen = until(&mut subscription, exceeded).await;
    let at = |fits: fn(&Event) -> bool| {
        seen.iter().rev().find(|one| fits(&one.event)).expect("it came").at
    };
    let ran =
        at(exceeded).milliseconds_since(at(|event| matches!(event, Event::SandboxStarted { .. })));
    assert!(ran >= 1000, "stopped after {ran} ms");
    // A prompt that does not fit is not tried again, and its end says why.
    seen.extend(until(&mut subscription, finished).await);
    let Event::PromptFinished { outcome: PromptOutcome::Failed { reason }, .. } =
        &seen.last().expect("some").event
    else {
        panic!("{seen:#?}")
    };
    assert!(reason.contains("run time limit of 1 s"), "{reason}");
    until(&mut subscription, |event| matches!(event, Event::SandboxStopped { .. })).await;
    assert_eq!(kinds(&seen).iter().filter(|kind| *kind == "sandbox_requested").count(), 1);
}

#[tokio::test]
async fn limits_that_were_hit_reach_the_session_and_end_what_cannot_go_on() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "wait for ever").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    let is_message = |event: &Event| matches!(event, Event::AgentMessage { .. });
    until(&mut subscription, is_message).await;
    let view = hangar.session(&world.user, id).await.expect("there");
    let sandbox = view.sandbox.expect("it runs").id;
    let hit = |limit, consequence| Exceeded {
        sandbox,
        limit,
        usage: 2,
        maximum: 1,
        consequence,
        what: "it took more".to_owned(),
    };
    // Of no session and no build: nothing but a line in the log.
    let stranger =
        Exceeded { sandbox: SandboxId::new(), ..hit(LimitName::Cpu, Consequence::Ended) };
    world.backend.exceed(stranger);
    world.backend.exceed(hit(LimitName::Memory, Consequence::Throttled));
    let seen = until(&mut subscription, exceeded).await;
    let expected = Event::LimitExceeded {
        sandbox,
        limit: LimitName::Memory,
        usage: 2,
        maximum: 1,
        consequence: Consequence::Throttled,
    };
    assert_eq!(seen.last().expect("some").event, expected);
    world.backend.exceed(hit(LimitName::Disk, Consequence::Ended));
    let mut seen = until(&mut subscription, finished).await;
    seen.extend(
        until(&mut subscription, |event| matches!(event, Event::SandboxStopped { .. })).await,
    );
    assert!(kinds(&seen).contains(&"limit_exceeded".to_owned()), "{seen:#?}");
    let view = hangar.session(&world.user, id).await.expect("there");
    assert_eq!((view.summary.status, view.sandbox), (SessionStatus::Failed, None));
    // Its files are kept, and the next prompt goes on with them.
    hangar.send_prompt(&world.user, id, prompt("Now less")).await.expect("accepted");
    let seen = until(&mut subscription, finished).await;
    let outcome = match &seen.last().expect("some").event {
        Event::PromptFinished { outcome, .. } => outcome,
        other => panic!("{other:?}"),
    };
    assert_eq!(outcome, &PromptOutcome::Completed, "{seen:#?}");
    assert_eq!(world.backend.created().last().expect("some").upper_from, Some(sandbox));
}

#[tokio::test]
async fn a_session_gets_what_it_and_its_repository_ask_for() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let settings = RepositorySettings {
        limits: LimitRequest { pids: Some(64), disk_bytes: Some(1 << 30), ..Default::default() },
        ..RepositorySettings::default()
    };
    hangar
        .put_repository_settings(&world.user, &repository, settings)
        .await
        .expect("they are fine");
    let request = |limits, isolation| CreateSession {
        request: RequestId::new(),
        repository: repository.clone(),
        prompt: Some("Look".to_owned()),
        agent: None,
        model: None,
        branch: None,
        limits,
        isolation,
    };
    let too_many = LimitRequest { pids: Some(1_000_000), ..LimitRequest::default() };
    let refused = hangar.create_session(&world.user, request(too_many, None)).await;
    let refused = refused.expect_err("above the maximum").to_string();
    assert!(refused.starts_with("pids: 1000000 processes were asked for"), "{refused}");
    let more = LimitRequest { pids: Some(99), ..LimitRequest::default() };
    let id =
        hangar.create_session(&world.user, request(more, None)).await.expect("fine").summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, finished).await;
    let view = hangar.session(&world.user, id).await.expect("there");
    assert_eq!(view.limits, more, "what was asked for is shown");
    let limits = world.backend.created().last().expect("some").limits;
    let expected = Limits { pids: 99, disk_bytes: 1 << 30, ..Limits::default() };
    assert_eq!(limits, expected);
}

#[test]
fn a_restart_gives_a_sandbox_no_more_time() {
    let limits = Limits { run_seconds: 6, ..Limits::default() };
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let first = runtime();
    let (world, id, started) = first.block_on(async {
        let world = World::new().await;
        let hangar = world.open_with(limits).await;
        let repository = world.repository(&hangar).await;
        let id = world.session(&hangar, &repository, "wait for ever").await.summary.id;
        let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
        let is_start = |event: &Event| matches!(event, Event::SandboxStarted { .. });
        let seen = until(&mut subscription, is_start).await;
        (world, id, seen.last().expect("some").at)
    });
    // The server dies, and the sandbox goes on beyond its time.
    first.shutdown_background();
    let now = || protocol::Timestamp::from_system(std::time::SystemTime::now());
    while now().milliseconds_since(started) <= 6000 {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let reopened = now();
    runtime().block_on(async {
        let hangar = world.open_with(limits).await;
        let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
        let seen = until(&mut subscription, exceeded).await;
        let after = seen.last().expect("some").at.milliseconds_since(reopened);
        assert!(after < 5000, "it got {after} ms more");
    });
}

#[tokio::test]
async fn the_files_of_a_session_stay_on_their_image_and_the_emptied_sandbox_goes() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "wait a little").await.summary.id;
    let mut subscription = hangar.subscribe(&world.user, id, 0).await.expect("subscribed");
    until(&mut subscription, |event| matches!(event, Event::PromptStarted { .. })).await;
    let before = hangar.session(&world.user, id).await.expect("there").sandbox.expect("one");
    // The repository moves on and gets a newer image.
    let path = world.directory.path().join("project");
    std::fs::write(path.join("NEWER.md"), "newer\n").expect("a file");
    common::git(&path, &["add", "."]).expect("added");
    common::git(&path, &["commit", "-q", "-m", "second"]).expect("a commit");
    world.repository_again(&hangar).await;
    let image = hangar.build_image(&world.user, &repository).await.expect("built");
    assert_ne!(image.id, before.image);
    world.backend.lose(before.id, "the test pulled the plug");
    let is_second = |event: &Event| matches!(event, Event::PromptStarted { attempt: 2, .. });
    until(&mut subscription, is_second).await;
    let after = hangar.session(&world.user, id).await.expect("there").sandbox.expect("one");
    assert_eq!(after.image, before.image, "the changes were made on the older image");
    let gone = async {
        loop {
            let observed = sandbox::Backend::observe(&*world.backend).await.expect("observed");
            if !observed.iter().any(|one| one.id == before.id) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(common::PATIENCE, gone).await.expect("the emptied sandbox is discarded");
}

#[tokio::test]
async fn bad_requests_are_refused_and_leave_nothing() {
    let world = World::new().await;
    let hangar = world.open().await;
    let repository = world.repository(&hangar).await;
    let id = world.session(&hangar, &repository, "First").await.summary.id;
    for text in ["", " \n\t "] {
        let error = hangar.send_prompt(&world.user, id, prompt(text)).await.expect_err("refused");
        assert!(error.to_string().contains("empty"), "{error}");
    }
    let long = "x".repeat(protocol::limits::PROMPT_BYTES + 1);
    let error = hangar.send_prompt(&world.user, id, prompt(&long)).await.expect_err("refused");
    assert!(error.to_string().contains("limit"), "{error}");
    let fits = "x".repeat(protocol::limits::PROMPT_BYTES);
    hangar.send_prompt(&world.user, id, prompt(&fits)).await.expect("1 MiB fits");
    let unknown = protocol::SessionId::new();
    let error = hangar.session(&world.user, unknown).await.expect_err("unknown");
    assert!(error.to_string().contains("no session"), "{error}");
}
