//! Copies the committed work of a person's repository, and keeps the copy up to date.
//!
//! The source is read through `upload-pack`, never by copying its files: only objects that branches
//! reach come over, so stashes, staged files and remotes stay private, and sandboxes that borrow
//! our objects cannot see them. Tags come along when they point at what was copied, because builds
//! ask `git describe`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::repository::RepositoryName;

use crate::branches::{Branches, Known, Step, is_sessions, likely_default, plan};
use crate::git::Invocation;
use crate::local::make;
use crate::source::Source;
use crate::{DETACHED_BRANCH, Error, Local, Notice};

/// How long copying a repository's history may take.
const COPY: Duration = Duration::from_hours(1);
const SOURCE: &str = "refs/hangar/source/";
const ADOPTED: &str = "refs/hangar/adopted/";
const HEADS: &str = "refs/heads/";

/// What every bare repository of the forge is set to.
///
/// `fsckObjects` keeps malformed objects out of a repository that people clone; the exceptions are
/// old slips that exist in many real histories and harm nobody.
const SETTINGS: &[(&str, &str)] = &[
    ("transfer.hideRefs", "refs/hangar"),
    ("uploadpack.allowAnySHA1InWant", "true"),
    ("uploadpack.allowFilter", "true"),
    ("receive.denyNonFastForwards", "true"),
    ("receive.denyDeletes", "true"),
    ("receive.autogc", "false"),
    ("receive.fsckObjects", "true"),
    ("receive.fsck.zeroPaddedFilemode", "ignore"),
    ("receive.fsck.missingSpaceBeforeDate", "ignore"),
    ("receive.fsck.badTimezone", "ignore"),
    ("receive.maxInputSize", "8g"),
    ("http.getanyfile", "false"),
];

/// A repository that the forge now holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Its name.
    pub name: RepositoryName,
    /// The branch that sessions start from.
    pub default_branch: String,
    /// The commit that branch is at.
    pub head: String,
    /// What a person should know.
    pub notices: Vec<Notice>,
}

impl Local {
    /// Copies the branches of the repository at `path`, which is only read, as `name`.
    ///
    /// The default branch is the one checked out there. Importing the same path under the same
    /// name again is a [`Local::refresh`]. The repository appears whole or not at all.
    pub async fn import(&self, path: &Path, name: &RepositoryName) -> Result<Imported, Error> {
        let _changing = self.change(name).await;
        let source = Source::inspect(&self.inner.git, path).await?;
        let place = self.place(name);
        if let Ok(repository) = self.repository(name) {
            let taken_by = self.source_of(&repository).await?;
            if taken_by != source.path {
                return Err(Error::NameTaken { name: name.clone(), taken_by });
            }
            return self.update(name, &repository, &source).await;
        }
        let incoming = self.incoming();
        let result = self.import_into(&incoming, &source, name).await;
        match result {
            Ok(imported) => {
                publish(&incoming, &place)?;
                Ok(imported)
            }
            Err(error) => {
                // Opening the forge clears what cannot be removed now.
                if let Err(error) = std::fs::remove_dir_all(&incoming) {
                    tracing::debug!(%error, "an import that failed left files");
                }
                Err(error)
            }
        }
    }

    /// Fetches what is new at the source of `name`.
    ///
    /// Branches that were rewritten or deleted at the source follow it. Branches under `hangar/`
    /// are sessions' and stay; branches that were merged into here stay where they are unless the
    /// source contains those merges.
    pub async fn refresh(&self, name: &RepositoryName) -> Result<Imported, Error> {
        let _changing = self.change(name).await;
        let repository = self.repository(name)?;
        let path = self.source_of(&repository).await?;
        let source = Source::inspect(&self.inner.git, &path).await?;
        self.update(name, &repository, &source).await
    }

    /// The directory `name` was imported from.
    pub async fn source(&self, name: &RepositoryName) -> Result<PathBuf, Error> {
        let repository = self.repository(name)?;
        self.source_of(&repository).await
    }

