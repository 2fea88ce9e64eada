//! Every word that crosses a process boundary: ids, events, commands, client messages and agentd's API.
//!
//! Nothing here performs input or output, reads a clock or draws a random number beyond new ids.
//! A type belongs here only if it is written by one process and read by another.
//!
//! # Versioning
//!
//! [`VERSION`] names the wire format. Within one version, fields and variants are only added.
//! Readers tolerate what they do not know: unknown fields are ignored everywhere, and an unknown
//! kind of event is kept as [`event::Event::Unknown`], so that an older client can show a newer
//! session and an older server never drops what a newer one recorded.

pub mod agentd;
pub mod amount;
pub mod client;
pub mod event;
pub mod id;
pub mod layout;
pub mod limits;
pub mod network;
pub mod problem;
pub mod refusal;
pub mod repository;
pub mod sandbox;
pub mod secret;
pub mod session;
pub mod settings;
pub mod time;

pub use event::{Envelope, Event};
pub use id::*;
pub use refusal::Refusal;
pub use time::Timestamp;

/// The version of the wire format, sent by agentd and by the API in their greetings.
pub const VERSION: u32 = 1;
