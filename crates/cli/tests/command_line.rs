//! The real program from outside: what it prints where, and the number it ends with.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

fn hangar(data: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_hangar"))
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", data)
        .env("HANGAR_DATA", data)
        .output()
        .expect("the program starts")
}

fn standard_output(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("UTF-8")
}

fn standard_error(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}

#[test]
fn every_command_has_help() {
    let data = tempfile::tempdir().expect("a directory");
    let commands: &[&[&str]] = &[
        &[],
        &["serve"],
        &["try"],
        &["run"],
        &["session"],
        &["session", "list"],
        &["session", "show"],
        &["session", "watch"],
        &["session", "prompt"],
        &["session", "edit"],
        &["session", "withdraw"],
        &["session", "stop"],
        &["repository", "add"],
        &["repository", "list"],
        &["secret", "set"],
        &["secret", "list"],
        &["secret", "remove"],
        &["secret", "rotate"],
        &["repository", "settings"],
        &["toolkit", "install"],
        &["toolkit", "list"],
        &["doctor"],
    ];
    let mut broken = String::new();
    for command in commands {
        let output = hangar(data.path(), &[command, &["--help"][..]].concat());
        let text = standard_output(&output);
        if output.status.code() != Some(0) || !text.contains("Usage: hangar") {
            let _ = writeln!(broken, "{command:?}: {text}");
        }
        // Readable without colour, and no secret in the defaults.
        assert!(!text.contains('\u{1b}'), "{command:?} colours its help");
    }
    assert_eq!(broken, "");
}

#[test]
fn wrong_usage_ends_with_2() {
    let data = tempfile::tempdir().expect("a directory");
    for arguments in [
        &["fly"][..],
        &["session", "show", "x"],
        &["run", "x", "--model", "nobody/x"],
        &["toolkit", "install", "skynet"],
        &["run", "x", "--memory", "lots"],
        &["run", "x", "--isolation", "none"],
        &["serve", "--maximum", "swap=1GiB"],
        &["serve", "--pids", "100", "--maximum", "pids=50"],
        &["repository", "settings", "local/x", "--allow-run", "10.0.0.1"],
        &["try", "--repository", "/nowhere/at/all"],
        &["session", "list", "--server", "localhost", "--token", "x"],
    ] {
        let output = hangar(data.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", standard_error(&output));
        assert_eq!(standard_output(&output), "", "{arguments:?} prints errors as data");
        assert!(standard_error(&output).starts_with("error: "), "{}", standard_error(&output));
    }
}

#[test]
fn without_a_server_the_way_to_one_is_told() {
    let data = tempfile::tempdir().expect("a directory");
    for arguments in [&["session", "list"][..], &["repository", "list", "--json"], &["run", "x"]] {
        let output = hangar(data.path(), arguments);
        assert_eq!(output.status.code(), Some(3), "{arguments:?}");
        assert_eq!(standard_output(&output), "");
        let text = standard_error(&output);
        assert!(text.contains("error: no server runs on the data directory"), "{text}");
        assert!(text.contains("\nhint: start one with `hangar serve`"), "{text}");
    }
}

#[test]
fn the_toolkit_is_listed_as_json() {
    let data = tempfile::tempdir().expect("a directory");
    let output = hangar(data.path(), &["toolkit", "list", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", standard_error(&output));
    let agents: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names: Vec<_> =
        agents.as_array().expect("a list").iter().map(|agent| &agent["name"]).collect();
    assert_eq!(names, ["built-in", "opencode"]);
    assert_eq!(agents[1]["installed"], false);
}

#[test]
fn installing_without_npm_says_what_to_install() {
    let data = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_hangar"))
        .args(["toolkit", "install", "opencode"])
        .env_clear()
        .env("PATH", data.path())
        .env("HANGAR_DATA", data.path())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(4));
    let text = standard_error(&output);
    assert!(text.contains("npm, which is missing\nhint: apt-get install npm"), "{text}");
    let left = std::fs::read_dir(data.path().join("toolkit/agents")).expect("made").count();
    assert_eq!(left, 0, "a draft was left behind");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("file");
    std::fs::write(&file, "").expect("written");
    let output = hangar(&file, &["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(4), "{}", standard_error(&output));
    let text = standard_error(&output);
    assert!(text.contains("cannot be written"), "{text}");
    assert!(text.contains("hint: choose another with --data"), "{text}");
}

#[test]
fn doctor_gives_advice_with_every_missing_thing() {
    let data = tempfile::tempdir().expect("a directory");
    let output = Command::new(env!("CARGO_BIN_EXE_hangar"))
        .args(["doctor", "--json"])
        .env_clear()
        .env("PATH", data.path())
        .env("HANGAR_DATA", data.path())
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(4), "a machine without git is not ready");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(report["ready"], false);
    let findings = report["findings"].as_array().expect("findings");
    let missing: Vec<_> = findings.iter().filter(|finding| finding["state"] == "missing").collect();
    assert!(missing.iter().any(|finding| finding["what"] == "git"), "{missing:?}");
    assert!(missing.iter().all(|finding| finding["hint"].is_string()), "{missing:?}");
}
