//! What every request passes before its route: host, origin, credentials; and every answer after.
//!
//! ```text
//!   request ──► host ──► origin ──► credentials ──► route ──► headers ──► answer
//!                │403      │403        │401           │ panic: 500
//! ```
//!
//! - Host: a page elsewhere whose name was made to point at this machine sends its own name, so
//!   only this machine's names and addresses, and names the operator gave, are answered.
//! - Origin: a page elsewhere must not use the cookie of a signed-in browser, neither for a
//!   request nor for a WebSocket. `SameSite` does not tell ports of one machine apart.
//! - Credentials: a bearer token, the cookie of a signed-in browser, or for Git a password.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::FutureExt;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, COOKIE, HOST, ORIGIN, REFERRER_POLICY,
    WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::Api;
use crate::extract::Caller;
use crate::problem::Failure;

/// Paths that answer without credentials; none says anything about sessions.
const OPEN: [&str; 2] = ["/sign-in", "/healthz"];
/// Where Git, which only knows names and passwords, is answered.
const GIT: &str = "/git/";
/// What the names of our cookies begin with.
const COOKIE_NAME: &str = "hangar_session";

/// The middleware around every route.
pub(crate) async fn guard(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let response = match admit(&api, &mut request) {
        Ok(()) => {
            let answer = AssertUnwindSafe(next.run(request)).catch_unwind().await;
            answer.unwrap_or_else(|_| {
                tracing::error!(%method, path, "a request panicked");
                Failure::internal().into_response()
            })
        }
        Err(failure) => refuse(&path, failure),
    };
    with_headers(response)
}

fn admit(api: &Api, request: &mut Request) -> Result<(), Failure> {
    let headers = request.headers();
    let host = check_host(api, request)?;
    check_origin(headers, &host)?;
    let path = request.uri().path();
    if OPEN.contains(&path) {
        return Ok(());
    }
    if !is_known(api, headers, path) {
        return Err(Failure::unauthenticated());
    }
    request.extensions_mut().insert(Caller(api.door.local_user()));
    Ok(())
}

/// The `Host` that was asked for, if it is one of ours.
fn check_host(api: &Api, request: &Request) -> Result<String, Failure> {
    let text = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = text.parse::<http::uri::Authority>().map(|authority| authority.host().to_owned());
    match name {
        Ok(name) if is_our_name(&name, &api.hosts) => Ok(text.to_owned()),
        _ => Err(Failure::new(
            StatusCode::FORBIDDEN,
            "unknown_host",
            format!("this server does not answer for the host `{}`", text.escape_default()),
        )
        .hint(
            "use http://127.0.0.1 or http://localhost, or name the host in the server's settings",
        )),
    }
}

/// Addresses are safe: only a name can be made to point here by somebody else.
fn is_our_name(name: &str, hosts: &[String]) -> bool {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|host| host.eq_ignore_ascii_case(name))
}

/// A browser names the page's origin on everything but plain navigation.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Failure> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let same = origin.to_str().ok().and_then(|origin| origin.split_once("://")).is_some_and(
        |(scheme, authority)| ["http", "https"].contains(&scheme) && authority == host,
    );
    if same {
        return Ok(());
    }
    let detail = "a page of another origin asked, and only Hangar's own pages may";
    Err(Failure::new(StatusCode::FORBIDDEN, "foreign_origin", detail))
}

fn is_known(api: &Api, headers: &HeaderMap, path: &str) -> bool {
    if let Some(header) = headers.get(AUTHORIZATION) {
        // Whoever sends a wrong token is not let in by a cookie beside it.
        return header.to_str().is_ok_and(|text| is_authorized(api, text, path));
    }
    let now = Instant::now();
    cookies(headers).any(|secret| api.access.is_cookie(secret, now))
}

fn is_authorized(api: &Api, header: &str, path: &str) -> bool {
    let Some((scheme, credentials)) = header.split_once(' ') else { return false };
    if scheme.eq_ignore_ascii_case("bearer") {
        return api.access.is_token(credentials.trim());
    }
    scheme.eq_ignore_ascii_case("basic")
        && path.starts_with(GIT)
        && password(credentials).is_some_and(|password| api.access.is_token(&password))
}

/// The password of basic authentication; the name before it says nothing here.
fn password(credentials: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

/// The name of this server's cookie. Browsers share cookies between the ports of one machine, so
/// the port is in the name; otherwise signing in to a second server would sign out of the first.
pub(crate) fn cookie_name(headers: &HeaderMap) -> String {
    let port = headers
        .get(HOST)
        .and_then(|host| host.to_str().ok()?.parse::<http::uri::Authority>().ok()?.port_u16());
    port.map_or_else(|| COOKIE_NAME.to_owned(), |port| format!("{COOKIE_NAME}_{port}"))
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(name, _)| name.starts_with(COOKIE_NAME))
        .map(|(_, value)| value)
}

/// A refusal in the form that the program on the other side shows: a page, or a problem document.
fn refuse(path: &str, failure: Failure) -> Response {
    let unauthenticated = failure.0.status == StatusCode::UNAUTHORIZED.as_u16();
    if unauthenticated && path == "/" {
        return crate::routes::page::signed_out(StatusCode::UNAUTHORIZED);
    }
    let mut response = failure.into_response();
    if unauthenticated && path.starts_with(GIT) {
        // Git asks for a name and a password only when it sees this.
        let challenge = HeaderValue::from_static("Basic realm=\"Hangar\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

/// Nothing here is framed, guessed about, kept by caches, or allowed to run.
fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(HeaderValue::from_static(
        "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    ));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_given_names_are_answered() {
        let hosts = ["hangar.example.org".to_owned()];
        for name in ["127.0.0.1", "localhost", "LocalHost", "[::1]", "192.168.1.7"] {
            assert!(is_our_name(name, &[]), "{name}");
        }
        assert!(is_our_name("hangar.example.org", &hosts));
        for name in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "notlocalhost"]
        {
            assert!(!is_our_name(name, &hosts), "{name}");
        }
    }

    #[test]
    fn an_origin_is_the_host_itself_or_foreign() {
        let check = |origin: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
            check_origin(&headers, "127.0.0.1:7878").is_ok()
        };
        assert!(check("http://127.0.0.1:7878"));
        for foreign in
            ["null", "http://127.0.0.1:3000", "http://evil.example", "file://127.0.0.1:7878", ""]
        {
            assert!(!check(foreign), "{foreign}");
        }
        assert!(check_origin(&HeaderMap::new(), "127.0.0.1:7878").is_ok());
    }

    #[test]
    fn passwords_are_read_from_basic_credentials() {
        assert_eq!(password("YW55Ym9keTpzZWNyZXQ6Mg=="), Some("secret:2".to_owned()));
        for wrong in ["", "!", "YW55Ym9keQ==", "gICA"] {
            assert_eq!(password(wrong), None, "{wrong}");
        }
    }
}
