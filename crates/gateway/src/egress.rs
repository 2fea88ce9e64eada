//! The way to other hosts: what a sandbox may reach, and how its requests are carried there.
//!
//! A host is decided by name ([`decide`]), resolved here, its addresses are judged ([`address`]),
//! and the connection goes to a judged address without asking again. Nothing is reached that no
//! rule names.

mod address;
pub(crate) mod connect;
mod decide;
mod dial;
pub(crate) mod hello;
pub(crate) mod live;
pub(crate) mod meter;
mod names;
pub(crate) mod plain;
pub(crate) mod reach;
mod why;

use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use protocol::network::{HostPattern, HostRule, NetworkPolicy};
use protocol::sandbox::Limits;
use protocol::secret::SecretName;
use secrecy::SecretString;

pub use decide::{Target, Way};
pub(crate) use decide::{decide, inside, spelled};
pub use dial::{Connector, Direct};
pub use names::{Names, SystemNames, Unresolved};
pub use why::Why;

use crate::account::Account;
use crate::body::{Body, full_body};
use crate::handler::{Form, deny};
use crate::server::Shared;
use reach::Stop;

/// What a sandbox may reach besides models and its repository. The default reaches nothing.
#[derive(Debug, Clone)]
pub struct Egress {
    /// The hosts, and how much may pass.
    pub policy: NetworkPolicy,
    /// How fast the sandbox may send, to whatever it may reach.
    pub bits_per_second: u64,
    /// Secrets that the gateway puts in the place of their placeholders.
    pub credentials: Vec<Credential>,
}

impl Default for Egress {
    fn default() -> Self {
        Self {
            policy: NetworkPolicy::default(),
            bits_per_second: Limits::default().egress_bits_per_second,
            credentials: Vec::new(),
        }
    }
}

/// A secret and the stand-in for it that the sandbox holds.
#[derive(Debug, Clone)]
pub struct Credential {
    /// What it is called, for audit lines.
    pub name: SecretName,
    /// What the sandbox sends in its place.
    pub placeholder: String,
    /// The secret itself.
    pub value: SecretString,
    /// The only hosts it may be sent to.
    pub hosts: Vec<HostPattern>,
}

impl Egress {
    /// The rule for a host: of those that match, the first.
    pub(crate) fn rule(&self, host: &str) -> Option<&HostRule> {
        self.policy.hosts.iter().find(|rule| rule.host.matches(host))
    }

    /// Whether the gateway must see the requests for a host, and not only their bytes.
    pub(crate) fn intercepts(&self, rule: &HostRule, host: &str) -> bool {
        !rule.methods.is_empty()
            || !rule.paths.is_empty()
            || rule.credential.is_some()
            || self.credentials.iter().flat_map(|one| &one.hosts).any(|one| one.matches(host))
    }
}

/// Answers a request for a host that is not reached.
pub(crate) async fn stop(
    shared: &Shared,
    mut account: Account,
    target: &Target,
    why: Stop,
) -> Response<Body> {
    match why {
        Stop::Denied(why) => deny(shared, account, &target.denial(why), Form::Json).await,
        Stop::Failed(reason) => {
            let body = serde_json::json!({ "error": reason }).to_string();
            account.failed(reason);
            let json = HeaderValue::from_static("application/json");
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, json)]);
            account.answer(StatusCode::BAD_GATEWAY, headers, full_body(body))
        }
    }
}
