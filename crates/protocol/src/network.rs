//! Which hosts a sandbox may reach through the gateway, and how.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::secret::SecretName;

/// A host by its exact name, or `*.` and a name for everything beneath it (but not itself).
///
/// Lower case ASCII; names in other scripts are written in their `xn--` form. Never an address and
/// never with a port: what a name resolves to is judged after resolution.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern(String);

/// A text that is no host pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a host: write a name such as `example.com`, or `*.example.com` for all beneath it"
)]
pub struct ParseHostPatternError(String);

impl HostPattern {
    /// Whether a host in lower case without a final dot is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self.0.strip_prefix("*.") {
            None => self.0 == host,
            Some(parent) => host
                .strip_suffix(parent)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|label| !label.is_empty()),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
            })
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253
        && text.split('.').all(is_label)
        // What ends in a number is an address to some programs.
        && !last.bytes().all(|byte| byte.is_ascii_digit())
        && !last.starts_with("0x")
}

impl FromStr for HostPattern {
    type Err = ParseHostPatternError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_prefix("*.").unwrap_or(text);
        if is_name(name) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseHostPatternError(text.to_owned()))
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// One host a sandbox may reach over HTTPS on port 443, and what it may do there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostRule {
    /// Which host.
    pub host: HostPattern,
    /// The methods that are allowed, in capitals; all when empty. Needs the gateway to see the
    /// requests: it then terminates TLS for this host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Paths that are allowed, each with all beneath it; all when empty. Terminates TLS as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// Whether unencrypted HTTP on port 80 is allowed as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// Networks that are not part of the public internet and in which this host may lie all the
    /// same: a company's own registry. Loopback, link-local and metadata addresses stay refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<IpNet>,
    /// A credential that the gateway adds to every request for this host. Terminates TLS as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Injection>,
}

impl HostRule {
    /// A host with nothing forbidden and nothing added.
    pub fn new(host: HostPattern) -> Self {
        Self {
            host,
            methods: Vec::new(),
            paths: Vec::new(),
            plain: false,
            networks: Vec::new(),
            credential: None,
        }
    }
}

/// A credential added outside of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Injection {
    /// The secret whose value is sent.
    pub secret: SecretName,
    /// The header it is sent in; `authorization` when missing.
    #[serde(default = "authorization")]
    pub header: String,
    /// The header's value, with `{}` where the secret goes; `Bearer {}` when missing.
    #[serde(default = "bearer")]
    pub format: String,
}

fn authorization() -> String {
    "authorization".to_owned()
}

fn bearer() -> String {
    "Bearer {}".to_owned()
}

/// What one phase of a sandbox's life may reach. The default reaches nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPolicy {
    /// The hosts; the first rule that matches decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostRule>,
    /// Bytes a sandbox may send to these hosts in its life; unlimited when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_out: Option<u64>,
    /// Bytes it may receive from them; unlimited when missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_in: Option<u64>,
}

/// What sandboxes of a repository may reach: other hosts while an image is built than in sessions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// While an image is built.
    #[serde(default)]
    pub build: NetworkPolicy,
    /// In sessions.
    #[serde(default)]
    pub run: NetworkPolicy,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_itself_or_what_is_beneath_it() {
        let exact: HostPattern = "example.com".parse().expect("a name");
        let beneath: HostPattern = "*.example.com".parse().expect("a pattern");
        assert!(exact.matches("example.com"));
        assert!(!exact.matches("a.example.com") && !exact.matches("example.com.evil"));
        assert!(beneath.matches("a.example.com") && beneath.matches("a.b.example.com"));
        for other in ["example.com", ".example.com", "evilexample.com", "example.com.evil"] {
            assert!(!beneath.matches(other), "{other}");
        }
    }

    #[test]
    fn addresses_ports_and_odd_names_are_no_hosts() {
        for bad in [
            "",
            "*",
            "*.",
            "a..b",
            ".a",
            "a.",
            "-a.b",
            "a-.b",
            "EXAMPLE.com",
            "a b",
            "a:443",
            "a/b",
            "10.0.0.1",
            "127.1",
            "0x7f000001",
            "[::1]",
            "münchen.de",
            "a\0b",
            "*.*.a",
            "a.*.b",
        ] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad:?}");
        }
    }
}
