//! The write gate: the workspace may be read-only until its repository is in sync.
//!
//! The boundary is the mount, which the agent cannot change; this only makes an early write wait
//! instead of fail.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Access, access};
use tokio::time::{Instant, sleep};

use super::Error;

/// How long a write waits for the gate.
const PATIENCE: Duration = Duration::from_mins(2);
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Knows whether a directory may be written yet.
#[derive(Clone)]
pub struct Gate {
    is_closed: Arc<dyn Fn(&Path) -> bool + Send + Sync>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Gate").finish_non_exhaustive()
    }
}

impl Default for Gate {
    /// The gate of a mount: closed while the mount is read-only. Nothing is written to find out.
    fn default() -> Self {
        Self::new(|directory| access(directory, Access::WRITE_OK) == Err(rustix::io::Errno::ROFS))
    }
}

impl Gate {
    /// A gate that is closed as long as `is_closed` says so.
    pub fn new(is_closed: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        Self { is_closed: Arc::new(is_closed) }
    }

    /// Returns when the gate is open.
    pub(super) async fn pass(
        &self,
        directory: &Path,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Error> {
        if !(self.is_closed)(directory) {
            return Ok(());
        }
        progress("Waiting until the repository is in sync and the workspace writable …".to_owned());
        let deadline = Instant::now() + PATIENCE;
        let mut pause = FIRST_PAUSE;
        while Instant::now() < deadline {
            sleep(pause).await;
            if !(self.is_closed)(directory) {
                progress("The workspace is writable.".to_owned());
                return Ok(());
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(Error::NotInSync { seconds: PATIENCE.as_secs() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_waits_until_the_gate_opens_and_says_so() {
        let looks = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&looks);
        let gate = Gate::new(move |_| counted.fetch_add(1, Ordering::Relaxed) < 5);
        let said = Mutex::new(Vec::new());
        let begun = Instant::now();
        gate.pass(Path::new("/w"), &|text| said.lock().expect("unpoisoned").push(text))
            .await
            .expect("opens");
        assert_eq!(looks.load(Ordering::Relaxed), 6);
        assert_eq!(begun.elapsed(), Duration::from_millis(5 + 10 + 20 + 40 + 50));
        let said = said.into_inner().expect("unpoisoned");
        assert!(said[0].starts_with("Waiting") && said.len() == 2, "{said:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_gate_that_stays_closed_is_an_error_after_two_minutes() {
        let begun = Instant::now();
        let error = Gate::new(|_| true).pass(Path::new("/w"), &|_| ()).await.expect_err("closed");
        assert!(error.to_string().contains("sync has not finished"), "{error}");
        assert!(begun.elapsed() >= PATIENCE && begun.elapsed() < PATIENCE + LONGEST_PAUSE * 2);
    }

    #[tokio::test]
    async fn an_ordinary_directory_has_an_open_gate() {
        let directory = tempfile::tempdir().expect("a directory");
        Gate::default().pass(directory.path(), &|text| panic!("{text}")).await.expect("open");
    }
}
