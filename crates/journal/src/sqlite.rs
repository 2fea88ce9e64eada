//! A journal on disk: one database file per session, on a few threads of its own.
//!
//! A session always belongs to the same thread, so its file has one connection at most. Each
//! thread keeps the connections it used last and closes the others; opening one again takes less
//! than a millisecond.

mod file;
mod shard;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use protocol::{Envelope, SessionId};

use crate::database::{Worker, check_version};
use crate::{Error, Journal, NewEvent};
use file::SessionFile;
use shard::Shard;

/// How much a [`Sqlite`] journal may use.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Files that stay open at once, over all threads: each takes about 130 KiB and two file
    /// descriptors.
    pub open_files: usize,
    /// Threads that read and write.
    pub threads: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { open_files: 200, threads: 4 }
    }
}

/// Events in `<directory>/<session>.db`.
#[derive(Debug)]
pub struct Sqlite {
    directory: PathBuf,
    shards: Vec<Worker<Shard>>,
}

impl Sqlite {
    /// A journal over a directory, which is created, readable by its owner alone, if missing.
    pub fn open(directory: &Path, options: Options) -> Result<Self, Error> {
        check_version()?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| Error::file("creating the directory", directory, error))?;
        let threads = options.threads.max(1);
        let open_files = options.open_files.div_ceil(threads).max(1);
        let shards = (0..threads)
            .map(|number| {
                let shard = Shard::new(directory.to_owned(), open_files);
                Worker::start(format!("journal-{number}"), shard)
                    .map_err(|error| Error::file("starting a thread for", directory, error))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { directory: directory.to_owned(), shards })
    }

    /// How many files are open now.
    pub async fn open_files(&self) -> Result<usize, Error> {
        let mut sum = 0;
        for shard in &self.shards {
            sum += shard.call(|shard| Ok(shard.open_files())).await?;
        }
        Ok(sum)
    }

    /// The thread of a session, by the random end of its id.
    fn shard(&self, session: SessionId) -> &Worker<Shard> {
        let [.., high, low] = *session.as_bytes();
        &self.shards[usize::from(u16::from_be_bytes([high, low])) % self.shards.len()]
    }
}

#[async_trait]
impl Journal for Sqlite {
    async fn create(&self, session: SessionId) -> Result<(), Error> {
        self.shard(session).call(move |shard| shard.create(session)).await
    }

    async fn append(
        &self,
        session: SessionId,
        expected_last: u64,
        events: Vec<NewEvent>,
    ) -> Result<Vec<Envelope>, Error> {
        self.shard(session)
            .call(move |shard| shard.with(session, |file| file.append(expected_last, events)))
            .await
    }

    async fn read(
        &self,
        session: SessionId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Envelope>, Error> {
        self.shard(session)
            .call(move |shard| shard.with(session, |file| file.read(after, limit)))
            .await
    }

    async fn last(&self, session: SessionId) -> Result<u64, Error> {
        self.shard(session).call(move |shard| shard.with(session, SessionFile::last)).await
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, Error> {
        let directory = self.directory.clone();
        self.shards[0].call(move |_| shard::list(&directory)).await
    }
}
