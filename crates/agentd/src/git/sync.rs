//! Bringing the workspace to the session's branch, then opening the gate.
//!
//! Work that a lost sandbox left is never discarded: where the session's branch exists already,
//! nothing is touched.

use std::fs;

use protocol::agentd::{Report, SyncAnswer, SyncRequest};

use super::{Call, Error, Git, check_branch, check_commit};
use crate::gate::Gate;
use crate::reports::Reports;

/// Where the platform remembers its own last commit, whatever the agent does to its branches.
pub(super) const LAST: &str = "refs/hangar/last";

impl Git {
    /// Clones or fetches, checks out, names the committer, and makes the workspace writable.
    pub(crate) async fn sync(
        &self,
        request: &SyncRequest,
        gate: &Gate,
        reports: &Reports,
    ) -> Result<SyncAnswer, Error> {
        check_branch(&request.branch)?;
        check_commit(&request.commit)?;
        let url = self.url(&request.remote)?;
        let _turn = self.turn.lock().await;
        let answer = match self.continued(request).await? {
            Some(commit) => SyncAnswer { commit, changed: false },
            None => self.bring(request, &url, reports).await?,
        };
        self.set_identity(&request.identity).await?;
        gate.open(self.children.settings())?;
        Ok(answer)
    }

    /// The commit checked out, if the session's branch is there already.
    async fn continued(&self, request: &SyncRequest) -> Result<Option<String>, Error> {
        if !self.directory().exists() {
            return Ok(None);
        }
        let branch = format!("refs/heads/{}", request.branch);
        let Some(tip) = self.resolve(&branch).await? else { return Ok(None) };
        Ok(Some(self.resolve("HEAD").await?.unwrap_or(tip)))
    }

    async fn bring(
        &self,
        request: &SyncRequest,
        url: &str,
        reports: &Reports,
    ) -> Result<SyncAnswer, Error> {
        self.make_repository(object_format(&request.commit)).await?;
        self.name_remote(url).await?;
        let heads = self.remote_heads(url).await?;
        if heads.is_empty() {
            return Err(Error::Empty { remote: request.remote.clone() });
        }
        let branch = format!("refs/heads/{}", request.branch);
        let tip = heads
            .iter()
            .find(|(_, name)| *name == branch)
            .map_or_else(|| request.commit.clone(), |(commit, _)| commit.clone());
        self.fetch(url, &tip, &heads).await?;
        if self.resolve(&tip).await?.is_none() {
            return Err(Error::Missing { remote: request.remote.clone(), commit: tip });
        }
        self.check_out(&request.branch, &tip, reports).await?;
        self.call(before(["update-ref", LAST, &tip])).await?;
        self.tell_what_is_left_out(reports).await?;
        Ok(SyncAnswer { commit: tip, changed: true })
    }

    /// Makes the repository, or completes one whose making was interrupted.
    async fn make_repository(&self, object_format: &str) -> Result<(), Error> {
        let workspace = self.workspace();
        if !self.directory().exists() {
            let doing = || format!("listing {}", workspace.display());
            let mut entries = fs::read_dir(&workspace)
                .map_err(|source| Error::Pipe { doing: doing(), source })?;
            if entries.next().is_some() {
                return Err(Error::NotOurs { path: workspace });
            }
        }
        self.call(before(["init", "--quiet", object_format])).await?;
        // Nothing but this works here while the gate is closed, so a lock is of a git that was killed.
        self.file("unlock", self.directory().join("index"), b"", true).await?;
        if self.resolve("HEAD").await?.is_some() {
            return Ok(());
        }
        let mirror = &self.children.settings().mirror;
        let objects = [mirror.join("objects"), mirror.clone()];
        if let Some(objects) = objects.iter().find(|path| path.join("pack").is_dir()) {
            // The host's objects, read in place: nothing of the history is copied.
            let mut line = objects.as_os_str().to_owned();
            line.push("\n");
            let path = self.directory().join("objects/info/alternates");
            self.write_before_gate(path, line.as_encoded_bytes()).await?;
        }
        Ok(())
    }

    async fn name_remote(&self, url: &str) -> Result<(), Error> {
        let known = self.attempt(Call::new(["remote", "get-url", "origin"])).await?;
        if known.success && known.text() == url {
            return Ok(());
        }
        let verb = if known.success { "set-url" } else { "add" };
        self.call(before(["remote", verb, "origin", url])).await?;
        Ok(())
    }

    /// Every branch of the remote with its commit.
    async fn remote_heads(&self, url: &str) -> Result<Vec<(String, String)>, Error> {
        let output = self.call(before(["ls-remote", "--heads", "--", url])).await?;
        let text = output.text();
        let heads = text.lines().filter_map(|line| line.split_once('\t'));
        Ok(heads.map(|(commit, name)| (commit.to_owned(), name.to_owned())).collect())
    }

