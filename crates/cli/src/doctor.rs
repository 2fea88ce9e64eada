//! What this machine can do, as findings with advice: judged and rendered without looking anywhere.
//!
//! [`facts`] looks; everything here is a function of what it saw, so that every sentence is tested.

pub mod facts;
mod levels;

use protocol::sandbox::{Isolation, LevelReport};
use sandbox::{CheckState, Probe};
use serde::Serialize;

use crate::format;
use crate::style::{Style, Tone};
use crate::{escape, toolkit};
use facts::Facts;

/// Free space below which images and sandboxes soon have no room.
const LITTLE_SPACE: u64 = 5 << 30;
/// Oldest git that is known to do all that is asked of it (partial ref updates, `--reference`).
const OLDEST_GIT: (u32, u32) = (2, 30);

/// How one thing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Good,
    /// It works, but less well than it could.
    Weak,
    /// It is not there, and needed.
    Missing,
    /// It is not there, and only some uses need it.
    Optional,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What, in a few words.
    pub what: String,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// Everything that was looked at; the JSON of `hangar doctor --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether nothing that is needed is missing.
    pub ready: bool,
    /// The isolation that sandboxes really got, if one started.
    pub isolation: Option<&'static str>,
    /// The findings, in the order of dependence.
    pub findings: Vec<Finding>,
    /// Every level of isolation, each tried by starting a sandbox.
    pub levels: Vec<LevelReport>,
}

impl Report {
    /// Judges what was seen, and what the sandbox backend found by trying each level. `isolation` is
    /// the one that sandboxes get where nobody asks for another.
    pub fn new(facts: &Facts, isolation: Isolation, probes: &[Probe]) -> Self {
        let probe = probes.iter().find(|probe| probe.isolation == isolation);
        let mut findings =
            vec![data_directory(facts), disk_space(facts), git(facts), git_server(facts)];
        match probe {
            Some(probe) => findings.extend(sandboxes(probe)),
            None => findings.push(missing(
                "sandboxes",
                "not tried: the programs that start them are not beside this one",
                "build all programs with `make build`, and keep them in one directory",
            )),
        }
        findings.extend([built_in_agent(facts), opencode(facts), npm(facts), models(facts)]);
        let ready = findings.iter().all(|finding| finding.state != State::Missing);
        let isolation = probe.filter(|probe| probe.works).map(|probe| probe.isolation.as_str());
        Self { ready, isolation, findings, levels: probes.iter().map(Probe::report).collect() }
    }

    /// The table for people, each piece of advice below what it is about.
    pub fn lines(&self, style: Style) -> Vec<String> {
        let rows: Vec<_> = self.findings.iter().map(row).collect();
        let mut lines = Vec::new();
        for (finding, line) in self.findings.iter().zip(format::table(&rows)) {
            let (tone, mark) = match finding.state {
                State::Good => (Tone::Good, "✓"),
                State::Weak => (Tone::Warning, "!"),
                State::Missing => (Tone::Bad, "✗"),
                State::Optional => (Tone::Faint, "·"),
            };
            lines.push(format!("{} {line}", style.paint(tone, mark)));
            let hint =
                finding.hint.as_ref().map(|hint| format!("    hint: {}", escape::line(hint)));
            lines.extend(hint);
        }
        if !self.levels.is_empty() {
            lines.push(String::new());
            lines.extend(levels::lines(&self.levels, style));
        }
        lines.push(String::new());
        lines.push(match (self.ready, self.isolation) {
            (true, Some(isolation)) => {
                format!("This machine is ready; sandboxes get the isolation `{isolation}`.")
            }
            (true, None) => "This machine is ready.".to_owned(),
            (false, _) => "This machine is not ready: see the lines marked ✗.".to_owned(),
        });
        lines
    }
}

fn row(finding: &Finding) -> Vec<String> {
    vec![finding.what.clone(), escape::line(&finding.detail)]
}

fn finding(what: &str, state: State, detail: impl Into<String>, hint: Option<&str>) -> Finding {
    Finding { what: what.to_owned(), state, detail: detail.into(), hint: hint.map(str::to_owned) }
}

fn good(what: &str, detail: impl Into<String>) -> Finding {
    finding(what, State::Good, detail, None)
}

fn missing(what: &str, detail: impl Into<String>, hint: &str) -> Finding {
    finding(what, State::Missing, detail, Some(hint))
}

