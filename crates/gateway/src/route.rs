//! Decides, from a request's head alone, where it may go: no input or output happens here.

use std::fmt;

use http::{HeaderMap, Method, Uri, Version};
use protocol::repository::RepositoryName;
use protocol::{SessionId, layout};
use serde::Serialize;

use crate::egress::{self, Egress, Target};
use crate::git::Service;
use crate::{Denial, Providers};

/// What a sandbox works on, given when a session claims it.
#[derive(Debug, Clone)]
pub struct Binding {
    /// The session.
    pub session: SessionId,
    /// The only repository the sandbox may fetch from and push to.
    pub repository: RepositoryName,
    /// Refs it may push: this name itself and names that go on with `-` or `/`,
    /// such as `refs/heads/hangar/1a2b3c4d`.
    pub push_prefix: String,
    /// Which other hosts it may reach, and with what.
    pub egress: Egress,
}

/// A model provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProviderName {
    /// The built-in scripted model.
    Rehearsal,
    /// Anthropic messages.
    Anthropic,
    /// OpenAI chat completions and responses, or anything that speaks them.
    OpenAi,
}

impl fmt::Display for ProviderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Rehearsal => "rehearsal",
            Self::Anthropic => "anthropic",
            Self::OpenAi => "openai",
        })
    }
}

/// The shape of a model's requests, answers and errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `/v1/messages`.
    Anthropic,
    /// `/v1/chat/completions` and `/v1/responses`.
    OpenAi,
}

/// The methods and paths of models that a sandbox needs; there are no others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST v1/messages`.
    Messages,
    /// `POST v1/messages/count_tokens`.
    CountTokens,
    /// `POST v1/chat/completions`.
    ChatCompletions,
    /// `POST v1/responses`.
    Responses,
    /// `GET v1/models`.
    Models,
}

impl Endpoint {
    /// The path after `v1`.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
            Self::ChatCompletions => "/chat/completions",
            Self::Responses => "/responses",
            Self::Models => "/models",
        }
    }

    fn of(provider: ProviderName, method: &Method, rest: &str) -> Option<Self> {
        let endpoint = match (method.as_str(), rest) {
            ("POST", "v1/messages") => Self::Messages,
            ("POST", "v1/messages/count_tokens") => Self::CountTokens,
            ("POST", "v1/chat/completions") => Self::ChatCompletions,
            ("POST", "v1/responses") => Self::Responses,
            ("GET", "v1/models") => Self::Models,
            _ => return None,
        };
        let spoken = match provider {
            ProviderName::Rehearsal => endpoint != Self::Responses,
            ProviderName::Anthropic => {
                matches!(endpoint, Self::Messages | Self::CountTokens | Self::Models)
            }
            ProviderName::OpenAi => {
                matches!(endpoint, Self::ChatCompletions | Self::Responses | Self::Models)
            }
        };
        spoken.then_some(endpoint)
    }
}

/// A model request that is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelRoute {
    /// Who answers.
    pub provider: ProviderName,
    /// What is asked.
    pub endpoint: Endpoint,
}

impl ModelRoute {
    /// The shape of errors the asking program understands.
    pub const fn dialect(self) -> Dialect {
        match (self.provider, self.endpoint) {
            (ProviderName::Anthropic, _) | (_, Endpoint::Messages | Endpoint::CountTokens) => {
                Dialect::Anthropic
            }
            _ => Dialect::OpenAi,
        }
    }
}

/// A git request that is allowed so far: a push is also judged by the refs it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitRoute {
    /// The bound repository.
    pub repository: RepositoryName,
    /// Fetch or push.
    pub service: Service,
    /// The path inside the repository: `/info/refs`, `/git-upload-pack` or `/git-receive-pack`.
    pub path: &'static str,
}

/// Where an allowed request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// To a model.
    Model(ModelRoute),
    /// To the forge.
    Git(GitRoute),
    /// To another host, if its name leads to a good address.
    Host(Box<Target>),
}

/// The decision about one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may go there.
    Allowed(Route),
    /// It may not, for this reason.
    Denied(Denial),
}

/// The part of a request that decides.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its target, in whatever form it was sent.
    pub uri: &'a Uri,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Of HTTP.
    pub version: Version,
}

