//! The program's own log: standard error, without the secrets that the server in this process knows.

use std::io::{self, Write};
use std::sync::OnceLock;

use conductor::Redaction;

/// Set when a server opens its secrets; what is logged before holds none.
static REDACTION: OnceLock<Redaction> = OnceLock::new();

/// From now on known secrets are struck out of the log.
pub(crate) fn redact(redaction: Redaction) {
    // A second server in one process is one of a test.
    let _ = REDACTION.set(redaction);
}

/// Standard error; each write is one whole line of the log.
#[derive(Debug)]
pub(crate) struct Log;

impl Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match REDACTION.get() {
            Some(redaction) => {
                let text = String::from_utf8_lossy(line);
                io::stderr().write_all(redaction.text(&text).as_bytes())?;
            }
            None => io::stderr().write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
