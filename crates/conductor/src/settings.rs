//! What a repository says about itself in `hangar.toml`.

use serde::Deserialize;

/// The file's name, at the root of the repository.
pub const FILE: &str = "hangar.toml";

/// The contents of `hangar.toml`; every part may be missing.
///
/// The file comes from the repository and is untrusted: it can say what runs inside a sandbox, and
/// nothing about what the sandbox may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Commands people and agents use.
    #[serde(default)]
    pub commands: Commands,
}

/// Commands of the repository, each run by a shell in the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    /// Shows whether the repository is in order, in a minute or less.
    pub test: Option<String>,
}

/// `hangar.toml` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("reading {FILE} of the repository: {0}; see docs/guide/configuration.md")]
pub struct Error(String);

impl Settings {
    /// The settings in the text of a `hangar.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| Error(error.message().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_part_is_empty() {
        assert_eq!(Settings::parse("").expect("an empty file is fine"), Settings::default());
    }

    #[test]
    fn the_test_command_is_read() {
        let settings = Settings::parse("[commands]\ntest = \"make check\"\n").expect("well formed");
        assert_eq!(settings.commands.test.as_deref(), Some("make check"));
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let error = Settings::parse("[commands]\ntset = \"x\"\n").expect_err("no such key");
        assert!(error.to_string().contains("tset"), "{error}");
    }
}
