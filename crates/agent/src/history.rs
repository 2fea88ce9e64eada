//! Conversations on disk: one file per session, one line per entry, only ever appended to.
//!
//! Not synced: what a sandbox loses in a crash of its machine, the platform's own events still
//! tell. A last line that was cut off is dropped when the session is loaded.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::conversation::Entry;

/// The format's version; others are refused.
const VERSION: u32 = 1;

/// The first line of a file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
}

/// Where one session's entries go.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    file: Option<File>,
}

/// Why a session cannot be kept or loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name could lead out of the directory.
    #[error("{session:?} is no session of this agent")]
    Name {
        /// What was asked for.
        session: String,
    },
    /// Nothing is kept under this name.
    #[error("no session {session} is kept in {directory}", directory = directory.display())]
    Unknown {
        /// What was asked for.
        session: String,
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The operating system refused.
    #[error("could not {doing} {path}", path = path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Not written by this program, or damaged.
    #[error("line {line} of {path} cannot be read", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// Written by a newer program.
    #[error("{path} has version {found}, this agent reads version {VERSION}", path = path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl History {
    /// The history of a new session. Nothing is written before the first entry: a pool starts many
    /// sessions that never see one.
    pub fn new(directory: &Path, session: &str) -> Result<Self, Error> {
        Ok(Self { path: path(directory, session)?, file: None })
    }

    /// A kept session with everything said in it.
    pub fn load(directory: &Path, session: &str) -> Result<(Self, Vec<Entry>), Error> {
        let path = path(directory, session)?;
        let io = |source| Error::Io { doing: "read", path: path.clone(), source };
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (session, directory) = (session.to_owned(), directory.to_owned());
                return Err(Error::Unknown { session, directory });
            }
            other => other.map_err(io)?,
        };
        let mut reader = BufReader::new(file);
        let (mut entries, mut whole) = (Vec::new(), 0);
        let mut text = Vec::new();
        for line in 1.. {
            text.clear();
            let read = reader.read_until(b'\n', &mut text).map_err(io)?;
            if text.last() != Some(&b'\n') {
                break;
            }
            let damaged = |source| Error::Damaged { path: path.clone(), line, source };
            if line == 1 {
                let header: Header = serde_json::from_slice(&text).map_err(damaged)?;
                if header.version != VERSION {
                    return Err(Error::Version { path, found: header.version });
                }
            } else {
                entries.push(serde_json::from_slice(&text).map_err(damaged)?);
            }
            whole += read as u64;
        }
        let file = reader.into_inner();
        file.set_len(whole).map_err(io)?;
        let file = (whole > 0).then_some(file);
        Ok((Self { path, file }, entries))
    }

    /// Keeps one more entry.
    pub fn append(&mut self, entry: &Entry) -> Result<(), Error> {
        self.write(entry).map_err(|source| Error::Io {
            doing: "write the session's history to",
            path: self.path.clone(),
            source,
        })
    }

    fn write(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = Vec::new();
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                if let Some(parent) = self.path.parent() {
                    std::fs::create_dir_all(parent)?;
                }
                let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
                serde_json::to_writer(&mut line, &Header { version: VERSION })?;
                line.push(b'\n');
                none.insert(file)
            }
        };
        serde_json::to_writer(&mut line, entry)?;
        line.push(b'\n');
        file.write_all(&line)
    }
}

fn path(directory: &Path, session: &str) -> Result<PathBuf, Error> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if session.is_empty() || session.len() > 100 || !session.chars().all(fine) {
        return Err(Error::Name { session: session.to_owned() });
    }
    Ok(directory.join(format!("{session}.jsonl")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str) -> Entry {
        Entry::User { text: text.into() }
    }

    #[test]
    fn what_was_kept_is_loaded_and_can_go_on() {
        let directory = tempfile::tempdir().expect("a directory");
        let below = directory.path().join("a/b");
        let mut history = History::new(&below, "s-1").expect("a name");
        assert!(!below.exists(), "nothing is written before the first entry");
        history.append(&user("one\ntwo")).expect("written");
        drop(history);
        let (mut history, entries) = History::load(&below, "s-1").expect("loaded");
        assert_eq!(entries, [user("one\ntwo")]);
        history.append(&user("three")).expect("written");
        let (_, entries) = History::load(&below, "s-1").expect("loaded");
        assert_eq!(entries, [user("one\ntwo"), user("three")]);
    }

    #[test]
    fn a_line_that_was_cut_off_is_dropped_for_good() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut history = History::new(directory.path(), "s").expect("a name");
        history.append(&user("one")).expect("written");
        let path = directory.path().join("s.jsonl");
        let mut text = std::fs::read(&path).expect("there");
        text.extend_from_slice(b"{\"said\":\"us");
        std::fs::write(&path, text).expect("written");
        let (mut history, entries) = History::load(directory.path(), "s").expect("loaded");
        assert_eq!(entries, [user("one")]);
        history.append(&user("two")).expect("written");
        let (_, entries) = History::load(directory.path(), "s").expect("loaded");
        assert_eq!(entries, [user("one"), user("two")]);
    }

    #[test]
    fn strange_names_and_files_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["", "../x", "a/b", "a.b"] {
            assert!(matches!(History::new(directory.path(), name), Err(Error::Name { .. })));
        }
        assert!(matches!(History::load(directory.path(), "no"), Err(Error::Unknown { .. })));
        std::fs::write(directory.path().join("new.jsonl"), "{\"version\":2}\n").expect("written");
        assert!(matches!(
            History::load(directory.path(), "new"),
            Err(Error::Version { found: 2, .. })
        ));
        std::fs::write(directory.path().join("bad.jsonl"), "{\"version\":1}\noops\n")
            .expect("written");
        let bad = History::load(directory.path(), "bad");
        assert!(matches!(bad, Err(Error::Damaged { line: 2, .. })));
    }
}