    fn incoming(&self) -> PathBuf {
        let unique = protocol::RequestId::new().to_string();
        self.inner.directory.join(".hangar/incoming").join(unique)
    }

    async fn source_of(&self, repository: &Path) -> Result<PathBuf, Error> {
        use std::os::unix::ffi::OsStringExt;
        let asking = self.git_at(repository, "read where the repository came from".to_owned());
        let mut path = asking.args(["config", "-z", "--get", "hangar.source"]).output().await?;
        path.pop();
        Ok(std::ffi::OsString::from_vec(path).into())
    }

    async fn import_into(
        &self,
        incoming: &Path,
        source: &Source,
        name: &RepositoryName,
    ) -> Result<Imported, Error> {
        self.inner
            .git
            .start(format!("make a repository in {}", self.inner.directory.display()))
            .args(["init", "--quiet", "--bare", "--template="])
            .arg(format!("--object-format={}", source.object_format))
            .arg(incoming)
            .output()
            .await?;
        for (key, value) in SETTINGS {
            self.configure(incoming, key, value.as_ref()).await?;
        }
        self.configure(incoming, "hangar.source", source.path.as_os_str()).await?;
        let imported = self.update(name, incoming, source).await?;
        // Thousands of branches as one file: that is also what makes them durable.
        let packing = self.git_at(incoming, "pack the branches".to_owned());
        packing.args(["pack-refs", "--all"]).output().await?;
        Ok(imported)
    }

    async fn configure(
        &self,
        repository: &Path,
        key: &str,
        value: &std::ffi::OsStr,
    ) -> Result<(), Error> {
        let setting = self.git_at(repository, format!("set {key}"));
        setting.args(["config", key]).arg(value).output().await.map(drop)
    }

    /// Fetches and takes over; the caller holds the repository's lock.
    async fn update(
        &self,
        name: &RepositoryName,
        repository: &Path,
        source: &Source,
    ) -> Result<Imported, Error> {
        let mut notices = Vec::new();
        self.fetch(repository, source).await?;
        let mut known = Known {
            ours: self.branches(repository, HEADS).await?,
            adopted: self.branches(repository, &format!("{ADOPTED}heads/")).await?,
            source: self.branches(repository, &format!("{SOURCE}heads/")).await?,
            default: None,
        };
        let default = self.choose_default(repository, source, &mut known, &mut notices).await?;
        self.adopt(repository, &known, &mut notices).await?;
        let head = self.resolve_in(name, repository, &default).await?;
        self.look_for_notices(repository, source, &head, &mut notices).await?;
        Ok(Imported { name: name.clone(), default_branch: default, head, notices })
    }

    async fn fetch(&self, repository: &Path, source: &Source) -> Result<(), Error> {
        let complete = repository.join("shallow").exists() && !source.shallow;
        let fetching = self
            .git_at(repository, format!("copy the history of {}", source.path.display()))
            .args(["-c", "fetch.unpackLimit=1", "fetch", "--prune", "--force"])
            // Nobody reads the progress, but writing it ends git soon after a killed server.
            .arg("--progress")
            .args(["--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules"])
            .arg(if complete { "--unshallow" } else { "--update-shallow" })
            .arg("--")
            .arg(&source.git_directory)
            .arg(format!("+refs/heads/*:{SOURCE}heads/*"))
            .args(["^refs/heads/hangar", "^refs/heads/hangar/*"])
            .time_limit(COPY);
        let fetching = if source.head_is_born {
            fetching.arg(format!("+HEAD:{SOURCE}head"))
        } else {
            fetching
        };
        fetching.output().await.map(drop)
    }

