//! Starting a sandbox: its files, its groups, its bundle, and the launcher.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use protocol::SandboxId;
use protocol::sandbox::{Enforcement, Isolation, LimitReport, Limits, SandboxDescription};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::bundle::{Parts, write_bundle};
use super::files::{failed, remove_tree, write};
use super::handover::{self, Area, Failure};
use super::process::{Process, recorded};
use super::runtime::{self, Taker};
use super::{Container, PAUSE, blocking};
use crate::agentd::Client;
use crate::contract::Backend as _;
use crate::{Base, Error, Spec};

/// The sandbox as it was started, in its directory: a `SandboxDescription`.
const DESCRIPTION: &str = "description.json";

impl Container {
    /// Starts PID 1, or finds it running. Goes on to its end even if nobody waits any more, so that
    /// no half-started sandbox is left.
    pub(super) async fn start(&self, spec: &Spec) -> Result<SandboxDescription, Error> {
        let taker = runtime::choose(&self.config, spec.isolation)?;
        self.prepare(spec).await?;
        let (this, spec) = (self.clone(), spec.clone());
        let started = tokio::spawn(async move { this.start_alone(&spec, taker).await }).await;
        started.map_err(|error| {
            failed("finish a start in", &self.sandboxes())(std::io::Error::other(error))
        })?
    }

    async fn start_alone(&self, spec: &Spec, taker: Taker) -> Result<SandboxDescription, Error> {
        let one = self.one(spec.id);
        let _only_one_acts_on_it = one.lock().await;
        let directory = self.directory(spec.id);
        wait_until_done(&directory).await?;
        match recorded(&directory)? {
            None => {}
            Some(started) if Process::find(&started).is_some() => return described(&directory),
            Some(_) => self.forget_end(spec.id, &directory).await?,
        }
        let started = async {
            let (this, wanted) = (self.clone(), spec.clone());
            let behind_runtime = taker != Taker::Launcher;
            let description = blocking(move || this.lay_out(&wanted, &taker)).await?;
            self.launch(spec.id, &directory).await?;
            if behind_runtime {
                self.wait_for_agentd(spec.id, runtime::PATIENCE).await?;
            }
            Ok(description)
        };
        match started.await {
            Ok(description) => {
                self.watch.add(&directory, &description);
                Ok(description)
            }
            Err(error) => {
                self.undo(spec, &directory).await;
                Err(error)
            }
        }
    }

