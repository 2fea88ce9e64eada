//! The host's own proxy, from the variables that every program looks at.

use std::env;

use anyhow::Context as _;
use gateway::Proxy;
use secrecy::SecretString;

/// The proxy that this process's environment names, or none.
pub(crate) fn from_environment() -> anyhow::Result<Proxy> {
    from_variables(|name| env::var(name).ok())
}

/// In small letters first, as curl reads them.
fn from_variables(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Proxy> {
    let first = |names: &[&str]| {
        let mut values = names.iter().filter_map(|name| variable(name));
        values.find(|value| !value.trim().is_empty())
    };
    let https = first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]);
    let http = first(&["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]);
    let direct = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
    let (https, http) = (https.map(SecretString::from), http.map(SecretString::from));
    Proxy::new(https.as_ref(), http.as_ref(), &direct)
        .context("the server reaches other hosts through the host's proxy")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &'static [(&str, &str)]) -> anyhow::Result<Proxy> {
        from_variables(|name| {
            let found = pairs.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn small_letters_come_first_and_empty_ones_count_as_missing() {
        let shown = |pairs| format!("{:?}", with(pairs).expect("a proxy"));
        let both = shown(&[("https_proxy", "http://small:1"), ("HTTPS_PROXY", "http://big:2")]);
        assert!(both.contains("small:1") && !both.contains("big"), "{both}");
        let empty = shown(&[("https_proxy", " "), ("ALL_PROXY", "http://all:3")]);
        assert!(empty.contains("all:3"), "{empty}");
        let none = shown(&[]);
        assert!(none.contains("https: None") && none.contains("http: None"), "{none}");
    }

    #[test]
    fn a_password_is_not_repeated_when_it_cannot_be_used() {
        let error = with(&[("HTTPS_PROXY", "socks5://ada:secret@proxy:1")]).expect_err("no proxy");
        let text = format!("{error:#}");
        assert!(text.contains("HTTPS_PROXY") && !text.contains("secret"), "{text}");
    }
}
