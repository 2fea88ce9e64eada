//! What people do with secrets: set, list, remove, change the key.

use journal::index::SecretRow;
use protocol::limits::{REDACTED_BYTES, SECRET_BYTES, SECRETS};
use protocol::secret::{
    PutSecret, SecretDelivery, SecretDescription, SecretName, SecretPhase, SecretScope,
    SecretStored, SecretsRotated,
};
use protocol::session::Author;
use secrecy::SecretString;

use super::{Secrets, seal};
use crate::{Error, Hangar, clock};

impl Hangar {
    /// Every secret, or those of one scope, without their values.
    pub fn secrets(&self, _author: &Author, scope: Option<&SecretScope>) -> Vec<SecretDescription> {
        let known = self.shared.secrets.known();
        let wanted = known.iter().map(|one| &one.row.description);
        wanted.filter(|one| scope.is_none_or(|scope| one.scope == *scope)).cloned().collect()
    }

    /// Sets a secret, new or again. Gateways of sandboxes that run use the new value at once; what
    /// is in a sandbox's environment stays until its next start.
    pub async fn put_secret(
        &self,
        author: &Author,
        scope: SecretScope,
        phase: SecretPhase,
        name: SecretName,
        request: PutSecret,
    ) -> Result<SecretStored, Error> {
        if let SecretScope::Repository { repository } = &scope {
            self.repository(author, repository).await?;
        }
        let warnings = check(&name, &request)?;
        let secrets = &self.shared.secrets;
        let _alone = secrets.changing.lock().await;
        let description = SecretDescription {
            name,
            scope,
            phase,
            delivery: request.delivery,
            hosts: request.hosts,
            key: secrets.keys().current().id.clone(),
            updated_at: clock::now(),
        };
        secrets.put(description.clone(), SecretString::from(request.value.expose())).await?;
        self.shared.refresh_gateways().await;
        Ok(SecretStored { secret: description, warnings })
    }

    /// Removes a secret; gateways of sandboxes that run stop using it at once.
    pub async fn remove_secret(
        &self,
        _author: &Author,
        scope: &SecretScope,
        phase: SecretPhase,
        name: &SecretName,
    ) -> Result<(), Error> {
        let secrets = &self.shared.secrets;
        let _alone = secrets.changing.lock().await;
        let known = secrets.known();
        let is_it = |one: &SecretDescription| {
            one.scope == *scope && one.phase == phase && one.name == *name
        };
        if !known.iter().any(|one| is_it(&one.row.description)) {
            return Err(Error::NotFound { what: format!("{phase} secret {name} of {scope}") });
        }
        let removed = secrets.index.remove_secret(scope, phase, name).await;
        removed.map_err(|error| Error::failed(format!("removing the secret {name}"), error))?;
        secrets.load().await?;
        self.shared.refresh_gateways().await;
        Ok(())
    }

    /// Makes a new key where Hangar keeps the keys itself, and encrypts every secret again with the
    /// current one.
    pub async fn rotate_secrets(&self, _author: &Author) -> Result<SecretsRotated, Error> {
        let secrets = &self.shared.secrets;
        let _alone = secrets.changing.lock().await;
        // One that was interrupted is finished with the key it made.
        let openable_by_older = secrets.known().iter().any(|one| {
            one.value.is_some() && one.row.description.key != secrets.keys().current().id
        });
        if !openable_by_older {
            secrets.keys().add()?;
        }
        let count = secrets.reseal().await?;
        let unreadable = secrets.known();
        let unreadable = unreadable.iter().filter(|one| one.value.is_none());
        Ok(SecretsRotated {
            key: secrets.keys().current().id.clone(),
            secrets: count,
            unreadable: unreadable.map(|one| one.row.description.clone()).collect(),
        })
    }
}

impl Secrets {
    async fn put(&self, description: SecretDescription, value: SecretString) -> Result<(), Error> {
        let known = self.known();
        let replaces = |one: &SecretDescription| {
            (&one.scope, one.phase, &one.name)
                == (&description.scope, description.phase, &description.name)
        };
        if known.len() >= SECRETS && !known.iter().any(|one| replaces(&one.row.description)) {
            return Err(Error::Invalid {
                what: format!("there are {SECRETS} secrets already"),
                hint: "remove some that nobody needs: hangar secret list".to_owned(),
            });
        }
        let doing = format!("recording the secret {}", description.name);
        let sealed = seal::seal(self.keys().current(), &description, &value)?;
        let put = self.index.put_secret(SecretRow { description, sealed }).await;
        put.map_err(|error| Error::failed(doing, error))?;
        self.load().await
    }

