//! A process that is killed in the middle of appends has lost nothing it acknowledged.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use journal::conformance::{expect_numbered, numbered};
use journal::{Error, Index, Journal, Options, Sqlite};
use protocol::SessionId;

const DIRECTORY: &str = "JOURNAL_TEST_KILL_DIRECTORY";
const SESSIONS: usize = 4;

fn open(directory: &Path) -> Sqlite {
    Sqlite::open(directory, Options { open_files: 2, threads: 2 }).expect("a journal")
}

#[tokio::test]
async fn acknowledged_appends_survive_sigkill() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut kept = 0;
    // The moment of the kill moves with the number of acknowledgements that are awaited.
    for round in 0..8 {
        let acknowledged = append_and_kill(directory.path(), 5 + round * 13);
        let journal = open(directory.path());
        for (session, last) in acknowledged {
            let events = journal.read(session, 0, usize::MAX).await.expect("readable");
            assert!(events.len() as u64 >= last, "{session}: {} of {last}", events.len());
            assert_eq!(events.len() % 3, 0, "{session}: a batch is whole or absent");
            expect_numbered(session, 1, &events);
            kept += events.len();
        }
    }
    assert!(kept > 100, "the killed processes got somewhere: {kept}");
}

/// Starts [`appends_until_killed`], kills it after some acknowledgements, and gives the last
/// acknowledged number of each session.
fn append_and_kill(directory: &Path, lines: usize) -> Vec<(SessionId, u64)> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "appends_until_killed", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut acknowledged = std::collections::BTreeMap::<SessionId, u64>::new();
    let mut read = |line: &str| {
        let mut words = line.split_whitespace();
        if words.next() == Some("acknowledged") {
            let session = words.next().expect("a session").parse().expect("an id");
            let last = words.next().expect("a number").parse().expect("a number");
            acknowledged.insert(session, last);
            return true;
        }
        false
    };
    let mut output = BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut seen = 0;
    while seen < lines {
        seen += usize::from(read(&output.next().expect("more lines").expect("a line")));
    }
    let second = Index::open(&directory.join("index.db"));
    assert!(matches!(second, Err(Error::InUse { .. })), "a living process holds its index");
    child.kill().expect("SIGKILL");
    child.wait().expect("gone");
    for line in output.map_while(Result::ok) {
        read(&line);
    }
    acknowledged.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "runs until it is killed; acknowledged_appends_survive_sigkill starts and kills it"]
async fn appends_until_killed() {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).expect("a directory"));
    let _held = Index::open(&directory.join("index.db")).expect("free");
    // Two files in all may stay open, so the kill also meets files that are just closing.
    let journal = std::sync::Arc::new(open(&directory));
    let writers: Vec<_> = (0..SESSIONS)
        .map(|_| {
            let journal = std::sync::Arc::clone(&journal);
            tokio::spawn(async move {
                let session = SessionId::new();
                journal.create(session).await.expect("created");
                for last in (0..).step_by(3) {
                    let batch = (last + 1..=last + 3).map(numbered).collect();
                    journal.append(session, last, batch).await.expect("appended");
                    writeln!(std::io::stdout(), "acknowledged {session} {}", last + 3)
                        .expect("the parent reads");
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("no panic");
    }
    std::future::pending::<()>().await;
}
