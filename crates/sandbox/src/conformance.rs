//! The named invariants of every [`Backend`], run by tests over each of them.
//!
//! Each function is one invariant, panics where it does not hold, and leaves nothing behind.
//! They ask of PID 1 only what [`Subject::exec`] offers, so that a backend can be examined before
//! the whole of agentd exists in its sandboxes.

use std::sync::Arc;
use std::time::Duration;

use protocol::SandboxId;
use protocol::agentd::ExecRequest;

use crate::agentd::{Client, Output};
use crate::{Backend, Error, ObservedState, Spec};

/// Longer than any of these may take on a loaded machine; only reached when one hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A backend under examination.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The backend.
    pub backend: Arc<dyn Backend>,
    /// A specification that works here; every use gets a new id.
    pub spec: Spec,
    /// A file that a sandbox's own code may write to: `/workspace/kept` needs a synced workspace,
    /// a path in HOME does not.
    pub file: String,
}

impl Subject {
    fn fresh(&self) -> Spec {
        Spec { id: SandboxId::new(), ..self.spec.clone() }
    }

    fn client(&self, id: SandboxId) -> Client {
        Client::new(Arc::clone(&self.backend), id)
    }

    /// Runs a command that must start.
    async fn exec(&self, id: SandboxId, argv: &[&str]) -> Output {
        let request = ExecRequest {
            argv: argv.iter().map(ToString::to_string).collect(),
            directory: Some("/".into()),
            environment: [].into(),
            stdin: String::new(),
            timeout_milliseconds: None,
        };
        let output = self.client(id).exec(&request, 1 << 20).await.expect("the command runs");
        assert_eq!(output.exit.error, None, "{argv:?} starts");
        output
    }

    async fn state(&self, id: SandboxId) -> Option<ObservedState> {
        let observed = self.backend.observe().await.expect("the backend knows its sandboxes");
        observed.into_iter().find(|one| one.id == id).map(|one| one.state)
    }

    /// Sandboxes of somebody else on the same backend.
    async fn others(&self, ours: &[SandboxId]) -> Vec<SandboxId> {
        let observed = self.backend.observe().await.expect("the backend knows its sandboxes");
        observed.into_iter().map(|one| one.id).filter(|id| !ours.contains(id)).collect()
    }

    async fn started(&self) -> Spec {
        let spec = self.fresh();
        self.backend.create(&spec).await.expect("the sandbox starts");
        spec
    }

    async fn discard(&self, id: SandboxId) {
        self.backend.discard(id).await.expect("the sandbox can be discarded");
        assert_eq!(self.state(id).await, None, "a discarded sandbox is not known any more");
    }
}

/// Runs every invariant, one after the other.
pub async fn all(subject: &Subject) {
    a_created_sandbox_answers_at_once(subject).await;
    the_description_names_what_was_asked_for(subject).await;
    prepare_makes_the_gateway_directory_and_may_be_repeated(subject).await;
    a_running_sandbox_is_described_again(subject).await;
    an_ended_sandbox_starts_again_on_its_own_files(subject).await;
    an_ended_sandbox_starts_again_on_the_files_it_took_over(subject).await;
    files_of_a_start_nobody_was_told_of_are_not_lost(subject).await;
    files_continue_on_their_own_layers_only(subject).await;
    reaping_stops_strangers_and_keeps_their_files(subject).await;
    stop_is_idempotent_and_ends_connections(subject).await;
    ended_resolves_for_every_listener(subject).await;
    files_outlive_the_sandbox_and_are_taken_over_once(subject).await;
    a_running_sandbox_cannot_be_taken_over(subject).await;
    frozen_layers_are_seen_by_many(subject).await;
    unknown_sandboxes_are_named_as_such(subject).await;
    many_start_at_once(subject).await;
}

/// agentd accepts when `create` returns, and commands run.
pub async fn a_created_sandbox_answers_at_once(subject: &Subject) {
    let spec = subject.started().await;
    let health = subject.client(spec.id).health().await.expect("agentd answers");
    assert_eq!(health.version, protocol::VERSION);
    assert_eq!(subject.state(spec.id).await, Some(ObservedState::Running));
    let output = subject.exec(spec.id, &["echo", "hello"]).await;
    assert_eq!((output.stdout.as_slice(), output.exit.code), (&b"hello\n"[..], Some(0)));
    assert_eq!(subject.exec(spec.id, &["false"]).await.exit.code, Some(1));
    subject.discard(spec.id).await;
}