    async fn branches(&self, repository: &Path, prefix: &str) -> Result<Branches, Error> {
        let listing = self.git_at(repository, "list the branches".to_owned());
        let listed = listing
            .args(["for-each-ref", "--format=%(objectname) %(refname)", prefix])
            .output()
            .await?;
        let mut branches = BTreeMap::new();
        for line in listed.split(|byte| *byte == b'\n') {
            let Some(space) = line.iter().position(|byte| *byte == b' ') else { continue };
            let commit = String::from_utf8_lossy(&line[..space]).into_owned();
            let name = line[space + 1..].strip_prefix(prefix.as_bytes()).unwrap_or_default();
            branches.insert(name.to_vec(), commit);
        }
        Ok(branches)
    }

    /// Which branch sessions start from. A default once chosen stays while it exists, so a person
    /// who looks at another branch, perhaps a session's, does not move everybody else.
    async fn choose_default(
        &self,
        repository: &Path,
        source: &Source,
        known: &mut Known,
        notices: &mut Vec<Notice>,
    ) -> Result<String, Error> {
        let present = self.head_branch(repository).await?;
        let detached = self.detached(repository, source, known, notices).await?;
        let default = if known.ours.contains_key(present.as_bytes()) {
            present
        } else {
            let chosen = choose(source, known, detached, notices)?;
            let setting = self.git_at(repository, format!("make `{chosen}` the default branch"));
            let reference = format!("{HEADS}{chosen}");
            setting.args(["symbolic-ref", "HEAD", &reference]).output().await?;
            chosen
        };
        known.default = Some(default.clone().into_bytes());
        Ok(default)
    }

    /// The branch that stands for a detached HEAD: one that is at its commit, or one of our own
    /// making, which then counts as a branch of the source.
    async fn detached(
        &self,
        repository: &Path,
        source: &Source,
        known: &mut Known,
        notices: &mut Vec<Notice>,
    ) -> Result<Option<Vec<u8>>, Error> {
        if source.head_branch.is_some() || !source.head_is_born {
            return Ok(None);
        }
        let head = self.reference(repository, &format!("{SOURCE}head")).await?;
        let Some(commit) = head else { return Ok(None) };
        let ours = DETACHED_BRANCH.as_bytes().to_vec();
        let at_branch = likely_default(&known.source, Some(&commit));
        if at_branch.is_none() || known.ours.contains_key(&ours) {
            known.source.insert(ours.clone(), commit.clone());
            notices.push(Notice::Detached { branch: DETACHED_BRANCH.to_owned(), commit });
        }
        Ok(at_branch.or(Some(ours)))
    }

    async fn reference(&self, repository: &Path, name: &str) -> Result<Option<String>, Error> {
        let asking = self.git_at(repository, format!("read {name}"));
        let found = asking.args(["rev-parse", "--verify", "--quiet", name]).finish().await?;
        Ok((found.code == Some(0))
            .then(|| String::from_utf8_lossy(&found.output).trim().to_owned()))
    }

    /// Moves our branches. Remembering what was taken over is part of the same transaction as
    /// taking it over, so a crash in between cannot make a merge look like the source's.
    async fn adopt(
        &self,
        repository: &Path,
        known: &Known,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        let (mut deletions, mut updates) = (Transaction::default(), Transaction::default());
        for (name, step) in plan(known) {
            match step {
                Step::Delete { from } => deletions.delete(&name, &from),
                Step::Follow { to, from } => updates.follow(&name, &to, from.as_deref()),
                Step::FollowIfContained { to, from } => {
                    if self.is_ancestor(repository, &from, &to).await? {
                        updates.follow(&name, &to, Some(&from));
                    } else if !self.is_ancestor(repository, &to, &from).await? {
                        let branch = String::from_utf8_lossy(&name).into_owned();
                        notices.push(Notice::Diverged { branch });
                    }
                }
                Step::Keep => {}
            }
        }
        for transaction in [deletions, updates] {
            if let Some(commands) = transaction.commands() {
                let moving = self.git_at(repository, "bring the branches up to date".to_owned());
                moving.args(["update-ref", "--stdin", "-z"]).input(commands).output().await?;
            }
        }
        Ok(())
    }

