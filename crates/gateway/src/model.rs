//! Model requests: sent on to the provider with the key added here, and streamed back untouched.

mod scan;

use std::error::Error as _;

use futures_util::TryStreamExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use protocol::SandboxId;
use reqwest::Url;
use secrecy::ExposeSecret;
use serde_json::json;

pub(crate) use scan::Scanner;

use crate::account::Account;
use crate::body::{Body, BoxError, Metered, full_body};
use crate::handler::{Form, deny};
use crate::outside::Proxy;
use crate::outside::proxy::Endpoint;
use crate::outside::trust::Trust;
use crate::server::Shared;
use crate::{
    Denial, Dialect, Error, Limits, ModelRoute, Provider, ProviderName, Providers, headers,
};

/// A connected client per configured provider.
#[derive(Debug)]
pub(crate) struct Clients {
    anthropic: Option<Client>,
    openai: Option<Client>,
}

#[derive(Debug)]
struct Client {
    http: reqwest::Client,
    base: String,
    host: String,
}

impl Clients {
    pub(crate) fn new(
        providers: &Providers,
        limits: &Limits,
        proxy: &Proxy,
        trust: &Trust,
    ) -> Result<Self, Error> {
        let client = |name| {
            let provider = providers.get(name);
            provider.map(|provider| Client::new(name, provider, limits, proxy, trust)).transpose()
        };
        Ok(Self {
            anthropic: client(ProviderName::Anthropic)?,
            openai: client(ProviderName::OpenAi)?,
        })
    }

    fn get(&self, name: ProviderName) -> Option<&Client> {
        match name {
            ProviderName::Rehearsal => None,
            ProviderName::Anthropic => self.anthropic.as_ref(),
            ProviderName::OpenAi => self.openai.as_ref(),
        }
    }
}

impl Client {
    fn new(
        name: ProviderName,
        provider: &Provider,
        limits: &Limits,
        proxy: &Proxy,
        trust: &Trust,
    ) -> Result<Self, Error> {
        let address = || Error::Address {
            provider: name,
            address: provider.base_url.rsplit('@').next().unwrap_or_default().to_owned(),
        };
        let url = Url::parse(&provider.base_url).map_err(|_| address())?;
        let host = match (url.scheme(), url.host_str(), url.query()) {
            ("http" | "https", Some(host), None) => host.to_owned(),
            _ => return Err(address()),
        };
        let failed = |source| Error::Client { provider: name, source };
        let through = match (url.scheme(), url.port_or_known_default()) {
            ("https", Some(port)) => proxy.for_https(&host, port),
            (_, Some(port)) => proxy.for_http(&host, port),
            (_, None) => None,
        };
        let through = through.map(Endpoint::for_reqwest).transpose().map_err(failed)?;
        let mut builder = reqwest::Client::builder()
            // A redirect would carry the key to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(std::time::Duration::from_secs(10))
            .read_timeout(limits.provider_silence)
            .tcp_nodelay(true)
            .tls_backend_preconfigured(trust.client(&[b"h2", b"http/1.1"])?)
            // The environment says nothing here: its proxies are in the configuration.
            .no_proxy();
        if let Some(through) = through {
            builder = builder.proxy(through);
        }
        let http = builder.build().map_err(failed)?;
        let host = url.port().map_or(host.clone(), |port| format!("{host}:{port}"));
        Ok(Self { http, base: provider.base_url.trim_end_matches('/').to_owned(), host })
    }
}

