//! Changing settings from the command line, and how they are shown.

use clap::Parser as _;
use protocol::UserId;
use protocol::sandbox::{Isolation, Limits};
use protocol::session::{Author, Dialect, ModelChoice};

use super::*;
use crate::arguments::{Arguments, Command, RepositoryCommand};

fn options(line: &str) -> RepositorySettingsOptions {
    let words = "hangar repository settings local/site".split(' ').chain(line.split(' '));
    let words = words.filter(|word| !word.is_empty());
    match Arguments::try_parse_from(words).expect(line).command {
        Command::Repository(RepositoryCommand::Settings(options)) => *options,
        other => panic!("{other:?}"),
    }
}

fn server() -> ServerDescription {
    ServerDescription {
        version: 1,
        release: "0.1.0".to_owned(),
        user: Author { user: UserId::new(), name: String::new(), email: String::new() },
        agents: Vec::new(),
        default_model: ModelChoice {
            provider: "rehearsal".to_owned(),
            name: "rehearsal".to_owned(),
            dialect: Dialect::Anthropic,
        },
        default_agent: "built-in".to_owned(),
        isolation: Isolation::Namespaces,
        limits: Limits::default(),
        maximum_limits: Limits::MOST,
    }
}

const EVERYTHING: &str = "--isolation gvisor --memory 8GiB --cpus 1.5 --pids 100 --disk 20GiB \
    --run-time 2h --egress-rate 100Mbit --base registry.example.com/debian:12 --team web \
    --block-command sudo --allow-build *.example.com,plain \
    --allow-run api.example.com,method=GET,path=/v1,secret=API_TOKEN";

#[test]
fn options_change_what_they_name_and_nothing_else() {
    let settings = change(RepositorySettings::default(), &options(EVERYTHING));
    assert_eq!(change(settings.clone(), &options("")), settings);
    let smaller = change(settings.clone(), &options("--memory 1GiB --reset pids"));
    assert_eq!(smaller.limits.memory_bytes, Some(1 << 30));
    assert_eq!(smaller.limits.pids, None);
    assert_eq!(smaller.limits.disk_bytes, settings.limits.disk_bytes);
    assert_eq!(smaller.network, settings.network);
    let emptied = change(settings.clone(), &options("--reset all --team core"));
    let team = RepositorySettings { team: Some("core".to_owned()), ..Default::default() };
    assert_eq!(emptied, team);
    let hosts = options("--allow-build *.example.com --forbid-run api.example.com");
    let changed = change(settings, &hosts);
    assert_eq!(changed.network.build.hosts.len(), 1, "it takes the other's place");
    assert!(!changed.network.build.hosts[0].plain);
    assert!(changed.network.run.hosts.is_empty());
}

#[test]
fn they_are_shown_with_what_the_server_decides() {
    let shown = lines(&RepositorySettings::default(), &server());
    let expected = [
        "isolation         namespaces (the server's)",
        "memory            4 GiB (the server's)",
        "cpu               2 cores (the server's)",
        "pids              512 processes (the server's)",
        "disk              10 GiB (the server's)",
        "run time          4 h (the server's)",
        "egress            1 Gbit/s (the server's)",
        "base              what hangar.toml asks for, else host",
        "team              none",
        "builds reach      no other host",
        "sessions reach    no other host",
        "asked not to run  nothing",
    ];
    assert_eq!(shown, expected);
    let shown = lines(&change(RepositorySettings::default(), &options(EVERYTHING)), &server());
    let expected = [
        "isolation         gvisor",
        "memory            8 GiB",
        "cpu               1.5 cores",
        "pids              100 processes",
        "disk              20 GiB",
        "run time          2 h",
        "egress            100 Mbit/s",
        "base              registry.example.com/debian:12",
        "team              web",
        "builds reach      *.example.com, also unencrypted",
        "sessions reach    api.example.com, GET, beneath /v1, with API_TOKEN as authorization",
        "asked not to run  sudo",
    ];
    assert_eq!(shown, expected);
}

#[test]
fn a_file_may_be_json_or_toml() {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = change(RepositorySettings::default(), &options(EVERYTHING));
    for text in
        [serde_json::to_string(&settings).expect("JSON"), toml::to_string(&settings).expect("TOML")]
    {
        let path = directory.path().join("settings");
        std::fs::write(&path, &text).expect("written");
        assert_eq!(read(&path).expect("well formed"), settings, "{text}");
    }
    let path = directory.path().join("wrong");
    std::fs::write(&path, "colour = 1\n").expect("written");
    assert!(read(&path).expect_err("no such key").to_string().contains("colour"));
}
