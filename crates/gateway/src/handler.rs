//! Carries out one request: decides, then hands it to the model or git route, or denies it.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::json;

use crate::account::Account;
use crate::body::{Body, full_body};
use crate::server::{Shared, Slot};
use crate::{Denial, Head, Route, Verdict, decide, git, model};

pub(crate) async fn handle(
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    request: Request<Incoming>,
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
        (Verdict::Allowed(Route::Host(target)), _) => {
            let reason = format!("this gateway cannot carry requests for {} yet", target.host);
            account.failed(reason.clone());
            account.answer(StatusCode::NOT_IMPLEMENTED, HeaderMap::new(), full_body(reason))
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
    fn of(request: &Request<Incoming>) -> Self {
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
            json!({ "denied": reason, "hint": hint, "code": denial.code() }).to_string(),
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
    let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
    account.answer(denial.status(), headers, full_body(text))
}