impl Head<'_> {
    /// The host a proxy request names; `None` if the request is for the gateway itself.
    ///
    /// Some programs ignore `NO_PROXY` and send even requests for the gateway in the form for
    /// proxies: those count as its own.
    pub(crate) fn foreign_host(&self) -> Option<String> {
        let authority = self.uri.authority()?;
        let own = authority.as_str() == layout::GATEWAY_ADDRESS
            || authority.as_str().strip_prefix("localhost").is_some_and(|port| port == own_port());
        if own && self.method != Method::CONNECT {
            return None;
        }
        Some(egress::spelled(self.uri))
    }
}

fn own_port() -> &'static str {
    layout::GATEWAY_ADDRESS.rfind(':').map_or("", |colon| &layout::GATEWAY_ADDRESS[colon..])
}

/// Where a request may go. Anything not named here is denied.
pub fn decide(head: Head<'_>, binding: Option<&Binding>, providers: &Providers) -> Verdict {
    match route(head, binding, providers) {
        Ok(route) => Verdict::Allowed(route),
        Err(denial) => Verdict::Denied(denial),
    }
}

fn route(
    head: Head<'_>,
    binding: Option<&Binding>,
    providers: &Providers,
) -> Result<Route, Denial> {
    if head.foreign_host().is_some() {
        let egress = binding.map(|binding| &binding.egress);
        return egress::decide(head, egress).map(|target| Route::Host(Box::new(target)));
    }
    // Compared as sent: an encoded or doubled slash matches no route and is denied.
    let path = head.uri.path();
    if let Some(rest) = path.strip_prefix("/model/") {
        model(head.method, rest, binding, providers).map(Route::Model)
    } else if let Some(rest) = path.strip_prefix("/git/") {
        git(head, rest, binding).map(Route::Git)
    } else {
        Err(Denial::UnknownRoute { path: path.to_owned() })
    }
}

fn model(
    method: &Method,
    rest: &str,
    binding: Option<&Binding>,
    providers: &Providers,
) -> Result<ModelRoute, Denial> {
    let (name, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let provider = match name {
        "rehearsal" => ProviderName::Rehearsal,
        "anthropic" => ProviderName::Anthropic,
        "openai" => ProviderName::OpenAi,
        _ => return Err(Denial::UnknownProvider { provider: name.to_owned() }),
    };
    if provider != ProviderName::Rehearsal {
        if binding.is_none() {
            return Err(Denial::Unbound);
        }
        if providers.get(provider).is_none() {
            return Err(Denial::ProviderWithoutKey { provider });
        }
    }
    let endpoint = Endpoint::of(provider, method, rest).ok_or_else(|| Denial::ModelEndpoint {
        provider,
        method: method.to_string(),
        path: format!("/{rest}"),
    })?;
    Ok(ModelRoute { provider, endpoint })
}

fn git(head: Head<'_>, rest: &str, binding: Option<&Binding>) -> Result<GitRoute, Denial> {
    let binding = binding.ok_or(Denial::Unbound)?;
    let mut parts = rest.splitn(4, '/');
    let mut part = || parts.next().unwrap_or_default();
    let (host, owner, name, operation) = (part(), part(), part(), part());
    if host != "local" {
        return Err(Denial::GitHost { host: host.to_owned() });
    }
    let asked = name
        .strip_suffix(".git")
        .and_then(|name| RepositoryName::new(owner, name).ok())
        .ok_or_else(|| Denial::GitOperation { operation: head.uri.path().to_owned() })?;
    if asked != binding.repository {
        return Err(Denial::GitRepository { asked, allowed: binding.repository.clone() });
    }
    let (service, path) = match (head.method.as_str(), operation, head.uri.query()) {
        ("GET", "info/refs", Some("service=git-upload-pack")) => (Service::Fetch, "/info/refs"),
        ("GET", "info/refs", Some("service=git-receive-pack")) => (Service::Push, "/info/refs"),
        ("POST", "git-upload-pack", None) => (Service::Fetch, "/git-upload-pack"),
        ("POST", "git-receive-pack", None) => (Service::Push, "/git-receive-pack"),
        _ => return Err(Denial::GitOperation { operation: format!("/{operation}") }),
    };
    Ok(GitRoute { repository: asked, service, path })
}
