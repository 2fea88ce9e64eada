//! The built-in forge: where its repositories are, and small questions about them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use protocol::repository::RepositoryName;
use tokio::sync::{OwnedMutexGuard, Semaphore};

use crate::database::Database;
use crate::git::Git;
use crate::{Error, Inspector};

/// Requests of git clients that are served at once; more wait for their turn.
const SERVED_AT_ONCE: usize = 16;

/// The built-in forge. A cheap handle: clones share everything.
#[derive(Debug, Clone)]
pub struct Local {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) directory: PathBuf,
    pub(crate) git: Git,
    pub(crate) database: Database,
    pub(crate) served: Arc<Semaphore>,
    /// Who looks at what is pushed.
    pub(crate) inspector: RwLock<Option<Arc<dyn Inspector>>>,
    /// One lock per repository, for what changes its branches from the server's side.
    changing: Mutex<HashMap<RepositoryName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Local {
    /// Opens the forge in `directory`, making it if it is not there.
    ///
    /// At most one process may have it open. Imports that a crash interrupted are cleared away.
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self, Error> {
        let directory = directory.into();
        make(&directory)?;
        let directory = std::fs::canonicalize(&directory).map_err(|source| Error::Files {
            doing: "find",
            path: directory,
            source,
        })?;
        let own = directory.join(".hangar");
        make(&own)?;
        clear(&own.join("incoming"))?;
        let git = Git::find(&own).await?;
        crate::serve::inspect::install(&own)?;
        let database = Database::open(&directory.join("forge.db")).await?;
        let served = Arc::new(Semaphore::new(SERVED_AT_ONCE));
        let changing = Mutex::default();
        Ok(Self {
            inner: Arc::new(Inner {
                directory,
                git,
                database,
                served,
                inspector: RwLock::default(),
                changing,
            }),
        })
    }

    /// From now on every push is looked at before a reference moves.
    pub fn inspect_pushes(&self, inspector: Arc<dyn Inspector>) {
        *self.inner.inspector.write().unwrap_or_else(PoisonError::into_inner) = Some(inspector);
    }

    /// The object directory of a repository, for sandboxes to borrow from, read-only.
    ///
    /// It holds committed objects only. `git clone --reference` refuses a shallow one; see
    /// [`Local::is_shallow`].
    pub fn objects_directory(&self, name: &RepositoryName) -> Result<PathBuf, Error> {
        Ok(self.repository(name)?.join("objects"))
    }

    /// The bare repository itself, for reading by other parts of the server.
    pub fn repository_directory(&self, name: &RepositoryName) -> Result<PathBuf, Error> {
        self.repository(name)
    }

    /// Whether a repository lacks the older part of its history.
    pub fn is_shallow(&self, name: &RepositoryName) -> Result<bool, Error> {
        Ok(self.repository(name)?.join("shallow").exists())
    }

    /// The commit a branch is at. `HEAD` means the default branch.
    pub async fn resolve(&self, name: &RepositoryName, branch: &str) -> Result<String, Error> {
        let repository = self.repository(name)?;
        self.branch_tip(&repository, branch)
            .await?
            .ok_or_else(|| Error::NoSuchBranch { name: name.clone(), branch: branch.to_owned() })
    }

    /// The branch that sessions start from unless told otherwise.
    pub async fn default_branch(&self, name: &RepositoryName) -> Result<String, Error> {
        let repository = self.repository(name)?;
        self.head_branch(&repository).await
    }

    /// The bytes of one file at one commit; none if there is no such regular file.
    ///
    /// A symbolic link counts as no file: what it names is not the repository's to choose. More
    /// than `limit` bytes are an error, never a cut.
    pub async fn read_file(
        &self,
        name: &RepositoryName,
        commit: &str,
        path: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let repository = self.repository(name)?;
        let commit = self.commit(name, &repository, commit).await?;
        let entry = self
            .git_at(&repository, format!("look for `{path}` in {name}"))
            .args([
                "--literal-pathspecs",
                "ls-tree",
                "-z",
                "-l",
                "--full-tree",
                &commit,
                "--",
                path,
            ])
            .output()
            .await?;
        let Some((object, bytes)) = regular_file(&entry, path) else { return Ok(None) };
        if bytes > limit {
            let (name, path) = (name.clone(), path.to_owned());
            return Err(Error::FileTooLarge { name, path, bytes, limit });
        }
        let reading = self.git_at(&repository, format!("read `{path}` in {name}"));
        reading.args(["cat-file", "blob", &object]).output().await.map(Some)
    }
}

