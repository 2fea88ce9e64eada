//! The store: pulled images, what they were called, and their layers ready for use.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::blobs::Blobs;
use super::error::failed;
use super::image::{
    Configuration, DOCUMENT_BYTES, Descriptor, Manifest, digest_of, hexadecimal, malformed, parse,
    require_image, select,
};
use super::registry::{Registries, Remote};
use super::unpack::Unpacker;
use super::{Error, Reference, archive, layout};
use crate::container::{make_private_directory, remove_tree, write};

/// Bytes of one compressed layer at most.
pub(super) const LAYER_BYTES: u64 = 16 << 30;
/// An index may name an index, which may name an image.
const DEPTH: usize = 3;

/// Where the store is and how it gets images.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The data directory; the store is its `base`.
    pub data: PathBuf,
    /// The program `hangar-launch`.
    pub launcher: PathBuf,
    /// How registries are reached.
    pub registries: Registries,
}

/// What a pull is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It asks what the reference means.
    Resolving,
    /// It fetches a blob.
    Fetching {
        /// Which one.
        digest: String,
        /// Bytes that are here.
        done: u64,
        /// Bytes it has.
        whole: u64,
    },
    /// It unpacks a layer.
    Unpacking {
        /// Which one.
        digest: String,
        /// Its place, counted from 1 at the bottom.
        number: usize,
        /// How many there are.
        of: usize,
    },
}

/// Told of each step of a pull.
pub type Progress = Arc<dyn Fn(Step) + Send + Sync>;

/// An image whose layers are unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Its manifest's digest: what it is, whatever it is called.
    pub digest: String,
    /// `Env` of its configuration.
    pub environment: Vec<(String, String)>,
    /// `User` of its configuration; sandboxes have their own.
    pub user: Option<String>,
    /// `WorkingDir` of its configuration; sandboxes have their own.
    pub directory: Option<String>,
    /// The unpacked layers, the topmost first.
    pub layers: Vec<PathBuf>,
    /// Bytes of the uncompressed layers.
    pub bytes: u64,
    /// What was not kept as the image has it, in sentences.
    pub notes: Vec<String>,
}

/// A pulled image and what it was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// The reference it was pulled by.
    pub reference: String,
    /// What the reference meant then.
    pub digest: String,
}

/// The store. Cheap to clone; clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    registries: Arc<Registries>,
    blobs: Blobs,
    unpacker: Unpacker,
    /// One pull or removal at a time: layers are shared, and a disk has one head.
    one: Arc<tokio::sync::Mutex<()>>,
}

/// Where an image's blobs come from.
enum Source {
    Registry(Remote),
    Directory(PathBuf),
    /// They are in the store already.
    Kept,
}

impl Store {
    /// Opens the store, made where it does not exist.
    pub fn open(settings: Settings) -> Result<Self, Error> {
        make_private_directory(&settings.data)?;
        let data = settings.data.canonicalize().map_err(failed("open", &settings.data))?;
        let directory = data.join("base");
        for name in ["images", "references"] {
            make_private_directory(&directory.join(name))?;
        }
        Ok(Self {
            blobs: Blobs::open(directory.join("blobs"))?,
            unpacker: Unpacker::open(directory.join("unpacked"), settings.launcher)?,
            directory,
            registries: Arc::new(settings.registries),
            one: Arc::default(),
        })
    }

    /// Asks what the reference means now, fetches what is missing, and unpacks it.
    pub async fn pull(
        &self,
        reference: &Reference,
        progress: &Progress,
    ) -> Result<Resolved, Error> {
        let _one_at_a_time = self.one.lock().await;
        let text = reference.to_string();
        progress(Step::Resolving);
        let (source, document) = self.resolve(reference, &text).await?;
        let manifest = self.manifest(&text, &source, document, progress).await?;
        let digest = self.blobs.put(&manifest)?;
        let resolved = match self.image(&digest) {
            Some(resolved) => resolved,
            None => self.take(&text, &source, &digest, &manifest, progress).await?,
        };
        let listed = Listed { reference: text.clone(), digest };
        put(&self.reference_file(&text), &listed)?;
        Ok(resolved)
    }

    /// The image a reference meant when it was last pulled.
    pub fn find(&self, reference: &Reference) -> Option<Resolved> {
        let listed: Listed = get(&self.reference_file(&reference.to_string()))?;
        self.image(&listed.digest)
    }

    /// The image of a manifest's digest, if it is here.
    pub fn image(&self, digest: &str) -> Option<Resolved> {
        let resolved: Resolved = get(&self.image_file(digest)?)?;
        resolved.layers.iter().all(|layer| layer.is_dir()).then_some(resolved)
    }

