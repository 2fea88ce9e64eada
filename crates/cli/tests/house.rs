//! The rules of the house that no compiler checks: who may depend on whom, and how files look.
//!
//! Everything is read from manifests and sources, so a broken rule fails here and not in a review.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Which crates of the house each crate may name: `cli` on top, `protocol` at the bottom, siblings
/// never each other. `cli` is the composition root, so it may name all of the server's rooms.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("agent", &[]),
    ("agentd", &["protocol"]),
    ("session", &["protocol"]),
    ("journal", &["protocol"]),
    ("sandbox", &["protocol"]),
    ("gateway", &["protocol"]),
    ("forge", &["protocol"]),
    ("conductor", &["session", "journal", "sandbox", "gateway", "forge", "protocol"]),
    ("api", &["conductor", "protocol"]),
    ("slack", &["conductor", "protocol"]),
    ("cli", &["api", "slack", "conductor", "journal", "sandbox", "gateway", "forge", "protocol"]),
];

/// Outside crates with few homes: a second home for one of them is a decision, not an accident.
const HOMES: &[(&str, &[&str])] = &[
    ("axum", &["api"]),
    ("rusqlite", &["journal", "forge"]),
    ("rusqlite_migration", &["journal", "forge"]),
    ("agent-client-protocol", &["agent", "agentd"]),
    ("aho-corasick", &["conductor"]),
    ("chacha20poly1305", &["conductor"]),
    ("oci-client", &["sandbox"]),
    ("oci-spec", &["sandbox"]),
    ("docker_credential", &["sandbox"]),
    ("tar", &["sandbox"]),
    ("pty-process", &["agentd"]),
    ("seccompiler", &["agentd", "sandbox"]),
    ("tokio-tungstenite", &["api", "cli"]),
    ("anyhow", &["cli"]),
    ("clap", &["cli"]),
    ("indicatif", &["cli"]),
    ("tracing-subscriber", &["agent", "agentd", "cli", "sandbox"]),
];

/// Everything the pure crates may use: no runtime, no database, no HTTP, no clock.
const PURE: &[(&str, &[&str])] = &[
    ("protocol", &["ipnet", "serde", "serde_json", "thiserror", "uuid", "zeroize"]),
    ("session", &["protocol", "serde", "serde_json", "thiserror"]),
];

/// Where `unsafe` may stand, as beginnings of paths below `crates/`: set-up of processes and
/// namespaces, for which the system offers nothing safe; and attacks, which call the kernel as an
/// attacker does.
const UNSAFE: &[&str] =
    &["agentd/src/confine", "sandbox/src/bin/hangar-launch", "sandbox/examples/"];

/// Lines of one file without its inline tests.
const FILE_LINES: usize = 600;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("crates/cli has a parent").to_owned()
}

fn manifests() -> BTreeMap<String, toml::Table> {
    let entries = fs::read_dir(crates()).expect("crates/ is readable");
    let manifests: BTreeMap<_, _> = entries
        .map(|entry| entry.expect("an entry of crates/").path().join("Cargo.toml"))
        .filter(|path| path.exists())
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a readable manifest");
            let table: toml::Table = text.parse().expect("a manifest in TOML");
            (table["package"]["name"].as_str().expect("a package name").to_owned(), table)
        })
        .collect();
    assert!(manifests.len() >= 11, "too few manifests were found: {:?}", manifests.keys());
    manifests
}

/// The names in one table of dependencies, those under `[target.…]` included.
fn names(manifest: &toml::Table, section: &str) -> BTreeSet<String> {
    let keys = |table: &toml::Table| {
        let dependencies = table.get(section).and_then(toml::Value::as_table);
        dependencies.map(|table| table.keys().cloned().collect::<Vec<_>>()).unwrap_or_default()
    };
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let of_targets = targets.into_iter().flat_map(toml::Table::values);
    let of_targets = of_targets.filter_map(toml::Value::as_table).flat_map(keys);
    keys(manifest).into_iter().chain(of_targets).collect()
}

fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    ["dependencies", "build-dependencies"].iter().flat_map(|part| names(manifest, part)).collect()
}

fn all_dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let mut all = dependencies(manifest);
    all.extend(names(manifest, "dev-dependencies"));
    all
}

fn sources_below(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Every Rust file of the workspace, as a path below `crates/` with its text.
fn sources() -> Vec<(String, String)> {
    let root = crates();
    let mut found = Vec::new();
    sources_below(&root, &mut found);
    found.sort();
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).expect("below crates/").display().to_string();
        let text = fs::read_to_string(&path).expect("a readable source");
        (name, text)
    };
    let sources: Vec<_> = found.into_iter().map(read).collect();
    assert!(sources.len() >= 20, "too few sources were found: {}", sources.len());
    sources
}

