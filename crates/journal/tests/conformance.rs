//! Both journals keep every promise of the suite.

macro_rules! suite {
    ($($promise:ident)*) => {
        mod sqlite {
            use std::sync::Arc;
            use journal::{Options, Sqlite, conformance};
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let directory = tempfile::tempdir().expect("a directory");
                // Few open files, so that promises hold while files close and open.
                let options = Options { open_files: 4, threads: 2 };
                conformance::$promise(&|| {
                    Arc::new(Sqlite::open(directory.path(), options).expect("a journal"))
                })
                .await;
            })*
        }
        mod memory {
            use std::sync::Arc;
            use journal::{Journal, Memory, conformance};
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let journal: Arc<dyn Journal> = Arc::new(Memory::new());
                conformance::$promise(&|| Arc::clone(&journal)).await;
            })*
        }
    };
}

suite! {
    sequences_have_no_gaps
    an_empty_batch_changes_nothing
    a_stale_writer_is_refused
    racing_batches_stay_whole
    acknowledged_events_survive_reopening
    reads_follow_after_and_limit
    unknown_kinds_are_preserved
    sessions_are_independent
    sessions_are_created_once
    sessions_are_listed
}
