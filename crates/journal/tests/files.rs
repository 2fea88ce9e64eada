//! What a journal on disk does with files that are damaged, foreign, newer, held or on a full disk.

use std::path::{Path, PathBuf};
use std::process::Command;

use journal::conformance::{expect_numbered, numbered};
use journal::{Error, Index, Journal, NewEvent, Options, Sqlite};
use protocol::{Event, SessionId};
use tempfile::TempDir;

const SMALL: Options = Options { open_files: 4, threads: 2 };

fn open(directory: &Path) -> Sqlite {
    Sqlite::open(directory, SMALL).expect("a journal")
}

/// A directory with one session of ten events, closed.
async fn recorded() -> (TempDir, SessionId, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let session = SessionId::new();
    let journal = open(directory.path());
    journal.create(session).await.expect("created");
    journal.append(session, 0, (1..=10).map(numbered).collect()).await.expect("appended");
    drop(journal);
    let path = directory.path().join(format!("{session}.db"));
    (directory, session, path)
}

#[tokio::test]
async fn garbage_is_named_and_left_alone() {
    let (directory, session, path) = recorded().await;
    let garbage: Vec<u8> = (0..8192u32).map(|number| (number * 31 % 251) as u8).collect();
    for content in [&b""[..], b"x", &garbage] {
        std::fs::write(&path, content).expect("written");
        let journal = open(directory.path());
        for error in [
            journal.last(session).await.expect_err("refused"),
            journal.append(session, 0, vec![numbered(1)]).await.expect_err("refused"),
        ] {
            assert!(matches!(&error, Error::Damaged { path: named, .. } if *named == path));
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
        }
        drop(journal);
        assert!(std::fs::read(&path).expect("still there") == content, "it was changed");
    }
}

