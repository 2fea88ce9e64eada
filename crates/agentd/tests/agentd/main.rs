//! agentd as a process, spoken to as the host speaks to it.

mod agent;
mod exec;
mod files;
mod git;
mod harness;
mod sandbox;
mod terminal;
