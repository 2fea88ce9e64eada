//! The gateway as a sandbox meets it: over its socket, with real git and a provider on loopback.

mod denials;
mod git;
mod models;
mod rehearsal;
mod sockets;
mod support;
