//! What carries a credential, so that a sandbox cannot speak to a host as somebody else.

use http::HeaderName;

use crate::outside::proxy::percent_decoded;

/// Whether a header usually carries a credential.
pub(super) fn carries(header: &HeaderName) -> bool {
    const PARTS: [&str; 9] = [
        "authorization",
        "token",
        "api-key",
        "apikey",
        "secret",
        "password",
        "passwd",
        "credential",
        "cookie",
    ];
    let name = header.as_str();
    // It names a request, and repeating it protects from doing things twice.
    if name == "idempotency-key" {
        return false;
    }
    PARTS.iter().any(|part| name.contains(part))
        || name.ends_with("-key")
        || name.ends_with("-auth")
        || matches!(name, "dpop" | "x-auth" | "x-auth-user" | "x-session" | "x-session-id")
}

/// The parameter of a query that usually carries a credential or a signature, as it was written.
pub(super) fn in_query(query: &str) -> Option<String> {
    const NAMES: [&str; 23] = [
        "access_key",
        "access_token",
        "accesstoken",
        "api_key",
        "api_token",
        "apikey",
        "auth",
        "auth_token",
        "authorization",
        "awsaccesskeyid",
        "client_secret",
        "googleaccessid",
        "job_token",
        "jwt",
        "key",
        "password",
        "private_token",
        "secret",
        "sig",
        "signature",
        "token",
        "x_amz_signature",
        "x_goog_signature",
    ];
    query.split(['&', ';']).find_map(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let decoded = percent_decoded(name);
        let plain = String::from_utf8_lossy(&decoded).to_ascii_lowercase().replace(['-', '.'], "_");
        NAMES.contains(&plain.trim()).then(|| plain.trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_are_known_and_ordinary_ones_pass() {
        for name in [
            "authorization",
            "proxy-authorization",
            "x-api-key",
            "api-key",
            "apikey",
            "x-auth-token",
            "cookie",
            "private-token",
            "job-token",
            "x-goog-api-key",
            "x-amz-security-token",
            "ocp-apim-subscription-key",
            "x-registry-auth",
        ] {
            assert!(carries(&HeaderName::from_static(name)), "{name}");
        }
        for name in ["accept", "user-agent", "content-type", "npm-command", "idempotency-key"] {
            assert!(!carries(&HeaderName::from_static(name)), "{name}");
        }
    }

    #[test]
    fn a_query_is_read_as_servers_read_it() {
        for (query, found) in [
            ("api_key=1", Some("api_key")),
            ("a=b&Access_Token=1", Some("access_token")),
            ("a=b;key=1", Some("key")),
            ("api%5Fkey=1", Some("api_key")),
            ("%61pi-key=1", Some("api_key")),
            ("key", Some("key")),
            ("X-Amz-Signature=1", Some("x_amz_signature")),
            ("a=key&keyword=token", None),
            ("", None),
        ] {
            assert_eq!(in_query(query).as_deref(), found, "{query}");
        }
    }
}