    /// Encrypts with the current key whatever another key opens, all at once, then forgets keys
    /// that nothing needs. The new key is in its place before anything is encrypted with it and old
    /// ones leave last, so that a crash in between loses nothing and the next start goes on.
    pub(super) async fn reseal(&self) -> Result<usize, Error> {
        let rows = {
            let keys = self.keys();
            let current = keys.current();
            let mut rows = Vec::new();
            for one in self.known().iter() {
                let Some(value) = &one.value else { continue };
                if one.row.description.key != current.id {
                    let mut description = one.row.description.clone();
                    description.key.clone_from(&current.id);
                    let sealed = seal::seal(current, &description, value)?;
                    rows.push(SecretRow { description, sealed });
                }
            }
            rows
        };
        let count = rows.len();
        if count > 0 {
            let put = self.index.put_secrets(rows).await;
            put.map_err(|error| Error::failed("recording secrets under a new key", error))?;
            self.load().await?;
        }
        let known = self.known();
        self.keys().keep_only(|id| known.iter().any(|one| one.row.description.key == id))?;
        self.recognise();
        Ok(count)
    }
}

/// What is wrong with a secret, else what its owner should know.
fn check(name: &SecretName, request: &PutSecret) -> Result<Vec<String>, Error> {
    let value = request.value.expose();
    let invalid = |what: String, hint: &str| Err(Error::Invalid { what, hint: hint.to_owned() });
    if value.is_empty() {
        return invalid(format!("the value of {name} is empty"), "remove the secret instead");
    }
    if value.len() > SECRET_BYTES {
        let what = format!("the value of {name} has more than {SECRET_BYTES} bytes");
        return invalid(what, "keep large files elsewhere, and the key to them here");
    }
    if value.contains('\0') {
        let what = format!("the value of {name} holds a NUL byte, which no variable can");
        return invalid(what, "write binary values in base64");
    }
    let mut warnings = Vec::new();
    match request.delivery {
        SecretDelivery::Placeholder if request.hosts.is_empty() => {
            let what = format!("{name} names no host, so its placeholder would never be swapped");
            return invalid(
                what,
                "name the hosts it is for with --host, or use --plain if code in the sandbox must \
                 see the value itself",
            );
        }
        SecretDelivery::Plain if !request.hosts.is_empty() => {
            let what = format!("{name} is plain, so hosts mean nothing for it");
            return invalid(what, "leave out either --plain or --host");
        }
        SecretDelivery::Placeholder if value.contains(['\r', '\n']) => warnings.push(format!(
            "{name} has more than one line and cannot stand in a header: requests that carry its \
             placeholder there will fail."
        )),
        SecretDelivery::Placeholder => {}
        SecretDelivery::Plain => warnings.push(format!(
            "{name} is delivered as it is: the agent, and any code it runs, can read it and send it \
             wherever the sandbox may go."
        )),
    }
    if value.trim().len() < REDACTED_BYTES {
        warnings.push(format!(
            "{name} is shorter than {REDACTED_BYTES} bytes and cannot be struck out of events, logs \
             and pushes."
        ));
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use protocol::secret::SecretValue;

    use super::*;

    fn checked(value: &str, delivery: SecretDelivery, hosts: &[&str]) -> Result<usize, Error> {
        let request = PutSecret {
            value: SecretValue::new(value.to_owned()),
            delivery,
            hosts: hosts.iter().map(|host| host.parse().expect("a host")).collect(),
        };
        check(&"TOKEN".parse().expect("a name"), &request).map(|warnings| warnings.len())
    }

    #[test]
    fn useless_and_impossible_secrets_are_refused() {
        use SecretDelivery::{Placeholder, Plain};
        assert!(matches!(checked("long enough", Placeholder, &["a.example"]), Ok(0)));
        assert!(matches!(checked("long enough", Plain, &[]), Ok(1)));
        assert!(matches!(checked("short", Plain, &[]), Ok(2)));
        assert!(matches!(checked("two\nlines", Placeholder, &["a.example"]), Ok(1)));
        assert!(matches!(checked(&"x".repeat(SECRET_BYTES), Plain, &[]), Ok(1)));
        for (value, delivery, hosts) in [
            ("", Plain, &[] as &[&str]),
            ("a\0bcdef", Plain, &[]),
            (&"x".repeat(SECRET_BYTES + 1), Plain, &[]),
            ("long enough", Placeholder, &[]),
            ("long enough", Plain, &["a.example"]),
        ] {
            let error = checked(value, delivery, hosts).expect_err("refused");
            assert!(value.is_empty() || !error.to_string().contains(value), "{error}");
        }
    }
}
