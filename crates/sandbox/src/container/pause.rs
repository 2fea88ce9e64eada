//! Putting a sandbox's processes away and waking them: gVisor writes its whole kernel into a file.
//!
//! ```text
//!   running ── agentd lets go ── runsc checkpoint ──▶ ended, with runtime/checkpoint
//!      ▲                                                   │
//!      └── agentd takes hold ◀── runsc restore ────────────┘
//! ```
//!
//! Files stay where they are, in the sandbox's own directory, so only memory is written.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use protocol::SandboxId;
use protocol::sandbox::{Isolation, SandboxDescription};
use serde_json::Value;

use super::files::{failed, make_directory, remove_file, remove_tree, write};
use super::handover::{self, World};
use super::process::{Process, recorded};
use super::runtime::{self, Taker};
use super::{Container, KILL_PATIENCE, PAUSE};
use crate::agentd::Client;
use crate::{Error, Pause};

/// Longer than agentd takes to let go.
const PATIENCE: Duration = Duration::from_secs(10);
/// Why a paused sandbox ended.
const REASON: &str = "it is paused: its processes were put away";

#[async_trait]
impl Pause for Container {
    async fn pause(&self, id: SandboxId) -> Result<(), Error> {
        let one = self.one(id);
        let _only_one_acts_on_it = one.lock().await;
        let directory = self.known(id)?;
        let refused = |why: &str| Error::State { doing: "pause", id, why: why.to_owned() };
        if super::launch::described(&directory)?.isolation != Isolation::Gvisor {
            return Err(refused("only sandboxes of the level gvisor can be written down"));
        }
        let started = recorded(&directory)?.ok_or_else(|| refused("it was not started"))?;
        let process = Process::find(&started).ok_or_else(|| refused("it has ended"))?;
        let checkpoint = directory.join(runtime::CHECKPOINT);
        // Kept as a directory: the runtime has it mounted.
        remove_file(&checkpoint.join("checkpoint.img"))?;
        self.let_go(id, &directory).await?;
        write(&directory.join("ended"), REASON.as_bytes())?;
        let written = self.checkpoint(id, &directory).await;
        if written.is_ok() && process.ended_within(KILL_PATIENCE).await {
            return self.remove_groups(id).await;
        }
        // Where it still runs it goes on; where writing it down ended it, that is told.
        let _tells_the_true_reason = std::fs::remove_file(directory.join("ended"));
        let _wakes_it = std::fs::remove_file(directory.join(runtime::ASLEEP));
        written.and(Err(refused("it did not end after it was written down")))
    }

    async fn resume(&self, id: SandboxId) -> Result<SandboxDescription, Error> {
        let one = self.one(id);
        let _only_one_acts_on_it = one.lock().await;
        let directory = self.known(id)?;
        let refused = |why: &str| Error::State { doing: "resume", id, why: why.to_owned() };
        let lives = recorded(&directory)?.as_ref().and_then(Process::find).is_some();
        let checkpoint = directory.join(runtime::CHECKPOINT);
        if lives || !checkpoint.join("checkpoint.img").is_file() {
            return Err(refused("it is not paused"));
        }
        let mut description = super::launch::described(&directory)?;
        if let Taker::Launcher = runtime::choose(&self.config, description.isolation)? {
            return Err(refused("its runtime is gone"));
        }
        self.remove_groups(id).await?;
        let made = self.groups.make(id, &description.limits);
        let groups = serde_json::to_vec(&made.directories).unwrap_or_default();
        write(&directory.join(super::GROUPS), &groups)?;
        self.prepare_restore(&directory, &groups)?;
        let woken = async {
            self.launch(id, &directory).await?;
            self.wait_for_agentd(id, runtime::PATIENCE).await
        };
        if let Err(error) = woken.await {
            // It can be tried again: what was written down is still there.
            self.kill_recorded(&directory).await;
            write(&directory.join("ended"), REASON.as_bytes())?;
            let _tried_again_by_stop = self.remove_groups(id).await;
            return Err(error);
        }
        // Once: two that woke from the same memory would have the same secrets and random numbers.
        remove_file(&checkpoint.join("checkpoint.img"))?;
        description.enforcement = made.reports;
        Ok(description)
    }
}

impl Container {
    /// Asks agentd to close everything that leads to the host, and waits until it says so.
    async fn let_go(&self, id: SandboxId, directory: &Path) -> Result<(), Error> {
        let client = Client::new(Arc::new(self.clone()), id);
        // Its answer may be lost with the connection that it closes: what counts is the file.
        let asked = client.sleep().await;
        let mark = directory.join(runtime::ASLEEP);
        let asleep = async {
            while !mark.exists() {
                tokio::time::sleep(PAUSE).await;
            }
        };
        if tokio::time::timeout(PATIENCE, asleep).await.is_ok() {
            return Ok(());
        }
        let why = match asked {
            Err(error) => error.to_string(),
            Ok(()) => format!("agentd did not let go within {} s", PATIENCE.as_secs()),
        };
        Err(Error::State { doing: "pause", id, why })
    }

    async fn checkpoint(&self, id: SandboxId, directory: &Path) -> Result<(), Error> {
        let launcher = &self.config.launcher;
        let mut command = tokio::process::Command::new(launcher);
        command.args([Path::new("enter"), Path::new("--bundle"), directory, Path::new("--")]);
        command.arg("/runtime").args(runtime::Flavour::Runsc.options());
        command.args(["checkpoint", "--image-path=/checkpoint", "sandbox"]);
        let output = command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .output()
            .await
            .map_err(failed("run", launcher))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let first: String = said.lines().next().unwrap_or_default().chars().take(300).collect();
        let why = format!("gVisor could not write it down: {first}");
        Err(Error::State { doing: "pause", id, why })
    }

    /// Makes the bundle one that wakes what was written down.
    fn prepare_restore(&self, directory: &Path, groups: &[u8]) -> Result<(), Error> {
        let path = directory.join(handover::CONFIG);
        let damaged = |error: serde_json::Error| failed("understand", &path)(error.into());
        let text = std::fs::read(&path).map_err(failed("read", &path))?;
        let mut config: Value = serde_json::from_slice(&text).map_err(damaged)?;
        let annotations = &mut config["annotations"];
        let world = annotations[handover::RUNTIME].as_str().unwrap_or_default();
        let mut world: World = serde_json::from_str(world).map_err(damaged)?;
        if let Some(run) = world.arguments.iter().position(|word| word == "run") {
            "restore".clone_into(&mut world.arguments[run]);
            world.arguments.insert(run + 1, "--image-path=/checkpoint".to_owned());
        }
        annotations[handover::RUNTIME] = serde_json::to_string(&world).map_err(damaged)?.into();
        annotations[handover::GROUPS] = String::from_utf8_lossy(groups).into_owned().into();
        let own = directory.join(runtime::DIRECTORY);
        for name in [own.join("state"), own.join(runtime::AGENTD), directory.join("files/work")] {
            remove_tree(&name)?;
            make_directory(&name, 0o755)?;
            self.owner.give(&name).map_err(failed("give away", &name))?;
        }
        for name in ["ended", handover::STATE] {
            remove_file(&directory.join(name))?;
        }
        write(&path, &serde_json::to_vec(&config).map_err(damaged)?)
    }

    /// Kills the recorded process and forgets it.
    async fn kill_recorded(&self, directory: &Path) {
        if let Ok(Some(started)) = recorded(directory)
            && let Some(process) = Process::find(&started)
        {
            process.kill();
            process.ended_within(KILL_PATIENCE).await;
        }
    }
}
