//! What images stand on: pulled when they are needed, and kept as long as an image stands on them.

use std::sync::Arc;

use protocol::ImageId;
use protocol::client::BaseImage;
use protocol::session::Author;
use sandbox::Base;
use sandbox::base::{Progress, Reference, Resolved, Step, Store};

use crate::shared::Shared;
use crate::{Error, Hangar};

/// The base of a repository that names none.
pub(crate) const HOST: &str = "host";
/// Setting: the digests of all bases that an image was built on, as a JSON array.
const STOOD_ON: &str = "bases_stood_on";

/// A base as a specification has it, and what belongs to it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ground {
    pub(crate) base: Base,
    /// Variables that its programs expect.
    pub(crate) environment: Vec<(String, String)>,
}

/// Finds a base, pulls it if it is not here and `may_pull`, and says under which name an image
/// records it.
pub(crate) async fn resolve(
    shared: &Shared,
    wanted: &str,
    may_pull: bool,
) -> Result<(Ground, String), Error> {
    if wanted == HOST {
        return Ok((Ground::default(), HOST.to_owned()));
    }
    let reference = parse(wanted)?;
    let store = store(shared)?;
    let resolved = match store.find(&reference) {
        Some(resolved) => resolved,
        None if may_pull => pull(store, &reference).await?,
        None => {
            return Err(Error::Unavailable {
                what: format!("the base {wanted}, which hangar.toml asks for, was never fetched"),
                hint: format!(
                    "fetch it once with `hangar base pull {wanted}`, or set it with `hangar \
                     repository settings`"
                ),
            });
        }
    };
    let name = full_name(wanted, &resolved.digest);
    Ok((ground(resolved), name))
}

/// The base that an image was built on, exactly.
pub(crate) async fn of_image(shared: &Shared, image: ImageId) -> Result<Ground, Error> {
    let noted = shared.index.setting(&key(image)).await;
    let noted =
        noted.map_err(|error| Error::failed(format!("looking up the base of {image}"), error))?;
    let Some(digest) = noted else { return Ok(Ground::default()) };
    let found = store(shared)?.image(&digest);
    found.map(ground).ok_or_else(|| Error::Unavailable {
        what: format!("the base {digest}, which {image} stands on, is gone"),
        hint: "pull it again with `hangar base pull`".to_owned(),
    })
}

/// Notes what an image is about to be built on, before anything stands on it.
pub(crate) async fn note(shared: &Shared, image: ImageId, name: &str) -> Result<(), Error> {
    let Some(digest) = digest(name) else { return Ok(()) };
    let failed = |error| Error::failed(format!("recording the base of {image}"), error);
    let mut all = stood_on(shared).await?;
    if !all.iter().any(|one| one == digest) {
        all.push(digest.to_owned());
        let text = serde_json::to_string(&all)
            .map_err(|error| Error::failed("recording a base", error))?;
        shared.index.set_setting(STOOD_ON, &text).await.map_err(failed)?;
    }
    shared.index.set_setting(&key(image), digest).await.map_err(failed)
}

/// Whether an image recorded as standing on `recorded` is what `wanted` asks for now.
pub(crate) fn is_current(shared: &Shared, recorded: &str, wanted: &str) -> bool {
    if wanted == HOST || recorded == HOST {
        return wanted == recorded;
    }
    let known = shared.bases.as_ref().zip(parse(wanted).ok());
    match known.and_then(|(store, reference)| store.find(&reference)) {
        Some(resolved) => recorded == full_name(wanted, &resolved.digest),
        // Forgotten since; what was built on it has it still.
        None => digest(recorded).is_some_and(|digest| recorded == full_name(wanted, digest)),
    }
}

impl Hangar {
    /// Every base that was pulled.
    pub fn bases(&self, _author: &Author) -> Result<Vec<BaseImage>, Error> {
        let Some(store) = &self.shared.bases else { return Ok(Vec::new()) };
        let listed = store.list().map_err(|error| Error::failed("listing base images", error))?;
        let known = listed.into_iter().filter_map(|listed| {
            let resolved = store.image(&listed.digest)?;
            Some(described(listed.reference, resolved))
        });
        Ok(known.collect())
    }

    /// Fetches what a reference means now. Images on what it meant before are built again at
    /// their next use.
    pub async fn pull_base(&self, _author: &Author, text: &str) -> Result<BaseImage, Error> {
        let reference = parse(text)?;
        let resolved = pull(store(&self.shared)?, &reference).await?;
        Ok(described(reference.to_string(), resolved))
    }

    /// Forgets a reference; its layers stay as long as an image stands on them.
    pub async fn remove_base(&self, _author: &Author, text: &str) -> Result<(), Error> {
        let reference = parse(text)?;
        let needed = stood_on(&self.shared).await?;
        let removed = store(&self.shared)?.remove(&reference, &needed).await;
        if removed.map_err(|error| Error::failed(format!("removing {text}"), error))? {
            return Ok(());
        }
        Err(Error::NotFound { what: format!("base image {reference}") })
    }
}

async fn pull(store: &Store, reference: &Reference) -> Result<Resolved, Error> {
    let progress: Progress = Arc::new(|step| match step {
        Step::Fetching { .. } => tracing::trace!(?step, "pulling a base image"),
        step => tracing::info!(?step, "pulling a base image"),
    });
    store.pull(reference, &progress).await.map_err(|error| Error::Unavailable {
        what: format!("the base {reference} cannot be used: {error}"),
        hint: "mend the cause and say `hangar base pull` again, or choose another base".to_owned(),
    })
}

fn parse(text: &str) -> Result<Reference, Error> {
    match text.parse() {
        Ok(Reference::Host) => Err(Error::Invalid {
            what: "`host` is this machine's own system: there is nothing to pull or remove".into(),
            hint: "name an image of a registry, a layout or an archive".to_owned(),
        }),
        Ok(reference) => Ok(reference),
        Err(error) => Err(Error::Invalid {
            what: error.to_string(),
            hint: "see `hangar base pull --help`".to_owned(),
        }),
    }
}

fn store(shared: &Shared) -> Result<&Store, Error> {
    shared.bases.as_ref().ok_or_else(|| Error::Unavailable {
        what: "this server has no store of base images".to_owned(),
        hint: "use the container backend".to_owned(),
    })
}

async fn stood_on(shared: &Shared) -> Result<Vec<String>, Error> {
    let text = shared.index.setting(STOOD_ON).await;
    let text = text.map_err(|error| Error::failed("looking up the bases in use", error))?;
    text.map_or(Ok(Vec::new()), |text| {
        serde_json::from_str(&text)
            .map_err(|error| Error::failed("understanding the list of bases in use", error))
    })
}

fn ground(resolved: Resolved) -> Ground {
    Ground { base: Base::Layers(resolved.layers), environment: resolved.environment }
}

fn described(reference: String, resolved: Resolved) -> BaseImage {
    BaseImage {
        reference,
        digest: resolved.digest,
        layers: resolved.layers.len(),
        bytes: resolved.bytes,
        notes: resolved.notes,
    }
}

/// `debian:12@sha256:…`, whether the digest was in the reference or not.
fn full_name(wanted: &str, digest: &str) -> String {
    let name = wanted.split_once('@').map_or(wanted, |(name, _)| name);
    format!("{name}@{digest}")
}

fn digest(full_name: &str) -> Option<&str> {
    full_name.rsplit_once('@').map(|(_, digest)| digest)
}

fn key(image: ImageId) -> String {
    format!("base_of_{image}")
}
