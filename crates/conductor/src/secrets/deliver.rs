//! What one sandbox gets: of several secrets with one name the narrowest, as a placeholder or plain.

use std::collections::BTreeMap;

use protocol::SandboxId;
use protocol::agentd::SetEnvironment;
use protocol::repository::RepositoryName;
use protocol::secret::{SecretDelivery, SecretName, SecretPhase, SecretScope, SecretValue};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::{Known, Secrets};
use crate::Error;
use crate::redaction::hex;

/// Whose sandbox it is.
#[derive(Debug, Clone)]
pub(crate) struct Holder {
    pub(crate) sandbox: SandboxId,
    pub(crate) repository: RepositoryName,
    pub(crate) team: Option<String>,
    pub(crate) phase: SecretPhase,
}

/// The secrets of one sandbox.
#[derive(Debug, Default)]
pub(crate) struct Delivered {
    /// For everything that runs in it.
    pub(crate) environment: SetEnvironment,
    /// For the gateway outside of it.
    pub(crate) credentials: Vec<gateway::Credential>,
    /// Values that it holds as they are.
    pub(crate) plain: Vec<(SecretName, SecretString)>,
}

impl Delivered {
    /// The names of the values it holds as they are.
    pub(crate) fn plain_names(&self) -> Vec<SecretName> {
        self.plain.iter().map(|(name, _)| name.clone()).collect()
    }
}

impl Secrets {
    /// What a sandbox gets now. A secret that it should have and that cannot be opened is an error:
    /// work that silently lacks a credential fails later and elsewhere.
    pub(crate) fn deliver(&self, holder: &Holder) -> Result<Delivered, Error> {
        let mut delivered = Delivered::default();
        for known in narrowest(&self.known(), holder).into_values() {
            let value = self.opened(known)?;
            let name = known.row.description.name.clone();
            let shown = match known.row.description.delivery {
                SecretDelivery::Plain => {
                    delivered.plain.push((name.clone(), value.clone()));
                    value.expose_secret().to_owned()
                }
                SecretDelivery::Placeholder => {
                    let placeholder = placeholder(&self.placeholder_key, holder.sandbox, &name);
                    delivered.credentials.push(gateway::Credential {
                        name: name.clone(),
                        placeholder: placeholder.clone(),
                        value: value.clone(),
                        hosts: known.row.description.hosts.clone(),
                    });
                    placeholder
                }
            };
            delivered.environment.variables.insert(name.to_string(), SecretValue::new(shown));
        }
        Ok(delivered)
    }
}

fn narrowest<'a>(known: &'a [Known], holder: &Holder) -> BTreeMap<&'a SecretName, &'a Known> {
    let width = |scope: &SecretScope| match scope {
        SecretScope::Repository { repository } => (*repository == holder.repository).then_some(0),
        SecretScope::Team { team } => (holder.team.as_ref() == Some(team)).then_some(1),
        SecretScope::Server => Some(2),
    };
    let mut chosen: BTreeMap<&SecretName, (u8, &Known)> = BTreeMap::new();
    for one in known {
        let description = &one.row.description;
        let Some(width) = width(&description.scope) else { continue };
        if description.phase != holder.phase {
            continue;
        }
        let place = chosen.entry(&description.name).or_insert((width, one));
        if width < place.0 {
            *place = (width, one);
        }
    }
    chosen.into_iter().map(|(name, (_, one))| (name, one)).collect()
}

/// The stand-in for a secret in one sandbox: the same after a restart of the server although it is
/// recorded nowhere, worth nothing in another sandbox, and not to be guessed.
///
/// A hash with the key before it is enough here: the key and the id have fixed lengths, a name that
/// continues another by a hash's padding is no name, and the cut hash cannot be continued.
fn placeholder(key: &[u8; 32], sandbox: SandboxId, name: &SecretName) -> String {
    let hash = Sha256::new()
        .chain_update(key)
        .chain_update(sandbox.as_bytes())
        .chain_update(name.as_str())
        .finalize();
    // Letters, digits and `_` only: it passes unchanged through headers, addresses and files.
    format!("hangar_placeholder_{}", hex(&hash[..20]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_belongs_to_one_sandbox_and_one_name() {
        let name = |text: &str| text.parse::<SecretName>().expect("a name");
        let (one, two) = (SandboxId::from_bytes([1; 16]), SandboxId::from_bytes([2; 16]));
        let first = placeholder(&[1; 32], one, &name("A"));
        assert_eq!(first, placeholder(&[1; 32], one, &name("A")));
        assert_ne!(first, placeholder(&[1; 32], two, &name("A")));
        assert_ne!(first, placeholder(&[1; 32], one, &name("B")));
        assert_ne!(first, placeholder(&[2; 32], one, &name("A")));
    }
}
