//! Random appends and reads do to a journal what they do to a list.

use std::sync::Arc;

use journal::conformance::numbered;
use journal::{Error, Journal, Memory, Options, Sqlite};
use proptest::prelude::*;
use protocol::{Envelope, SessionId};

/// One step; numbers are relative so that both right and wrong expectations are common.
#[derive(Debug, Clone)]
enum Step {
    Append { session: usize, off_by: i64, count: usize },
    Read { session: usize, after: u64, limit: usize },
    Last { session: usize },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (0..3usize, prop_oneof![4 => Just(0), 1 => -3..3i64], 0..5usize)
        .prop_map(|(session, off_by, count)| Step::Append { session, off_by, count });
    let read = (0..3usize, 0..30u64, 0..20usize).prop_map(|(session, after, limit)| Step::Read {
        session,
        after,
        limit,
    });
    let last = (0..3usize).prop_map(|session| Step::Last { session });
    let step = prop_oneof![6 => append, 4 => read, 1 => last, 1 => Just(Step::Reopen)];
    proptest::collection::vec(step, 1..40)
}

async fn follow(open: &(dyn Fn() -> Arc<dyn Journal> + Sync), steps: Vec<Step>) {
    let mut journal = open();
    let sessions = [SessionId::new(), SessionId::new(), SessionId::new()];
    let mut model: [Vec<Envelope>; 3] = Default::default();
    for session in sessions {
        journal.create(session).await.expect("created");
    }
    for step in steps {
        match step {
            Step::Append { session, off_by, count } => {
                let (id, recorded) = (sessions[session], &mut model[session]);
                let last = recorded.len() as u64;
                let expected = last.saturating_add_signed(off_by);
                let batch = (0..count as u64).map(|number| numbered(last + number)).collect();
                match journal.append(id, expected, batch).await {
                    Ok(placed) => {
                        assert_eq!((expected, placed.len()), (last, count));
                        recorded.extend(placed);
                    }
                    Err(Error::Conflict { actual, .. }) => {
                        assert_ne!(expected, last);
                        assert_eq!(actual, last);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Read { session, after, limit } => {
                let events = journal.read(sessions[session], after, limit).await.expect("read");
                let wanted: Vec<Envelope> = model[session]
                    .iter()
                    .filter(|envelope| envelope.sequence > after)
                    .take(limit)
                    .cloned()
                    .collect();
                assert_eq!(events, wanted);
            }
            Step::Last { session } => {
                let last = journal.last(sessions[session]).await.expect("last");
                assert_eq!(last, model[session].len() as u64);
            }
            Step::Reopen => {
                drop(journal);
                journal = open();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_on_disk_is_a_list(steps in steps()) {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Options { open_files: 1, threads: 2 };
        let open = || -> Arc<dyn Journal> {
            Arc::new(Sqlite::open(directory.path(), options).expect("a journal"))
        };
        run(follow(&open, steps));
    }

    #[test]
    fn a_journal_in_memory_is_a_list(steps in steps()) {
        let journal: Arc<dyn Journal> = Arc::new(Memory::new());
        run(follow(&|| Arc::clone(&journal), steps));
    }
}

fn run(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work);
}
