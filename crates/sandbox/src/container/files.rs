//! The backend's own directories: every error names the path.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;

/// Turns the system's error into one that says what was done to which path.
pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Files { doing, path, source }
}

/// Makes a directory and those above it; one that exists keeps its mode.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(failed("create", path))
}

/// Makes a directory that only its owner may enter.
pub(crate) fn make_private_directory(path: &Path) -> Result<(), Error> {
    make_directory(path, 0o700)
}

/// Tells apart what several tasks write at the same time.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Writes a file so that readers see all of it or nothing.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let new = path.with_extension(format!("new-{}-{number}", std::process::id()));
    std::fs::write(&new, content).map_err(failed("write", &new))?;
    std::fs::rename(&new, path).map_err(failed("write", path))
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(failed("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a tree that a sandbox filled, whatever it did to make that hard.
pub(crate) fn remove_tree(path: &Path) -> Result<(), Error> {
    super::remove::remove(path).map_err(|errno| failed("remove", path)(errno.into()))
}
