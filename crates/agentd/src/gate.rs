//! The write gate: the workspace is read-only for everyone until the repository is in sync.

use std::io;
use std::path::PathBuf;

use tokio::sync::watch;

use crate::confine;
use crate::settings::Settings;

/// The gate could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("making {} writable; the sandbox must give agentd its own mount there", path.display())]
pub(crate) struct Error {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Whether the workspace may be written to. It opens once and never closes.
#[derive(Debug)]
pub(crate) struct Gate(watch::Sender<bool>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Gate {
    /// Lets every process of the sandbox write from now on.
    pub(crate) fn open(&self, settings: &Settings) -> Result<(), Error> {
        if settings.confined() && !*self.0.borrow() {
            confine::make_writable(&settings.workspace)
                .map_err(|source| Error { path: settings.workspace.clone(), source })?;
        }
        self.0.send_replace(true);
        Ok(())
    }

    /// To wait for the opening.
    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}
