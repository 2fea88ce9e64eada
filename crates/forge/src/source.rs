//! Looks at a person's working copy without changing it or running anything it brings.
//!
//! Only commands are used that neither touch the index nor the working tree: `git status` would
//! refresh the index and run a repository's file-system monitor and clean filters. That is why
//! nothing here knows whether a tree is dirty; uncommitted work is simply never looked at.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::git::{Finished, Git, Invocation};

/// What is known of a working copy before anything is copied.
#[derive(Debug)]
pub(crate) struct Source {
    /// The directory that was named, without symbolic links.
    pub(crate) path: PathBuf,
    /// Its Git directory; that of a linked worktree is below the main one's.
    pub(crate) git_directory: PathBuf,
    /// `sha1` or `sha256`.
    pub(crate) object_format: String,
    /// The branch HEAD names, whether or not it has a commit; none if detached.
    pub(crate) head_branch: Option<Vec<u8>>,
    /// Whether HEAD leads to a commit.
    pub(crate) head_is_born: bool,
    /// Whether history is cut off.
    pub(crate) shallow: bool,
    /// Branches that are named like ours.
    pub(crate) session_branches: usize,
}

impl Source {
    /// Looks at `path`, which must be the root of a repository or a bare repository.
    pub(crate) async fn inspect(git: &Git, path: &Path) -> Result<Self, Error> {
        let path = readable_directory(path)?;
        let looking = Looking { git, path: &path };
        let git_directory = looking.root().await?;
        looking.refuse_partial_clones().await?;
        let object_format = looking.line(&["rev-parse", "--show-object-format"]).await?;
        let head_branch = looking.head_branch().await?;
        let head_is_born = looking
            .git(&["rev-parse", "--verify", "--quiet", "HEAD^{commit}"])
            .finish()
            .await?
            .code
            == Some(0);
        let shallow = looking.line(&["rev-parse", "--is-shallow-repository"]).await? == b"true";
        let named_like_ours = looking
            .git(&["for-each-ref", "--format=%(objectname)", "refs/heads/hangar"])
            .output()
            .await?;
        Ok(Self {
            git_directory,
            object_format: String::from_utf8_lossy(&object_format).into_owned(),
            head_branch,
            head_is_born,
            shallow,
            session_branches: named_like_ours.split(|byte| *byte == b'\n').count() - 1,
            path,
        })
    }
}

fn readable_directory(path: &Path) -> Result<PathBuf, Error> {
    let failed = |source: std::io::Error| match source.kind() {
        ErrorKind::NotFound => Error::SourceMissing { path: path.to_owned() },
        _ => Error::SourceUnreadable { path: path.to_owned(), source },
    };
    let found = std::fs::canonicalize(path).map_err(failed)?;
    if !found.is_dir() {
        return Err(Error::NotARepository { path: found });
    }
    std::fs::read_dir(&found).map_err(failed)?;
    Ok(found)
}

/// Questions to one repository that is not ours.
struct Looking<'a> {
    git: &'a Git,
    path: &'a Path,
}

impl Looking<'_> {
    fn git(&self, arguments: &[&str]) -> Invocation {
        let doing = format!("look at the repository {}", self.path.display());
        self.git.start(doing).arg("-C").arg(self.path).args(arguments)
    }

    async fn line(&self, arguments: &[&str]) -> Result<Vec<u8>, Error> {
        let mut output = self.git(arguments).output().await?;
        if output.last() == Some(&b'\n') {
            output.pop();
        }
        Ok(output)
    }

    async fn directory(&self, arguments: &[&str]) -> Result<PathBuf, Error> {
        let line = self.line(arguments).await?;
        let path = PathBuf::from(OsStr::from_bytes(&line));
        std::fs::canonicalize(&path).map_err(|source| Error::SourceUnreadable { path, source })
    }

    /// The Git directory, if `path` is where the repository begins.
    async fn root(&self) -> Result<PathBuf, Error> {
        let found = self.git(&["rev-parse", "--is-bare-repository"]).finish().await?;
        let bare = match found {
            Finished { code: Some(0), output, .. } => output.starts_with(b"true"),
            Finished { said, .. } if said.contains("not a git repository") => {
                return Err(Error::NotARepository { path: self.path.to_owned() });
            }
            other => {
                let doing = format!("look at the repository {}", self.path.display());
                return Err(other.failure(doing));
            }
        };
        let git_directory = self.directory(&["rev-parse", "--absolute-git-dir"]).await?;
        let inside = self.line(&["rev-parse", "--is-inside-git-dir"]).await? == b"true";
        let root = match (bare, inside) {
            (true, _) => git_directory.clone(),
            (false, true) => git_directory.parent().unwrap_or(&git_directory).to_owned(),
            (false, false) => self.directory(&["rev-parse", "--show-toplevel"]).await?,
        };
        if root == self.path {
            Ok(git_directory)
        } else {
            Err(Error::InsideARepository { path: self.path.to_owned(), root })
        }
    }

    /// A partial clone would make git fetch what is missing, by a command its configuration names;
    /// older versions do so whatever the environment says.
    async fn refuse_partial_clones(&self) -> Result<(), Error> {
        let pattern = r"^(remote\..*\.(promisor|partialclonefilter)|extensions\.partialclone)$";
        let found = self.git(&["config", "--get-regexp", pattern]).answer().await?;
        if found { Err(Error::PartialClone { path: self.path.to_owned() }) } else { Ok(()) }
    }

    async fn head_branch(&self) -> Result<Option<Vec<u8>>, Error> {
        let doing = format!("read HEAD of {}", self.path.display());
        let found = self.git(&["symbolic-ref", "--quiet", "HEAD"]).finish().await?;
        match found.code {
            Some(0) => {
                let name = found.output.strip_suffix(b"\n").unwrap_or(&found.output);
                Ok(Some(name.strip_prefix(b"refs/heads/").unwrap_or(name).to_vec()))
            }
            Some(1) => Ok(None),
            _ => Err(found.failure(doing)),
        }
    }
}