#[tokio::test]
async fn a_file_with_damaged_pages_is_never_read_as_a_shorter_history() {
    let (directory, session, path) = recorded().await;
    let whole = std::fs::read(&path).expect("read");
    for start in (4096..whole.len()).step_by(4096) {
        let mut damaged = whole.clone();
        damaged[start..start + 4096].fill(0xa5);
        std::fs::write(&path, &damaged).expect("written");
        match open(directory.path()).read(session, 0, 100).await {
            // A page that holds none of the events, such as an index, may be damaged unseen.
            Ok(events) => {
                assert_eq!(events.len(), 10, "page at {start}");
                expect_numbered(session, 1, &events);
            }
            Err(error) => assert!(matches!(error, Error::Damaged { .. }), "{error:?}"),
        }
    }
    std::fs::write(&path, &whole[..4096]).expect("cut");
    let error = open(directory.path()).read(session, 0, 100).await.expect_err("cut short");
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_missing_event_in_the_middle_is_damage() {
    let (directory, session, path) = recorded().await;
    execute(&path, "DELETE FROM events WHERE sequence = 5");
    let journal = open(directory.path());
    let error = journal.read(session, 0, 100).await.expect_err("a gap");
    assert!(error.to_string().contains("event 5 is missing"), "{error}");
    expect_numbered(session, 6, &journal.read(session, 5, 100).await.expect("the rest is whole"));
}

#[tokio::test]
async fn newer_and_foreign_files_are_refused() {
    let (directory, session, path) = recorded().await;
    execute(&path, "PRAGMA user_version = 99");
    let error = open(directory.path()).last(session).await.expect_err("newer");
    assert!(matches!(error, Error::Newer { found: 99, .. }), "{error:?}");
    assert!(error.to_string().contains("run the newer Hangar"), "{error}");

    std::fs::remove_file(&path).expect("removed");
    execute(&path, "CREATE TABLE recipes (name TEXT)");
    let error = open(directory.path()).last(session).await.expect_err("foreign");
    assert!(error.to_string().contains("another program"), "{error}");

    let index = directory.path().join("index.db");
    drop(Index::open(&index).expect("a new index"));
    execute(&index, "PRAGMA user_version = 7");
    let error = Index::open(&index).expect_err("newer");
    assert!(matches!(error, Error::Newer { found: 7, .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_under_another_sessions_name_is_refused() {
    let (directory, session, path) = recorded().await;
    let other = SessionId::new();
    std::fs::rename(&path, directory.path().join(format!("{other}.db"))).expect("renamed");
    let error = open(directory.path()).last(other).await.expect_err("not its file");
    assert!(error.to_string().contains(&format!("belongs to {session}")), "{error}");
}

#[tokio::test]
async fn a_second_server_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("index.db");
    let first = Index::open(&path).expect("the first");
    first.set_setting("a", "1").await.expect("set");
    let error = Index::open(&path).expect_err("the second");
    assert!(matches!(&error, Error::InUse { path: named } if *named == path), "{error:?}");
    assert!(error.to_string().contains("stop the other Hangar server"), "{error}");
    assert_eq!(first.setting("a").await.expect("the first goes on").as_deref(), Some("1"));
    drop(first);
    assert!(Index::open(&path).is_ok(), "free again");
}

#[tokio::test]
async fn files_close_when_there_are_too_many_and_open_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let journal = open(directory.path());
    let sessions: Vec<_> = (0..20).map(|_| SessionId::new()).collect();
    for session in &sessions {
        journal.create(*session).await.expect("created");
    }
    for last in 0..3 {
        for session in &sessions {
            journal.append(*session, last, vec![numbered(last + 1)]).await.expect("appended");
            assert!(journal.open_files().await.expect("a count") <= SMALL.open_files);
        }
    }
    for session in sessions {
        let events = journal.read(session, 0, 10).await.expect("read");
        assert_eq!(events.len(), 3);
        expect_numbered(session, 1, &events);
    }
}

#[tokio::test]
async fn other_files_in_the_directory_are_no_sessions() {
    let (directory, session, _) = recorded().await;
    for name in ["notes.txt", "ses_1.db", "ses_0193a5c2f0c87d3a9c4d2f1e0b6a7c88.creating"] {
        std::fs::write(directory.path().join(name), "x").expect("written");
    }
    assert_eq!(open(directory.path()).sessions().await.expect("a list"), [session]);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    std::fs::write(&file, "").expect("written");
    let error = Sqlite::open(&file.join("sessions"), SMALL).expect_err("no directory");
    assert!(matches!(error, Error::File { .. }), "{error:?}");
    assert!(error.to_string().contains("file/sessions"), "{error}");
}

const ON_FULL_DISK: &str = "JOURNAL_TEST_FULL_DISK";

/// Runs [`inside_a_full_disk`] on a file system of its own that holds 600 KiB.
#[test]
fn a_full_disk_loses_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = "mount -t tmpfs -o size=600k tmpfs \"$0\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(directory.path())
        .arg(std::env::current_exe().expect("this test"))
        .args(["--exact", "inside_a_full_disk", "--ignored", "--nocapture"])
        .env(ON_FULL_DISK, directory.path())
        .output()
        .expect("unshare of util-linux starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("1 passed"), "{said}");
}

#[tokio::test]
#[ignore = "needs a small file system; a_full_disk_loses_nothing runs it on one"]
async fn inside_a_full_disk() {
    let directory = PathBuf::from(std::env::var_os(ON_FULL_DISK).expect("the file system"));
    let reserve = directory.join("reserve");
    std::fs::write(&reserve, vec![0; 200 * 1024]).expect("written");
    let journal = open(&directory);
    let session = SessionId::new();
    journal.create(session).await.expect("created");
    let large = |number| NewEvent {
        event: Event::Notice { prompt: None, text: format!("{number:>20000}") },
        ..numbered(number)
    };
    let mut last = 0;
    let error = loop {
        match journal.append(session, last, vec![large(last + 1), large(last + 2)]).await {
            Ok(placed) => last = placed.last().expect("two events").sequence,
            Err(error) => break error,
        }
        assert!(last < 1000, "600 KiB do not hold this");
    };
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert!(error.to_string().contains("nothing was recorded"), "{error}");
    assert!(last > 0, "some fitted");
    let full = SessionId::new();
    let filler = directory.join("filler");
    // Fill what the failed batch left free, so that nothing at all fits.
    let _ = std::fs::write(&filler, vec![0; 600 * 1024]);
    let error = journal.create(full).await.expect_err("no space for a file");
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert_eq!(journal.sessions().await.expect("a list"), [session]);

    std::fs::remove_file(&filler).and_then(|()| std::fs::remove_file(&reserve)).expect("removed");
    let events = journal.read(session, 0, 10_000).await.expect("readable");
    assert_eq!(events.len() as u64, last, "whole batches only");
    journal.append(session, last, vec![numbered(last + 1)]).await.expect("it goes on");
    journal.create(full).await.expect("a session fits again");
}

#[expect(clippy::disallowed_methods, reason = "does to a file what only another program would")]
fn execute(path: &Path, statement: &str) {
    rusqlite::Connection::open(path)
        .and_then(|connection| connection.execute_batch(statement))
        .expect("a statement");
}
