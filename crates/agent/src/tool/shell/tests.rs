//! Real commands.

use std::sync::Mutex;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::tool::{Gate, Request};

fn place() -> (tempfile::TempDir, Place) {
    let directory = tempfile::tempdir().expect("a directory");
    let place = Place::new(directory.path().to_owned(), Gate::default());
    (directory, place)
}

async fn shell(place: &Place, command: &str, timeout: Option<u64>) -> Done {
    let arguments = Arguments { command: command.into(), timeout_seconds: timeout };
    run(arguments, place, &|_| ()).await.expect("started")
}

/// Waits until the process of this id is gone, a zombie counting as gone.
async fn gone(id: &str) -> bool {
    for _ in 0..500 {
        let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        if status.is_empty() || status.contains(") Z ") {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn output_order_and_exit_are_told() {
    let (_directory, place) = place();
    for (command, expected, failed) in [
        ("echo one; echo two >&2; echo three", "one\ntwo\nthree\n", false),
        ("true", "(no output)", false),
        ("echo no; exit 3", "no\n[exit code 3]", true),
        ("kill -TERM $$", "[ended by signal 15]", true),
        ("cat", "(no output)", false),
        ("no-such-command-here 2>/dev/null", "[exit code 127]", true),
    ] {
        let done = shell(&place, command, None).await;
        assert_eq!((done.text.as_str(), done.failed), (expected, failed), "{command}");
    }
    let done = shell(&place, "pwd -P; [[ 1 == 1 ]]", None).await;
    let here = place.directory().canonicalize().expect("there");
    assert_eq!(done.text.trim(), here.to_string_lossy());
}

#[tokio::test]
async fn the_timeout_kills_the_whole_group() {
    let (directory, place) = place();
    let done = shell(&place, "sleep 1000 & echo $! > child; echo begun; wait", Some(1)).await;
    assert!(done.failed);
    assert_eq!(done.text, "begun\n\n[killed after 1 seconds, with everything it had started]");
    let child = std::fs::read_to_string(directory.path().join("child")).expect("written");
    assert!(gone(child.trim()).await, "the grandchild lives");
}

#[tokio::test]
async fn cancelling_kills_the_whole_group_at_once() {
    let (directory, place) = place();
    let cancel = CancellationToken::new();
    let arguments = Arguments {
        command: "sleep 1000 & echo $! > child; echo ready; wait".into(),
        timeout_seconds: None,
    };
    let begun = Instant::now();
    let outcome = Request::Shell(arguments)
        .run(&place, &cancel, &|shown| {
            if shown.contains("ready") {
                cancel.cancel();
            }
        })
        .await;
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let child = std::fs::read_to_string(directory.path().join("child")).expect("written");
    assert!(gone(child.trim()).await, "the grandchild lives");
}

#[tokio::test]
async fn something_left_running_does_not_hold_the_answer_up() {
    let (_directory, place) = place();
    let begun = Instant::now();
    let done = shell(&place, "sleep 30 & echo $!", None).await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let id = done.text.trim().parse().ok().and_then(Pid::from_raw).expect("an id");
    rustix::process::kill_process(id, Signal::KILL).expect("it was left running");
}

#[tokio::test]
async fn a_flood_is_bounded_in_what_is_kept_and_shown() {
    let (_directory, place) = place();
    let updates = Mutex::new(Vec::new());
    let arguments = Arguments {
        command: "echo first; head -c 1000000000 /dev/zero | tr '\\0' 'x'; echo; echo last".into(),
        timeout_seconds: None,
    };
    let done = run(arguments, &place, &|text| updates.lock().expect("unpoisoned").push(text.len()))
        .await
        .expect("started");
    assert!(done.text.starts_with("first\nxxx") && done.text.ends_with("xxx\nlast\n"));
    assert!(done.text.len() < HEAD_BYTES + TAIL_BYTES + 100, "{}", done.text.len());
    let updates = updates.into_inner().expect("unpoisoned");
    assert!(!updates.is_empty() && updates.len() < 200, "{}", updates.len());
    assert!(updates.iter().all(|length| *length < SHOWN_BYTES + 100));
}