fn data_directory(facts: &Facts) -> Finding {
    let path = facts.data.display();
    match &facts.data_trouble {
        None => good("data directory", format!("{path}")),
        Some(trouble) => missing("data directory", trouble, "choose another with --data"),
    }
}

fn disk_space(facts: &Facts) -> Finding {
    let what = "disk space";
    match facts.free_bytes {
        None => finding(what, State::Weak, "could not be found out", None),
        Some(free) if free < LITTLE_SPACE => {
            let detail = format!("{} free", format::bytes(free));
            finding(
                what,
                State::Weak,
                detail,
                Some("free some, or choose another disk with --data"),
            )
        }
        Some(free) => good(what, format!("{} free", format::bytes(free))),
    }
}

fn git(facts: &Facts) -> Finding {
    let Some(version) = &facts.git_version else {
        return missing("git", "not found", "apt-get install git");
    };
    match version_numbers(version) {
        Some(numbers) if numbers < OLDEST_GIT => {
            let (major, minor) = OLDEST_GIT;
            let detail = format!("{version}; {major}.{minor} or newer is needed");
            missing("git", detail, "install a newer git")
        }
        _ => good("git", version.as_str()),
    }
}

/// The first two numbers of `git version 2.47.3`.
fn version_numbers(text: &str) -> Option<(u32, u32)> {
    let version =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut numbers = version.split('.').map_while(|part| part.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn git_server(facts: &Facts) -> Finding {
    match &facts.git_http_backend {
        Some(path) => good("git http-backend", path.display().to_string()),
        None => missing(
            "git http-backend",
            "not found: the local Git host cannot serve repositories",
            "install the whole of git: apt-get install git",
        ),
    }
}

fn sandboxes(probe: &Probe) -> Vec<Finding> {
    let mut findings: Vec<_> = probe
        .checks
        .iter()
        .map(|check| match &check.state {
            CheckState::Good { detail } => good(&check.what, detail),
            CheckState::Weak { detail, hint } => {
                finding(&check.what, State::Weak, detail, Some(hint))
            }
            CheckState::Missing { detail, hint } => missing(&check.what, detail, hint),
        })
        .collect();
    for report in probe.limits.iter().filter(|report| !is_told(probe, &report.limit)) {
        let what = format!("limit of {}", report.limit.replace('_', " "));
        findings.push(match &report.enforcement {
            protocol::sandbox::Enforcement::Enforced { by } => good(&what, by),
            protocol::sandbox::Enforcement::NotEnforced { reason } => {
                finding(&what, State::Weak, format!("not enforced: {reason}"), None)
            }
        });
    }
    let isolation = probe.isolation.as_str();
    findings.push(match probe.start_milliseconds {
        Some(time) if probe.works => {
            good("sandboxes", format!("one was started in {time} ms, isolation {isolation}"))
        }
        _ if probe.works => good("sandboxes", format!("one was started, isolation {isolation}")),
        _ => missing("sandboxes", "none could be started", "see the lines above"),
    });
    findings
}

/// Whether one of the backend's own checks is about a limit already.
fn is_told(probe: &Probe, limit: &str) -> bool {
    let name = limit.replace('_', " ");
    probe.checks.iter().any(|check| check.what == format!("limit of {name}"))
}

fn built_in_agent(facts: &Facts) -> Finding {
    match &facts.built_in_agent {
        Some(_) => good("built-in agent", "installed"),
        None => missing(
            "built-in agent",
            "hangar-agent is not beside this program",
            "build all programs with `make build`, and keep them in one directory",
        ),
    }
}

fn opencode(facts: &Facts) -> Finding {
    let version = toolkit::OPENCODE_VERSION;
    if facts.opencode_installed {
        return good("OpenCode", format!("{version} installed"));
    }
    let hint = "hangar toolkit install opencode";
    finding("OpenCode", State::Optional, "not installed", Some(hint))
}

fn npm(facts: &Facts) -> Finding {
    match &facts.npm_version {
        Some(version) => good("npm", version.as_str()),
        None => finding(
            "npm",
            State::Optional,
            "not found; only installing OpenCode needs it",
            Some("apt-get install npm"),
        ),
    }
}

fn models(facts: &Facts) -> Finding {
    if facts.model_keys.is_empty() {
        let detail = "no key: the built-in rehearsal answers in place of a model";
        let hint = "export ANTHROPIC_API_KEY or OPENAI_API_KEY before starting the server";
        return finding("model keys", State::Optional, detail, Some(hint));
    }
    good("model keys", format!("{} set", facts.model_keys.join(", ")))
}

#[cfg(test)]
mod tests {
    use protocol::sandbox::{Enforcement, LimitReport};
    use sandbox::Check;

    use super::*;

    fn ready_machine() -> Facts {
        Facts {
            data: "/data".into(),
            data_trouble: None,
            free_bytes: Some(50 << 30),
            git_version: Some("git version 2.47.3".to_owned()),
            git_http_backend: Some("/usr/lib/git-core/git-http-backend".into()),
            npm_version: None,
            built_in_agent: Some("/bin/hangar-agent".into()),
            opencode_installed: false,
            model_keys: Vec::new(),
        }
    }

    fn probe(works: bool) -> Probe {
        let state = if works {
            CheckState::Good { detail: "allowed".to_owned() }
        } else {
            let hint = "sysctl kernel.unprivileged_userns_clone=1".to_owned();
            CheckState::Missing { detail: "forbidden by the kernel".to_owned(), hint }
        };
        let reason = "the file system has no quotas".to_owned();
        Probe {
            isolation: Isolation::Namespaces,
            runtime: Some("hangar-launch 1.0".to_owned()),
            works,
            start_milliseconds: works.then_some(9),
            checks: vec![Check { what: "user namespaces".to_owned(), state }],
            limits: vec![
                LimitReport {
                    limit: "disk".to_owned(),
                    enforcement: Enforcement::NotEnforced { reason },
                },
                LimitReport {
                    limit: "egress".to_owned(),
                    enforcement: Enforcement::Enforced { by: "the gateway".to_owned() },
                },
            ],
        }
    }

    #[test]
    fn a_ready_machine() {
        let report = Report::new(&ready_machine(), Isolation::Namespaces, &[probe(true)]);
        let expected = "\
✓ data directory    /data
✓ disk space        50.0 GiB free
✓ git               git version 2.47.3
✓ git http-backend  /usr/lib/git-core/git-http-backend
✓ user namespaces   allowed
! limit of disk     not enforced: the file system has no quotas
✓ limit of egress   the gateway
✓ sandboxes         one was started in 9 ms, isolation namespaces
✓ built-in agent    installed
· OpenCode          not installed
    hint: hangar toolkit install opencode
· npm               not found; only installing OpenCode needs it
    hint: apt-get install npm
· model keys        no key: the built-in rehearsal answers in place of a model
    hint: export ANTHROPIC_API_KEY or OPENAI_API_KEY before starting the server

  isolation   started in  limits not held  runtime
✓ namespaces  9 ms        disk             hangar-launch 1.0

This machine is ready; sandboxes get the isolation `namespaces`.";
        assert_eq!(report.lines(Style::Plain).join("\n"), expected);
    }

    #[test]
    fn what_is_missing_is_said_with_advice_and_nothing_is_downgraded() {
        let mut facts = ready_machine();
        facts.git_version = Some("git version 2.11.0".to_owned());
        facts.git_http_backend = None;
        facts.data_trouble = Some("/data cannot be written: read-only file system".to_owned());
        facts.free_bytes = Some(100 << 20);
        let report = Report::new(&facts, Isolation::Namespaces, &[probe(false)]);
        assert!(!report.ready);
        assert_eq!(report.isolation, None);
        let broken: Vec<_> =
            report.findings.iter().filter(|finding| finding.state == State::Missing).collect();
        let names: Vec<_> = broken.iter().map(|finding| finding.what.as_str()).collect();
        let expected =
            ["data directory", "git", "git http-backend", "user namespaces", "sandboxes"];
        assert_eq!(names, expected);
        assert!(broken.iter().all(|finding| finding.hint.is_some()));
        let text = report.lines(Style::Plain).join("\n");
        assert!(text.ends_with("This machine is not ready: see the lines marked ✗."), "{text}");
    }

    #[test]
    fn without_its_programs_nothing_is_ready() {
        assert!(!Report::new(&ready_machine(), Isolation::Namespaces, &[]).ready);
    }

    #[test]
    fn keys_are_named_and_never_shown() {
        let mut facts = ready_machine();
        facts.model_keys = vec!["ANTHROPIC_API_KEY"];
        let report = Report::new(&facts, Isolation::Namespaces, &[probe(true)]);
        let last = report.findings.last().expect("findings");
        assert_eq!(last.detail, "ANTHROPIC_API_KEY set");
    }
}
