//! The audit file: one JSON line per decision, appended, with credential ids and never values.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use protocol::{SandboxId, SessionId, Timestamp};
use serde::Serialize;

use crate::Outcome;

/// One decision and what came of it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// When the request's head had arrived.
    pub(crate) time: Timestamp,
    pub(crate) session: Option<SessionId>,
    pub(crate) sandbox: SandboxId,
    /// Where the request went or wanted to go.
    pub(crate) host: String,
    /// The judged address of the host that the connection went to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<IpAddr>,
    pub(crate) method: String,
    /// The path without the query, which may hold secrets.
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) milliseconds: u64,
    /// `allowed`, or the code of the denial.
    pub(crate) verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    /// The name of the credential that was added, never its value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) credential: Option<String>,
    /// The names of headers that were left behind because they carry credentials.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) stripped: Vec<String>,
    pub(crate) outcome: Outcome,
}

/// An open audit file that knows whether it can still be written.
#[derive(Debug)]
pub(crate) struct Audit {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    healthy: bool,
}

impl Audit {
    /// Opens `gateway.jsonl` in the directory, readable by its owner only.
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("gateway.jsonl");
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
        Ok(Self { path, state: Mutex::new(State { file, healthy: true }) })
    }

    /// False after a line could not be written, until one can be again.
    pub(crate) fn healthy(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).healthy
    }

    /// Appends a line in one write, so that lines never mix.
    pub(crate) fn write(&self, line: &Line) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = Vec::with_capacity(320);
        if !state.healthy {
            // The failed write may have left half a line.
            text.push(b'\n');
        }
        let result =
            serde_json::to_writer(&mut text, line).map_err(io::Error::from).and_then(|()| {
                text.push(b'\n');
                state.file.write_all(&text)
            });
        if let Err(error) = &result
            && state.healthy
        {
            tracing::error!(path = %self.path.display(), %error, "the audit file cannot be written; everything is denied until it can");
        }
        state.healthy = result.is_ok();
    }
}
