//! What an operator decides about the gateway: providers and their keys, limits, the audit file.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::ProviderName;
use crate::rehearsal::Pacing;

/// Everything a gateway is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The real model providers that have a key.
    pub providers: Providers,
    /// How fast the built-in scripted model speaks.
    pub rehearsal: Pacing,
    /// The directory of the audit file `gateway.jsonl`; made if missing.
    pub audit: PathBuf,
    /// What one sandbox may ask for at most.
    pub limits: Limits,
}

impl Config {
    /// No provider but the rehearsal, default limits, audit lines in `audit`.
    pub fn new(audit: impl Into<PathBuf>) -> Self {
        Self {
            providers: Providers::default(),
            rehearsal: Pacing::default(),
            audit: audit.into(),
            limits: Limits::default(),
        }
    }
}

/// The real providers; one without a key is denied with a hint.
#[derive(Debug, Clone, Default)]
pub struct Providers {
    /// `/model/anthropic`.
    pub anthropic: Option<Provider>,
    /// `/model/openai`, or anything that speaks its dialect.
    pub openai: Option<Provider>,
}

impl Providers {
    /// The configuration of one provider; the rehearsal has none.
    pub(crate) fn get(&self, name: ProviderName) -> Option<&Provider> {
        match name {
            ProviderName::Rehearsal => None,
            ProviderName::Anthropic => self.anthropic.as_ref(),
            ProviderName::OpenAi => self.openai.as_ref(),
        }
    }
}

/// Where a provider is and the key that is added outside of every sandbox.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The address before the dialect's path, without a slash at the end: for Anthropic what comes
    /// before `/v1/messages`, for OpenAI what comes before `/chat/completions`.
    pub base_url: String,
    /// The key itself; never in an audit line, an error or a sandbox.
    pub key: SecretString,
    /// What audit lines call the key.
    pub credential: String,
}

impl Provider {
    /// Anthropic's own address unless another is given.
    pub fn anthropic(key: SecretString, base_url: Option<String>) -> Self {
        let base_url = base_url.unwrap_or_else(|| "https://api.anthropic.com".to_owned());
        Self { base_url, key, credential: "server/anthropic".to_owned() }
    }

    /// OpenAI's own address unless another is given, as in `OPENAI_BASE_URL`.
    pub fn openai(key: SecretString, base_url: Option<String>) -> Self {
        let base_url = base_url.unwrap_or_else(|| "https://api.openai.com/v1".to_owned());
        Self { base_url, key, credential: "server/openai".to_owned() }
    }
}

/// What one sandbox may ask for at most; a limit is per sandbox, so none can starve another.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once; further ones wait to be accepted.
    pub connections: usize,
    /// Bytes of one request's head.
    pub head_bytes: usize,
    /// How long a head may take, and how long a kept connection may be idle.
    pub head_time: Duration,
    /// How long a request's body may make no progress.
    pub body_idle: Duration,
    /// Bytes of one model request.
    pub model_bytes: u64,
    /// Bytes of one git request: a pack.
    pub git_bytes: u64,
    /// How long a provider may be silent before the request is given up.
    pub provider_silence: Duration,
    /// Denials in one minute before further ones are answered slowly.
    pub denials_per_minute: u64,
    /// How slowly.
    pub denial_delay: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            head_bytes: 64 * 1024,
            // Longer than the pause between two steps of an agent, or its kept connection would
            // close under the next request.
            head_time: Duration::from_secs(75),
            body_idle: Duration::from_mins(1),
            // Anthropic's own limit.
            model_bytes: 32 * 1024 * 1024,
            git_bytes: 8 * 1024 * 1024 * 1024,
            provider_silence: Duration::from_mins(10),
            // A loop of denied requests must not fill the disk with audit lines.
            denials_per_minute: 100,
            denial_delay: Duration::from_secs(1),
        }
    }
}
