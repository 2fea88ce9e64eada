//! Where work runs: the contract every backend keeps, the backends, and the host's side of agentd's API.
//!
//! | module | for |
//! |---|---|
//! | [`contract`] | [`Backend`] and the plain data it speaks in |
//! | [`agentd`] | [`agentd::Client`], agentd's API over any backend's connections |
//! | [`simulated`] | sandboxes inside this process, for tests and benches: no foreign code runs |
//! | [`container`] | sandboxes from Linux namespaces, started by `hangar-launch` |
//! | [`base`] | images that sandboxes stand on: fetched, checked, unpacked with few rights |
//! | [`conformance`] | the named invariants both are held to |
//!
//! Everything a sandbox says is untrusted: answers are bounded before they are read.

pub mod agentd;
pub mod base;
pub mod conformance;
pub mod container;
pub mod contract;
pub mod simulated;

pub use contract::{
    Backend, Base, Check, CheckState, Error, Exceeded, Layers, Observed, ObservedState, Pause,
    Probe, Spec, Stream,
};
