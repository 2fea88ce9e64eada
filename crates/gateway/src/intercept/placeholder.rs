//! Stand-ins for secrets: what they look like, and where in a header's value one may stand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use secrecy::ExposeSecret as _;

use crate::Credential;

/// Text that may stand before a stand-in: `Bearer `, `token=`, a quotation mark.
const SCHEME: usize = 20;

/// What a header's value says about this sandbox's stand-ins.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// It holds none.
    Nothing,
    /// It holds this one's, in a form that can be swapped.
    One(&'a Credential, Place),
    /// It holds this one's, in the midst of something else.
    Misplaced(&'a Credential),
}

/// Where a stand-in stands.
#[derive(Debug)]
pub(super) enum Place {
    /// Between these texts.
    Plain { before: String, after: String },
    /// Between these texts, behind `Basic` and encoded.
    Basic { before: Vec<u8>, after: Vec<u8> },
}

/// Looks for a stand-in in one header's value.
pub(super) fn find<'a>(value: &HeaderValue, credentials: &'a [Credential]) -> Found<'a> {
    let whole = value.as_bytes();
    let decoded = basic(whole);
    for credential in credentials {
        let wanted = credential.placeholder.as_bytes();
        // An empty one would be found everywhere.
        if wanted.is_empty() {
            continue;
        }
        if let Some((before, after)) = split(whole, wanted) {
            return match plain(before, after) {
                Some(place) => Found::One(credential, place),
                None => Found::Misplaced(credential),
            };
        }
        if let Some(decoded) = &decoded
            && let Some((before, after)) = split(decoded, wanted)
        {
            let user = before.is_empty() && after.first() == Some(&b':');
            let password = before.ends_with(b":")
                && !before[..before.len() - 1].contains(&b':')
                && after.is_empty();
            if user || password {
                let place = Place::Basic { before: before.to_vec(), after: after.to_vec() };
                return Found::One(credential, place);
            }
            return Found::Misplaced(credential);
        }
    }
    Found::Nothing
}

/// The header's value with the secret in its stand-in's place; none if the secret cannot stand in a
/// header.
pub(super) fn swap(credential: &Credential, place: &Place) -> Option<HeaderValue> {
    let secret = credential.value.expose_secret();
    let text = match place {
        Place::Plain { before, after } => format!("{before}{secret}{after}"),
        Place::Basic { before, after } => {
            let both = [before.as_slice(), secret.as_bytes(), after].concat();
            format!("Basic {}", STANDARD.encode(both))
        }
    };
    sensitive(&text)
}

/// A header's value that nothing prints.
pub(super) fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn split<'t>(text: &'t [u8], wanted: &[u8]) -> Option<(&'t [u8], &'t [u8])> {
    let at = text.windows(wanted.len()).position(|window| window == wanted)?;
    Some((&text[..at], &text[at + wanted.len()..]))
}

fn basic(value: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    STANDARD.decode(encoded.trim_ascii()).ok()
}

/// At most a scheme and a name before it and nothing behind it, so that no other credential rides
/// along: `PLACEHOLDER`, `Bearer PLACEHOLDER`, `Token token="PLACEHOLDER"`, `session=PLACEHOLDER`.
fn plain(before: &[u8], after: &[u8]) -> Option<Place> {
    let before = std::str::from_utf8(before).ok()?;
    let (unquoted, expected) = match before.strip_suffix('"') {
        Some(rest) => (rest, "\""),
        None => (before, ""),
    };
    let word = |text: &str| {
        text.len() <= SCHEME
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    let (scheme, name) = match unquoted.rsplit_once(' ') {
        Some((scheme, name)) => (scheme, name),
        None if unquoted.ends_with('=') => ("", unquoted),
        None => (unquoted, ""),
    };
    // Without a space there is no scheme: the value begins with the stand-in or its name.
    let scheme_fits = word(scheme) && (scheme.is_empty() || unquoted.contains(' '));
    let name_fits = name.is_empty() || name.strip_suffix('=').is_some_and(word);
    let fits = scheme_fits && name_fits && after == expected.as_bytes();
    fits.then(|| Place::Plain { before: before.to_owned(), after: expected.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAND_IN: &str = "hangar_placeholder_npm_token_00112233445566778899aabbccddeeff";

    fn credentials() -> Vec<Credential> {
        vec![Credential {
            name: "NPM_TOKEN".parse().expect("a name"),
            placeholder: STAND_IN.to_owned(),
            value: "real-value".to_owned().into(),
            hosts: vec!["registry.example".parse().expect("a host")],
        }]
    }

    fn swapped(text: &str) -> Result<String, bool> {
        let credentials = credentials();
        let value = HeaderValue::from_str(text).expect("a value");
        match find(&value, &credentials) {
            Found::Nothing => Err(false),
            Found::Misplaced(_) => Err(true),
            Found::One(credential, place) => {
                let value = swap(credential, &place).expect("a value");
                assert!(value.is_sensitive());
                Ok(String::from_utf8(value.as_bytes().to_vec()).expect("text"))
            }
        }
    }

    #[test]
    fn a_stand_in_is_swapped_behind_a_scheme_and_a_name() {
        for form in [
            "{}",
            "Bearer {}",
            "token {}",
            "Token token={}",
            "Token token=\"{}\"",
            "session={}",
            "\"{}\"",
        ] {
            let expected = Ok(form.replace("{}", "real-value"));
            assert_eq!(swapped(&form.replace("{}", STAND_IN)), expected, "{form}");
        }
    }

    #[test]
    fn a_stand_in_is_swapped_inside_basic() {
        for form in ["ada:{}", "{}:x-oauth-basic", "{}:", ":{}"] {
            let encoded = STANDARD.encode(form.replace("{}", STAND_IN));
            let expected = format!("Basic {}", STANDARD.encode(form.replace("{}", "real-value")));
            for scheme in ["Basic", "basic"] {
                assert_eq!(swapped(&format!("{scheme} {encoded}")), Ok(expected.clone()), "{form}");
            }
        }
    }

    #[test]
    fn nothing_rides_along_with_a_stand_in() {
        for form in [
            "Bearer foreign, {}",
            "Bearer foreign{}",
            "foreign{}",
            "{}foreign",
            "Bearer {}, foreign",
            "a=foreign; b={}",
            "session={}; other=foreign",
            "Token token=\"{}",
            "one two three {}",
            "Bearer {} {}",
        ] {
            assert_eq!(swapped(&form.replace("{}", STAND_IN)), Err(true), "{form}");
        }
        for form in ["ada:foreign{}", "a:b:{}", "foreign{}:x"] {
            let encoded = STANDARD.encode(form.replace("{}", STAND_IN));
            assert_eq!(swapped(&format!("Basic {encoded}")), Err(true), "{form}");
        }
    }

    #[test]
    fn other_values_hold_none() {
        let other = STAND_IN.replace("00112233", "33221100");
        for text in ["", "Bearer foreign", "Basic !!!", "Basic Zm9yZWlnbjp4", &other] {
            assert_eq!(swapped(text), Err(false), "{text}");
        }
    }
}
