//! What works on this machine, found by starting a sandbox.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::agentd::ExecRequest;
use protocol::sandbox::{Enforcement, Isolation, LimitReport, Limits, StartPath};
use protocol::{ImageId, SandboxId};

use super::Container;
use super::files::{make_directory, write};
use super::runtime::{self, Taker};
use crate::agentd::Client;
use crate::{Backend, Base, Check, CheckState, Error, Probe, Spec};

/// How long the command that is tried may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a sandbox at this level, runs a command in it, and removes it again.
pub(super) async fn probe(container: &Container, isolation: Isolation) -> Probe {
    let mut checks = Vec::new();
    let mut limits = Vec::new();
    let mut start_milliseconds = None;
    let taker = runtime::choose(&container.config, isolation);
    let runtime = match &taker {
        Ok(taker) => Some(taker.version().await),
        Err(_) => None,
    };
    match taker {
        Err(error) => checks.push(Check { what: "runtime".into(), state: missing(error) }),
        Ok(taker) => {
            checks.extend([maps(container), program(container)]);
            if let Some(runtime) = &runtime
                && taker != Taker::Launcher
            {
                checks.push(good("runtime", runtime.clone()));
            }
            let tried = try_one(container, isolation, &taker).await;
            checks.extend(tried.checks);
            limits = container.reports(isolation, &Limits::default());
            checks.extend(limits.iter().map(limit));
            start_milliseconds = tried.start_milliseconds;
        }
    }
    let works = start_milliseconds.is_some();
    Probe { isolation, works, runtime, start_milliseconds, checks, limits }
}

struct Tried {
    checks: Vec<Check>,
    /// None where something about the level did not work.
    start_milliseconds: Option<u64>,
}

async fn try_one(container: &Container, isolation: Isolation, taker: &Taker) -> Tried {
    let mut tried = Tried { checks: Vec::new(), start_milliseconds: None };
    let Some(toolkit) = container.config.toolkit.clone() else {
        let detail = "there is no toolkit to start a sandbox with".to_owned();
        let hint =
            "build all programs with `make build`, and keep them in one directory".to_owned();
        let state = CheckState::Missing { detail, hint };
        tried.checks.push(Check { what: "starting a sandbox".into(), state });
        return tried;
    };
    let spec = Spec {
        id: SandboxId::new(),
        image: ImageId::new(),
        layers: Vec::new(),
        base: Base::Host,
        isolation,
        environment: Vec::new(),
        limits: Limits::default(),
        upper_from: None,
        mirror: None,
        toolkit,
        path: StartPath::Image,
    };
    mark(container, spec.id);
    let begun = Instant::now();
    let created = container.start(&spec).await;
    let elapsed = begun.elapsed();
    let state = match created {
        Ok(_) => CheckState::Good { detail: "root, limits, loopback only".into() },
        Err(error) => missing(error),
    };
    let started = matches!(state, CheckState::Good { .. });
    tried.checks.push(Check { what: "starting a sandbox".into(), state });
    if started {
        let state = kernel(container, spec.id, taker).await;
        if matches!(state, CheckState::Good { .. }) {
            tried.start_milliseconds = Some(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
        }
        tried.checks.push(Check { what: "running a command in it".into(), state });
    }
    if let Err(error) = container.discard(spec.id).await {
        let hint = "look for processes of this sandbox".to_owned();
        let state = CheckState::Weak { detail: error.to_string(), hint };
        tried.checks.push(Check { what: "stopping a sandbox".into(), state });
    }
    tried
}

/// Asks inside which kernel it is: a wall that is not the wanted one does not count.
async fn kernel(container: &Container, id: SandboxId, taker: &Taker) -> CheckState {
    let client = Client::new(Arc::new(container.clone()), id);
    let request = ExecRequest {
        argv: ["/usr/bin/uname", "-srv"].map(str::to_owned).to_vec(),
        directory: Some("/".into()),
        environment: [].into(),
        stdin: String::new(),
        timeout_milliseconds: None,
    };
    let ran = tokio::time::timeout(PATIENCE, client.exec(&request, 4096)).await;
    let wrong = |detail: String| {
        let hint = "see the message; nothing was left behind".to_owned();
        CheckState::Missing { detail, hint }
    };
    let output = match ran {
        Err(_) => return wrong(format!("no answer within {} s", PATIENCE.as_secs())),
        Ok(Err(error)) => return wrong(error.to_string()),
        Ok(Ok(output)) if output.exit.code != Some(0) => {
            return wrong(format!("uname ended with {:?}", output.exit));
        }
        Ok(Ok(output)) => output,
    };
    let inside = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let host = rustix::system::uname();
    let outside = [host.sysname(), host.release(), host.version()].map(|it| it.to_string_lossy());
    match (taker.has_own_kernel(), inside == outside.join(" ")) {
        (true, false) => CheckState::Good { detail: format!("its own kernel: {inside}") },
        (false, true) => CheckState::Good { detail: format!("the host's kernel: {inside}") },
        (true, true) => wrong("it runs on the host's kernel, which is another wall".into()),
        (false, false) => wrong(format!("it runs on {inside}, which is another wall")),
    }
}

/// So that whoever finds it after a crash knows that nobody continues from it. Where the mark cannot
/// be made nothing can be started either, and that is told.
fn mark(container: &Container, id: SandboxId) {
    let directory = container.directory(id);
    let _told_by_the_start = make_directory(&directory, 0o700)
        .and_then(|()| write(&directory.join(super::reap::PROBED), b""));
}

fn good(what: &str, detail: String) -> Check {
    Check { what: what.into(), state: CheckState::Good { detail } }
}

fn maps(container: &Container) -> Check {
    let owner = container.owner;
    if owner.is_range() {
        return good("user ids", format!("root inside is {} outside, which is nobody", owner.uid));
    }
    let detail = "root inside is you outside; only the mounts keep it from your files".to_owned();
    let hint = "run hangar as root to give sandboxes ids that belong to nobody".to_owned();
    Check { what: "user ids".into(), state: CheckState::Weak { detail, hint } }
}

fn program(container: &Container) -> Check {
    let path = &container.config.launcher;
    if path.is_file() {
        return good("launcher", path.display().to_string());
    }
    let detail = format!("there is no {}", path.display());
    let hint = "install hangar-launch beside hangar".to_owned();
    Check { what: "launcher".into(), state: CheckState::Missing { detail, hint } }
}

fn missing(error: Error) -> CheckState {
    match error {
        Error::Unsupported { what, hint } => CheckState::Missing { detail: what, hint },
        error => CheckState::Missing {
            detail: error.to_string(),
            hint: "see the message; nothing was left behind".into(),
        },
    }
}

fn limit(report: &LimitReport) -> Check {
    let what = format!("limit of {}", report.limit.replace('_', " "));
    match &report.enforcement {
        Enforcement::Enforced { by } => good(&what, by.clone()),
        Enforcement::NotEnforced { reason } => {
            let (detail, hint) = reason.split_once("; ").unwrap_or((reason, "nothing yet"));
            let state = CheckState::Weak { detail: detail.into(), hint: hint.into() };
            Check { what, state }
        }
    }
}
