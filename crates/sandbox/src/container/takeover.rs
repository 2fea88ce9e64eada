//! A sandbox's files: empty ones, its own again, or those of an ended sandbox it continues.
//!
//! ```text
//! <from>/files  ──rename──▶  <id>/files      <id>/continues = from,
//!                                            <from>/taken = id, both written before
//! ```
//!
//! A sandbox that took files over and ended without anyone having spoken to it is not the last word:
//! whoever continues from the same sandbox gets the files from it.

use std::path::{Path, PathBuf};

use protocol::SandboxId;

use super::Container;
use super::files::{failed, make_directory, remove_tree, write};
use super::process::{Process, recorded};
use crate::{Error, Spec};

/// Which sandbox's files these were, in the directory of the one that took them over.
const CONTINUES: &str = "continues";
/// Which sandbox took the files over, in the directory of the one they were taken from.
const TAKEN: &str = "taken";
/// The layers beneath the files: a JSON array of paths. Files on other layers are another tree.
const LAYERS: &str = "layers.json";

impl Container {
    /// Makes the upper directory ready for a start.
    pub(super) fn take_files(&self, spec: &Spec, directory: &Path) -> Result<(), Error> {
        let files = directory.join("files");
        let (upper, work) = (files.join("upper"), files.join("work"));
        match spec.upper_from {
            // A crash may have come after the files were taken, before or after anything ran.
            Some(from) if upper.is_dir() && noted(directory, CONTINUES) == Some(from) => {
                require_layers(spec.id, spec, directory)?;
            }
            Some(from) => self.take_over(from, spec, directory)?,
            None if upper.is_dir() && layers(directory).as_ref() == Some(&spec.layers) => {}
            // What was made on other layers was made by a start that nobody was told of.
            None => remove_tree(&files)?,
        }
        let text = serde_json::to_vec(&spec.layers).unwrap_or_default();
        write(&directory.join(LAYERS), &text)?;
        if !upper.is_dir() {
            make_directory(&upper, 0o755)?;
            self.owner.give(&upper).map_err(failed("give away", &upper))?;
        }
        // Also rids a volatile overlay of its mark, which would refuse another mount.
        remove_tree(&work)?;
        make_directory(&work, 0o755)?;
        self.owner.give(&work).map_err(failed("give away", &work))
    }

    fn take_over(&self, from: SandboxId, spec: &Spec, directory: &Path) -> Result<(), Error> {
        let holder = self.holder(from)?;
        let theirs = self.ended_files(holder, "continue from")?;
        require_layers(holder, spec, &self.directory(holder))?;
        let origin = self.directory(from);
        if holder != from {
            // Home first, and then on: a crash in between loses nothing.
            let home = origin.join("files");
            std::fs::rename(&theirs, &home).map_err(failed("take back", &theirs))?;
            remove_tree(&self.directory(holder))?;
        }
        let (files, theirs) = (directory.join("files"), origin.join("files"));
        remove_tree(&files)?;
        write(&directory.join(CONTINUES), from.to_string().as_bytes())?;
        write(&origin.join(TAKEN), spec.id.to_string().as_bytes())?;
        std::fs::rename(&theirs, &files).map_err(failed("take over", &theirs))
    }

    /// Who has the files of `from` now.
    pub(super) fn holder(&self, from: SandboxId) -> Result<SandboxId, Error> {
        let directory = self.known(from)?;
        if directory.join("files/upper").is_dir() {
            return Ok(from);
        }
        let Some(taker) = noted(&directory, TAKEN) else { return Ok(from) };
        let theirs = self.directory(taker);
        // The note outlives the taker; one that was told of is continued by its own name.
        let still = theirs.join("files/upper").is_dir() && noted(&theirs, CONTINUES) == Some(from);
        Ok(if still { taker } else { from })
    }

    /// Leaves nothing of a failed start's files here: taken ones go back.
    pub(super) fn give_back(&self, spec: &Spec, directory: &Path) {
        let files = directory.join("files");
        let Some(from) = spec.upper_from else {
            let _tried_again_by_discard = remove_tree(&files);
            return;
        };
        if noted(directory, CONTINUES) == Some(from) && files.is_dir() {
            let back = self.directory(from);
            if std::fs::rename(&files, back.join("files")).is_ok() {
                let _harmless = std::fs::remove_file(back.join(TAKEN));
                let _harmless = std::fs::remove_file(directory.join(CONTINUES));
            }
        }
    }

    /// The files of a sandbox that has run and ended.
    pub(super) fn ended_files(&self, id: SandboxId, doing: &'static str) -> Result<PathBuf, Error> {
        let directory = self.known(id)?;
        let refused = |why: &str| Err(Error::State { doing, id, why: why.to_owned() });
        match recorded(&directory)? {
            None => return refused("it never ran"),
            Some(started) if Process::find(&started).is_some() => {
                return refused("it is running");
            }
            Some(_) => {}
        }
        let files = directory.join("files");
        if files.join("upper").is_dir() {
            Ok(files)
        } else {
            refused("its files were taken before")
        }
    }
}

fn noted(directory: &Path, name: &str) -> Option<SandboxId> {
    std::fs::read_to_string(directory.join(name)).ok()?.parse().ok()
}

fn layers(directory: &Path) -> Option<Vec<PathBuf>> {
    serde_json::from_slice(&std::fs::read(directory.join(LAYERS)).ok()?).ok()
}

fn require_layers(id: SandboxId, spec: &Spec, directory: &Path) -> Result<(), Error> {
    match layers(directory) {
        Some(theirs) if theirs != spec.layers => {
            let why = "its files lie on the layers of another image".to_owned();
            Err(Error::State { doing: "continue from", id, why })
        }
        _ => Ok(()),
    }
}
