//! After a crash: what nobody knows is stopped, and what holds nothing that anybody could continue
//! from is removed. Nothing else is touched, whatever it is called.

use std::path::Path;

use protocol::{ImageId, SandboxId};

use super::Container;
use super::files::{failed, remove_tree};
use crate::contract::Backend as _;
use crate::{Error, ObservedState};

/// Before the id, in the name of a directory that is being deleted.
pub(super) const DISCARDED: &str = "discarded-";
/// In the directory of a sandbox that a probe started: nobody continues from it.
pub(super) const PROBED: &str = "probed";

impl Container {
    /// See [`crate::Backend::reap`].
    pub(super) async fn reap_strangers(
        &self,
        known: &[SandboxId],
    ) -> Result<Vec<SandboxId>, Error> {
        let observed = self.observe().await?;
        let strangers: Vec<_> = observed.iter().filter(|one| !known.contains(&one.id)).collect();
        let running = strangers.iter().filter(|one| one.state == ObservedState::Running);
        let mut running: Vec<SandboxId> =
            running.map(|one| one.id).chain(self.groups.known()).collect();
        running.sort();
        running.dedup();
        running.retain(|id| !known.contains(id));
        let stopped = futures_util::future::join_all(running.iter().map(|id| self.stop(*id))).await;
        self.groups.sweep();
        for one in strangers {
            if self.is_empty_shell(one.id) {
                self.discard(one.id).await?;
            }
        }
        self.sweep_images()?;
        stopped.into_iter().collect::<Result<(), Error>>().map(|()| running)
    }

    /// Whether a sandbox that ended, or never ran, has nothing that another could continue from.
    fn is_empty_shell(&self, id: SandboxId) -> bool {
        let directory = self.directory(id);
        if !directory.is_dir() {
            return false;
        }
        let never_ran = !directory.join(super::handover::STATE).exists();
        let has_files = directory.join("files/upper").is_dir();
        // What took its files and ended unheard of gives them back through it.
        let taken = self.holder(id).is_ok_and(|holder| holder != id);
        directory.join(PROBED).exists() || (!taken && (never_ran || !has_files))
    }

    /// Removes directories of images whose layer never came to be.
    fn sweep_images(&self) -> Result<(), Error> {
        let images = self.config.data.join("images");
        let entries = std::fs::read_dir(&images).map_err(failed("read", &images))?;
        let ours = entries.flatten().filter(|entry| is_id::<ImageId>(&entry.file_name()));
        ours.map(|entry| entry.path())
            .filter(|path| !path.join("layer").exists())
            .try_for_each(|path| remove_tree(&path))
    }
}

/// Finishes the deletions that a crash interrupted.
pub(super) fn sweep_discarded(sandboxes: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(sandboxes).map_err(failed("read", sandboxes))?;
    let ours = entries.flatten().filter(|entry| {
        let name = entry.file_name();
        name.to_str()
            .and_then(|name| name.strip_prefix(DISCARDED))
            .is_some_and(|id| id.parse::<SandboxId>().is_ok())
    });
    ours.map(|entry| entry.path()).try_for_each(|path| remove_tree(&path))
}

/// Removes lowest layers that a process which is gone left half made.
pub(super) fn sweep_base(base: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let dead = entries.filter(|entry| {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| name.strip_prefix("new-")?.parse::<u32>().ok());
        maker.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    });
    dead.map(|entry| entry.path()).try_for_each(|path| remove_tree(&path))
}

fn is_id<T: std::str::FromStr>(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.parse::<T>().is_ok())
}
