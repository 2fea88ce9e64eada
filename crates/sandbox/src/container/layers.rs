//! Freezing: what an ended sandbox changed becomes an immutable layer, by renaming a directory.

use std::path::PathBuf;

use async_trait::async_trait;
use protocol::{ImageId, SandboxId};

use super::Container;
use super::files::{failed, make_directory, remove_tree, write};
use crate::{Error, Layers};

#[async_trait]
impl Layers for Container {
    async fn freeze(&self, sandbox: SandboxId, image: ImageId) -> Result<PathBuf, Error> {
        let one = self.one(sandbox);
        let _only_one_acts_on_it = one.lock().await;
        let image_directory = self.config.data.join("images").join(image.to_string());
        let layer = image_directory.join("layer");
        let source = image_directory.join("source");
        if layer.is_dir() {
            let from = std::fs::read_to_string(&source).map_err(failed("read", &source))?;
            if from == sandbox.to_string() {
                return Ok(layer);
            }
            let why = format!("{image} was frozen from {from}");
            return Err(Error::State { doing: "freeze", id: sandbox, why });
        }
        let files = self.ended_files(sandbox, "freeze")?;
        make_directory(&image_directory, 0o700)?;
        write(&source, sandbox.to_string().as_bytes())?;
        std::fs::rename(files.join("upper"), &layer).map_err(failed("freeze", &files))?;
        remove_tree(&files)?;
        Ok(layer)
    }

    fn changed(&self, sandbox: SandboxId) -> Result<Option<PathBuf>, Error> {
        Ok(Some(self.ended_files(sandbox, "look through")?.join("upper")))
    }

    async fn remove(&self, image: ImageId) -> Result<(), Error> {
        let path = self.config.data.join("images").join(image.to_string());
        super::blocking(move || remove_tree(&path)).await
    }
}
