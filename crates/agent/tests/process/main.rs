//! The whole agent as a process: ACP on its streams, a scripted model behind it.

mod client;
mod faults;
mod loops;
mod model;
mod sessions;
mod stopping;
mod writing;
