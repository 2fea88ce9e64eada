//! Carries out one request: decides, then hands it to the model or git route, or denies it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, header};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use serde_json::json;

use crate::account::Account;
use crate::body::{Body, full_body};
use crate::server::{Afterwards, Shared, Slot};
use crate::{Denial, Head, Route, Verdict, Way, decide, egress, git, model};

pub(crate) async fn handle(
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    request: Request<Incoming>,
    afterwards: &Afterwards,
) -> Response<Body> {
    let binding = slot.binding();
    let head = Head {
        method: request.method(),
        uri: request.uri(),
        headers: request.headers(),
        version: request.version(),
    };
    let mut account = Account::open(
        Arc::clone(&shared),
        Arc::clone(&slot),
        binding.as_ref().map(|binding| binding.session),
        head.method.as_str(),
        head.uri.path(),
    );
    if let Some(host) = head.foreign_host() {
        account.about_host(host);
    }
    let form = Form::of(&request);
    let verdict = if shared.audit.healthy() {
        decide(head, binding.as_deref(), &shared.providers)
    } else {
        Verdict::Denied(Denial::NoAudit)
    };
    match (verdict, binding) {
        (Verdict::Denied(denial), _) => deny(&shared, account, &denial, form).await,
        (Verdict::Allowed(Route::Model(route)), _) => {
            model::serve(&shared, slot.sandbox, account, route, request).await
        }
        (Verdict::Allowed(Route::Git(route)), Some(binding)) => {
            git::serve(&shared, account, route, &binding, request).await
        }
        // `decide` allows no git request without a binding.
        (Verdict::Allowed(Route::Git(_)), None) => {
            deny(&shared, account, &Denial::Unbound, form).await
        }
        (Verdict::Allowed(Route::Host(target)), _) if target.way == Way::Plain => {
            egress::plain::serve(&shared, &slot, account, *target, request).await
        }
        (Verdict::Allowed(Route::Host(target)), _) => {
            egress::connect::serve(shared, &slot, account, *target, request, afterwards).await
        }
    }
}

/// In which form the asking program shows a denial to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `{"denied": reason, "hint": …}`.
    Json,
    /// The same, with an `error` as both model dialects have it.
    Model,
    /// git shows error bodies of this type only, as `remote: …`.
    Text,
}

impl Form {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let path = request.uri().path();
        let git = request
            .headers()
            .get(header::USER_AGENT)
            .is_some_and(|agent| agent.as_bytes().starts_with(b"git/"));
        if git || path.starts_with("/git/") {
            Self::Text
        } else if path.starts_with("/model/") {
            Self::Model
        } else {
            Self::Json
        }
    }
}

/// Answers a denial, slowly if this sandbox keeps asking.
pub(crate) async fn deny(
    shared: &Shared,
    mut account: Account,
    denial: &Denial,
    form: Form,
) -> Response<Body> {
    if account.denied(denial) > shared.limits.denials_per_minute {
        tokio::time::sleep(shared.limits.denial_delay).await;
    }
    let (reason, hint) = (denial.to_string(), denial.hint());
    let (kind, text) = match form {
        Form::Text => ("text/plain; charset=utf-8", format!("denied: {reason}\nhint: {hint}\n")),
        Form::Json => (
            "application/json",
            // Package managers show `error` to their users.
            json!({ "error": reason, "denied": reason, "hint": hint, "code": denial.code() })
                .to_string(),
        ),
        Form::Model => {
            let message = format!("{reason}; {hint}");
            let error =
                json!({ "type": "permission_error", "code": denial.code(), "message": message });
            let body = json!({
                "type": "error", "error": error,
                "denied": reason, "hint": hint, "code": denial.code(),
            });
            ("application/json", body.to_string())
        }
    };
    let mut headers =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    let about_host = matches!(denial, Denial::Host { .. });
    if about_host && let Ok(reason) = HeaderValue::from_str(&reason) {
        headers.insert("x-hangar-denied", reason);
    }
    let mut response = account.answer(denial.status(), headers, full_body(text));
    // Most programs throw away the body of a refused CONNECT and show this line at best.
    if about_host && let Ok(phrase) = ReasonPhrase::try_from(reason) {
        response.extensions_mut().insert(phrase);
    }
    response
}
