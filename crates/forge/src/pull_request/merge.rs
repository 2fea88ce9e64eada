//! Takes a pull request into its base, without a working tree.

use std::path::Path;

use protocol::Timestamp;
use protocol::client::PullRequest;
use protocol::repository::RepositoryName;
use protocol::session::{Author, PullRequestState};

use crate::{Error, Local};

/// How often a merge is made anew because somebody pushed to the base meanwhile.
const ATTEMPTS: usize = 5;

impl Local {
    /// Merges the commit that was offered, as `person`: by moving the base forward where that is
    /// enough, else by a merge commit.
    ///
    /// Idempotent: a merge that a crash interrupted before it was recorded is found and recorded.
    pub async fn merge(
        &self,
        name: &RepositoryName,
        number: u32,
        person: &Author,
        now: Timestamp,
    ) -> Result<PullRequest, Error> {
        let repository = self.repository(name)?;
        let _changing = self.change(name).await;
        let pull_request = self.pull_request(name, number).await?;
        match pull_request.state {
            PullRequestState::Merged => return Ok(pull_request),
            state @ PullRequestState::Closed => {
                let name = name.clone();
                return Err(Error::StateNotAllowed { name, number, state, wanted: "merged" });
            }
            PullRequestState::Open => {}
        }
        for _ in 0..ATTEMPTS {
            let base = self.resolve(name, &pull_request.base_branch).await?;
            let next = self.merged(&repository, &pull_request, &base, person, now).await?;
            if next == base || self.advance(&repository, &pull_request, &base, &next).await? {
                return self.record_state(name, number, PullRequestState::Merged, now).await;
            }
        }
        Err(Error::BaseMoved { name: name.clone(), branch: pull_request.base_branch })
    }

    /// The commit the base should be at.
    async fn merged(
        &self,
        repository: &Path,
        pull_request: &PullRequest,
        base: &str,
        person: &Author,
        now: Timestamp,
    ) -> Result<String, Error> {
        let offered = &pull_request.commit;
        if self.is_ancestor(repository, offered, base).await? {
            return Ok(base.to_owned());
        }
        if self.is_ancestor(repository, base, offered).await? {
            return Ok(offered.clone());
        }
        let tree = self.merged_tree(repository, pull_request, base).await?;
        let number = pull_request.number;
        let message = format!(
            "Merge pull request #{number}: {}\n\nFrom the branch {}.\n",
            pull_request.title, pull_request.branch
        );
        let date = format!("@{} +0000", now.0.div_euclid(1000));
        self.git_at(repository, format!("make the merge commit of pull request {number}"))
            .environment("GIT_AUTHOR_NAME", &person.name)
            .environment("GIT_AUTHOR_EMAIL", &person.email)
            .environment("GIT_AUTHOR_DATE", &date)
            .environment("GIT_COMMITTER_NAME", &person.name)
            .environment("GIT_COMMITTER_EMAIL", &person.email)
            .environment("GIT_COMMITTER_DATE", &date)
            .args(["commit-tree", &tree, "-p", base, "-p", offered, "-F", "-"])
            .input(message.into_bytes())
            .text()
            .await
    }

    async fn merged_tree(
        &self,
        repository: &Path,
        pull_request: &PullRequest,
        base: &str,
    ) -> Result<String, Error> {
        let number = pull_request.number;
        let doing = format!("merge pull request {number}");
        let found = self
            .git_at(repository, doing.clone())
            .args(["merge-tree", "--write-tree", "-z", "--name-only", "--no-messages"])
            .args(["--allow-unrelated-histories", base, &pull_request.commit])
            .finish()
            .await?;
        let mut fields = found.output.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        match (found.code, fields.next()) {
            (Some(0), Some(tree)) => Ok(String::from_utf8_lossy(tree).into_owned()),
            (Some(1), Some(_)) => {
                let files = fields.map(|file| String::from_utf8_lossy(file).into_owned()).collect();
                let name = pull_request.repository.clone();
                Err(Error::Conflict { name, number, files })
            }
            _ => Err(found.failure(doing)),
        }
    }

    /// Moves the base if nobody else moved it since; whether it did.
    async fn advance(
        &self,
        repository: &Path,
        pull_request: &PullRequest,
        from: &str,
        to: &str,
    ) -> Result<bool, Error> {
        let branch = &pull_request.base_branch;
        let doing = format!("move `{branch}` to {to}");
        let moving = self.git_at(repository, doing.clone());
        let reference = format!("refs/heads/{branch}");
        let moved = moving.args(["update-ref", &reference, to, from]).finish().await?;
        if moved.code == Some(0) {
            return Ok(true);
        }
        let present = self.branch_tip(repository, branch).await?;
        if present.as_deref() == Some(from) { Err(moved.failure(doing)) } else { Ok(false) }
    }
}
