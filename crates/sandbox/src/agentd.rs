//! The host's side of agentd's API: one HTTP/1.1 connection for each request, over any backend.
//!
//! What comes back was written by code that may be hostile: bodies are read up to a bound, and a
//! wrong shape is an [`Error::Damaged`], never a panic.

mod client;
mod error;
mod exchange;
mod exec;
mod frames;
mod reports;

pub use client::Client;
pub use error::Error;
pub use exec::{ExecStream, Output, OutputEvent};
pub use frames::{Frame, FrameError, decode_frame, encode_frame};
pub use reports::Reports;

pub use self::pty::Pty;
mod pty;