    /// Fetches unless the commit is here already, by the image or by the mirror.
    async fn fetch(&self, url: &str, tip: &str, heads: &[(String, String)]) -> Result<(), Error> {
        if self.resolve(tip).await?.is_none() {
            let all = "+refs/heads/*:refs/remotes/origin/*";
            self.call(before(["fetch", "--quiet", "--no-write-fetch-head", "--", url, all]))
                .await?;
            if self.resolve(tip).await?.is_none() {
                // A commit no branch leads to any more; the remote may still hand it out.
                self.attempt(before(["fetch", "--quiet", "--no-write-fetch-head", "--", url, tip]))
                    .await?;
            }
            return Ok(());
        }
        self.name_remote_branches(heads).await
    }

    /// Sets `origin/*` for the branches whose commits are here.
    async fn name_remote_branches(&self, heads: &[(String, String)]) -> Result<(), Error> {
        let asked: Vec<_> = heads.iter().map(|(commit, _)| commit.as_str()).collect();
        let asked = asked.join("\n") + "\n";
        let call = Call::new(["cat-file", "--batch-check=%(objecttype)"]);
        let kinds = self.call(Call { stdin: asked.into(), ..call }).await?.text();
        let updates: String = heads
            .iter()
            .zip(kinds.lines())
            .filter(|(_, kind)| *kind == "commit")
            .filter_map(|((commit, name), _)| {
                let name = name.strip_prefix("refs/heads/")?;
                Some(format!("update refs/remotes/origin/{name} {commit}\n"))
            })
            .collect();
        let call = before(["update-ref", "--stdin"]);
        self.call(Call { stdin: updates.into(), ..call }).await?;
        Ok(())
    }

    /// Checks the branch out at a commit; changes that stand in the way are stashed, with a notice.
    async fn check_out(&self, branch: &str, tip: &str, reports: &Reports) -> Result<(), Error> {
        let filters = self.without_filters().await?;
        let with_filters_off = |arguments: &[&str]| {
            let mut all = filters.clone();
            all.extend(arguments.iter().map(Into::into));
            Call { arguments: all, before_gate: true, ..Call::default() }
        };
        let mut check_out = vec!["checkout", "--quiet", "--no-track", "-b", branch, tip];
        if self.resolve("HEAD").await?.is_none() {
            // Nothing was ever checked out: files here are those of a checkout that was interrupted.
            check_out.insert(1, "--force");
        }
        if self.attempt(with_filters_off(&check_out)).await?.success {
            return Ok(());
        }
        let stash = ["stash", "push", "--quiet", "--include-untracked", "-m", "before the session"];
        let mut call = with_filters_off(&stash);
        call.environment = committer("Hangar", "hangar@localhost");
        let stashed = self.attempt(call).await?;
        self.call(with_filters_off(&check_out)).await?;
        if stashed.success {
            let text = "The image's own changes to the workspace stood in the way of the checkout \
                        and were stashed; `git stash list` shows them.";
            reports.add(Report::Notice { prompt: None, text: text.to_owned() });
        }
        Ok(())
    }

    async fn tell_what_is_left_out(&self, reports: &Reports) -> Result<(), Error> {
        let notice = |text: &str| reports.add(Report::Notice { prompt: None, text: text.into() });
        let lfs = Call::new([
            "grep",
            "--quiet",
            "-e",
            "filter=lfs",
            "HEAD",
            "--",
            ".gitattributes",
            "**/.gitattributes",
        ]);
        if self.attempt(lfs).await?.success {
            notice("The repository uses Git LFS: its large files are pointers here, not contents.");
        }
        if self.attempt(Call::new(["cat-file", "-e", "HEAD:.gitmodules"])).await?.success {
            notice(
                "The repository has submodules: they are not fetched, their directories are empty.",
            );
        }
        Ok(())
    }
}

/// A repository only takes commits of its own kind, which their length tells.
const fn object_format(commit: &str) -> &'static str {
    if commit.len() == 64 { "--object-format=sha256" } else { "--object-format=sha1" }
}

/// A command that may write while the gate is closed.
fn before<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Call {
    Call { before_gate: true, ..Call::new(arguments) }
}

/// The variables that name author and committer.
pub(super) fn committer(name: &str, email: &str) -> Vec<(&'static str, std::ffi::OsString)> {
    vec![
        ("GIT_AUTHOR_NAME", name.into()),
        ("GIT_AUTHOR_EMAIL", email.into()),
        ("GIT_COMMITTER_NAME", name.into()),
        ("GIT_COMMITTER_EMAIL", email.into()),
    ]
}
