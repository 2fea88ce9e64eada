//! Running the unpacker: the server's side of `hangar-launch unpack`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest as _, Sha256};

use super::Error;
use super::error::failed;
use super::handover::{Answer, Bounds, Order, Unpacked};
use super::image::{Descriptor, digest};
use crate::container::handover::Failure;
use crate::container::{Owner, make_private_directory, remove_tree};

/// Bytes of one unpacked layer at most.
const BYTES: u64 = 32 << 30;
/// Below this no layer is too large, however well it was compressed.
const SMALL: u64 = 256 << 20;
/// How many times its compressed size a layer may have; source text reaches 20.
const RATIO: u64 = 200;
/// Entries of one layer at most: more than any image of a whole system has.
const ENTRIES: u64 = 1_000_000;

/// Where unpacked layers are, and who they belong to.
#[derive(Debug, Clone)]
pub(super) struct Unpacker {
    pub(super) directory: PathBuf,
    pub(super) launcher: PathBuf,
    pub(super) owner: Owner,
}

impl Unpacker {
    pub(super) fn open(directory: PathBuf, launcher: PathBuf) -> Result<Self, Error> {
        make_private_directory(&directory)?;
        let unfinished = std::fs::read_dir(&directory).map_err(failed("read", &directory))?;
        for entry in unfinished.flatten() {
            if entry.file_name().to_string_lossy().starts_with("new-") {
                remove_tree(&entry.path())?;
            }
        }
        Ok(Self { directory, launcher, owner: Owner::of_this_process() })
    }

    /// The name of a layer on those beneath it: what an archive leaves open is taken from them.
    pub(super) fn name(&self, beneath: &str, layer: &str) -> String {
        let Owner { uid, gid, count } = self.owner;
        let text = format!("{uid} {gid} {count}\n{beneath}\n{layer}\n");
        digest(Sha256::new_with_prefix(text)).replace("sha256:", "layer-")
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Unpacks a layer under its name; `below` has the topmost first.
    pub(super) async fn unpack(
        &self,
        name: &str,
        layer: &Descriptor,
        blob: &Path,
        diff_id: &str,
        below: Vec<PathBuf>,
    ) -> Result<Unpacked, Error> {
        let new = self.directory.join(format!("new-{}-{name}", std::process::id()));
        let made = self.make(&new, layer, blob, diff_id, below).await;
        let kept = match made {
            Ok(unpacked) => self.keep(&new, name).await.map(|()| unpacked),
            Err(error) => Err(error),
        };
        if kept.is_err() {
            let _swept_at_the_next_start = remove_tree(&new);
        }
        kept
    }

    async fn make(
        &self,
        new: &Path,
        layer: &Descriptor,
        blob: &Path,
        diff_id: &str,
        below: Vec<PathBuf>,
    ) -> Result<Unpacked, Error> {
        remove_tree(new)?;
        std::fs::create_dir(new).map_err(failed("create", new))?;
        self.owner.give(new).map_err(failed("give away", new))?;
        let bytes = layer.size.saturating_mul(RATIO).clamp(SMALL, BYTES);
        let order = Order {
            destination: new.to_owned(),
            below,
            uid: self.owner.uid,
            gid: self.owner.gid,
            count: self.owner.count,
            bounds: Bounds { bytes, entries: ENTRIES },
        };
        let unpacked = self.run(&order, layer, blob).await?;
        if unpacked.diff_id != diff_id {
            return Err(Error::Digest {
                what: format!("layer {}, uncompressed,", layer.digest),
                expected: diff_id.to_owned(),
                actual: unpacked.diff_id,
            });
        }
        Ok(unpacked)
    }

    async fn run(&self, order: &Order, layer: &Descriptor, blob: &Path) -> Result<Unpacked, Error> {
        let input = std::fs::File::open(blob).map_err(failed("open", blob))?;
        let output = tokio::process::Command::new(&self.launcher)
            .arg("unpack")
            .arg(serde_json::to_string(order).unwrap_or_default())
            .env_clear()
            .current_dir("/")
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(failed("run", &self.launcher))?;
        let failure = match serde_json::from_slice(&output.stdout) {
            Ok(Answer::Unpacked(unpacked)) => return Ok(unpacked),
            Ok(Answer::Refused(refused)) => {
                return Err(Error::Refused { layer: layer.digest.clone(), refused });
            }
            Ok(Answer::Failed(failure)) => Ok(failure),
            Err(_) => serde_json::from_slice::<Failure>(&output.stdout),
        };
        let (step, source) = if let Ok(Failure { step, errno, .. }) = failure {
            (step, std::io::Error::from_raw_os_error(errno))
        } else {
            let step = format!("run {}", self.launcher.display());
            (step, std::io::Error::other(output.status.to_string()))
        };
        Err(Error::Unpacker { layer: layer.digest.clone(), step, source })
    }

    /// Puts a finished layer where it is used. What the disk does not have yet is waited for, once
    /// for a layer: a machine that fails must not leave a whole name on half a layer.
    async fn keep(&self, new: &Path, name: &str) -> Result<(), Error> {
        let (from, to) = (new.to_owned(), self.path(name));
        let kept = tokio::task::spawn_blocking(move || {
            let opened = std::fs::File::open(&from)?;
            rustix::fs::syncfs(&opened)?;
            std::fs::rename(&from, &to)
        });
        let path = self.path(name);
        kept.await.map_err(std::io::Error::other).flatten().map_err(failed("keep", &path))
    }
}
