//! Sandboxes inside this process: agentd's real API over in-memory pipes, and no foreign code.
//!
//! [`Client`](crate::agentd::Client) and everything above it run unchanged. The agent is a
//! [`Script`]; commands are the five of [`commands`]; files live in memory, and the workspace
//! refuses writes until it was synced, as in a real sandbox. Failures happen when asked for.

mod commands;
mod reports;
mod script;
mod service;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use protocol::sandbox::{Enforcement, Isolation, LimitReport, SandboxDescription};
use protocol::{ImageId, SandboxId};
use tokio::sync::watch;

pub use self::script::{Script, Simple, Turn};
pub use self::world::World;
use crate::{
    Backend, Check, CheckState, Error, Exceeded, Layers, Observed, ObservedState, Probe, Spec,
    Stream,
};

type Files = BTreeMap<String, Bytes>;

/// A backend whose sandboxes are tasks of this process.
#[derive(Debug)]
pub struct Simulated {
    directory: PathBuf,
    script: Arc<dyn Script>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sandboxes: HashMap<SandboxId, Entry>,
    frozen: HashMap<PathBuf, Files>,
    failures: Vec<String>,
    exceeded: Vec<Exceeded>,
    created: Vec<Spec>,
}

#[derive(Debug)]
struct Entry {
    /// None from `prepare` to `create`.
    world: Option<Arc<World>>,
    /// Set when it ended.
    ended: watch::Sender<Option<String>>,
    /// Its files, once it ended.
    upper: Option<Files>,
    /// What it was started from; none before.
    spec: Option<Spec>,
    /// Who took its files over.
    taken: Option<SandboxId>,
}

impl Simulated {
    /// A backend that keeps its gateway directories under `directory`; every agent follows `script`.
    pub fn new(directory: impl Into<PathBuf>, script: impl Script + 'static) -> Self {
        Self {
            directory: directory.into(),
            script: Arc::new(script),
            state: Mutex::new(State::default()),
        }
    }

    /// Lets the next `create` fail; called twice, the next two.
    pub fn fail_next_create(&self, reason: impl Into<String>) {
        self.lock().failures.push(reason.into());
    }

    /// Lets a sandbox have hit one of its limits.
    pub fn exceed(&self, exceeded: Exceeded) {
        self.lock().exceeded.push(exceeded);
    }

    /// Ends a sandbox as if its PID 1 had died.
    pub fn lose(&self, id: SandboxId, reason: &str) {
        self.end(id, reason);
    }

    /// Breaks every connection to a sandbox's agentd; new ones are accepted.
    pub fn drop_connections(&self, id: SandboxId) {
        if let Some(world) = self.world(id) {
            world.drop_connections();
        }
    }

    /// What was created so far, in order, failed attempts included.
    pub fn created(&self) -> Vec<Spec> {
        self.lock().created.clone()
    }

