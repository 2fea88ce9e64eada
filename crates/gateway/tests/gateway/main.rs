//! The gateway as a sandbox meets it: over its socket, with real git and a provider on loopback.

mod company;
mod denials;
mod git;
mod intercept;
mod models;
mod outside;
mod plain;
mod proxied;
mod rehearsal;
mod sockets;
mod support;
mod tunnels;
