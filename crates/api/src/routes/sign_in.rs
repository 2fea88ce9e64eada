//! Signing a browser in by the link that the server printed.

use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::header::{LOCATION, SET_COOKIE};
use http::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::page;
use crate::Api;
use crate::access::COOKIE_LIFETIME;
use crate::extract::Query;
use crate::guard::cookie_name;
use crate::problem::Failure;

#[derive(Debug, Deserialize)]
pub(super) struct SignIn {
    #[serde(default)]
    code: String,
}

/// `GET /sign-in?code=…`
///
/// HEAD is refused: programs that look at links before people do would use the code up.
pub(super) async fn sign_in(
    State(api): State<Api>,
    Query(query): Query<SignIn>,
    request: Request,
) -> Result<Response, Failure> {
    if request.method() != Method::GET {
        let detail = format!("/sign-in does not answer {}", request.method());
        return Err(Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail));
    }
    let cookie = api.access.redeem(&query.code, Instant::now()).map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        Failure::internal()
    })?;
    let Some(cookie) = cookie else { return Ok(page::signed_out(StatusCode::UNAUTHORIZED)) };
    let cookie = format!(
        "{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}",
        cookie_name(request.headers()),
        cookie.expose_secret(),
        COOKIE_LIFETIME.as_secs()
    );
    let headers = [(SET_COOKIE, cookie.as_str()), (LOCATION, "/")];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}