    /// What a running sandbox was asked to do so far.
    pub fn world(&self, id: SandboxId) -> Option<Arc<World>> {
        self.lock().sandboxes.get(&id).and_then(|entry| entry.world.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, id: SandboxId, reason: &str) {
        let mut state = self.lock();
        let Some(entry) = state.sandboxes.get_mut(&id) else { return };
        if let Some(world) = entry.world.take() {
            world.shut_down();
            entry.upper = Some(world.take_files());
            entry.ended.send_replace(Some(reason.to_owned()));
        }
    }

    fn start(&self, spec: &Spec) -> Result<SandboxDescription, Error> {
        let mut state = self.lock();
        state.created.push(spec.clone());
        if !state.failures.is_empty() {
            let reason = state.failures.remove(0);
            return Err(Error::Injected { id: spec.id, reason });
        }
        let known = state.sandboxes.entry(spec.id).or_insert_with(Entry::prepared);
        if known.world.is_some() {
            let begun = known.spec.clone();
            return Ok(describe(&begun.unwrap_or_else(|| spec.clone())));
        }
        let own = known.upper.take().filter(|_| has_same_layers(known.spec.as_ref(), spec));
        let files = match own {
            Some(files) => files,
            None if known.ended.borrow().is_some() && known.spec.is_some() => {
                let why = "its files were taken before".to_owned();
                return Err(Error::State { doing: "start", id: spec.id, why });
            }
            None => fresh_files(&mut state, spec)?,
        };
        let world = Arc::new(World::new(files, Arc::clone(&self.script)));
        let entry = state.sandboxes.entry(spec.id).or_insert_with(Entry::prepared);
        entry.world = Some(world);
        entry.spec = Some(spec.clone());
        entry.ended.send_replace(None);
        Ok(describe(spec))
    }
}

fn describe(spec: &Spec) -> SandboxDescription {
    SandboxDescription {
        plain_secrets: Vec::new(),
        id: spec.id,
        image: spec.image,
        isolation: Isolation::Simulated,
        path: spec.path,
        limits: spec.limits,
        enforcement: limits(),
    }
}

fn has_same_layers(begun: Option<&Spec>, spec: &Spec) -> bool {
    begun.is_some_and(|begun| begun.layers == spec.layers)
}

/// The layers' files, with those of the sandbox it continues on top.
fn fresh_files(state: &mut State, spec: &Spec) -> Result<Files, Error> {
    let mut files = Files::new();
    for layer in spec.layers.iter().rev() {
        let frozen = state.frozen.get(layer).ok_or_else(|| Error::Files {
            doing: "read",
            path: layer.clone(),
            source: std::io::ErrorKind::NotFound.into(),
        })?;
        files.extend(frozen.clone());
    }
    if let Some(from) = spec.upper_from {
        files.extend(take_over(state, from, spec)?);
    }
    Ok(files)
}

/// The files of `from`, from whoever has them now.
fn take_over(state: &mut State, from: SandboxId, spec: &Spec) -> Result<Files, Error> {
    let entry = state.sandboxes.get(&from).ok_or(Error::Unknown { id: from })?;
    let taker = entry.taken.filter(|taker| {
        state.sandboxes.get(taker).is_some_and(|it| it.world.is_some() || it.upper.is_some())
    });
    let holder = taker.unwrap_or(from);
    let begun = state.sandboxes.get(&holder).and_then(|entry| entry.spec.as_ref());
    if begun.is_some_and(|begun| begun.layers != spec.layers) {
        let why = "its files lie on the layers of another image".to_owned();
        return Err(Error::State { doing: "continue from", id: holder, why });
    }
    let files = take_upper(state, holder, "continue from")?;
    if holder != from {
        state.sandboxes.remove(&holder);
    }
    if let Some(entry) = state.sandboxes.get_mut(&from) {
        entry.taken = Some(spec.id);
    }
    Ok(files)
}

impl Entry {
    fn prepared() -> Self {
        Self { world: None, ended: watch::Sender::new(None), upper: None, spec: None, taken: None }
    }
}

fn take_upper(state: &mut State, id: SandboxId, doing: &'static str) -> Result<Files, Error> {
    let entry = state.sandboxes.get_mut(&id).ok_or(Error::Unknown { id })?;
    if entry.world.is_some() {
        return Err(Error::State { doing, id, why: "it is running".into() });
    }
    let why = "its files are gone: it never ran, or they were taken before";
    entry.upper.take().ok_or_else(|| Error::State { doing, id, why: why.into() })
}

#[async_trait]
impl Backend for Simulated {
    fn isolation(&self) -> Isolation {
        Isolation::Simulated
    }

    async fn probe(&self, isolation: Isolation) -> Probe {
        Probe {
            isolation,
            runtime: None,
            works: isolation == Isolation::Simulated,
            start_milliseconds: (isolation == Isolation::Simulated).then_some(0),
            checks: vec![Check {
                what: "isolation".into(),
                state: CheckState::Weak {
                    detail: "sandboxes are simulated: no command and no agent really runs".into(),
                    hint: "use the container backend for work".into(),
                },
            }],
            limits: limits(),
        }
    }

    async fn prepare(&self, spec: &Spec) -> Result<(), Error> {
        let path = self.gateway_directory(spec.id);
        tokio::fs::create_dir_all(&path).await.map_err(|source| Error::Files {
            doing: "create",
            path,
            source,
        })?;
        self.lock().sandboxes.entry(spec.id).or_insert_with(Entry::prepared);
        Ok(())
    }