    async fn resolve_in(
        &self,
        name: &RepositoryName,
        repository: &Path,
        branch: &str,
    ) -> Result<String, Error> {
        let tip = self.branch_tip(repository, branch).await?;
        tip.ok_or_else(|| Error::NoSuchBranch { name: name.clone(), branch: branch.to_owned() })
    }

    async fn look_for_notices(
        &self,
        repository: &Path,
        source: &Source,
        head: &str,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Error> {
        let looking =
            || -> Invocation { self.git_at(repository, format!("look at the tree of {head}")) };
        if source.shallow {
            notices.push(Notice::Shallow);
        }
        if source.session_branches > 0 {
            notices.push(Notice::SessionBranches { count: source.session_branches });
        }
        let tree = looking().args(["ls-tree", "-r", "-z", "--full-tree", head]).output().await?;
        let entries = tree.split(|byte| *byte == 0);
        let count = entries.filter(|entry| entry.starts_with(b"160000 ")).count();
        if count > 0 {
            notices.push(Notice::Submodules { count });
        }
        let attributes = [":(glob)**/.gitattributes"];
        let searching = looking().args(["grep", "--quiet", "--fixed-strings", "-e", "filter=lfs"]);
        if searching.arg(head).arg("--").args(attributes).answer().await? {
            notices.push(Notice::LargeFileStorage);
        }
        Ok(())
    }
}

fn choose(
    source: &Source,
    known: &Known,
    detached: Option<Vec<u8>>,
    notices: &mut Vec<Notice>,
) -> Result<String, Error> {
    let chosen = match &source.head_branch {
        Some(branch) if source.head_is_born => {
            let text = std::str::from_utf8(branch);
            if is_sessions(branch) || text.is_err() {
                let branch = String::from_utf8_lossy(branch).into_owned();
                return Err(Error::BranchNotUsable { path: source.path.clone(), branch });
            }
            Some(branch.clone())
        }
        _ if detached.is_some() => detached,
        _ => likely_default(&known.source, None),
    };
    let chosen = chosen.ok_or_else(|| Error::EmptyRepository { path: source.path.clone() })?;
    let branch = String::from_utf8_lossy(&chosen).into_owned();
    if !source.head_is_born {
        notices.push(Notice::UnbornBranch { branch: branch.clone() });
    }
    Ok(branch)
}

/// Puts a finished import in its place: from here on it exists.
fn publish(incoming: &Path, place: &Path) -> Result<(), Error> {
    let owner = place.parent().unwrap_or(place);
    make(owner)?;
    let failed =
        |path: &Path, source| Error::Files { doing: "create", path: path.to_owned(), source };
    std::fs::rename(incoming, place).map_err(|source| failed(place, source))?;
    let directory = std::fs::File::open(owner).map_err(|source| failed(owner, source))?;
    directory.sync_all().map_err(|source| failed(owner, source))
}

/// Input of `git update-ref --stdin -z`: all or nothing.
#[derive(Debug, Default)]
struct Transaction(Vec<u8>);

impl Transaction {
    fn follow(&mut self, name: &[u8], to: &str, from: Option<&str>) {
        match from {
            Some(from) => self.command(b"update", HEADS, name, &[to, from]),
            None => self.command(b"create", HEADS, name, &[to]),
        }
        self.command(b"update", &format!("{ADOPTED}heads/"), name, &[to, ""]);
    }

    fn delete(&mut self, name: &[u8], from: &str) {
        self.command(b"delete", HEADS, name, &[from]);
        self.command(b"delete", &format!("{ADOPTED}heads/"), name, &[""]);
    }

    fn command(&mut self, verb: &[u8], prefix: &str, name: &[u8], values: &[&str]) {
        self.0.extend_from_slice(verb);
        self.0.push(b' ');
        self.0.extend_from_slice(prefix.as_bytes());
        self.0.extend_from_slice(name);
        self.0.push(0);
        for value in values {
            self.0.extend_from_slice(value.as_bytes());
            self.0.push(0);
        }
    }

    fn commands(self) -> Option<Vec<u8>> {
        (!self.0.is_empty()).then_some(self.0)
    }
}
