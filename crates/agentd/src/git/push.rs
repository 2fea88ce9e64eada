//! Putting the session's branch on the remote.

use protocol::agentd::{PushAnswer, PushRequest};

use super::{Call, Error, Git, check_branch, check_commit};

impl Git {
    /// Pushes one commit as the branch's tip. Pushed again, nothing happens.
    ///
    /// Never forced: platform commits only ever follow each other, so a tip that is not an ancestor
    /// is somebody else's work.
    pub(crate) async fn push(&self, request: &PushRequest) -> Result<PushAnswer, Error> {
        check_branch(&request.branch)?;
        check_commit(&request.commit)?;
        let url = self.url(&request.remote)?;
        if !self.directory().exists() {
            return Err(Error::NotSynced { path: self.workspace() });
        }
        let _turn = self.turn.lock().await;
        let refspec = format!("{}:refs/heads/{}", request.commit, request.branch);
        let output = self
            .attempt(Call::new(["push", "--porcelain", "--no-verify", "--", &url, &refspec]))
            .await?;
        if output.success {
            return Ok(PushAnswer { commit: request.commit.clone() });
        }
        let reason = reason(&output.text(), &output.complaint);
        Err(Error::Refused { branch: request.branch.clone(), reason })
    }
}

/// What the remote said, without git's frame around it.
fn reason(porcelain: &str, complaint: &str) -> String {
    let refused = porcelain.lines().filter_map(|line| line.strip_prefix("!\t"));
    let remote = complaint.lines().filter_map(|line| line.strip_prefix("remote: "));
    let said: Vec<&str> =
        remote.chain(refused).map(str::trim).filter(|line| !line.is_empty()).collect();
    if said.is_empty() { complaint.to_owned() } else { said.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remotes_own_words_come_first() {
        let complaint = "remote: only hangar/1a2b may be pushed        \nerror: failed to push";
        assert_eq!(reason("", complaint), "only hangar/1a2b may be pushed");
        assert_eq!(reason("", "fatal: no connection"), "fatal: no connection");
        let rejected = "To x\n!\ta:refs/heads/b\t[rejected] (fetch first)\nDone";
        assert_eq!(reason(rejected, "error"), "a:refs/heads/b\t[rejected] (fetch first)");
    }
}
