//! Turns the headers a sandbox sent into those a host gets: stand-ins swapped, credentials added,
//! foreign ones left behind.

use http::{HeaderMap, HeaderName};
use protocol::network::HostRule;
use protocol::secret::SecretName;
use secrecy::ExposeSecret as _;

use super::placeholder::{Found, find, sensitive, swap};
use super::strip;
use crate::{Credential, Denial};

/// What was done to the headers, for the audit file: names only.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Secrets that were sent.
    pub(super) used: Vec<SecretName>,
    /// Headers that were left behind.
    pub(super) stripped: Vec<String>,
}

/// Whether requests for a host carry a credential of this sandbox: then nobody else's may pass.
fn is_credentialed(host: &str, rule: &HostRule, credentials: &[Credential]) -> bool {
    rule.credential.is_some() || credentials.iter().any(|credential| is_for(credential, host))
}

fn is_for(credential: &Credential, host: &str) -> bool {
    credential.hosts.iter().any(|pattern| pattern.matches(host))
}

/// The headers for a host, and what was changed.
pub(super) fn rewrite(
    headers: &HeaderMap,
    query: Option<&str>,
    host: &str,
    rule: &HostRule,
    credentials: &[Credential],
) -> Result<(HeaderMap, Changes), Denial> {
    let credentialed = is_credentialed(host, rule, credentials);
    if credentialed && let Some(parameter) = query.and_then(strip::in_query) {
        return Err(Denial::QueryCredential { host: host.to_owned(), parameter });
    }
    let mut changes = Changes::default();
    let mut sent = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        match find(value, credentials) {
            Found::One(credential, _) | Found::Misplaced(credential)
                if !is_for(credential, host) =>
            {
                let secret = credential.name.clone();
                return Err(Denial::PlaceholderHost { secret, host: host.to_owned() });
            }
            Found::Misplaced(credential) => {
                let (secret, header) = (credential.name.clone(), name.to_string());
                return Err(Denial::PlaceholderForm { secret, header });
            }
            Found::One(credential, place) => {
                let value = swap(credential, &place)
                    .ok_or_else(|| Denial::CredentialForm { secret: credential.name.clone() })?;
                sent.append(name.clone(), value);
                note(&mut changes.used, credential.name.clone());
            }
            Found::Nothing if credentialed && strip::carries(name) => {
                note(&mut changes.stripped, name.to_string());
            }
            Found::Nothing => {
                sent.append(name.clone(), value.clone());
            }
        }
    }
    add(&mut sent, &mut changes, rule, credentials)?;
    Ok((sent, changes))
}

/// Adds the credential of the host's rule; whatever the sandbox sent in its place is dropped.
fn add(
    sent: &mut HeaderMap,
    changes: &mut Changes,
    rule: &HostRule,
    credentials: &[Credential],
) -> Result<(), Denial> {
    let Some(injection) = &rule.credential else { return Ok(()) };
    let secret = &injection.secret;
    let credential = credentials
        .iter()
        .find(|credential| credential.name == *secret)
        .ok_or_else(|| Denial::CredentialMissing { secret: secret.clone() })?;
    let unusable = || Denial::CredentialForm { secret: secret.clone() };
    let header: HeaderName = injection.header.parse().map_err(|_| unusable())?;
    let text = injection.format.replacen("{}", credential.value.expose_secret(), 1);
    let value = sensitive(&text).ok_or_else(unusable)?;
    if sent.remove(&header).is_some() {
        note(&mut changes.stripped, header.to_string());
    }
    sent.insert(header, value);
    note(&mut changes.used, secret.clone());
    Ok(())
}

fn note<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        list.push(item);
    }
}

#[cfg(test)]
mod tests {
    use protocol::network::Injection;

    use super::*;

    const STAND_IN: &str = "hangar_placeholder_token_00112233445566778899aabbccddeeff";

    fn rule(injected: bool) -> HostRule {
        let mut rule = HostRule::new("api.example".parse().expect("a host"));
        rule.credential = injected.then(|| Injection {
            secret: "TOKEN".parse().expect("a name"),
            header: "X-Api-Key".to_owned(),
            format: "{}".to_owned(),
        });
        rule
    }