/// What a session shows about its sandbox is what it asked for, and every limit is accounted for.
pub async fn the_description_names_what_was_asked_for(subject: &Subject) {
    let spec = subject.fresh();
    let description = subject.backend.create(&spec).await.expect("the sandbox starts");
    assert_eq!(description.id, spec.id);
    assert_eq!(description.image, spec.image);
    assert_eq!(description.path, spec.path);
    assert_eq!(description.limits, spec.limits);
    assert_eq!(description.isolation, subject.spec.isolation);
    let limits: Vec<_> = description.enforcement.iter().map(|one| one.limit.as_str()).collect();
    assert_eq!(limits, ["memory", "cpu", "pids", "disk", "run_time", "egress"]);
    subject.discard(spec.id).await;
}

/// The gateway can listen before anything of the sandbox runs.
pub async fn prepare_makes_the_gateway_directory_and_may_be_repeated(subject: &Subject) {
    let spec = subject.fresh();
    subject.backend.prepare(&spec).await.expect("directories are made");
    subject.backend.prepare(&spec).await.expect("and may be there already");
    assert!(subject.backend.gateway_directory(spec.id).is_dir());
    assert_eq!(subject.state(spec.id).await, Some(ObservedState::Prepared));
    subject.backend.create(&spec).await.expect("a prepared sandbox starts");
    assert_eq!(subject.state(spec.id).await, Some(ObservedState::Running));
    subject.discard(spec.id).await;
    assert!(!subject.backend.gateway_directory(spec.id).exists());
}

/// A start repeated because its caller died is the same start.
pub async fn a_running_sandbox_is_described_again(subject: &Subject) {
    let spec = subject.fresh();
    let first = subject.backend.create(&spec).await.expect("the sandbox starts");
    write(subject, spec.id, "kept").await;
    let again = subject.backend.create(&spec).await.expect("it is there");
    assert_eq!(first, again);
    assert_eq!(read(subject, spec.id).await, "kept", "it is the same sandbox");
    subject.discard(spec.id).await;
}

/// The same after it ended: it runs again, on what it had written.
pub async fn an_ended_sandbox_starts_again_on_its_own_files(subject: &Subject) {
    let spec = subject.started().await;
    write(subject, spec.id, "kept").await;
    for _ in 0..2 {
        subject.backend.stop(spec.id).await.expect("it stops");
        let description = subject.backend.create(&spec).await.expect("it starts again");
        assert_eq!(description.id, spec.id);
        assert_eq!(subject.state(spec.id).await, Some(ObservedState::Running));
        assert_eq!(read(subject, spec.id).await, "kept");
    }
    subject.discard(spec.id).await;
}

/// The same where the files had been another's, which is not asked a second time.
pub async fn an_ended_sandbox_starts_again_on_the_files_it_took_over(subject: &Subject) {
    let first = subject.started().await;
    write(subject, first.id, "kept").await;
    subject.backend.stop(first.id).await.expect("it stops");
    let second = Spec { upper_from: Some(first.id), ..subject.fresh() };
    subject.backend.create(&second).await.expect("it continues");
    subject.backend.create(&second).await.expect("it is there");
    subject.backend.stop(second.id).await.expect("it stops");
    subject.backend.create(&second).await.expect("it starts again");
    assert_eq!(read(subject, second.id).await, "kept");
    subject.discard(first.id).await;
    subject.backend.stop(second.id).await.expect("it stops");
    subject.backend.create(&second).await.expect("it needs the first one no more");
    assert_eq!(read(subject, second.id).await, "kept");
    subject.discard(second.id).await;
}

/// Files that went to a sandbox which ended before anyone heard of it go on to the next.
pub async fn files_of_a_start_nobody_was_told_of_are_not_lost(subject: &Subject) {
    let first = subject.started().await;
    write(subject, first.id, "kept").await;
    subject.backend.stop(first.id).await.expect("it stops");
    let specs: Vec<Spec> =
        (0..3).map(|_| Spec { upper_from: Some(first.id), ..subject.fresh() }).collect();
    for spec in &specs {
        subject.backend.create(spec).await.expect("it continues");
        assert_eq!(read(subject, spec.id).await, "kept");
        subject.backend.stop(spec.id).await.expect("it stops");
    }
    assert_eq!(subject.state(specs[0].id).await, None, "what took them in vain is gone");
    for id in [first.id, specs[1].id, specs[2].id] {
        subject.discard(id).await;
    }
}

