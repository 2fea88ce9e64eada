//! Which models there are: from the keys in the server's environment.

use std::env;

use gateway::{Provider, Providers};
use protocol::session::{Dialect, ModelChoice};
use secrecy::SecretString;

/// Anthropic's model when a key but no name is given.
const ANTHROPIC_MODEL: &str = "claude-sonnet-4-5";
/// OpenAI's.
const OPENAI_MODEL: &str = "gpt-5";

/// Providers with their keys, and the model used when none is named.
#[derive(Debug, Clone)]
pub(crate) struct Models {
    pub(crate) providers: Providers,
    pub(crate) default: ModelChoice,
}

impl Models {
    /// From the variables that hold keys and addresses; see docs/guide/configuration.md.
    pub(crate) fn from_environment() -> Self {
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
        Self::from_variables(variable)
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let key = |name: &str| variable(name).map(|key| SecretString::from(key.trim().to_owned()));
        let address =
            |name: &str| variable(name).map(|text| text.trim().trim_end_matches('/').to_owned());
        let anthropic = key("ANTHROPIC_API_KEY")
            .map(|key| Provider::anthropic(key, address("ANTHROPIC_BASE_URL")));
        let openai =
            key("OPENAI_API_KEY").map(|key| Provider::openai(key, address("OPENAI_BASE_URL")));
        let choice = |provider: &str, name: &str, dialect| ModelChoice {
            provider: provider.to_owned(),
            name: name.to_owned(),
            dialect,
        };
        let default = if anthropic.is_some() {
            choice("anthropic", ANTHROPIC_MODEL, Dialect::Anthropic)
        } else if openai.is_some() {
            choice("openai", OPENAI_MODEL, Dialect::OpenaiChat)
        } else {
            choice("rehearsal", "rehearsal", Dialect::Anthropic)
        };
        Self { providers: Providers { anthropic, openai }, default }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &'static [(&str, &str)]) -> Models {
        Models::from_variables(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_a_key_the_rehearsal_answers() {
        let models = with(&[("ANTHROPIC_BASE_URL", "http://x")]);
        assert_eq!(models.default.provider, "rehearsal");
        assert!(models.providers.anthropic.is_none() && models.providers.openai.is_none());
    }

    #[test]
    fn a_key_brings_its_provider() {
        let models = with(&[("OPENAI_API_KEY", "k\n"), ("OPENAI_BASE_URL", "http://model:1/v1/")]);
        assert_eq!(models.default.provider, "openai");
        let openai = models.providers.openai.expect("a provider");
        assert_eq!(openai.base_url, "http://model:1/v1");
        assert!(!format!("{openai:?}").contains("\"k\""), "the key can be printed");
    }

    #[test]
    fn with_both_keys_anthropic_is_the_default() {
        let models = with(&[("OPENAI_API_KEY", "a"), ("ANTHROPIC_API_KEY", "b")]);
        assert_eq!(models.default.provider, "anthropic");
        assert!(models.providers.openai.is_some());
    }
}
