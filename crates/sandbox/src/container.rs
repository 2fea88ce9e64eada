//! Sandboxes made of Linux namespaces, started by `hangar-launch`.
//!
//! ```text
//! <data>/sandboxes/<id>/   config.json   the OCI bundle
//!                          state.json    who PID 1 is; there from its start on
//!                          ended         why it ended
//!                          agentd.sock   agentd's API; PID 1 listens on it as descriptor 3
//!                          runtime/      of an OCI runtime, where one takes the bundle
//!                          gateway/      seen inside at /run/hangar
//!                          files/upper   what the sandbox changed
//! <data>/images/<id>/layer               a frozen upper
//! <data>/base/host-<hash>                the lowest layer; `bare-<hash>` beneath an image
//! ```
//!
//! Everything is read from these files and from the kernel, nothing is only in memory: a new
//! process over the same directory sees the same sandboxes. All mounts belong to the sandbox's
//! mount namespace and go with PID 1; only limit groups have to be removed.

mod bundle;
mod cgroup;
mod config;
mod connection;
mod files;
mod floor;
pub mod gvisor;
pub mod handover;
mod launch;
mod layers;
mod owner;
mod pause;
mod probe;
mod process;
mod reap;
mod remove;
mod runtime;
mod skeleton;
pub mod system_calls;
mod takeover;
mod watch;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use protocol::SandboxId;
use protocol::sandbox::{Isolation, SandboxDescription};

use self::cgroup::Groups;
pub use self::config::{Config, ReadOnly};
use self::files::{failed, make_directory};
pub(crate) use self::files::{make_private_directory, remove_tree, write};
pub use self::floor::floor;
pub(crate) use self::owner::Owner;
use self::process::{Process, recorded};
pub use self::runtime::LAUNCHER;
use crate::{
    Backend, Error, Exceeded, Layers, Observed, ObservedState, Pause, Probe, Spec, Stream,
};

/// After SIGKILL a process may still write back what it mapped; longer than this is a fault.
const KILL_PATIENCE: Duration = Duration::from_secs(20);
/// The limit groups of a sandbox, in its directory: a JSON array of paths.
const GROUPS: &str = "groups.json";
/// Between two looks at something that has no event.
const PAUSE: Duration = Duration::from_millis(5);

/// The backend. Cheap to clone; clones are the same backend.
#[derive(Debug, Clone)]
pub struct Container {
    config: Arc<Config>,
    owner: Owner,
    groups: Arc<Groups>,
    watch: Arc<watch::Watch>,
    skeleton: PathBuf,
    /// The lowest layer beneath images.
    bare: PathBuf,
    /// One operation at a time on each sandbox.
    locks: Arc<Mutex<HashMap<SandboxId, Arc<tokio::sync::Mutex<()>>>>>,
}

impl Container {
    /// Makes the data directories and the lowest layer, where they do not exist.
    pub fn open(mut config: Config) -> Result<Self, Error> {
        make_directory(&config.data, 0o700)?;
        // Found by another process later, and by the launcher from another directory.
        config.data = config.data.canonicalize().map_err(failed("open", &config.data))?;
        for name in ["sandboxes", "images"] {
            make_directory(&config.data.join(name), 0o700)?;
        }
        reap::sweep_discarded(&config.data.join("sandboxes"))?;
        reap::sweep_base(&config.data.join("base"))?;
        let owner = Owner::of_this_process();
        let points: Vec<&str> =
            config.extra_read_only.iter().map(|it| it.inside.as_str()).collect();
        let skeleton = skeleton::layer(&config.data.join("base"), owner, &points)?;
        let bare = skeleton::bare(&config.data.join("base"), owner)?;
        let groups = Arc::new(Groups::find(&config.data));
        let config = Arc::new(config);
        let (watch, locks) = (Arc::default(), Arc::default());
        Ok(Self { config, owner, groups, watch, skeleton, bare, locks })
    }

    fn sandboxes(&self) -> PathBuf {
        self.config.data.join("sandboxes")
    }

    fn directory(&self, id: SandboxId) -> PathBuf {
        self.sandboxes().join(id.to_string())
    }

