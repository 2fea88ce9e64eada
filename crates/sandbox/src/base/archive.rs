//! What `docker save` writes: its own form, and an OCI layout in a tar archive.
//!
//! The archive is read twice, and nothing of it is unpacked: first its documents and names, then
//! those members that an image needs, each into the store under its digest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use super::Error;
use super::blobs::Blobs;
use super::error::failed;
use super::image::{DOCUMENT_BYTES, Descriptor, Manifest, hexadecimal, malformed, parse};
use super::layout::choose;
use super::store::LAYER_BYTES;

/// Members of an archive at most.
const MEMBERS: usize = 10_000;

/// One image in Docker's own `manifest.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// What an archive holds, before its contents are read.
#[derive(Debug, Default)]
struct Contents {
    manifest: Option<Vec<u8>>,
    index: Option<Vec<u8>>,
    /// Links to other members, which old archives have for layers that occur twice.
    links: BTreeMap<String, String>,
    names: BTreeSet<String>,
}

/// Takes an image of an archive into the store, and gives its manifest or index.
pub(super) async fn take(
    blobs: &Blobs,
    reference: &str,
    path: &Path,
    tag: Option<&str>,
) -> Result<Vec<u8>, Error> {
    let (owned, text) = (path.to_owned(), reference.to_owned());
    let contents = blocking(move || look(&text, &owned)).await?;
    if let Some(manifest) = &contents.manifest {
        let saved = named(reference, manifest, tag)?;
        return docker(blobs, reference, path, &contents, saved).await;
    }
    let Some(index) = &contents.index else {
        return Err(malformed(reference, "it has neither manifest.json nor index.json"));
    };
    let chosen = choose(reference, index, tag)?;
    let wanted: Vec<String> = contents.names.iter().filter(|name| is_blob(name)).cloned().collect();
    for (name, digest, _) in copy(blobs, path, &wanted).await? {
        if Some(name.rsplit('/').next().unwrap_or_default()) != hexadecimal(&digest) {
            blobs.remove(&digest);
            let expected = name;
            return Err(Error::Digest { what: "a member".into(), expected, actual: digest });
        }
    }
    blobs.document(&chosen)
}

fn is_blob(name: &str) -> bool {
    name.strip_prefix("blobs/sha256/")
        .is_some_and(|it| hexadecimal(&format!("sha256:{it}")).is_some())
}

/// The image of a tag, or the only one.
fn named(reference: &str, manifest: &[u8], tag: Option<&str>) -> Result<Saved, Error> {
    let mut images: Vec<Saved> = parse(reference, "manifest.json", manifest)?;
    if let Some(tag) = tag {
        images.retain(|image| {
            let mut tags = image.repo_tags.iter().flatten();
            tags.any(|name| name == tag || name.ends_with(&format!(":{tag}")))
        });
    }
    match images.len() {
        1 => Ok(images.remove(0)),
        0 => Err(malformed(reference, "none of its images has this tag")),
        _ => {
            let tags: Vec<&str> = images
                .iter()
                .flat_map(|image| image.repo_tags.iter().flatten())
                .filter_map(|name| name.rsplit(':').next())
                .take(20)
                .collect();
            let why = format!("it holds several; add one of their tags: {}", tags.join(", "));
            Err(malformed(reference, why))
        }
    }
}

/// Writes the manifest that Docker's own form lacks.
async fn docker(
    blobs: &Blobs,
    reference: &str,
    path: &Path,
    contents: &Contents,
    saved: Saved,
) -> Result<Vec<u8>, Error> {
    let follow = |name: &String| contents.links.get(name).unwrap_or(name).clone();
    let layers: Vec<String> = saved.layers.iter().map(follow).collect();
    let mut wanted = layers.clone();
    wanted.push(saved.config.clone());
    let copied = copy(blobs, path, &wanted).await?;
    let descriptor = |name: &String| {
        let found = copied.iter().find(|(copied, ..)| copied == name);
        let (_, digest, size) =
            found.ok_or_else(|| malformed(reference, format!("its member {name:?} is missing")))?;
        Ok(Descriptor {
            media_type: String::new(),
            digest: digest.clone(),
            size: *size,
            platform: None,
            annotations: None,
        })
    };
    let manifest = Manifest {
        schema_version: 2,
        manifests: None,
        config: Some(descriptor(&saved.config)?),
        layers: layers.iter().map(descriptor).collect::<Result<_, Error>>()?,
    };
    serde_json::to_vec(&manifest).map_err(|error| malformed(reference, error.to_string()))
}

/// First reading: documents and names.
fn look(reference: &str, path: &Path) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    let mut archive = open(path)?;
    for entry in archive.entries().map_err(failed("read", path))? {
        let mut entry = entry.map_err(failed("read", path))?;
        let name = clean(&entry.path_bytes());
        if contents.names.len() >= MEMBERS {
            return Err(malformed(reference, format!("it has more than {MEMBERS} members")));
        }
        if matches!(name.as_str(), "manifest.json" | "index.json") {
            let mut text = Vec::new();
            entry
                .by_ref()
                .take(DOCUMENT_BYTES)
                .read_to_end(&mut text)
                .map_err(failed("read", path))?;
            if name == "index.json" {
                contents.index = Some(text);
            } else {
                contents.manifest = Some(text);
            }
        }
        if entry.header().entry_type().is_symlink() || entry.header().entry_type().is_hard_link() {
            // `../<id>/layer.tar`: every member of the old form lies one directory deep.
            let target = entry.link_name_bytes().unwrap_or_default();
            let target = clean(&target);
            contents.links.insert(name.clone(), target.trim_start_matches("../").to_owned());
        }
        contents.names.insert(name);
    }
    Ok(contents)
}

/// Second reading: members into the store, with the digests they turn out to have.
async fn copy(
    blobs: &Blobs,
    path: &Path,
    wanted: &[String],
) -> Result<Vec<(String, String, u64)>, Error> {
    let wanted: BTreeSet<String> = wanted.iter().cloned().collect();
    let (blobs, path) = (blobs.clone(), path.to_owned());
    let runtime = tokio::runtime::Handle::current();
    blocking(move || {
        let mut copied = Vec::new();
        let mut archive = open(&path)?;
        for entry in archive.entries().map_err(failed("read", &path))? {
            let entry = entry.map_err(failed("read", &path))?;
            let name = clean(&entry.path_bytes());
            if entry.header().entry_type().is_file() && wanted.contains(&name) {
                let what = format!("member {name:?}");
                let from = Blocking(entry);
                let (digest, bytes) =
                    runtime.block_on(blobs.copy(&what, from, LAYER_BYTES, None))?;
                copied.push((name, digest, bytes));
            }
        }
        Ok(copied)
    })
    .await
}

/// A blocking reader, for use on a thread that may block.
struct Blocking<R>(R);

impl<R: Read + Unpin> tokio::io::AsyncRead for Blocking<R> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let read = self.0.read(buffer.initialize_unfilled());
        std::task::Poll::Ready(read.map(|length| buffer.advance(length)))
    }
}

fn open(path: &Path) -> Result<tar::Archive<BufReader<File>>, Error> {
    let file = File::open(path).map_err(failed("open", path))?;
    Ok(tar::Archive::new(BufReader::new(file)))
}

fn clean(name: &[u8]) -> String {
    String::from_utf8_lossy(name).trim_start_matches("./").to_owned()
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| failed("read", Path::new("the archive"))(std::io::Error::other(error)))?
}
