//! What an operator decides about the gateway: providers and their keys, limits, the audit file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::outside::Proxy;
use crate::rehearsal::Pacing;
use crate::{Connector, Direct, Names, ProviderName, SystemNames};

/// Everything a gateway is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The real model providers that have a key.
    pub providers: Providers,
    /// How fast the built-in scripted model speaks.
    pub rehearsal: Pacing,
    /// The directory of the audit file `gateway.jsonl`; made if missing.
    pub audit: PathBuf,
    /// The file of this installation's certificate authority; made if missing. Its private key
    /// lies nowhere else.
    pub authority: PathBuf,
    /// Certificates in PEM to trust besides the system's: those of a company.
    pub trust: Option<PathBuf>,
    /// The host's own proxy.
    pub proxy: Proxy,
    /// What one sandbox may ask for at most.
    pub limits: Limits,
    /// Who knows the addresses of hosts that sandboxes may reach.
    pub names: Arc<dyn Names>,
    /// Who connects to these addresses after they were judged.
    pub connector: Arc<dyn Connector>,
}

impl Config {
    /// No provider but the rehearsal, default limits, hosts as the machine itself finds them, no
    /// proxy; audit lines in `audit` beneath the directory of the server's data, and the authority
    /// in `authority.json`.
    pub fn new(data: impl AsRef<Path>) -> Self {
        Self {
            providers: Providers::default(),
            rehearsal: Pacing::default(),
            audit: data.as_ref().join("audit"),
            authority: data.as_ref().join("authority.json"),
            trust: None,
            proxy: Proxy::default(),
            limits: Limits::default(),
            names: Arc::new(SystemNames::new("/etc/resolv.conf", "/etc/hosts")),
            connector: Arc::new(Direct),
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
    /// Connections to hosts at once, further ones are denied: some of `connections` stay for models
    /// and git.
    pub host_connections: usize,
    /// How long the lookup of a host's name may take.
    pub resolve_time: Duration,
    /// How long connecting to a host may take, over all of its addresses.
    pub dial_time: Duration,
    /// Bytes of a TLS greeting.
    pub greeting_bytes: usize,
    /// How long a TLS greeting may take to arrive.
    pub greeting_time: Duration,
    /// How long a host may be silent during a plain request.
    pub host_silence: Duration,
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
            host_connections: 48,
            resolve_time: Duration::from_secs(10),
            dial_time: Duration::from_secs(15),
            greeting_bytes: 32 * 1024,
            greeting_time: Duration::from_secs(15),
            host_silence: Duration::from_mins(5),
            // A loop of denied requests must not fill the disk with audit lines.
            denials_per_minute: 100,
            denial_delay: Duration::from_secs(1),
        }
    }
}