    /// Everything that was pulled, by reference.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut all: Vec<Listed> = files(&self.directory.join("references"))?;
        all.sort_by(|one, other| one.reference.cmp(&other.reference));
        Ok(all)
    }

    /// Forgets a reference, and deletes what neither another one nor `needed` (digests of images
    /// that something was built on) holds. Says whether it was known.
    pub async fn remove(&self, reference: &Reference, needed: &[String]) -> Result<bool, Error> {
        let _one_at_a_time = self.one.lock().await;
        let path = self.reference_file(&reference.to_string());
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            removed => removed.map_err(failed("remove", &path))?,
        }
        let mut kept: BTreeSet<String> = needed.iter().cloned().collect();
        kept.extend(self.list()?.into_iter().map(|listed| listed.digest));
        let this = self.clone();
        let swept = tokio::task::spawn_blocking(move || this.sweep(&kept)).await;
        swept.map_err(|error| failed("remove", &path)(std::io::Error::other(error)))??;
        Ok(true)
    }

    fn sweep(&self, kept: &BTreeSet<String>) -> Result<(), Error> {
        let images: Vec<Resolved> = files(&self.directory.join("images"))?;
        let (kept, gone): (Vec<Resolved>, Vec<Resolved>) =
            images.into_iter().partition(|image| kept.contains(&image.digest));
        // The image before its layers: without it nobody asks for them.
        for image in gone {
            if let Some(path) = self.image_file(&image.digest) {
                std::fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        let layers: BTreeSet<&PathBuf> = kept.iter().flat_map(|image| &image.layers).collect();
        let directory = &self.unpacker.directory;
        for entry in std::fs::read_dir(directory).map_err(failed("read", directory))?.flatten() {
            let path = entry.path();
            if layers.contains(&path.with_extension("")) {
                continue;
            }
            if path.is_dir() {
                remove_tree(&path)?;
            } else {
                std::fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        let digests: BTreeSet<String> = kept.into_iter().map(|image| image.digest).collect();
        for blob in self.blobs.all() {
            if !digests.contains(&blob) {
                self.blobs.remove(&blob);
            }
        }
        Ok(())
    }

    async fn resolve(&self, reference: &Reference, text: &str) -> Result<(Source, Vec<u8>), Error> {
        match reference {
            Reference::Host => Err(malformed(text, "it is this machine and not pulled")),
            Reference::Registry(named) => {
                let remote = Remote::new(&self.registries, named).await?;
                let document = remote.manifest(None).await?;
                Ok((Source::Registry(remote), document))
            }
            Reference::Layout { path, tag } => {
                let index = layout::read(&path.join("index.json"))?;
                let chosen = layout::choose(text, &index, tag.as_deref())?;
                layout::copy(&self.blobs, path, &chosen).await?;
                let document = self.blobs.document(&chosen)?;
                Ok((Source::Directory(path.clone()), document))
            }
            Reference::Archive { path, tag } => {
                let document = archive::take(&self.blobs, text, path, tag.as_deref()).await?;
                Ok((Source::Kept, document))
            }
        }
    }

    /// From an index to the manifest for this machine.
    async fn manifest(
        &self,
        text: &str,
        source: &Source,
        mut document: Vec<u8>,
        progress: &Progress,
    ) -> Result<Vec<u8>, Error> {
        for _ in 0..DEPTH {
            let parsed: Manifest = parse(text, "the manifest", &document)?;
            let Some(entries) = parsed.manifests else { return Ok(document) };
            let chosen = select(text, &entries)?;
            if hexadecimal(&chosen.digest).is_none() {
                return Err(malformed(text, format!("{:?} is no sha256 digest", chosen.digest)));
            }
            document = match source {
                Source::Registry(remote) => remote.manifest(Some(&chosen.digest)).await?,
                _ => self.document(text, source, chosen, progress).await?,
            };
            let actual = digest_of(&document);
            if actual != chosen.digest {
                let (what, expected) = ("the manifest".to_owned(), chosen.digest.clone());
                return Err(Error::Digest { what, expected, actual });
            }
        }
        Err(malformed(text, "its indexes are nested too deeply"))
    }

    async fn document(
        &self,
        text: &str,
        source: &Source,
        descriptor: &Descriptor,
        progress: &Progress,
    ) -> Result<Vec<u8>, Error> {
        self.fetch(text, source, descriptor, DOCUMENT_BYTES, progress).await?;
        self.blobs.document(descriptor)
    }

    async fn fetch(
        &self,
        text: &str,
        source: &Source,
        descriptor: &Descriptor,
        maximum: u64,
        progress: &Progress,
    ) -> Result<(), Error> {
        if descriptor.size > maximum {
            let what = format!("blob {} of {text}", descriptor.digest);
            return Err(Error::TooLarge { what, bytes: descriptor.size, maximum });
        }
        if self.blobs.has(&descriptor.digest) {
            return Ok(());
        }
        match source {
            Source::Registry(remote) => remote.blob(&self.blobs, descriptor, progress).await,
            Source::Directory(path) => layout::copy(&self.blobs, path, descriptor).await,
            Source::Kept => Err(malformed(text, format!("{} is missing", descriptor.digest))),
        }
    }

    /// Fetches and unpacks what a manifest names.
    async fn take(
        &self,
        text: &str,
        source: &Source,
        digest: &str,
        manifest: &[u8],
        progress: &Progress,
    ) -> Result<Resolved, Error> {
        let (config, layers) = require_image(text, parse(text, "the manifest", manifest)?)?;
        let configuration = self.document(text, source, &config, progress).await?;
        let configuration: Configuration = parse(text, "its configuration", &configuration)?;
        let diff_ids = configuration.rootfs.diff_ids;
        if diff_ids.len() != layers.len() {
            let (manifest, own) = (layers.len(), diff_ids.len());
            let why = format!("its manifest has {manifest} layers, its configuration {own}");
            return Err(malformed(text, why));
        }
        let run = configuration.config.unwrap_or_default();
        let mut resolved = Resolved {
            digest: digest.to_owned(),
            environment: environment(run.env.unwrap_or_default()),
            user: run.user.filter(|user| !user.is_empty()),
            directory: run.working_dir.filter(|path| !path.is_empty()),
            layers: Vec::new(),
            bytes: 0,
            notes: Vec::new(),
        };
        for layer in &layers {
            let known = self.is_unpacked(&layers, layer);
            if !known {
                self.fetch(text, source, layer, LAYER_BYTES, progress).await?;
            }
        }
        let mut beneath = String::new();
        for (index, (layer, diff_id)) in layers.iter().zip(&diff_ids).enumerate() {
            let name = self.unpacker.name(&beneath, &layer.digest);
            let path = self.unpacker.path(&name);
            if !path.is_dir() {
                let (digest, number) = (layer.digest.clone(), index + 1);
                progress(Step::Unpacking { digest, number, of: layers.len() });
                let below = resolved.layers.clone();
                let blob = self.blobs.path(&layer.digest);
                let unpacked = self.unpacker.unpack(&name, layer, &blob, diff_id, below).await?;
                let told = Told { bytes: unpacked.bytes, notes: notes(&unpacked) };
                put(&path.with_extension("json"), &told)?;
            }
            let told: Told = get(&path.with_extension("json")).unwrap_or_default();
            resolved.bytes += told.bytes;
            resolved.notes.extend(told.notes);
            resolved.layers.insert(0, path);
            beneath = name;
        }
        if let Some(path) = self.image_file(digest) {
            put(&path, &resolved)?;
        }
        for layer in &layers {
            self.blobs.remove(&layer.digest);
        }
        Ok(resolved)
    }

    fn is_unpacked(&self, layers: &[Descriptor], wanted: &Descriptor) -> bool {
        let mut beneath = String::new();
        for layer in layers {
            beneath = self.unpacker.name(&beneath, &layer.digest);
            if layer.digest == wanted.digest && !self.unpacker.path(&beneath).is_dir() {
                return false;
            }
        }
        true
    }

    fn image_file(&self, digest: &str) -> Option<PathBuf> {
        let digits = hexadecimal(digest)?;
        Some(self.directory.join("images").join(format!("{digits}.json")))
    }

    fn reference_file(&self, text: &str) -> PathBuf {
        let name = digest_of(text.as_bytes()).replace("sha256:", "");
        self.directory.join("references").join(format!("{name}.json"))
    }
}

/// What is told of a layer again when another image has it too.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    bytes: u64,
    notes: Vec<String>,
}

fn notes(unpacked: &super::handover::Unpacked) -> Vec<String> {
    let told = [
        (unpacked.owners_changed, "files belong to root, because their owners do not exist here"),
        (
            unpacked.attributes_dropped,
            "extended attributes were left out (file capabilities, labels)",
        ),
        (unpacked.devices_skipped, "device nodes in /dev were left out"),
    ];
    let said = told.into_iter().filter(|(count, _)| *count > 0);
    said.map(|(count, what)| format!("{count} {what}")).collect()
}

/// `NAME=value`; what is no variable is left out.
fn environment(lines: Vec<String>) -> Vec<(String, String)> {
    let split = |line: String| {
        let (name, value) = line.split_once('=')?;
        let usable = !name.is_empty() && !line.contains('\0');
        usable.then(|| (name.to_owned(), value.to_owned()))
    };
    lines.into_iter().filter_map(split).collect()
}

fn put(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec(value).map_err(|error| failed("write", path)(error.into()))?;
    Ok(write(path, &text)?)
}

fn get<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn files<T: DeserializeOwned>(directory: &Path) -> Result<Vec<T>, Error> {
    let entries = std::fs::read_dir(directory).map_err(failed("read", directory))?;
    Ok(entries.flatten().filter_map(|entry| get(&entry.path())).collect())
}
