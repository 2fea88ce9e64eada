//! What works on this machine, found by starting a sandbox.

use std::time::Instant;

use protocol::sandbox::{
    Enforcement, Isolation, LimitReport, Limits, SandboxDescription, StartPath,
};
use protocol::{ImageId, SandboxId};

use super::Container;
use crate::{Backend, Base, Check, CheckState, Error, Probe, Spec};

/// Starts a sandbox whose PID 1 only waits, and stops it again.
pub(super) async fn probe(container: &Container) -> Probe {
    let mut checks = vec![maps(container), program(container)];
    let spec = Spec {
        id: SandboxId::new(),
        image: ImageId::new(),
        layers: Vec::new(),
        base: Base::Host,
        isolation: Isolation::Namespaces,
        environment: Vec::new(),
        limits: Limits::default(),
        upper_from: None,
        mirror: None,
        toolkit: container.config.data.join("base"),
        path: StartPath::Image,
    };
    let begun = Instant::now();
    let program = ["/usr/bin/sleep", "3600"].map(str::to_owned);
    let created = container.start(&spec, &program).await;
    let elapsed = begun.elapsed();
    let works = created.is_ok();
    checks.push(Check { what: "starting a sandbox".into(), state: started(created) });
    let stopped = container.discard(spec.id).await;
    if let Err(error) = stopped {
        let hint = "look for processes of this sandbox".to_owned();
        let state = CheckState::Weak { detail: error.to_string(), hint };
        checks.push(Check { what: "stopping a sandbox".into(), state });
    }
    let limits = container.groups.reports(&Limits::default());
    checks.extend(limits.iter().map(limit));
    let start_milliseconds = works.then(|| u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
    Probe { isolation: Isolation::Namespaces, works, start_milliseconds, checks, limits }
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

fn started(created: Result<SandboxDescription, Error>) -> CheckState {
    match created {
        Ok(_) => CheckState::Good { detail: "namespaces, overlay root, loopback only".into() },
        Err(Error::Unsupported { what, hint }) => CheckState::Missing { detail: what, hint },
        Err(error) => CheckState::Missing {
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