    fn credentials() -> Vec<Credential> {
        vec![Credential {
            name: "TOKEN".parse().expect("a name"),
            placeholder: STAND_IN.to_owned(),
            value: "real".to_owned().into(),
            hosts: vec!["api.example".parse().expect("a host")],
        }]
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().expect("a value"))
        };
        pairs.iter().map(pair).collect()
    }

    fn sent(pairs: &[(&'static str, &str)], injected: bool) -> (Vec<(String, String)>, Changes) {
        let (headers, changes) =
            rewrite(&headers(pairs), None, "api.example", &rule(injected), &credentials())
                .expect("passes");
        let text =
            |value: &http::HeaderValue| String::from_utf8(value.as_bytes().to_vec()).expect("text");
        let pairs = headers.iter().map(|(name, value)| (name.to_string(), text(value)));
        (pairs.collect(), changes)
    }

    #[test]
    fn foreign_credentials_stay_behind_and_everything_else_passes() {
        let (sent, changes) = sent(
            &[
                ("accept", "*/*"),
                ("authorization", "Bearer foreign"),
                ("cookie", "session=foreign"),
                ("private-token", "foreign"),
            ],
            false,
        );
        assert_eq!(sent, [("accept".to_owned(), "*/*".to_owned())]);
        assert_eq!(changes.stripped, ["authorization", "cookie", "private-token"]);
        assert!(changes.used.is_empty());
    }

    #[test]
    fn of_two_values_only_the_stand_in_passes() {
        let value = format!("Bearer {STAND_IN}");
        let (sent, changes) =
            sent(&[("authorization", "Bearer foreign"), ("authorization", &value)], false);
        assert_eq!(sent, [("authorization".to_owned(), "Bearer real".to_owned())]);
        assert_eq!(changes.used, ["TOKEN".parse().expect("a name")]);
        assert_eq!(changes.stripped, ["authorization"]);
    }

    #[test]
    fn what_is_injected_takes_the_place_of_what_was_sent() {
        for value in ["foreign", STAND_IN] {
            let (sent, changes) = sent(&[("x-api-key", value)], true);
            assert_eq!(sent, [("x-api-key".to_owned(), "real".to_owned())]);
            assert_eq!(changes.stripped, ["x-api-key"]);
        }
        let (sent, changes) = sent(&[], true);
        assert_eq!(sent, [("x-api-key".to_owned(), "real".to_owned())]);
        assert!(changes.stripped.is_empty());
    }

    #[test]
    fn a_stand_in_for_another_host_is_refused() {
        let sent = headers(&[("x-anything", STAND_IN)]);
        let mut other = rule(false);
        other.host = "other.example".parse().expect("a host");
        let denial = rewrite(&sent, None, "other.example", &other, &credentials());
        let denial = denial.expect_err("another host");
        assert!(matches!(&denial, Denial::PlaceholderHost { .. }), "{denial}");
        assert!(!denial.to_string().contains(STAND_IN), "{denial}");
    }

    #[test]
    fn a_host_without_credentials_gets_what_was_sent() {
        let own = headers(&[("authorization", "Bearer own"), ("cookie", "a=b")]);
        let mut other = rule(false);
        other.host = "other.example".parse().expect("a host");
        let (sent, changes) =
            rewrite(&own, Some("key=1"), "other.example", &other, &credentials()).expect("passes");
        assert_eq!(sent, own);
        assert_eq!(changes, Changes::default());
    }

    #[test]
    fn credentials_in_the_query_are_refused() {
        let denial = rewrite(
            &HeaderMap::new(),
            Some("a=1&api_key=foreign"),
            "api.example",
            &rule(false),
            &credentials(),
        );
        let denial = denial.expect_err("a credential").to_string();
        assert!(denial.contains("api_key") && !denial.contains("foreign"), "{denial}");
    }

    #[test]
    fn a_missing_or_broken_secret_stops_the_request() {
        let rewrite = |credentials: &[Credential]| {
            rewrite(&HeaderMap::new(), None, "api.example", &rule(true), credentials)
                .expect_err("no secret")
        };
        assert!(matches!(rewrite(&[]), Denial::CredentialMissing { .. }));
        let mut broken = credentials();
        broken[0].value = "two\nlines".to_owned().into();
        let denial = rewrite(&broken);
        assert!(matches!(denial, Denial::CredentialForm { .. }));
        assert!(!denial.to_string().contains("two"), "{denial}");
    }
}
