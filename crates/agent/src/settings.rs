//! What the environment says about the model and about this agent's place.

use std::path::PathBuf;
use std::time::Duration;

use crate::dialect::Dialect;

/// Everything the agent takes from its environment.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The model to ask, or why none can be asked: told at the first prompt, because a pool starts
    /// agents before anybody has chosen a model.
    pub model: Result<Endpoint, Error>,
    /// `HANGAR_INSTRUCTIONS`: added to the system prompt.
    pub instructions: String,
    /// How long to wait for the model and how often to ask again.
    pub patience: Patience,
    /// Where sessions are kept; nowhere without a HOME.
    pub sessions: Option<PathBuf>,
}

/// One model behind one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `HANGAR_MODEL_URL`, without a slash at the end.
    pub url: String,
    /// `HANGAR_MODEL_NAME`.
    pub name: String,
    /// `HANGAR_MODEL_DIALECT`.
    pub dialect: Dialect,
}

/// How patient the agent is with its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The pause before the first retry; each further one is twice as long.
    pub first_pause: Duration,
    /// No pause is longer, whatever the model's `retry-after` says.
    pub longest_pause: Duration,
    /// How often a request is sent again before the prompt fails.
    pub retries: usize,
    /// A request that is silent for so long counts as dropped.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_mins(1),
            retries: 6,
            idle: Duration::from_mins(2),
        }
    }
}

/// What is wrong with the environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A variable that must be there is not.
    #[error(
        "the agent has no model: {variable} is not set. Set HANGAR_MODEL_URL, HANGAR_MODEL_NAME and \
         HANGAR_MODEL_DIALECT (anthropic or openai_chat) in the agent's environment"
    )]
    Missing {
        /// Its name.
        variable: &'static str,
    },
    /// A dialect nobody speaks.
    #[error(
        "the agent cannot speak to its model: HANGAR_MODEL_DIALECT is {found:?}, but it must be \
         anthropic or openai_chat"
    )]
    Dialect {
        /// What was found instead.
        found: String,
    },
}

impl Settings {
    /// Reads the settings through `variable`, which looks up one variable by name.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let milliseconds = |name| {
            variable(name).and_then(|text| text.trim().parse().ok()).map(Duration::from_millis)
        };
        let usual = Patience::default();
        Self {
            model: endpoint(&variable),
            instructions: variable("HANGAR_INSTRUCTIONS").unwrap_or_default(),
            patience: Patience {
                first_pause: milliseconds("HANGAR_MODEL_RETRY_MILLISECONDS")
                    .unwrap_or(usual.first_pause),
                idle: milliseconds("HANGAR_MODEL_IDLE_MILLISECONDS").unwrap_or(usual.idle),
                ..usual
            },
            sessions: variable("HOME")
                .filter(|home| !home.is_empty())
                .map(|home| PathBuf::from(home).join(".hangar-agent/sessions")),
        }
    }
}

fn endpoint(variable: &impl Fn(&str) -> Option<String>) -> Result<Endpoint, Error> {
    let required = |name: &'static str| {
        variable(name)
            .filter(|value| !value.trim().is_empty())
            .ok_or(Error::Missing { variable: name })
    };
    let url = required("HANGAR_MODEL_URL")?.trim_end_matches('/').to_owned();
    let name = required("HANGAR_MODEL_NAME")?;
    let dialect = match required("HANGAR_MODEL_DIALECT")?.as_str() {
        "anthropic" => Dialect::Anthropic,
        "openai_chat" => Dialect::OpenAiChat,
        other => return Err(Error::Dialect { found: other.to_owned() }),
    };
    Ok(Endpoint { url, name, dialect })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Settings {
        Settings::read(|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn a_whole_environment_gives_an_endpoint() {
        let settings = read(&[
            ("HANGAR_MODEL_URL", "http://127.0.0.1:7070/model/rehearsal/"),
            ("HANGAR_MODEL_NAME", "rehearsal"),
            ("HANGAR_MODEL_DIALECT", "openai_chat"),
            ("HANGAR_MODEL_IDLE_MILLISECONDS", "2500"),
            ("HOME", "/home/agent"),
        ]);
        let endpoint = settings.model.expect("complete");
        assert_eq!(endpoint.url, "http://127.0.0.1:7070/model/rehearsal");
        assert_eq!(endpoint.dialect, Dialect::OpenAiChat);
        assert_eq!(settings.patience.idle, Duration::from_millis(2500));
        assert_eq!(settings.sessions, Some("/home/agent/.hangar-agent/sessions".into()));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let missing = read(&[("HANGAR_MODEL_URL", "http://x"), ("HANGAR_MODEL_NAME", " ")]);
        assert_eq!(missing.model, Err(Error::Missing { variable: "HANGAR_MODEL_NAME" }));
        let wrong = read(&[
            ("HANGAR_MODEL_URL", "http://x"),
            ("HANGAR_MODEL_NAME", "m"),
            ("HANGAR_MODEL_DIALECT", "gemini"),
        ]);
        let message = wrong.model.expect_err("no such dialect").to_string();
        assert!(message.contains("\"gemini\""), "{message}");
    }
}
