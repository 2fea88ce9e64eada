//! Which headers pass: named ones towards the outside, everything but connection matters back.

use http::header::{self, HeaderMap, HeaderName};

/// Headers of a model request that pass. Everything else stays behind, above all the credentials
/// of the program that asks, cookies, and the choice of an organisation to charge.
fn passes_to_models(name: &HeaderName) -> bool {
    matches!(*name, header::CONTENT_TYPE | header::ACCEPT | header::USER_AGENT)
        || matches!(
            name.as_str(),
            "anthropic-version" | "anthropic-beta" | "openai-beta" | "idempotency-key"
        )
}

/// The headers to send to a model provider, still without the key.
pub(crate) fn for_models(headers: &HeaderMap) -> HeaderMap {
    let mut passed = select(headers, passes_to_models);
    // Usage is read from the answer as it passes, so it must not arrive compressed.
    passed.insert(header::ACCEPT_ENCODING, header::HeaderValue::from_static("identity"));
    passed
}

/// The headers to send to the forge.
pub(crate) fn for_git(headers: &HeaderMap) -> HeaderMap {
    select(headers, |name| {
        matches!(
            *name,
            header::CONTENT_TYPE
                | header::CONTENT_LENGTH
                | header::CONTENT_ENCODING
                | header::ACCEPT
                | header::ACCEPT_ENCODING
                | header::USER_AGENT
        ) || name.as_str() == "git-protocol"
    })
}

/// The headers of an unencrypted request to send to a host: all but those of one connection, and
/// no credentials, which have no business on an open wire.
pub(crate) fn for_hosts(headers: &HeaderMap) -> HeaderMap {
    let passed = of_message(headers);
    select(&passed, |name| {
        !matches!(*name, header::AUTHORIZATION | header::COOKIE | header::EXPECT | header::HOST)
            && !matches!(name.as_str(), "x-api-key" | "api-key" | "private-token" | "cookie2")
    })
}

/// The headers to send back into the sandbox: all but those of one connection, and cookies.
pub(crate) fn for_sandbox(headers: &HeaderMap) -> HeaderMap {
    select(&of_message(headers), |name| *name != header::SET_COOKIE)
}

/// Without those that are about one connection and end there.
pub(crate) fn of_message(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    select(headers, |name| {
        !matches!(
            *name,
            header::CONNECTION
                | header::PROXY_AUTHENTICATE
                | header::PROXY_AUTHORIZATION
                | header::TE
                | header::TRAILER
                | header::TRANSFER_ENCODING
                | header::UPGRADE
        ) && !matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
            && !named.iter().any(|listed| listed == name.as_str())
    })
}

fn select(headers: &HeaderMap, passes: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    headers
        .iter()
        .filter(|(name, _)| passes(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn no_credential_of_the_sandbox_reaches_a_model() {
        let passed = for_models(&headers(&[
            ("authorization", "Bearer client"),
            ("x-api-key", "client"),
            ("api-key", "client"),
            ("cookie", "client"),
            ("proxy-authorization", "client"),
            ("openai-organization", "client"),
            ("anthropic-version", "2023-06-01"),
            ("content-type", "application/json"),
        ]));
        assert!(!format!("{passed:?}").contains("client"), "{passed:?}");
        assert_eq!(passed["anthropic-version"], "2023-06-01");
        assert_eq!(passed["content-type"], "application/json");
        assert_eq!(passed["accept-encoding"], "identity");
    }

    #[test]
    fn no_credential_goes_over_an_open_wire() {
        let passed = for_hosts(&headers(&[
            ("authorization", "Basic secret"),
            ("cookie", "secret"),
            ("x-api-key", "secret"),
            ("private-token", "secret"),
            ("proxy-authorization", "secret"),
            ("proxy-connection", "keep-alive"),
            ("connection", "x-mine"),
            ("x-mine", "secret"),
            ("host", "one"),
            ("user-agent", "apt"),
            ("range", "bytes=1-"),
        ]));
        assert!(!format!("{passed:?}").contains("secret"), "{passed:?}");
        assert_eq!(passed.len(), 2, "{passed:?}");
    }

    #[test]
    fn headers_of_one_connection_end_there() {
        let passed = for_sandbox(&headers(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("transfer-encoding", "chunked"),
            ("set-cookie", "a=b"),
            ("retry-after", "3"),
        ]));
        assert_eq!(passed.len(), 1, "{passed:?}");
        assert_eq!(passed["retry-after"], "3");
    }
}