/// Changes are changes of something: on another image they would be another tree.
pub async fn files_continue_on_their_own_layers_only(subject: &Subject) {
    let Some(layers) = subject.backend.layers() else { return };
    let image = protocol::ImageId::new();
    let built = subject.started().await;
    subject.backend.stop(built.id).await.expect("it stops");
    let layer = layers.freeze(built.id, image).await.expect("its files become a layer");
    let first = subject.started().await;
    write(subject, first.id, "kept").await;
    subject.backend.stop(first.id).await.expect("it stops");
    let other = Spec { upper_from: Some(first.id), layers: vec![layer], ..subject.fresh() };
    let error = subject.backend.create(&other).await.expect_err("the layers are others");
    assert!(matches!(error, Error::State { .. }), "{error}");
    let same = Spec { upper_from: Some(first.id), ..subject.fresh() };
    subject.backend.create(&same).await.expect("the files are still there");
    assert_eq!(read(subject, same.id).await, "kept");
    for id in [built.id, first.id, other.id, same.id] {
        subject.discard(id).await;
    }
    layers.remove(image).await.expect("an unused layer is deleted");
}

/// A server that starts stops what it does not know; what sleeps stays as it is.
pub async fn reaping_stops_strangers_and_keeps_their_files(subject: &Subject) {
    let (known, stranger, asleep) =
        (subject.started().await, subject.started().await, subject.started().await);
    for spec in [&stranger, &asleep] {
        write(subject, spec.id, "kept").await;
    }
    subject.backend.stop(asleep.id).await.expect("it stops");
    let mut keep = vec![known.id];
    keep.extend(subject.others(&[known.id, stranger.id, asleep.id]).await);
    let stopped = subject.backend.reap(&keep).await.expect("strangers stop");
    assert_eq!(stopped, [stranger.id]);
    assert_eq!(subject.state(known.id).await, Some(ObservedState::Running));
    assert!(matches!(subject.state(stranger.id).await, Some(ObservedState::Ended { .. })));
    for from in [stranger.id, asleep.id] {
        let next = Spec { upper_from: Some(from), ..subject.fresh() };
        subject.backend.create(&next).await.expect("it continues");
        assert_eq!(read(subject, next.id).await, "kept");
        subject.discard(next.id).await;
        subject.discard(from).await;
    }
    subject.discard(known.id).await;
}

/// After `stop` nothing answers, and the connections there were have ended.
pub async fn stop_is_idempotent_and_ends_connections(subject: &Subject) {
    let spec = subject.started().await;
    let mut stream = subject.backend.connect(spec.id).await.expect("agentd accepts");
    subject.backend.stop(spec.id).await.expect("it stops");
    let mut buffer = [0; 16];
    let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer);
    let read = tokio::time::timeout(PATIENCE, read).await.expect("the connection ended");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert!(matches!(subject.state(spec.id).await, Some(ObservedState::Ended { .. })));
    let error = subject.client(spec.id).health().await.expect_err("agentd is gone");
    assert!(error.is_connection(), "{error}");
    subject.backend.stop(spec.id).await.expect("stopping again does nothing");
    subject.discard(spec.id).await;
    subject.backend.stop(spec.id).await.expect("nor does stopping what is gone");
}

/// Everyone who waits for the end is told, also those who ask later.
pub async fn ended_resolves_for_every_listener(subject: &Subject) {
    let spec = subject.started().await;
    let waiting = {
        let backend = Arc::clone(&subject.backend);
        tokio::spawn(async move { backend.ended(spec.id).await })
    };
    subject.backend.stop(spec.id).await.expect("it stops");
    let reason = tokio::time::timeout(PATIENCE, waiting).await.expect("told in time");
    let reason = reason.expect("no panic").expect("a reason");
    assert!(!reason.is_empty());
    let late = tokio::time::timeout(PATIENCE, subject.backend.ended(spec.id)).await;
    assert!(!late.expect("told at once").expect("a reason").is_empty());
    subject.discard(spec.id).await;
}

