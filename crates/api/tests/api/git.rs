//! The real `git` reads a repository with the token as its password.

use std::process::{Command, Output};

use secrecy::ExposeSecret;

use crate::bench::Bench;

fn git(arguments: &[&str]) -> Output {
    Command::new("git")
        .args(["-c", "credential.helper=", "-c", "http.proxy="])
        .args(arguments)
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("no_proxy", "127.0.0.1")
        .output()
        .expect("git starts")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn git_reads_with_the_token_and_not_without() {
    let bench = Bench::start().await;
    let url = |user: &str| format!("http://{user}{}/git/local/x.git", bench.address);
    let with = url(&format!("anybody:{}@", bench.token.expose_secret()));
    let output = git(&["ls-remote", &with]);
    let (listed, said) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert_eq!(listed.trim(), format!("{}\trefs/heads/hangar/x", "1".repeat(40)));

    for user in ["", "anybody:wrong@"] {
        let output = git(&["ls-remote", &url(user)]);
        assert!(!output.status.success(), "{user}");
    }
    let missing = with.replace("/x.git", "/missing.git");
    let output = git(&["ls-remote", &missing]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("not found"), "{said}");
}