    async fn create(&self, spec: &Spec) -> Result<SandboxDescription, Error> {
        self.prepare(spec).await?;
        self.start(spec)
    }

    async fn observe(&self) -> Result<Vec<Observed>, Error> {
        let state = self.lock();
        let observed = state.sandboxes.iter().map(|(id, entry)| Observed {
            id: *id,
            state: match (&entry.world, &*entry.ended.borrow()) {
                (Some(_), _) => ObservedState::Running,
                (None, Some(reason)) => ObservedState::Ended { reason: reason.clone() },
                (None, None) => ObservedState::Prepared,
            },
        });
        Ok(observed.collect())
    }

    async fn connect(&self, id: SandboxId) -> Result<Box<dyn Stream>, Error> {
        if !self.lock().sandboxes.contains_key(&id) {
            return Err(Error::Unknown { id });
        }
        let refused = || std::io::ErrorKind::ConnectionRefused.into();
        let world = self.world(id).ok_or_else(|| Error::Connect { id, source: refused() })?;
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        service::serve(world, theirs);
        Ok(Box::new(ours))
    }

    async fn ended(&self, id: SandboxId) -> Result<String, Error> {
        let mut ended = {
            let state = self.lock();
            state.sandboxes.get(&id).ok_or(Error::Unknown { id })?.ended.subscribe()
        };
        match ended.wait_for(Option::is_some).await {
            Ok(reason) => Ok(reason.clone().unwrap_or_default()),
            Err(_) => Ok("it was discarded".into()),
        }
    }

    async fn stop(&self, id: SandboxId) -> Result<(), Error> {
        self.end(id, "it was stopped");
        Ok(())
    }

    async fn discard(&self, id: SandboxId) -> Result<(), Error> {
        self.end(id, "it was stopped");
        self.lock().sandboxes.remove(&id);
        let path = self.directory.join(id.to_string());
        match tokio::fs::remove_dir_all(&path).await {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::Files { doing: "remove", path, source })
            }
            _ => Ok(()),
        }
    }

    async fn exceeded(&self) -> Result<Vec<Exceeded>, Error> {
        Ok(std::mem::take(&mut self.lock().exceeded))
    }

    async fn reap(&self, known: &[SandboxId]) -> Result<Vec<SandboxId>, Error> {
        let running = |state: &ObservedState| *state == ObservedState::Running;
        let observed = self.observe().await?.into_iter().filter(|one| running(&one.state));
        let strangers: Vec<_> =
            observed.map(|one| one.id).filter(|id| !known.contains(id)).collect();
        for id in &strangers {
            self.stop(*id).await?;
        }
        Ok(strangers)
    }

    fn gateway_directory(&self, id: SandboxId) -> PathBuf {
        self.directory.join(id.to_string()).join("gateway")
    }

    fn layers(&self) -> Option<&dyn Layers> {
        Some(self)
    }
}

#[async_trait]
impl Layers for Simulated {
    async fn freeze(&self, sandbox: SandboxId, image: ImageId) -> Result<PathBuf, Error> {
        let path = layer(image);
        let mut state = self.lock();
        if !state.frozen.contains_key(&path) {
            let files = take_upper(&mut state, sandbox, "freeze")?;
            state.frozen.insert(path.clone(), files);
        }
        Ok(path)
    }

    fn changed(&self, _: SandboxId) -> Result<Option<PathBuf>, Error> {
        Ok(None)
    }

    async fn remove(&self, image: ImageId) -> Result<(), Error> {
        self.lock().frozen.remove(&layer(image));
        Ok(())
    }
}

fn layer(image: ImageId) -> PathBuf {
    Path::new("/simulated").join(image.to_string())
}

fn limits() -> Vec<LimitReport> {
    let reason = "nothing foreign runs in a simulated sandbox";
    let mut reports: Vec<_> = ["memory", "cpu", "pids", "disk", "run_time"]
        .map(|limit| LimitReport {
            limit: limit.into(),
            enforcement: Enforcement::NotEnforced { reason: reason.into() },
        })
        .into();
    // What passes the gateway's socket is real.
    let enforcement = Enforcement::Enforced { by: "the gateway".into() };
    reports.push(LimitReport { limit: "egress".into(), enforcement });
    reports
}
