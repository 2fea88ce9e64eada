//! Lets a test write down that a real part (git, a sandbox, an agent) has worked in it.
//!
//! A test includes this file with `#[path = "…/tests/real_part.rs"] mod real_part;` and calls
//! [`worked`] after the part did its work, never before. `make test` names the file in
//! `HANGAR_REAL_PARTS` and prints what is in it; elsewhere the call does nothing.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Notes that `part` worked, with its version or kind; the names are listed in `.ci/real-parts`.
pub(crate) fn worked(part: &str, version: &str) {
    let Some(path) = std::env::var_os("HANGAR_REAL_PARTS") else { return };
    let line = format!("{part}\t{}\n", version.trim().replace(['\t', '\n', ';'], " "));
    // One short write to a file opened for appending: tests in other processes do the same.
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|error| panic!("noting a real part in {}: {error}", path.display()));
}
