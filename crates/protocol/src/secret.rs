//! What is said about named secrets. A value goes towards the server and from it into a sandbox,
//! never to a client.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use crate::network::HostPattern;
use crate::repository::RepositoryName;
use crate::{Timestamp, layout};

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
    "NODE_USE_ENV_PROXY",
    "JAVA_TOOL_OPTIONS",
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
            && !RESERVED.contains(&text)
            && !layout::PROXY_VARIABLES.contains(&text)
            && !layout::NO_PROXY_VARIABLES.contains(&text)
            && !layout::TRUST_VARIABLES.contains(&text);
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

/// A text that names no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no scope: write `server`, `team:NAME` or `repository:OWNER/NAME`")]
pub struct ParseSecretScopeError(String);

impl FromStr for SecretScope {
    type Err = ParseSecretScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSecretScopeError(text.to_owned());
        match text.split_once(':') {
            None if text == "server" => Ok(Self::Server),
            // The letters of a repository's owner, so that it is safe wherever it is written.
            Some(("team", team)) if RepositoryName::new(team, "x").is_ok() => {
                Ok(Self::Team { team: team.to_owned() })
            }
            Some(("repository", name)) => {
                name.parse().map(|repository| Self::Repository { repository }).map_err(|_| wrong())
            }
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for SecretScope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => formatter.write_str("server"),
            Self::Team { team } => write!(formatter, "team:{team}"),
            Self::Repository { repository } => write!(formatter, "repository:{repository}"),
        }
    }
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

impl SecretPhase {
    /// The word as people write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::Run => "run",
        }
    }
}

impl fmt::Display for SecretPhase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A text that names no phase.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no phase: write `build` or `run`")]
pub struct ParseSecretPhaseError(String);

impl FromStr for SecretPhase {
    type Err = ParseSecretPhaseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = [Self::Build, Self::Run].into_iter().find(|phase| phase.as_str() == text);
        named.ok_or_else(|| ParseSecretPhaseError(text.to_owned()))
    }
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

/// A value on its way: shown by no formatter, and overwritten in memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<String>);

impl SecretValue {
    /// Takes a value over.
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for the place that uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret]")
    }
}

impl Serialize for SecretValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for SecretValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The error of another type would repeat what was sent.
        let value = String::deserialize(deserializer);
        value.map(Self::new).map_err(|_| serde::de::Error::custom("a value must be a string"))
    }
}

/// Body of `PUT /v1/secrets/{phase}/{name}?scope=…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutSecret {
    /// Its value, at most [`crate::limits::SECRET_BYTES`]; never given back.
    pub value: SecretValue,
    /// How sandboxes get it.
    #[serde(default)]
    pub delivery: SecretDelivery,
    /// Hosts to which its placeholder is swapped for the value; at least one, unless it is plain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostPattern>,
}

/// Answer to [`PutSecret`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretStored {
    /// What was stored.
    #[serde(flatten)]
    pub secret: SecretDescription,
    /// What its owner should know, in whole sentences.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Answer of `POST /v1/secrets/rotate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsRotated {
    /// The key everything is encrypted with now.
    pub key: String,
    /// How many secrets were encrypted again.
    pub secrets: usize,
    /// Those that were left as they are, because the key they need is missing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<SecretDescription>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_variables_that_break_nothing() {
        assert!("NPM_TOKEN".parse::<SecretName>().is_ok());
        for bad in [
            "",
            "npm",
            "1A",
            "_A",
            "A-B",
            "A B",
            "PATH",
            "LD_PRELOAD",
            "HANGAR_X",
            "A=B",
            "NO_PROXY",
            "SSL_CERT_FILE",
        ] {
            assert!(bad.parse::<SecretName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for good in ["server", "team:shop", "repository:local/site"] {
            let scope: SecretScope = good.parse().expect(good);
            assert_eq!(scope.to_string(), good);
        }
        for bad in ["", "Server", "team:", "team:a b", "repository:x", "user:x"] {
            assert!(bad.parse::<SecretScope>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_value_is_shown_by_no_formatter() {
        let body: PutSecret = serde_json::from_str(r#"{"value":"hunter2"}"#).expect("a body");
        assert_eq!(body.value.expose(), "hunter2");
        assert!(!format!("{body:?} {body:#?}").contains("hunter2"));
    }
}
