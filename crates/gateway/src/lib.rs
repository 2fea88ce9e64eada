//! The only way out of a sandbox: model and git routes, named hosts, audit.
//!
//! One [`Gateway`] serves every sandbox, each over its own Unix socket, so that the socket a
//! request arrives on *is* the sandbox's identity and no token is needed inside. A request goes
//! through three steps, and no other way out exists:
//!
//! 1. [`decide`] turns its head into a [`Verdict`], without input or output: a [`Route`], or a
//!    [`Denial`] that people and agents can read.
//! 2. An allowed route is carried out: a model request is streamed to its provider with the key
//!    added here, a git request goes to the [`GitUpstream`] after its ref updates were read, and a
//!    request for a host that the binding's [`Egress`] names goes to an address that was judged.
//! 3. When the answer ends, or is given up, one line is written to the audit file and the
//!    [`Observer`] is told.
//!
//! It fails closed: a sandbox without a [`Binding`] reaches nothing but the rehearsal model, an
//! unknown route is denied, and while the audit file cannot be written everything is denied.
//!
//! Deliberately absent: UDP and with it QUIC, any port but 443 and 80, and hosts by address.

mod account;
mod audit;
mod body;
mod config;
mod denial;
mod denials;
mod egress;
mod git;
mod handler;
mod headers;
mod intercept;
mod model;
mod observation;
mod outside;
pub mod rehearsal;
mod route;
mod server;

pub use body::{Body, BoxError, empty_body, full_body};
pub use config::{Config, Limits, Provider, Providers};
pub use denial::Denial;
pub use egress::{
    Connector, Credential, Direct, Egress, Names, SystemNames, Target, Unresolved, Way, Why,
};
pub use git::{GitUpstream, Service};
pub use intercept::authority::Error as AuthorityError;
pub use observation::{Observation, Observed, Observer, Outcome, Usage};
pub use outside::{InvalidProxy, Proxy, UnreadableTrust};
pub use route::{
    Binding, Dialect, Endpoint, GitRoute, Head, ModelRoute, ProviderName, Route, Verdict, decide,
};
pub use server::{Error, Gateway};
