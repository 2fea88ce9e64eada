//! Opens a pull request, or brings the one that exists up to date.

use protocol::client::PullRequest;
use protocol::limits::TITLE_BYTES;
use protocol::session::PullRequestState;
use protocol::{PullRequestId, Timestamp};

use super::NewPullRequest;
use super::diff::Measured;
use super::record::{self, Record};
use crate::{Error, Local};

/// Bytes of the longest description that is kept.
const BODY_BYTES: usize = 64 * 1024;

impl Local {
    /// Offers a branch for review: the pull request, and whether it is new.
    ///
    /// Idempotent: while a pull request of the branch is open, asking again updates its commit,
    /// size, title, body and base; asking again with a commit that was already offered and closed
    /// or merged gives that record unchanged.
    pub async fn open_pull_request(
        &self,
        new: NewPullRequest,
    ) -> Result<(PullRequest, bool), Error> {
        let name = new.repository.clone();
        let repository = self.repository(&name)?;
        let _changing = self.change(&name).await;
        let missing =
            |branch: &str| Error::NoSuchBranch { name: name.clone(), branch: branch.to_owned() };
        let tip = self.branch_tip(&repository, &new.branch).await?;
        let tip = tip.ok_or_else(|| missing(&new.branch))?;
        let base = self.branch_tip(&repository, &new.base_branch).await?;
        let base = base.ok_or_else(|| missing(&new.base_branch))?;
        let reported = self.commit(&name, &repository, &new.commit).await?;
        if !self.is_ancestor(&repository, &reported, &tip).await? {
            let (branch, commit) = (new.branch, new.commit);
            return Err(Error::CommitNotOnBranch { name, branch, commit });
        }
        let measured = self.measure(&repository, &base, &tip).await?;
        let doing = "open a pull request";
        self.inner
            .database
            .write(doing, move |transaction| {
                let failed = |source| Error::Database { doing, source };
                let found = record::of_branch(transaction, &new.repository, &new.branch, &tip);
                match (found.map_err(failed)?, measured) {
                    (Some(present), _) if present.pull_request.state != PullRequestState::Open => {
                        Ok((present.pull_request, false))
                    }
                    (Some(present), Some(measured)) => {
                        let next = renewed(&present, &new, tip, measured);
                        if next != present {
                            record::update(transaction, &next).map_err(failed)?;
                        }
                        Ok((next.pull_request, false))
                    }
                    (None, Some(measured)) => {
                        let number = record::next_number(transaction, &new.repository);
                        let made = first(new, tip, measured, number.map_err(failed)?);
                        record::insert(transaction, &made).map_err(failed)?;
                        Ok((made.pull_request, true))
                    }
                    (_, None) => Err(Error::NothingToOffer {
                        name: new.repository,
                        branch: new.branch,
                        base: new.base_branch,
                    }),
                }
            })
            .await
    }
}

fn first(new: NewPullRequest, commit: String, measured: Measured, number: u32) -> Record {
    let pull_request = PullRequest {
        id: PullRequestId::new(),
        number,
        repository: new.repository,
        session: new.session,
        title: title(&new.title),
        body: body(&new.body),
        author: new.author,
        base_branch: new.base_branch,
        branch: new.branch,
        commit,
        state: PullRequestState::Open,
        diff_stat: measured.stat,
        created_at: new.now,
        updated_at: new.now,
    };
    Record { pull_request, merge_base: measured.merge_base }
}

/// The present record with what is new; the time changes only if something else does.
fn renewed(present: &Record, new: &NewPullRequest, commit: String, measured: Measured) -> Record {
    let mut next = present.clone();
    next.merge_base = measured.merge_base;
    let it = &mut next.pull_request;
    it.session = new.session.or(it.session);
    it.title = title(&new.title);
    it.body = body(&new.body);
    it.base_branch.clone_from(&new.base_branch);
    it.commit = commit;
    it.diff_stat = measured.stat;
    if next != *present {
        let Timestamp(before) = present.pull_request.updated_at;
        next.pull_request.updated_at = Timestamp(before.max(new.now.0));
    }
    next
}

fn title(text: &str) -> String {
    let plain: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    let plain = plain.trim();
    if plain.is_empty() {
        return "Changes without a title".to_owned();
    }
    if plain.len() <= TITLE_BYTES {
        return plain.to_owned();
    }
    let end = plain.floor_char_boundary(TITLE_BYTES - '…'.len_utf8());
    format!("{}…", plain[..end].trim_end())
}

fn body(text: &str) -> String {
    if text.len() <= BODY_BYTES {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(BODY_BYTES);
    format!("{}\n\n*The description was longer; the rest was cut.*\n", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_line_of_bounded_length() {
        assert_eq!(title("  Fix\nthe \u{1b}[31mbug "), "Fix the  [31mbug");
        assert_eq!(title(" \n "), "Changes without a title");
        let long = title(&"ä".repeat(1000));
        assert!(long.len() <= TITLE_BYTES && long.ends_with('…'), "{long}");
        let exact = "x".repeat(TITLE_BYTES);
        assert_eq!(title(&exact), exact);
    }

    #[test]
    fn bodies_say_when_they_were_cut() {
        assert_eq!(body("short"), "short");
        let long = body(&"ä".repeat(BODY_BYTES));
        assert!(long.ends_with("the rest was cut.*\n") && long.len() < BODY_BYTES + 100);
    }
}
