//! Named secrets: encrypted at rest, opened for the sandboxes that may use them, known everywhere
//! else only so that they are recognised and struck out.
//!
//! ```text
//!   set ──► sealed under the current key ──► index
//!                                              │ opened at start and after each change
//!                                              ▼
//!              deliver ◄──────────────────── known ────────────────────► Redaction
//!    placeholder: gateway, plain: agentd                   events, deltas, logs, pushes, layers
//! ```

mod deliver;
mod keys;
mod layer;
mod manage;
mod push;
mod seal;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use journal::Index;
use journal::index::SecretRow;
use protocol::SandboxId;
use protocol::secret::SecretName;
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

pub(crate) use deliver::{Delivered, Holder};
use keys::KeyRing;
pub use keys::KeySource;
pub(crate) use layer::refuse_known;
pub(crate) use push::Inspector;

use crate::Error;
use crate::redaction::{Named, Redaction, hex};
use crate::shared::Shared;

/// Under which the index keeps what placeholders are made with. It opens nothing.
const PLACEHOLDER_KEY: &str = "placeholder_key";

/// A secret, opened if it can be.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) row: SecretRow,
    value: Option<SecretString>,
}

/// Every secret of the server.
#[derive(Debug)]
pub(crate) struct Secrets {
    index: Arc<Index>,
    keys: Mutex<KeyRing>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    known: RwLock<Arc<Vec<Known>>>,
    placeholder_key: [u8; 32],
    /// The server's own credentials, which no sandbox may ever hold.
    own: Vec<Named>,
    /// Values that were replaced or removed: sandboxes that run may still hold them.
    earlier: Mutex<Vec<Named>>,
    redaction: Redaction,
}

impl Secrets {
    /// Opens what can be opened, and finishes a change of keys that was interrupted. Secrets whose
    /// key is missing stay as they are.
    pub(crate) async fn open(
        index: Arc<Index>,
        source: KeySource,
        own: Vec<Named>,
    ) -> Result<Self, Error> {
        let keys = KeyRing::open(source)?;
        let placeholder_key = placeholder_key(&index).await?;
        let secrets = Self {
            index,
            keys: Mutex::new(keys),
            changing: tokio::sync::Mutex::default(),
            known: RwLock::default(),
            placeholder_key,
            own,
            earlier: Mutex::default(),
            redaction: Redaction::default(),
        };
        secrets.load().await?;
        let missing = secrets.known().iter().filter(|one| one.value.is_none()).count();
        if missing > 0 {
            tracing::warn!(missing, "secrets cannot be opened: see `hangar secret list`");
        }
        // Nobody else can change anything yet.
        secrets.reseal().await?;
        Ok(secrets)
    }

    /// Strikes known values out of texts, always by the newest ones.
    pub(crate) fn redaction(&self) -> &Redaction {
        &self.redaction
    }

    fn keys(&self) -> MutexGuard<'_, KeyRing> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> Arc<Vec<Known>> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The value, or why there is none.
    fn opened<'a>(&self, known: &'a Known) -> Result<&'a SecretString, Error> {
        let description = &known.row.description;
        known.value.as_ref().ok_or_else(|| {
            let (name, key, place) = (&description.name, &description.key, self.keys().place());
            let what = if self.keys().get(key).is_some() {
                format!("the secret {name} of {} is damaged", description.scope)
            } else {
                format!(
                    "the secret {name} of {} is encrypted with the key {key}, which is not in {place}",
                    description.scope
                )
            };
            Error::Unavailable {
                what,
                hint: format!(
                    "put the key back into {place} and restart the server, or set the secret again \
                     with `hangar secret set {name}`"
                ),
            }
        })
    }

    /// Reads all rows again and opens them.
    async fn load(&self) -> Result<(), Error> {
        let rows = self.index.secrets().await;
        let rows = rows.map_err(|error| Error::failed("reading the secrets", error))?;
        let known: Vec<Known> = {
            let keys = self.keys();
            let open = |row: SecretRow| {
                let key = keys.get(&row.description.key);
                let value = key.and_then(|key| seal::open(key, &row.description, &row.sealed));
                Known { row, value }
            };
            rows.into_iter().map(open).collect()
        };
        let before = {
            let mut place = self.known.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, Arc::new(known))
        };
        self.remember_replaced(&before);
        self.recognise();
        Ok(())
    }

    fn remember_replaced(&self, before: &[Known]) {
        let known = self.known();
        let is_known = |value: &SecretString| {
            let same = |other: &SecretString| other.expose_secret() == value.expose_secret();
            known.iter().filter_map(|one| one.value.as_ref()).any(same)
        };
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        for one in before {
            if let Some(value) = one.value.as_ref().filter(|value| !is_known(value)) {
                earlier.push(named(&one.row.description.name, value));
            }
        }
    }

    fn recognise(&self) {
        let known = self.known();
        let mut all: Vec<Named> = known
            .iter()
            .filter_map(|one| Some(named(&one.row.description.name, one.value.as_ref()?)))
            .collect();
        all.extend(self.own.iter().cloned());
        all.extend(self.earlier.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        all.extend(self.keys().texts().map(|value| Named { name: "key".to_owned(), value }));
        self.redaction.replace(&all);
    }
}

/// Gives agentd what belongs into the environment of what it starts.
pub(crate) async fn hand_over(
    shared: &Shared,
    sandbox: SandboxId,
    delivered: &Delivered,
) -> Result<(), Error> {
    if delivered.environment.variables.is_empty() {
        return Ok(());
    }
    let set = shared.client(sandbox).set_environment(&delivered.environment).await;
    set.map_err(|error| Error::failed(format!("giving sandbox {sandbox} its secrets"), error))
}

fn named(name: &SecretName, value: &SecretString) -> Named {
    Named { name: name.to_string(), value: value.clone() }
}

async fn placeholder_key(index: &Index) -> Result<[u8; 32], Error> {
    let failed = |error| Error::failed("reading what placeholders are made with", error);
    let mut key = [0; 32];
    if let Some(text) = index.setting(PLACEHOLDER_KEY).await.map_err(failed)? {
        let bytes: Option<Vec<u8>> =
            (0..32).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect();
        key.copy_from_slice(&bytes.ok_or_else(|| Error::Unavailable {
            what: format!("the setting {PLACEHOLDER_KEY} in the index is damaged"),
            hint: "put a backup of index.db in its place".to_owned(),
        })?);
        return Ok(key);
    }
    getrandom::fill(&mut key).map_err(|error| {
        Error::failed("making what placeholders are made with", error.to_string())
    })?;
    let text = Zeroizing::new(hex(&key));
    index.set_setting(PLACEHOLDER_KEY, &text).await.map_err(failed)?;
    Ok(key)
}