fn without_inline_tests(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(text)
}

fn none(broken: &[String], rule: &str) {
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

#[test]
fn dependencies_run_one_way() {
    let allowed: BTreeMap<_, _> = DIRECTIONS.iter().copied().collect();
    let mut broken = Vec::new();
    for (name, manifest) in manifests() {
        let Some(may) = allowed.get(name.as_str()) else {
            broken.push(format!("{name} has no place in the house: a new crate needs an ADR"));
            continue;
        };
        for dependency in all_dependencies(&manifest) {
            if allowed.contains_key(dependency.as_str()) && !may.contains(&dependency.as_str()) {
                broken.push(format!("{name} names {dependency}"));
            }
        }
    }
    none(&broken, "crates may name only those below them");
}

#[test]
fn outside_crates_stay_in_their_homes() {
    let homes: BTreeMap<_, _> = HOMES.iter().copied().collect();
    let mut broken = Vec::new();
    for (name, manifest) in manifests() {
        for dependency in dependencies(&manifest) {
            if homes.get(dependency.as_str()).is_some_and(|may| !may.contains(&name.as_str())) {
                broken.push(format!("{name} names {dependency}"));
            }
        }
    }
    none(&broken, "these outside crates have other homes");
}

#[test]
fn session_and_protocol_are_pure() {
    let manifests = manifests();
    let mut broken = Vec::new();
    for (name, may) in PURE {
        for dependency in dependencies(&manifests[*name]) {
            if !may.contains(&dependency.as_str()) {
                broken.push(format!("{name} names {dependency}"));
            }
        }
    }
    for (path, text) in sources() {
        let pure = PURE.iter().any(|(name, _)| path.starts_with(&format!("{name}/src/")));
        if pure && (text.contains("SystemTime::now") || text.contains("Instant::now")) {
            broken.push(format!("{path} reads a clock: time is an argument there"));
        }
    }
    none(&broken, "session and protocol hold data and decisions only");
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    let manifests = manifests();
    let without = |manifest: &toml::Table| {
        manifest.get("lints").and_then(|lints| lints.get("workspace")) != Some(&true.into())
    };
    let broken = manifests.iter().filter(|(_, manifest)| without(manifest));
    let broken: Vec<_> = broken.map(|(name, _)| name.clone()).collect();
    none(&broken, "`[lints] workspace = true` is missing");
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = |text: &str| !text.starts_with("//!") || text.starts_with("//!\n");
    let broken: Vec<_> =
        sources().into_iter().filter(|(_, text)| silent(text)).map(|(path, _)| path).collect();
    none(&broken, "the first line of a module is a `//!` sentence");
}

#[test]
fn no_file_swallows_the_domain() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let lines = without_inline_tests(&text).lines().count();
        if lines > FILE_LINES {
            broken.push(format!("{path} has {lines} lines"));
        }
    }
    none(&broken, &format!("a file has at most {FILE_LINES} lines without its inline tests"));
}

#[test]
fn modules_are_files_named_for_them() {
    // A module shared by several tests can be nothing else: `tests/common.rs` would be a test.
    let old = |path: &String| path.ends_with("/mod.rs") && !path.contains("/tests/");
    let broken: Vec<_> = sources().into_iter().map(|(path, _)| path).filter(old).collect();
    none(&broken, "`foo.rs` and `foo/`, no `mod.rs`");
}

#[test]
fn unsafe_code_stays_in_its_list() {
    // Taken apart so that this file does not find itself.
    let words = [["unsafe", " {"], ["unsafe", " fn"], ["unsafe", " impl"], ["unsafe", " extern"]];
    let words = words.map(|word| word.concat());
    let mut broken = Vec::new();
    for (path, text) in sources() {
        let mut code = text.lines().map(str::trim).filter(|line| !line.starts_with("//"));
        let has = code.any(|line| words.iter().any(|word| line.contains(word)));
        if has && !UNSAFE.iter().any(|start| path.starts_with(start)) {
            broken.push(path);
        }
    }
    none(&broken, "`unsafe` stands in the listed modules only");
}

#[test]
fn every_promise_says_how_it_is_measured() {
    let path = crates().join("../docs/SPECIFICATION.md");
    let text = fs::read_to_string(path).expect("docs/SPECIFICATION.md");
    let rows: Vec<_> = text.lines().filter(|line| line.starts_with("| `")).collect();
    assert!(rows.len() >= 20, "the table of promises has shrunk to {} rows", rows.len());
    let bare = |row: &&&str| !row.contains("`make bench`") && !row.contains("*not yet measured*");
    let broken: Vec<_> = rows.iter().filter(bare).map(|row| (*row).to_owned()).collect();
    none(&broken, "a promise names its bench or says *not yet measured*");
}
