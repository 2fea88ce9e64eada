//! An image in the OCI layout, in a directory of this machine.

use std::path::{Path, PathBuf};

use super::Error;
use super::blobs::Blobs;
use super::error::failed;
use super::image::{DOCUMENT_BYTES, Descriptor, Manifest, hexadecimal, malformed, parse, select};

/// The annotation by which an index names its images.
const NAME: &str = "org.opencontainers.image.ref.name";

/// The descriptor that an index has for a tag.
pub(super) fn choose(
    reference: &str,
    index: &[u8],
    tag: Option<&str>,
) -> Result<Descriptor, Error> {
    let index: Manifest = parse(reference, "index.json", index)?;
    let entries = index.manifests.unwrap_or_default();
    let name = |entry: &Descriptor| entry.annotations.as_ref()?.get(NAME).cloned();
    let Some(tag) = tag else {
        if entries.len() > 1 && entries.iter().all(|entry| entry.platform.is_none()) {
            let names: Vec<String> = entries.iter().filter_map(name).take(20).collect();
            let why = format!("it holds several; add one of their tags: {}", names.join(", "));
            return Err(malformed(reference, why));
        }
        return select(reference, &entries).cloned();
    };
    let named = |entry: &&Descriptor| {
        name(entry).is_some_and(|name| name == tag || name.ends_with(&format!(":{tag}")))
    };
    let chosen: Vec<Descriptor> = entries.iter().filter(named).cloned().collect();
    match chosen.as_slice() {
        [] => Err(malformed(reference, "none of its images has this tag")),
        [only] => Ok(only.clone()),
        several => select(reference, several).cloned(),
    }
}

/// A small file of a layout.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let length = std::fs::metadata(path).map_err(failed("read", path))?.len();
    if length > DOCUMENT_BYTES {
        let what = path.display().to_string();
        return Err(Error::TooLarge { what, bytes: length, maximum: DOCUMENT_BYTES });
    }
    std::fs::read(path).map_err(failed("read", path))
}

/// Copies a blob of a layout into the store.
pub(super) async fn copy(
    blobs: &Blobs,
    layout: &Path,
    descriptor: &Descriptor,
) -> Result<(), Error> {
    let what = format!("blob {}", descriptor.digest);
    let digits = hexadecimal(&descriptor.digest)
        .ok_or_else(|| malformed(&layout.display().to_string(), "a digest is none"))?;
    let path: PathBuf = layout.join("blobs/sha256").join(digits);
    let file = tokio::fs::File::open(&path).await.map_err(failed("open", &path))?;
    blobs.copy(&what, file, descriptor.size, Some(&descriptor.digest)).await.map(drop)
}
