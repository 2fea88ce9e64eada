//! The built-in coding agent: a plain loop over a model and a few tools, spoken to over ACP.
//!
//! ```text
//!  ACP over stdio          one task per running prompt             HTTP on loopback
//!  ┌──────┐  prompt,    ┌──────────────────────────────────┐       ┌───────┐
//!  │ acp  │──cancel────▶│ session                          │──────▶│ model │──▶ gateway
//!  │      │◀──reports───│   turn: what next? (pure)        │◀──────│       │
//!  └──────┘             │   conversation: what was said    │ deltas└───────┘
//!                       │   history: the same, on disk     │──────▶ tool: read, write, edit, …
//!                       └──────────────────────────────────┘
//! ```
//!
//! - [`turn`] decides and [`conversation`] remembers; neither does I/O.
//! - [`dialect`] turns a conversation into a request body and a stream of events into an answer,
//!   for the Anthropic messages and the `OpenAI` chat formats. Pure as well.
//! - [`model`] performs requests: retries, patience, plain HTTP only, because the only peer is the
//!   gateway on the loopback interface.
//! - [`tool`] performs what the model asks for, behind the write gate.
//! - [`session`] is the one place that changes a conversation; [`acp`] is the one place that names
//!   the protocol.
//!
//! Deliberately missing: permissions (the sandbox is the boundary), MCP servers, sub-agents,
//! compaction by the model. `OpenCode` or another ACP agent is the choice for those.

pub mod acp;
pub mod conversation;
pub mod dialect;
pub mod history;
pub mod instructions;
pub mod model;
pub mod report;
pub mod session;
pub mod settings;
pub mod text;
pub mod tool;
pub mod turn;
