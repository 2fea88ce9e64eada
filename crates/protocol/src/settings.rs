//! What the server's people decide about one repository; kept on the server, never in the repository.

use serde::{Deserialize, Serialize};

use crate::network::Network;
use crate::sandbox::{Isolation, LimitRequest};

/// The server's settings of a repository; every part may be missing.
///
/// A repository's own `hangar.toml` is untrusted. It may ask for a base image, for limits within
/// these and for stronger isolation, and never widens what its sandboxes reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RepositorySettings {
    /// The wall around its sandboxes; the server's when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// What its sandboxes may use, within the server's maximum.
    #[serde(default, skip_serializing_if = "LimitRequest::is_empty")]
    pub limits: LimitRequest,
    /// What its images stand on: `host`, `registry.example.com/debian:12`, `oci:/path/to/layout:tag`
    /// or `archive:/path/to/saved.tar`; `host` when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
    /// What its sandboxes may reach.
    #[serde(default)]
    pub network: Network,
    /// The team whose secrets it may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// Commands that agents are asked not to run. A hint to the model and no wall: what a sandbox
    /// must not do is for the sandbox and the gateway to prevent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_commands: Vec<String>,
}