    /// Makes an ended sandbox one that was only prepared, with its files.
    async fn forget_end(&self, id: SandboxId, directory: &Path) -> Result<(), Error> {
        self.ended_files(id, "start")?;
        self.remove_groups(id).await?;
        // The state last: without it nobody asks for the rest.
        for name in ["ended", handover::STATE] {
            let path = directory.join(name);
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Everything that must be there before the launcher runs.
    fn lay_out(&self, spec: &Spec, taker: &Taker) -> Result<SandboxDescription, Error> {
        let directory = self.directory(spec.id);
        remove_tree(&directory.join(runtime::DIRECTORY))?;
        self.take_files(spec, &directory)?;
        let mut made = self.groups.make(spec.id, &spec.limits);
        let recorded = serde_json::to_vec(&made.directories).unwrap_or_default();
        write(&directory.join(super::GROUPS), &recorded)?;
        let pids_held = hold_processes(&mut made.reports, taker.has_own_kernel());
        let mut lower = spec.layers.clone();
        match &spec.base {
            Base::Host => lower.push(self.skeleton.clone()),
            Base::Layers(base) => lower.extend(base.iter().chain([&self.bare]).cloned()),
        }
        let parts = Parts {
            config: &self.config,
            owner: self.owner,
            directory: &directory,
            lower,
            groups: &made.directories,
            pids_held,
            taker,
        };
        write_bundle(spec, &parts)?;
        let description = SandboxDescription {
            plain_secrets: Vec::new(),
            id: spec.id,
            image: spec.image,
            isolation: spec.isolation,
            path: spec.path,
            limits: spec.limits,
            enforcement: made.reports,
        };
        let text = serde_json::to_vec(&description).unwrap_or_default();
        write(&directory.join(DESCRIPTION), &text)?;
        Ok(description)
    }

    /// Which limits hold at a level, found by holding a group to them.
    pub(super) fn reports(&self, isolation: Isolation, limits: &Limits) -> Vec<LimitReport> {
        let mut reports = self.groups.reports(limits);
        let taker = runtime::choose(&self.config, isolation);
        let _whether_a_group_does =
            hold_processes(&mut reports, taker.is_ok_and(|it| it.has_own_kernel()));
        reports
    }

    pub(super) async fn launch(&self, id: SandboxId, directory: &Path) -> Result<(), Error> {
        let launcher = &self.config.launcher;
        let log = directory.join("launch.log");
        let errors = std::fs::File::create(&log).map_err(failed("create", &log))?;
        let output = tokio::process::Command::new(launcher)
            .args([Path::new("run"), Path::new("--bundle"), directory])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            // A terminal's interrupt is meant for the server, not for a start half done.
            .process_group(0)
            .spawn()
            .map_err(failed("run", launcher))?
            .wait_with_output()
            .await
            .map_err(failed("wait for", launcher))?;
        if output.status.success() {
            return Ok(());
        }
        let failure = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| Failure {
            step: format!("run {} ({}; see {})", launcher.display(), output.status, log.display()),
            errno: Errno::IO.raw_os_error(),
            area: Area::Other,
        });
        Err(explain(id, failure, directory))
    }

    /// Behind a runtime it takes a moment until agentd is there.
    pub(super) async fn wait_for_agentd(
        &self,
        id: SandboxId,
        patience: Duration,
    ) -> Result<(), Error> {
        let directory = self.directory(id);
        let trouble = |step: String, errno: Errno| Error::Start {
            id,
            step,
            source: errno.into(),
            hint: format!("read {}", log_path(&directory).display()),
        };
        let client = Client::new(Arc::new(self.clone()), id);
        let answered = async {
            loop {
                // Answered, not only accepted: a socket that was handed on accepts before anyone runs.
                if client.health().await.is_ok() {
                    return Ok(());
                }
                let lives = recorded(&directory)?.as_ref().and_then(Process::find).is_some();
                if !lives {
                    let said = super::last_words(&directory).unwrap_or_default();
                    let step = format!("keeping its runtime running (its last words: {said})");
                    return Err(trouble(step, Errno::CHILD));
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::time::timeout(patience, answered).await.unwrap_or_else(|_| {
            let seconds = patience.as_secs();
            let step = format!("waiting {seconds} s for agentd to answer, before it was killed,");
            Err(trouble(step, Errno::TIMEDOUT))
        })
    }

    /// Leaves only the prepared directories, and gives taken files back.
    async fn undo(&self, spec: &Spec, directory: &Path) {
        if let Ok(Some(started)) = recorded(directory) {
            // The launcher itself was killed.
            if let Some(process) = Process::find(&started) {
                process.kill();
                process.ended_within(super::KILL_PATIENCE).await;
            }
            let _gone = std::fs::remove_file(directory.join(handover::STATE));
        }
        let _tried_again_by_stop = self.remove_groups(spec.id).await;
        self.give_back(spec, directory);
    }
}

/// Says what holds the number of processes, and whether a group does. The kernel's limit for each user
/// takes its place, except where the processes are another kernel's.
fn hold_processes(reports: &mut [LimitReport], own_kernel: bool) -> bool {
    let Some(report) = reports.iter_mut().find(|report| report.limit == "pids") else {
        return false;
    };
    let held = matches!(report.enforcement, Enforcement::Enforced { .. });
    if !held && !own_kernel {
        let by = "RLIMIT_NPROC in its user namespace".to_owned();
        report.enforcement = Enforcement::Enforced { by };
    }
    held
}

/// A running sandbox as it was started.
pub(super) fn described(directory: &Path) -> Result<SandboxDescription, Error> {
    let path = directory.join(DESCRIPTION);
    let text = std::fs::read(&path).map_err(failed("read", &path))?;
    serde_json::from_slice(&text).map_err(|error| failed("understand", &path)(error.into()))
}

/// Waits until no launcher works in a sandbox's directory, one that a dead server left included.
/// Launchers end themselves after a minute.
pub(super) async fn wait_until_done(directory: &Path) -> Result<(), Error> {
    let path = directory.join(handover::LOCK);
    let file = match std::fs::File::open(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        file => file.map_err(failed("open", &path))?,
    };
    let locked = tokio::time::timeout(Duration::from_secs(70), async {
        loop {
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Err(Errno::WOULDBLOCK | Errno::INTR) => tokio::time::sleep(PAUSE).await,
                locked => return locked,
            }
        }
    });
    locked
        .await
        .unwrap_or(Err(Errno::TIMEDOUT))
        .map_err(|errno| failed("wait for the launcher in", directory)(errno.into()))
}

/// What a failure of the launcher means, and what would change it.
fn explain(id: SandboxId, failure: Failure, directory: &Path) -> Error {
    let Failure { step, errno, area } = failure;
    let source = std::io::Error::from_raw_os_error(errno);
    let errno = Errno::from_raw_os_error(errno);
    let missing = |what: &str, hint: &str| Error::Unsupported {
        what: format!("{what} ({step}: {source})"),
        hint: hint.to_owned(),
    };
    match area {
        Area::UserNamespaces => missing(
            "user namespaces are not available",
            "allow them (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above \
             0, kernel.apparmor_restrict_unprivileged_userns=0), or run hangar as root; inside a \
             container, run that container with them allowed",
        ),
        Area::Overlay
            if matches!(errno, Errno::NODEV | Errno::PERM | Errno::INVAL | Errno::NOSYS) =>
        {
            missing(
                "overlay file systems cannot be mounted",
                "load the module (modprobe overlay), use Linux 5.11 or newer, and keep the data \
                 directory on ext4, xfs or btrfs, not on an overlay",
            )
        }
        Area::Proc if errno == Errno::PERM => missing(
            "/proc cannot be mounted",
            "hangar itself seems to run in a container that hides parts of /proc; run that one \
             with an unmasked /proc",
        ),
        _ => {
            let hint = match errno {
                Errno::NOSPC | Errno::DQUOT => {
                    "the disk is full: free some space and try again".into()
                }
                Errno::NOENT if area == Area::Program => "the toolkit lacks this program".into(),
                Errno::CHILD => format!("read {}", log_path(directory).display()),
                Errno::NOENT => "see that the path exists".into(),
                Errno::ACCESS | Errno::PERM => "see that hangar's user may use it".into(),
                _ => "run `hangar doctor`".into(),
            };
            Error::Start { id, step, source, hint }
        }
    }
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join(handover::LOG)
}