/// What was written before the end is there in the sandbox that continues, and nowhere else.
pub async fn files_outlive_the_sandbox_and_are_taken_over_once(subject: &Subject) {
    let first = subject.started().await;
    write(subject, first.id, "kept").await;
    subject.backend.stop(first.id).await.expect("it stops");
    let second = Spec { upper_from: Some(first.id), ..subject.fresh() };
    subject.backend.create(&second).await.expect("it continues");
    assert_eq!(read(subject, second.id).await, "kept");
    let third = Spec { upper_from: Some(first.id), ..subject.fresh() };
    let error = subject.backend.create(&third).await.expect_err("the files were taken");
    assert!(matches!(error, Error::State { .. }), "{error}");
    for id in [first.id, second.id, third.id] {
        subject.discard(id).await;
    }
}

/// Two sandboxes never write to the same files.
pub async fn a_running_sandbox_cannot_be_taken_over(subject: &Subject) {
    let first = subject.started().await;
    let second = Spec { upper_from: Some(first.id), ..subject.fresh() };
    let error = subject.backend.create(&second).await.expect_err("it is in use");
    assert!(matches!(error, Error::State { .. }), "{error}");
    subject.exec(first.id, &["true"]).await;
    subject.discard(second.id).await;
    subject.discard(first.id).await;
}

/// Sandboxes of the same image see its files and not each other's.
pub async fn frozen_layers_are_seen_by_many(subject: &Subject) {
    let Some(layers) = subject.backend.layers() else { return };
    let image = protocol::ImageId::new();
    let built = subject.started().await;
    write(subject, built.id, "built").await;
    let error = layers.freeze(built.id, image).await.expect_err("it runs");
    assert!(matches!(error, Error::State { .. }), "{error}");
    subject.backend.stop(built.id).await.expect("it stops");
    let layer = layers.freeze(built.id, image).await.expect("its files become a layer");
    let again = layers.freeze(built.id, image).await.expect("freezing again is the same");
    assert_eq!(layer, again);
    let one = Spec { layers: vec![layer.clone()], image, ..subject.fresh() };
    let other = Spec { id: SandboxId::new(), ..one.clone() };
    for spec in [&one, &other] {
        subject.backend.create(spec).await.expect("it starts from the image");
    }
    write(subject, one.id, "changed").await;
    assert_eq!(read(subject, one.id).await, "changed");
    assert_eq!(read(subject, other.id).await, "built");
    for id in [built.id, one.id, other.id] {
        subject.discard(id).await;
    }
    layers.remove(image).await.expect("an unused layer is deleted");
}

/// Questions about a sandbox that never was have their own error.
pub async fn unknown_sandboxes_are_named_as_such(subject: &Subject) {
    let id = SandboxId::new();
    let connected = subject.backend.connect(id).await.map(drop);
    assert!(matches!(connected, Err(Error::Unknown { .. })), "{connected:?}");
    let ended = subject.backend.ended(id).await;
    assert!(matches!(ended, Err(Error::Unknown { .. })), "{ended:?}");
    subject.backend.discard(id).await.expect("there is nothing to discard");
}

/// Twenty starts at once all answer.
pub async fn many_start_at_once(subject: &Subject) {
    let starts = (0..20).map(|_| async {
        let spec = subject.started().await;
        assert_eq!(subject.exec(spec.id, &["echo", "up"]).await.stdout, b"up\n");
        spec.id
    });
    let ids = futures_util::future::join_all(starts).await;
    let observed = subject.backend.observe().await.expect("the backend knows them");
    let running =
        observed.iter().filter(|one| ids.contains(&one.id) && one.state == ObservedState::Running);
    assert_eq!(running.count(), 20);
    futures_util::future::join_all(ids.iter().map(|id| subject.discard(*id))).await;
}

async fn write(subject: &Subject, id: SandboxId, content: &'static str) {
    let written = subject.client(id).write_file(&subject.file, content.into()).await;
    written.expect("the file can be written");
}

async fn read(subject: &Subject, id: SandboxId) -> String {
    let content = subject.client(id).read_file(&subject.file, 1024).await;
    String::from_utf8_lossy(&content.expect("the file can be read")).into_owned()
}