/// Serves an allowed model request.
pub(crate) async fn serve(
    shared: &Shared,
    sandbox: SandboxId,
    mut account: Account,
    route: ModelRoute,
    request: Request<Incoming>,
) -> Response<Body> {
    let limit = shared.limits.model_bytes;
    let known = shared.clients.get(route.provider).zip(shared.providers.get(route.provider));
    let (host, credential) = match known {
        Some((client, provider)) => (client.host.clone(), Some(provider.credential.clone())),
        None => ("rehearsal".to_owned(), None),
    };
    account.about_model(route.provider, host, credential);
    if announced(request.headers()) > limit {
        return deny(shared, account, &Denial::BodyTooLarge { limit }, Form::Model).await;
    }
    let Some((client, provider)) = known else {
        return rehearse(shared, sandbox, account, route, request).await;
    };
    let (head, body) = request.into_parts();
    let meter = account.meter();
    let body = Metered::new(body, meter.clone(), limit, shared.limits.body_idle);
    let answer = client
        .http
        .request(head.method, address(client, route, head.uri.query()))
        .headers(headers::for_models(&head.headers))
        .headers(key(provider, route.provider))
        .body(reqwest::Body::wrap(body))
        .send()
        .await;
    match answer {
        Ok(answer) => {
            let (status, headers) = (answer.status(), headers::for_sandbox(answer.headers()));
            let pieces = answer.bytes_stream().map_ok(Frame::data).map_err(readable);
            account.answer(status, headers, StreamBody::new(pieces).boxed_unsync())
        }
        Err(error) => {
            if let Some(denial) = meter.denial(limit) {
                return deny(shared, account, &denial, Form::Model).await;
            }
            let reason = format!(
                "the gateway got no answer from {} at {}: {}",
                route.provider,
                client.host,
                readable(error)
            );
            unreachable(account, route.dialect(), reason)
        }
    }
}

async fn rehearse(
    shared: &Shared,
    sandbox: SandboxId,
    account: Account,
    route: ModelRoute,
    request: Request<Incoming>,
) -> Response<Body> {
    let limit = shared.limits.model_bytes;
    let meter = account.meter();
    let body = Metered::new(request.into_body(), meter.clone(), limit, shared.limits.body_idle);
    let Ok(body) = body.collect().await else {
        let denial = meter.denial(limit).unwrap_or(Denial::BodyStalled);
        return deny(shared, account, &denial, Form::Model).await;
    };
    let answer = shared.rehearsal.answer(sandbox, route.endpoint, &body.to_bytes());
    let (head, body) = answer.into_parts();
    account.answer(head.status, head.headers, body)
}

fn address(client: &Client, route: ModelRoute, query: Option<&str>) -> String {
    // Anthropic's base comes before `/v1`, OpenAI's includes it: as both name theirs.
    let version = if route.provider == ProviderName::Anthropic { "/v1" } else { "" };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{version}{}{query}", client.base, route.endpoint.path())
}

/// The header with the provider's key, marked so that nothing prints it.
fn key(provider: &Provider, name: ProviderName) -> HeaderMap {
    let secret = provider.key.expose_secret();
    let (header, value) = match name {
        ProviderName::Anthropic => (HeaderName::from_static("x-api-key"), secret.to_owned()),
        _ => (header::AUTHORIZATION, format!("Bearer {secret}")),
    };
    let mut headers = HeaderMap::new();
    // A key that is no header value is left out: the provider then says what is wrong with it.
    if let Ok(mut value) = HeaderValue::from_str(value.trim()) {
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    headers
}

/// The error's whole chain in one line, without the address, which may hold a password.
fn readable(error: reqwest::Error) -> BoxError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.into()
}

fn announced(headers: &HeaderMap) -> u64 {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .unwrap_or(0)
}

fn unreachable(mut account: Account, dialect: Dialect, reason: String) -> Response<Body> {
    let body = error_body(dialect, "api_error", &reason);
    account.failed(reason);
    account.answer(StatusCode::BAD_GATEWAY, json_type(), full_body(body))
}

/// An error as the dialect writes it.
pub(crate) fn error_body(dialect: Dialect, kind: &str, message: &str) -> String {
    match dialect {
        Dialect::Anthropic => {
            json!({ "type": "error", "error": { "type": kind, "message": message } })
        }
        Dialect::OpenAi => json!({
            "error": { "message": message, "type": kind, "param": null, "code": null }
        }),
    }
    .to_string()
}

pub(crate) fn json_type() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}
