//! What is said about named secrets; their values never cross a boundary to clients.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Timestamp;
use crate::network::HostPattern;
use crate::repository::RepositoryName;

/// The name of a secret and of the variable that carries it: capitals, digits and `_`, a letter
/// first, at most 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName(String);

/// A text that is no name of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name for a secret: write capitals, digits and `_`, such as `NPM_TOKEN`")]
pub struct ParseSecretNameError(String);

/// Variables that decide how programs find each other and the gateway: no secret may replace them.
const RESERVED: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "LANG",
    "IFS",
    "ENV",
    "BASH_ENV",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "HTTP_PROXY",
    "HTTPS_PROXY",
];

impl SecretName {
    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = ParseSecretNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = text.len() <= 64
            && text.starts_with(|first: char| first.is_ascii_uppercase())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            && !text.starts_with("HANGAR_")
            && !RESERVED.contains(&text);
        if good { Ok(Self(text.to_owned())) } else { Err(ParseSecretNameError(text.to_owned())) }
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for SecretName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Who may use a secret. Of several with one name the narrowest counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum SecretScope {
    /// Every repository of the server.
    Server,
    /// Repositories of a team ([`crate::settings::RepositorySettings::team`]).
    Team {
        /// Its name.
        team: String,
    },
    /// One repository.
    Repository {
        /// Which one.
        repository: RepositoryName,
    },
}

/// When a sandbox may use a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretPhase {
    /// While an image is built.
    Build,
    /// In sessions.
    Run,
}

/// How a sandbox gets a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretDelivery {
    /// As a stand-in that the gateway swaps for the value on the way to the secret's hosts.
    #[default]
    Placeholder,
    /// As it is: code in the sandbox can read it and send it wherever the sandbox may go.
    Plain,
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretDescription {
    /// Its name.
    pub name: SecretName,
    /// Who may use it.
    pub scope: SecretScope,
    /// When.
    pub phase: SecretPhase,
    /// How sandboxes get it.
    pub delivery: SecretDelivery,
    /// Hosts to which its placeholder is swapped for the value.
    pub hosts: Vec<HostPattern>,
    /// The key it is encrypted with.
    pub key: String,
    /// When it was last set.
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_variables_that_break_nothing() {
        assert!("NPM_TOKEN".parse::<SecretName>().is_ok());
        for bad in ["", "npm", "1A", "_A", "A-B", "A B", "PATH", "LD_PRELOAD", "HANGAR_X", "A=B"] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
        }
    }
}
