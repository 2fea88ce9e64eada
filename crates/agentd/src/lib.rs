//! The supervisor inside each sandbox: its first process, and the host's hand in it.
//!
//! It treats its caller, the host, as the authority, and everything beside it as hostile. It keeps
//! the capabilities of the sandbox's user namespace; everything it starts has none (`confine`), so
//! whatever touches the agent's files (`files`, `git`) is done by confined children.

mod agent;
mod agentd;
mod body;
mod children;
mod confine;
mod doorstep;
mod driver;
mod exec;
mod files;
mod gate;
mod git;
mod nursery;
mod own_kernel;
mod processes;
mod pty;
mod relay;
mod reports;
mod server;
pub mod settings;
pub mod shim;
pub mod spare_git;
mod text;

pub use agentd::{Error, run};
