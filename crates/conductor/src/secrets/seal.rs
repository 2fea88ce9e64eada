//! Encrypts one value so that it opens only with its key and only under its own description.

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key as CipherKey, XChaCha20Poly1305, XNonce};
use protocol::secret::{SecretDelivery, SecretDescription};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::keys::Key;
use crate::Error;

/// The first byte of what is kept, so that another way to encrypt can follow.
const FORM: u8 = 1;
/// Bytes of a nonce: enough for random ones never to meet.
const NONCE: usize = 24;

/// The value under a description, whose key must be `key`.
pub(super) fn seal(
    key: &Key,
    description: &SecretDescription,
    value: &SecretString,
) -> Result<Vec<u8>, Error> {
    let doing = || format!("encrypting the secret {}", description.name);
    let mut nonce = [0; NONCE];
    getrandom::fill(&mut nonce).map_err(|error| Error::failed(doing(), error.to_string()))?;
    let payload = Payload { msg: value.expose_secret().as_bytes(), aad: &bound(description) };
    let sealed = cipher(key).encrypt(&XNonce::from(nonce), payload);
    let sealed = sealed.map_err(|error| Error::failed(doing(), error.to_string()))?;
    Ok([&[FORM], nonce.as_slice(), &sealed].concat())
}

/// The value again; none if anything was changed, its description included.
pub(super) fn open(
    key: &Key,
    description: &SecretDescription,
    sealed: &[u8],
) -> Option<SecretString> {
    let (form, rest) = sealed.split_first()?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE>()?;
    if *form != FORM {
        return None;
    }
    let payload = Payload { msg: sealed, aad: &bound(description) };
    let value = cipher(key).decrypt(&XNonce::from(*nonce), payload).ok()?;
    let value = Zeroizing::new(value);
    std::str::from_utf8(&value).ok().map(SecretString::from)
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(&CipherKey::from(*key.bytes))
}

/// What a value is bound to, each part with its length before it, so that no two descriptions have
/// one form. Whoever can write to the database can thus delete a secret, and neither move it, nor
/// add a host, nor have it delivered as it is.
fn bound(description: &SecretDescription) -> Vec<u8> {
    let SecretDescription { name, scope, phase, delivery, hosts, key, updated_at } = description;
    let delivery = match delivery {
        SecretDelivery::Placeholder => "placeholder",
        SecretDelivery::Plain => "plain",
    };
    let (scope, at) = (scope.to_string(), updated_at.0.to_string());
    let mut parts =
        vec!["hangar secret", key, &scope, name.as_str(), phase.as_str(), delivery, &at];
    parts.extend(hosts.iter().map(protocol::network::HostPattern::as_str));
    let mut bytes = vec![FORM];
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use protocol::Timestamp;
    use protocol::secret::{SecretPhase, SecretScope};

    use super::*;

    fn key(id: &str, byte: u8) -> Key {
        Key { id: id.to_owned(), bytes: Zeroizing::new([byte; 32]) }
    }

    fn description() -> SecretDescription {
        SecretDescription {
            name: "TOKEN".parse().expect("a name"),
            scope: SecretScope::Server,
            phase: SecretPhase::Run,
            delivery: SecretDelivery::Placeholder,
            hosts: vec!["a.example".parse().expect("a host"), "b.example".parse().expect("a host")],
            key: "k1".to_owned(),
            updated_at: Timestamp(5),
        }
    }

    #[test]
    fn a_value_opens_under_its_own_description_only() {
        let (key_1, value) = (key("k1", 1), SecretString::from("the value"));
        let sealed = seal(&key_1, &description(), &value).expect("sealed");
        let opened = open(&key_1, &description(), &sealed).expect("opened");
        assert_eq!(opened.expose_secret(), "the value");
        assert!(!sealed.windows(5).any(|five| five == b"value"));
        assert_ne!(sealed, seal(&key_1, &description(), &value).expect("sealed"), "fresh nonces");
        assert!(open(&key("k1", 2), &description(), &sealed).is_none(), "another key");
        let changes: [fn(&mut SecretDescription); 8] = [
            |one| one.name = "OTHER".parse().expect("a name"),
            |one| one.scope = "team:shop".parse().expect("a scope"),
            |one| one.phase = SecretPhase::Build,
            |one| one.delivery = SecretDelivery::Plain,
            |one| one.hosts.push("evil.example".parse().expect("a host")),
            |one| one.hosts = vec!["a.exampleb.example".parse().expect("a host")],
            |one| one.key = "k2".to_owned(),
            |one| one.updated_at = Timestamp(6),
        ];
        for change in changes {
            let mut other = description();
            change(&mut other);
            assert!(open(&key_1, &other, &sealed).is_none(), "{other:?}");
        }
        for cut in 0..sealed.len() {
            assert!(open(&key_1, &description(), &sealed[..cut]).is_none(), "{cut} bytes");
        }
    }
}
