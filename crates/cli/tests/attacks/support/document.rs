//! `docs/security.md`: the introduction is written by hand, the table by the attempts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

use protocol::sandbox::Isolation;
use serde_json::Value;

use super::attempt::{Attempt, Group};
use super::run;

/// Set to write the document instead of comparing it; the outcomes come from the last runs.
const WRITE: &str = "HANGAR_WRITE_SECURITY";
const BEGIN: &str = "<!-- From here on written by the attack suite. -->\n";
const HINT: &str = "write it anew, after a run of the whole suite: \
                    HANGAR_WRITE_SECURITY=1 cargo test -p cli --test attacks document";

/// Compares the committed document with the attempts, or writes it.
pub(crate) fn compare() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let text = std::fs::read_to_string(&path).expect("docs/security.md");
    let (introduction, written) = text.split_once(BEGIN).expect("the mark in docs/security.md");
    if std::env::var_os(WRITE).is_some() {
        let all = format!("{introduction}{BEGIN}{}", tables());
        std::fs::write(&path, all).expect("docs/security.md is written");
        return;
    }
    let promised: BTreeSet<String> = every().iter().map(promise).collect();
    let lines = written.lines().filter(|line| line.starts_with("| `"));
    // The outcomes behind are those of the machine on which it was written.
    let found: BTreeSet<String> = lines.map(|line| cells(line, 3)).collect();
    let missing: Vec<_> = promised.difference(&found).collect();
    let surplus: Vec<_> = found.difference(&promised).collect();
    assert!(missing.is_empty(), "docs/security.md lacks {missing:#?}; {HINT}");
    assert!(surplus.is_empty(), "docs/security.md has what nobody tries: {surplus:#?}; {HINT}");
    assert!(!written.contains("BREACH"), "docs/security.md tells of a breach");
}

/// Names are unique and well-formed, and everything is said.
pub(crate) fn names() {
    let mut seen = BTreeSet::new();
    for attempt in every() {
        let Attempt { name, tries, expected, .. } = attempt;
        let kebab =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        assert!(name.chars().all(kebab), "{name} is not kebab-case");
        assert!(seen.insert(name), "{name} is there twice");
        assert!(!tries.is_empty() && !expected.is_empty(), "{name} does not say what it is about");
        assert!(!format!("{tries}{expected}").contains(['|', '\n']), "{name} breaks the table");
        assert!(!attempt.levels.is_empty(), "{name} is tried nowhere");
    }
    for group in Group::ALL {
        let count = crate::attempts(group).len();
        assert!(crate::attempts(group).iter().all(|it| it.group == group), "{group:?} is mixed");
        eprintln!("{}: {count} attempts", group.as_str());
    }
}

fn every() -> Vec<Attempt> {
    Group::ALL.into_iter().flat_map(crate::attempts).collect()
}

fn promise(attempt: &Attempt) -> String {
    format!("| `{}` | {} | {} ", attempt.name, attempt.tries, attempt.expected)
}

/// The first cells of a row.
fn cells(line: &str, count: usize) -> String {
    line.split_inclusive('|').take(count + 1).collect::<String>().trim_end_matches('|').to_owned()
}

fn tables() -> String {
    let outcomes = outcomes();
    let mut text = String::new();
    for group in Group::ALL {
        let attempts = crate::attempts(group);
        let title = group.as_str();
        let _ = write!(text, "\n### {}{}\n\n", title[..1].to_uppercase(), &title[1..]);
        text += "| attempt | it … | what must happen | outcome |\n|---|---|---|---|\n";
        for attempt in &attempts {
            let _ = writeln!(text, "{}| {} |", promise(attempt), outcome(attempt, &outcomes));
        }
    }
    let count = every().len();
    let _ = write!(text, "\n{count} attempts. ");
    text += "*held* means: as root and as an ordinary user, unless it says otherwise.\n";
    text
}

type Outcomes = BTreeMap<(&'static str, Isolation, &'static str), String>;

/// What came of an attempt: `namespaces: held; gvisor: held as root`.
fn outcome(attempt: &Attempt, outcomes: &Outcomes) -> String {
    let at = |level: &Isolation| {
        let of =
            |user| outcomes.get(&(attempt.name, *level, user)).map_or("not run", String::as_str);
        let (root, user) = (of("root"), of("user"));
        let both = if root == user {
            root.to_owned()
        } else {
            format!("{root} as root, {user} as an ordinary user")
        };
        format!("{level}: {both}")
    };
    attempt.levels.iter().map(at).collect::<Vec<_>>().join("; ")
}

/// The outcomes that the last runs wrote down.
fn outcomes() -> Outcomes {
    let mut found = Outcomes::new();
    for attempt in every() {
        for level in Isolation::LEVELS {
            for user in ["root", "user"] {
                if let Some(outcome) = last(&attempt, level, user) {
                    found.insert((attempt.name, level, user), outcome);
                }
            }
        }
    }
    found
}

fn last(attempt: &Attempt, level: Isolation, user: &str) -> Option<String> {
    let name = format!("{}-{level}-{user}.json", attempt.group.as_str());
    let text = std::fs::read(run::results().join(name)).ok()?;
    let report: Value = serde_json::from_slice(&text).ok()?;
    if report.get("not_here").is_some() {
        return Some("not available here".to_owned());
    }
    let lines = report["attempts"].as_array()?;
    let line = lines.iter().find(|line| line["name"] == attempt.name)?;
    Some(match line["outcome"].as_str()? {
        "held" => "held".to_owned(),
        "not_tried" => "nothing to try".to_owned(),
        _ => "BREACH".to_owned(),
    })
}
