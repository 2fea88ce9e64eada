//! The main job with every real part: git, a sandbox, agentd, an agent, the gateway and the server.
//!
//! Nothing here is skipped: a machine that cannot run sandboxes cannot pass.

#[path = "../../../tests/real_part.rs"]
mod real_part;
mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The built programs, which `make test` builds first.
fn hangar() -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_hangar"));
    let directory = program.parent().expect("a directory");
    for name in ["hangar-agentd", "hangar-agent", "hangar-launch"] {
        let built = directory.join(name).is_file();
        assert!(built, "{name} is missing: cargo build -p agentd -p agent -p sandbox --bins");
    }
    let mut command = Command::new(program);
    command.env_remove("ANTHROPIC_API_KEY").env_remove("OPENAI_API_KEY");
    command.env_remove("HANGAR_SERVER").env_remove("HANGAR_DATA").stdin(Stdio::null());
    command
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    let output = command.arg("-C").arg(directory).args(arguments).output().expect("git starts");
    assert!(output.status.success(), "git {arguments:?}: {}", text(&output.stderr));
    text(&output.stdout).trim().to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A repository of Ada's with one commit, and something uncommitted.
fn repository(parent: &Path) -> PathBuf {
    let path = parent.join("small");
    std::fs::create_dir(&path).expect("made");
    git(&path, &["init", "--quiet", "--initial-branch=main"]);
    git(&path, &["config", "user.name", "Ada Lovelace"]);
    git(&path, &["config", "user.email", "ada@example.org"]);
    std::fs::write(path.join("README.md"), "# Small\n\nA small thing.\n").expect("written");
    std::fs::write(path.join("hangar.toml"), "[commands]\ntest = \"test -s README.md\"\n")
        .expect("written");
    git(&path, &["add", "--all"]);
    git(&path, &["commit", "--quiet", "--message=First"]);
    std::fs::write(path.join("README.md"), "# Small\n\nNot committed yet.\n").expect("written");
    path
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{out}\n{err}", output.status);
    output
}

/// What is true of every finished job, whichever agent did it.
fn check_job(document: &Value, data: &Path, repository: &Path) {
    let field =
        |name: &str| document[name].as_str().unwrap_or_else(|| panic!("no {name}: {document}"));
    assert_eq!(field("repository"), "local/small");
    assert_eq!(field("model"), "rehearsal");
    assert_eq!(field("isolation"), "namespaces");
    assert!(document["pull_request"]["diff_stat"]["added"].as_u64() > Some(0), "{document}");
    let phases: Vec<_> = document["phases"].as_array().expect("phases").iter().collect();
    let names: Vec<_> = phases.iter().filter_map(|phase| phase["name"].as_str()).collect();
    let all = [
        "image",
        "sandbox",
        "sync",
        "first_model_request",
        "first_token",
        "first_edit",
        "agent",
        "commit",
        "push",
        "pull_request",
    ];
    assert_eq!(names, all, "the table of times is not complete");
    assert!(phases.iter().all(|phase| phase["milliseconds"].is_u64()), "{phases:?}");
    // The forge's branch holds the commit, by the person who asked.
    let forge = data.join("forge/local/small.git");
    assert_eq!(git(&forge, &["rev-parse", field("branch")]), field("commit"));
    let person = git(&forge, &["log", "-1", "--format=%an <%ae>, %cn <%ce>", field("branch")]);
    assert_eq!(person, "Ada Lovelace <ada@example.org>, Ada Lovelace <ada@example.org>");
    let trailers = git(&forge, &["log", "-1", "--format=%(trailers)", field("branch")]);
    assert!(trailers.contains(&format!("Hangar-Session: {}", field("session"))), "{trailers}");
    // The checkout is as it was, its uncommitted work included.
    assert_eq!(git(repository, &["status", "--porcelain"]), "M README.md");
    assert_eq!(git(repository, &["branch", "--list"]), "* main");
    assert_eq!(git(repository, &["rev-list", "--count", "HEAD"]), "1");
}

#[test]
fn a_prompt_becomes_a_pull_request() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, repository) = (directory.path().join("data"), repository(directory.path()));
    let arguments = ["try", "--json", "--prompt", "Say more about the small thing"];
    let output =
        run(hangar().args(arguments).arg("--data").arg(&data).arg("--repository").arg(&repository));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(document["agent"], "built-in");
    check_job(&document, &data, &repository);
    let talk = text(&output.stderr);
    assert!(talk.contains("this is a rehearsal"), "it does not say so:\n{talk}");
    assert!(talk.contains("✓ run "), "no command was run:\n{talk}");
    // The server ended in order, and nothing of the sandbox is left.
    assert!(!data.join("server.json").exists());
    real_part::worked("git", &git(&repository, &["--version"]));
    real_part::worked("sandbox", "namespaces");
    real_part::worked("built-in agent", env!("CARGO_PKG_VERSION"));
    real_part::worked("server", env!("CARGO_PKG_VERSION"));
}

#[test]
fn people_see_the_diff_the_times_and_what_to_do_next() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, repository) = (directory.path().join("data"), repository(directory.path()));
    let output = run(hangar()
        .args(["try", "--prompt", "Say more", "--data"])
        .arg(&data)
        .arg("--repository")
        .arg(&repository));
    let shown = text(&output.stdout);
    for part in
        ["✓ pull request #1 Say more", "\n+++ b/", "\nfirst_token ", "\nNext:\n  git fetch "]
    {
        assert!(shown.contains(part), "{part:?} is missing in:\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colour in a pipe");
}

#[test]
fn opencode_does_the_same_job() {
    let directory = tempfile::tempdir().expect("a directory");
    let (data, repository) = (directory.path().join("data"), repository(directory.path()));
    let version = support::opencode::into(&data);
    let output = run(hangar()
        .args(["try", "--json", "--agent", "opencode", "--prompt", "Say more", "--data"])
        .arg(&data)
        .arg("--repository")
        .arg(&repository));
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(document["agent"], "opencode");
    check_job(&document, &data, &repository);
    real_part::worked("opencode", &version);
}