    fn one(&self, id: SandboxId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(id).or_default())
    }

    fn known(&self, id: SandboxId) -> Result<PathBuf, Error> {
        let directory = self.directory(id);
        if directory.is_dir() { Ok(directory) } else { Err(Error::Unknown { id }) }
    }

    /// Writes down why an ended sandbox ended, while the kernel still knows, and frees its groups.
    fn settle(&self, id: SandboxId, directory: &Path) -> Result<String, Error> {
        let path = directory.join("ended");
        if let Ok(reason) = std::fs::read_to_string(&path) {
            return Ok(reason);
        }
        let reason = match cgroup::memory_kills(&recorded_groups(directory)) {
            0 => match last_words(directory) {
                Some(words) => format!("its PID 1 ended; its last words: {words}"),
                None => "its PID 1 ended".to_owned(),
            },
            kills => {
                if let Ok(described) = launch::described(directory) {
                    let peak = cgroup::memory_peak(&recorded_groups(directory));
                    let peak = peak.unwrap_or(described.limits.memory_bytes);
                    self.watch.ended_by_memory(id, peak, &described.limits);
                }
                format!("its PID 1 ended; {kills} processes were killed for want of memory")
            }
        };
        self.watch.remove(id);
        write(&path, reason.as_bytes())?;
        let _tried_again_by_stop = self.groups.remove(id, &recorded_groups(directory));
        Ok(reason)
    }

    async fn look(&self, id: SandboxId) -> Result<ObservedState, Error> {
        let directory = self.directory(id);
        launch::wait_until_done(&directory).await?;
        Ok(match recorded(&directory)? {
            None => ObservedState::Prepared,
            Some(started) if Process::find(&started).is_some() => ObservedState::Running,
            Some(_) => ObservedState::Ended { reason: self.settle(id, &directory)? },
        })
    }

    async fn stop_alone(&self, id: SandboxId) -> Result<(), Error> {
        self.watch.remove(id);
        let directory = self.directory(id);
        if directory.is_dir() {
            launch::wait_until_done(&directory).await?;
            if let Some(started) = recorded(&directory)? {
                if let Some(process) = Process::find(&started) {
                    write(&directory.join("ended"), b"it was stopped")?;
                    process.kill();
                    if !process.ended_within(KILL_PATIENCE).await {
                        let remaining = format!("process {} remains", started.pid);
                        return Err(stop_failed(id, remaining));
                    }
                } else {
                    self.settle(id, &directory)?;
                }
            }
        }
        self.remove_groups(id).await
    }

    /// The kernel takes a moment to count the dead out of their group.
    async fn remove_groups(&self, id: SandboxId) -> Result<(), Error> {
        let recorded = recorded_groups(&self.directory(id));
        let removed = async {
            loop {
                match self.groups.remove(id, &recorded) {
                    Ok(()) => return,
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        if tokio::time::timeout(KILL_PATIENCE, removed).await.is_ok() {
            return Ok(());
        }
        self.groups.remove(id, &recorded).map_err(|remaining| stop_failed(id, remaining))
    }
}

/// The limit groups a sandbox was started in.
fn recorded_groups(directory: &Path) -> Vec<PathBuf> {
    let text = std::fs::read(directory.join(GROUPS)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn stop_failed(id: SandboxId, remaining: String) -> Error {
    Error::Stop { id, remaining, seconds: KILL_PATIENCE.as_secs() }
}

/// The last line PID 1 printed, shortened.
fn last_words(directory: &Path) -> Option<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(directory.join(handover::LOG)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(1024))).ok()?;
    let mut end = Vec::new();
    file.take(1024).read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end).into_owned();
    end.lines().rev().find(|line| !line.trim().is_empty()).map(str::to_owned)
}

/// Runs file work that may take long where it holds nobody up.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => match panic.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => {
                Err(failed("finish the work in", Path::new("/"))(std::io::Error::other(cancelled)))
            }
        },
    }
}

#[async_trait]
impl Backend for Container {
    fn isolation(&self) -> Isolation {
        Isolation::Namespaces
    }

    fn levels(&self) -> Vec<Isolation> {
        Isolation::LEVELS.to_vec()
    }

    async fn probe(&self, isolation: Isolation) -> Probe {
        probe::probe(self, isolation).await
    }

    async fn prepare(&self, spec: &Spec) -> Result<(), Error> {
        make_directory(&self.directory(spec.id), 0o700)?;
        make_directory(&self.gateway_directory(spec.id), 0o755)
    }

    async fn create(&self, spec: &Spec) -> Result<SandboxDescription, Error> {
        self.start(spec).await
    }

    async fn observe(&self) -> Result<Vec<Observed>, Error> {
        let sandboxes = self.sandboxes();
        let entries = std::fs::read_dir(&sandboxes).map_err(failed("read", &sandboxes))?;
        let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut observed = Vec::new();
        for id in ids {
            let looked = self.look(id).await;
            match looked {
                // Discarded while it was looked at.
                _ if !self.directory(id).is_dir() => {}
                Ok(state) => observed.push(Observed { id, state }),
                Err(error) => return Err(error),
            }
        }
        Ok(observed)
    }

    async fn connect(&self, id: SandboxId) -> Result<Box<dyn Stream>, Error> {
        let directory = self.known(id)?;
        match connection::connect(&directory).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(source) => Err(Error::Connect { id, source }),
        }
    }

    async fn ended(&self, id: SandboxId) -> Result<String, Error> {
        let directory = self.known(id)?;
        launch::wait_until_done(&directory).await?;
        let Some(started) = recorded(&directory)? else {
            return Err(Error::State { doing: "wait for", id, why: "it was not started".into() });
        };
        if let Some(process) = Process::find(&started) {
            process.ended().await.map_err(failed("watch PID 1 of", &directory))?;
        }
        match self.settle(id, &directory) {
            Err(_) if !directory.is_dir() => Ok("it was discarded".into()),
            settled => settled,
        }
    }

    async fn stop(&self, id: SandboxId) -> Result<(), Error> {
        let one = self.one(id);
        let _only_one_acts_on_it = one.lock().await;
        self.stop_alone(id).await
    }

    async fn discard(&self, id: SandboxId) -> Result<(), Error> {
        let one = self.one(id);
        let _only_one_acts_on_it = one.lock().await;
        self.stop_alone(id).await?;
        let (directory, sandboxes) = (self.directory(id), self.sandboxes());
        blocking(move || {
            // Out of sight at once, so that nobody sees half a sandbox.
            let trash = sandboxes.join(format!("{}{id}", reap::DISCARDED));
            match std::fs::rename(&directory, &trash) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("remove", &directory)(error));
                }
                _ => {}
            }
            remove_tree(&trash)
        })
        .await?;
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Ok(())
    }

    async fn exceeded(&self) -> Result<Vec<Exceeded>, Error> {
        let this = self.clone();
        blocking(move || Ok(this.look_at_limits())).await
    }

    async fn reap(&self, known: &[SandboxId]) -> Result<Vec<SandboxId>, Error> {
        self.reap_strangers(known).await
    }

    fn gateway_directory(&self, id: SandboxId) -> PathBuf {
        self.directory(id).join("gateway")
    }

    fn layers(&self) -> Option<&dyn Layers> {
        Some(self)
    }

    fn pause(&self) -> Option<&dyn Pause> {
        Some(self)
    }
}