/// The object and size of `path` in one line of `ls-tree -z -l`, if it is a regular file.
fn regular_file(entry: &[u8], path: &str) -> Option<(String, u64)> {
    let (facts, found) = std::str::from_utf8(entry).ok()?.split_once('\t')?;
    let mut facts = facts.split_whitespace();
    let (mode, kind) = (facts.next()?, facts.next()?);
    let (object, bytes) = (facts.next()?, facts.next()?);
    (mode.starts_with("100") && kind == "blob" && found.strip_suffix('\0')? == path)
        .then(|| Some((object.to_owned(), bytes.parse().ok()?)))?
}

impl Local {
    /// Where a repository is or would be. The parts of a name are safe in a path by its type.
    pub(crate) fn place(&self, name: &RepositoryName) -> PathBuf {
        self.inner.directory.join(name.owner()).join(format!("{}.git", name.name()))
    }

    pub(crate) fn repository(&self, name: &RepositoryName) -> Result<PathBuf, Error> {
        let place = self.place(name);
        if place.join("HEAD").is_file() {
            Ok(place)
        } else {
            Err(Error::NoSuchRepository { name: name.clone() })
        }
    }

    pub(crate) fn git_at(&self, repository: &Path, doing: String) -> crate::git::Invocation {
        self.inner.git.at(repository, doing)
    }

    /// Waits until nobody else in this process changes the repository's branches.
    pub(crate) async fn change(&self, name: &RepositoryName) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(locks.entry(name.clone()).or_default())
        };
        lock.lock_owned().await
    }

    /// `show-ref --verify` takes whole names only, so `main~1` is no way around the names of
    /// branches.
    pub(crate) async fn branch_tip(
        &self,
        repository: &Path,
        branch: &str,
    ) -> Result<Option<String>, Error> {
        let reference = match branch {
            "HEAD" => branch.to_owned(),
            branch => format!("refs/heads/{branch}"),
        };
        if branch.is_empty() || reference.contains('\0') {
            return Ok(None);
        }
        let doing = format!("find the branch `{branch}`");
        let asking = self.git_at(repository, doing.clone());
        let found =
            asking.args(["show-ref", "--verify", "--hash", "--", &reference]).finish().await?;
        match found.code {
            Some(0) => Ok(Some(String::from_utf8_lossy(&found.output).trim().to_owned())),
            // Git has one exit code for a missing reference and for a name that cannot be one.
            Some(128) if found.said.contains("not a valid ref") => Ok(None),
            _ => Err(found.failure(doing)),
        }
    }

    pub(crate) async fn head_branch(&self, repository: &Path) -> Result<String, Error> {
        let asking = self.git_at(repository, "read the default branch".to_owned());
        asking.args(["symbolic-ref", "--short", "HEAD"]).text().await
    }

    /// The full id of a commit that is here. Accepts only hexadecimal ids, so that no expression
    /// reaches git.
    pub(crate) async fn commit(
        &self,
        name: &RepositoryName,
        repository: &Path,
        commit: &str,
    ) -> Result<String, Error> {
        let missing = || Error::NoSuchCommit { name: name.clone(), commit: commit.to_owned() };
        let plausible =
            (4..=64).contains(&commit.len()) && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !plausible {
            return Err(missing());
        }
        let asking = self.git_at(repository, format!("find the commit {commit}"));
        let found = asking
            .args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
            .arg(format!("{commit}^{{commit}}"))
            .finish()
            .await?;
        match found.code {
            Some(0) => Ok(String::from_utf8_lossy(&found.output).trim().to_owned()),
            _ => Err(missing()),
        }
    }

    /// Whether every commit of `older` is in `newer`.
    pub(crate) async fn is_ancestor(
        &self,
        repository: &Path,
        older: &str,
        newer: &str,
    ) -> Result<bool, Error> {
        let asking = self.git_at(repository, format!("compare {older} with {newer}"));
        asking.args(["merge-base", "--is-ancestor", older, newer]).answer().await
    }
}

pub(crate) fn make(directory: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(directory).map_err(|source| Error::Files {
        doing: "create",
        path: directory.to_owned(),
        source,
    })
}

fn clear(directory: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(directory) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Files { doing: "clear", path: directory.to_owned(), source })
        }
        _ => make(directory),
    }
}
