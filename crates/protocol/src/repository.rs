//! Repositories as clients see them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ImageId, Timestamp};

/// `owner/name`, unique on one server; the owner of repositories on the local forge is `local`.
///
/// Both parts hold only ASCII letters, digits, `-`, `_` and `.`, start with none of `-` and `.`,
/// and have at most 100 characters, so a name is safe in a path and in a URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName {
    owner: String,
    name: String,
}

/// A text that is no repository name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a repository name: write `owner/name` with letters, digits, `-`, `_` and `.`"
)]
pub struct ParseRepositoryNameError(String);

impl RepositoryName {
    /// A name from its two parts.
    pub fn new(owner: &str, name: &str) -> Result<Self, ParseRepositoryNameError> {
        if is_part(owner) && is_part(name) {
            Ok(Self { owner: owner.to_owned(), name: name.to_owned() })
        } else {
            Err(ParseRepositoryNameError(format!("{owner}/{name}")))
        }
    }

    /// The part before the slash.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn is_part(text: &str) -> bool {
    (1..=100).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.owner, self.name)
    }
}

impl FromStr for RepositoryName {
    type Err = ParseRepositoryNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (owner, name) =
            text.split_once('/').ok_or_else(|| ParseRepositoryNameError(text.to_owned()))?;
        Self::new(owner, name)
    }
}

impl Serialize for RepositoryName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RepositoryName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A repository known to Hangar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Its unique name.
    pub name: RepositoryName,
    /// Where it came from: a path on the server's machine for the local forge.
    pub source: String,
    /// The branch new sessions start from.
    pub default_branch: String,
    /// When it was registered.
    pub registered_at: Timestamp,
    /// Its newest ready image, if one was built.
    pub image: Option<Image>,
}

/// A built environment for one repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Which one.
    pub id: ImageId,
    /// The commit its workspace holds, 40 hexadecimal digits (64 for SHA-256 repositories).
    pub commit: String,
    /// What it stands on: `host`, or a base image's reference with its digest.
    pub base: String,
    /// How far it is.
    pub state: ImageState,
    /// When the build began.
    pub started_at: Timestamp,
    /// How long the build took, once ended.
    pub milliseconds: Option<u64>,
}

/// How far an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "name")]
pub enum ImageState {
    /// Being built.
    Building,
    /// Sessions may start from it.
    Ready,
    /// The build ended without an image; the last ready one stays in use.
    Failed {
        /// What went wrong and what to try.
        reason: String,
    },
    /// A newer one took its place.
    Superseded,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths_and_urls() {
        for good in ["local/hangar", "a/b.c", "rust-lang/rust_1"] {
            assert_eq!(
                good.parse::<RepositoryName>().map(|name| name.to_string()),
                Ok(good.to_owned())
            );
        }
        for bad in
            ["", "hangar", "/x", "x/", "a/..", "a/.git", "a/b/c", "a/-b", "a/b c", "a/b\n", "ä/b"]
        {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad:?}");
        }
    }
}
