//! Where tools work: a directory, and the gate before it.

use std::path::{Path, PathBuf};

use super::{Error, Gate};

/// The directory of a session.
#[derive(Debug, Clone)]
pub struct Place {
    directory: PathBuf,
    gate: Gate,
}

impl Place {
    /// A session's directory, behind a gate.
    pub fn new(directory: PathBuf, gate: Gate) -> Self {
        Self { directory, gate }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path as the model writes it: relative to the directory, or absolute. It may lead anywhere;
    /// the sandbox is the boundary.
    pub fn resolve(&self, path: &str) -> PathBuf {
        let path = path.trim();
        let path = path.strip_prefix("./").unwrap_or(path);
        if path.is_empty() || path == "." {
            return self.directory.clone();
        }
        self.directory.join(path)
    }

    /// A path as the model should see it: relative where possible.
    pub fn show(&self, path: &Path) -> String {
        let relative = path.strip_prefix(&self.directory).unwrap_or(path);
        if relative.as_os_str().is_empty() {
            return ".".to_owned();
        }
        relative.to_string_lossy().into_owned()
    }

    /// Waits until something at `path` may be written. Only the directory has a gate: elsewhere a
    /// read-only file system stays one.
    pub(super) async fn writable(
        &self,
        path: &Path,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<(), Error> {
        if path.starts_with(&self.directory) {
            self.gate.pass(&self.directory, progress).await
        } else {
            Ok(())
        }
    }
}
