//! Content under its digest: whole, compared, or not there.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::Error;
use super::error::failed;
use super::image::{Descriptor, digest, digest_of, hexadecimal};
use crate::container::make_private_directory;

/// The store of blobs.
#[derive(Debug, Clone)]
pub(super) struct Blobs {
    directory: PathBuf,
}

impl Blobs {
    pub(super) fn open(directory: PathBuf) -> Result<Self, Error> {
        make_private_directory(&directory.join("sha256"))?;
        Ok(Self { directory })
    }

    /// Where a blob is or would be. The digest was checked to be one.
    pub(super) fn path(&self, digest: &str) -> PathBuf {
        self.directory.join("sha256").join(hexadecimal(digest).unwrap_or("invalid"))
    }

    pub(super) fn partial(&self, digest: &str) -> PathBuf {
        self.directory.join(format!("partial-{}", hexadecimal(digest).unwrap_or("invalid")))
    }

    pub(super) fn has(&self, digest: &str) -> bool {
        self.path(digest).is_file()
    }

    pub(super) fn remove(&self, digest: &str) {
        let _was_not_there = std::fs::remove_file(self.path(digest));
    }

    /// Every blob there is, by its digest.
    pub(super) fn all(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.join("sha256"));
        let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter_map(|name| Some(format!("sha256:{}", name.to_str()?))).collect()
    }

    /// Keeps a document.
    pub(super) fn put(&self, bytes: &[u8]) -> Result<String, Error> {
        let digest = digest_of(bytes);
        let path = self.path(&digest);
        let new = self.directory.join(format!("new-{}", std::process::id()));
        std::fs::write(&new, bytes).map_err(failed("write", &new))?;
        std::fs::rename(&new, &path).map_err(failed("write", &path))?;
        Ok(digest)
    }

    /// Goes on with a download from what there is of it already.
    pub(super) async fn resume(&self, digest: &str) -> Result<Draft, Error> {
        let path = self.partial(digest);
        let mut options = tokio::fs::OpenOptions::new();
        let opened = options.read(true).append(true).create(true).open(&path).await;
        let mut file = opened.map_err(failed("open", &path))?;
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer).await.map_err(failed("read", &path))? {
                0 => break,
                length => {
                    hash.update(&buffer[..length]);
                    bytes += length as u64;
                }
            }
        }
        Ok(Draft { file, path, hash, bytes })
    }

    /// Takes a blob from a local file's reader; without an expected digest, whatever it is.
    pub(super) async fn copy(
        &self,
        what: &str,
        mut from: impl AsyncRead + Unpin,
        maximum: u64,
        expected: Option<&str>,
    ) -> Result<(String, u64), Error> {
        let path = self.directory.join(format!("new-{}", std::process::id()));
        let file = tokio::fs::File::create(&path).await.map_err(failed("create", &path))?;
        let mut draft = Draft { file, path, hash: Sha256::new(), bytes: 0 };
        let mut buffer = vec![0; 256 << 10];
        loop {
            match from.read(&mut buffer).await.map_err(failed("read", Path::new(what)))? {
                0 => break,
                length => draft.write(what, &buffer[..length], maximum).await?,
            }
        }
        let bytes = draft.bytes;
        let digest = expected.map_or_else(|| digest(draft.hash.clone()), str::to_owned);
        self.finish(what, draft, &digest).await?;
        Ok((digest, bytes))
    }

    /// Keeps a draft if it is what its digest says; else nothing of it.
    pub(super) async fn finish(
        &self,
        what: &str,
        mut draft: Draft,
        expected: &str,
    ) -> Result<(), Error> {
        draft.file.flush().await.map_err(failed("write", &draft.path))?;
        let actual = digest(draft.hash);
        if actual != expected {
            let _was_not_there = tokio::fs::remove_file(&draft.path).await;
            let (what, expected) = (what.to_owned(), expected.to_owned());
            return Err(Error::Digest { what, expected, actual });
        }
        let path = self.path(expected);
        tokio::fs::rename(&draft.path, &path).await.map_err(failed("write", &path))
    }

    /// A document that was kept, compared again: files outlive their programs.
    pub(super) fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let path = self.path(&descriptor.digest);
        let bytes = std::fs::read(&path).map_err(failed("read", &path))?;
        let actual = digest_of(&bytes);
        if actual == descriptor.digest {
            return Ok(bytes);
        }
        let what = path.display().to_string();
        Err(Error::Digest { what, expected: descriptor.digest.clone(), actual })
    }
}

/// A blob that is being written.
#[derive(Debug)]
pub(super) struct Draft {
    file: tokio::fs::File,
    path: PathBuf,
    hash: Sha256,
    pub(super) bytes: u64,
}

impl Draft {
    pub(super) async fn write(
        &mut self,
        what: &str,
        bytes: &[u8],
        maximum: u64,
    ) -> Result<(), Error> {
        self.bytes += bytes.len() as u64;
        if self.bytes > maximum {
            let _was_not_there = tokio::fs::remove_file(&self.path).await;
            return Err(Error::TooLarge { what: what.to_owned(), bytes: self.bytes, maximum });
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).await.map_err(failed("write", &self.path))
    }

    /// Begins again.
    pub(super) async fn restart(&mut self) -> Result<(), Error> {
        self.file.set_len(0).await.map_err(failed("write", &self.path))?;
        (self.hash, self.bytes) = (Sha256::new(), 0);
        Ok(())
    }

    /// Waits until what was written is where the next attempt finds it.
    pub(super) async fn flush(&mut self) -> Result<(), Error> {
        self.file.flush().await.map_err(failed("write", &self.path))
    }
}
