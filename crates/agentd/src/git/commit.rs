//! One commit for a prompt: everything that changed, in the author's name.
//!
//! The commit is made from a tree and a parent, not by `git commit`: so no hook, template, editor or
//! signature takes part, an unfinished rebase does not matter, and branch and record move together
//! or not at all. Its parent is the platform's own last commit, whatever the agent did to the
//! branch; so the branch only ever grows and every change is the author's, the agent's own commits
//! included.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use protocol::agentd::{CommitAnswer, CommitDescription, CommitRequest, Report};
use protocol::session::{FileChange, FileChangeKind};

use super::sync::{LAST, committer};
use super::{Call, Error, Git, check_branch, check_commit, clean};
use crate::text;

/// Subjects of the agent's own commits named in the message at most.
const SUBJECTS: usize = 50;

impl Git {
    /// Commits what changed since the last commit; asked again for the same prompt, finds it.
    pub(crate) async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, Error> {
        check_branch(&request.branch)?;
        check_commit(&request.base_commit)?;
        if !self.directory().exists() {
            return Err(Error::NotSynced { path: self.workspace() });
        }
        let _turn = self.turn.lock().await;
        let parent = self.last_commit(&request.base_commit).await?;
        if let Some(id) = self.made_before(request, &parent).await? {
            return Ok(CommitAnswer { commit: Some(self.describe(&id).await?) });
        }
        let (tree, index) = self.tree(request).await?;
        let parents_tree =
            self.call(Call::new(["rev-parse", &format!("{parent}^{{tree}}")])).await?.text();
        if tree == parents_tree {
            return Ok(CommitAnswer { commit: None });
        }
        let subjects = self.agents_subjects(&parent).await?;
        let id = self.make(request, &tree, &parent, &subjects).await?;
        self.move_branch(&request.branch, &id).await?;
        self.file("take-index", index, b"", false).await?;
        Ok(CommitAnswer { commit: Some(self.describe(&id).await?) })
    }

    /// The platform's last commit here, or the commit the session started from.
    async fn last_commit(&self, base: &str) -> Result<String, Error> {
        if let Some(last) = self.resolve(LAST).await? {
            return Ok(last);
        }
        self.resolve(base).await?.ok_or_else(|| Error::Missing {
            remote: self.workspace().display().to_string(),
            commit: base.to_owned(),
        })
    }

    /// The commit made earlier for the same prompt, by its trailer.
    async fn made_before(
        &self,
        request: &CommitRequest,
        last: &str,
    ) -> Result<Option<String>, Error> {
        let format = "--format=%H %(trailers:key=Hangar-Prompt,valueonly,separator=%x20)";
        let mut arguments = vec!["log".to_owned(), "--no-show-signature".into(), format.into()];
        arguments.push(last.to_owned());
        if self.resolve(&request.base_commit).await?.is_some() {
            arguments.push(format!("^{}", request.base_commit));
        }
        arguments.push("--".to_owned());
        let log = self.call(Call::new(arguments)).await?.text();
        let wanted = request.prompt.to_string();
        let mut lines = log.lines().filter_map(|line| line.split_once(' '));
        Ok(lines
            .find(|(_, prompts)| prompts.split(' ').any(|prompt| prompt == wanted))
            .map(|(id, _)| id.to_owned()))
    }

    /// The files as they are, as a tree, and the index that holds them.
    async fn tree(&self, request: &CommitRequest) -> Result<(String, std::path::PathBuf), Error> {
        let index = self.index_copy("commit").await?;
        let environment = vec![("GIT_INDEX_FILE", index.clone().into())];
        let filters_off = self.without_filters().await?;
        let mut arguments = filters_off.clone();
        arguments.extend(["add", "--all", "--ignore-errors"].map(Into::into));
        let add = Call { arguments, environment: environment.clone(), ..Call::default() };
        let added = self.attempt(add).await?;
        if !added.success {
            let text = format!("Not everything could be committed: {}", added.complaint);
            self.reports.add(Report::Notice { prompt: Some(request.prompt), text });
        }
        // It looks again at files that changed just now, through the filters.
        let mut arguments = filters_off;
        arguments.push("write-tree".into());
        let write = Call { arguments, environment, ..Call::default() };
        Ok((self.call(write).await?.text(), index))
    }

    /// The subjects of the commits the agent made itself, oldest first.
    async fn agents_subjects(&self, parent: &str) -> Result<Vec<String>, Error> {
        let range = format!("{parent}..HEAD");
        let limit = format!("--max-count={SUBJECTS}");
        let call = Call::new(["log", "--no-show-signature", "--format=%s", &limit, &range, "--"]);
        let output = self.attempt(call).await?;
        let mut subjects: Vec<_> =
            text::escaped(&output.stdout).lines().map(str::to_owned).collect();
        subjects.reverse();
        Ok(subjects)
    }

    async fn make(
        &self,
        request: &CommitRequest,
        tree: &str,
        parent: &str,
        subjects: &[String],
    ) -> Result<String, Error> {
        let call = Call {
            stdin: message(request, subjects).into_bytes(),
            environment: committer(&clean(&request.author.name), &clean(&request.author.email)),
            ..Call::new(["commit-tree", tree, "-p", parent, "-F", "-"])
        };
        Ok(self.call(call).await?.text())
    }

    /// Moves the session's branch and the platform's record in one transaction, and HEAD to it.
    async fn move_branch(&self, branch: &str, id: &str) -> Result<(), Error> {
        let updates = format!("update refs/heads/{branch} {id}\nupdate {LAST} {id}\n");
        let call = Call::new(["update-ref", "--stdin"]);
        self.call(Call { stdin: updates.into(), ..call }).await?;
        self.call(Call::new(["symbolic-ref", "HEAD", &format!("refs/heads/{branch}")])).await?;
        Ok(())
    }

    async fn describe(&self, id: &str) -> Result<CommitDescription, Error> {
        let subject = Call::new(["log", "-1", "--no-show-signature", "--format=%s", id, "--"]);
        let subject = self.call(subject).await?.text();
        let changes = Call::new([
            "diff-tree",
            "-r",
            "-z",
            "--no-commit-id",
            "--raw",
            "--numstat",
            "-M",
            "--no-ext-diff",
            "--no-textconv",
            id,
        ]);
        let files = parse_changes(&self.call(changes).await?.stdout);
        Ok(CommitDescription { id: id.to_owned(), subject, files })
    }
}

/// Subject, body, the agent's own subjects, and the trailers as the last paragraph.
fn message(request: &CommitRequest, subjects: &[String]) -> String {
    let subject = request.subject.split_whitespace().collect::<Vec<_>>().join(" ");
    let subject = if subject.is_empty() { "Work of the agent".to_owned() } else { subject };
    let mut message = subject;
    let body = request.body.replace('\0', "");
    if !body.trim().is_empty() {
        let _ = write!(message, "\n\n{}", body.trim());
    }
    if !subjects.is_empty() {
        message.push_str("\n\nCommits of the agent taken in:\n");
        for subject in subjects {
            let _ = write!(message, "\n- {subject}");
        }
    }
    let _ = write!(
        message,
        "\n\nHangar-Session: {}\nHangar-Prompt: {}\n",
        request.session, request.prompt
    );
    message
}

/// Reads `--raw -z` and `--numstat -z`, which git writes one after the other.
fn parse_changes(bytes: &[u8]) -> Vec<FileChange> {
    let mut kinds: BTreeMap<Vec<u8>, FileChangeKind> = BTreeMap::new();
    let mut files = Vec::new();
    let mut fields = bytes.split(|byte| *byte == 0);
    while let Some(field) = fields.next() {
        if field.starts_with(b":") {
            let kind = kind(field);
            let mut path = fields.next().unwrap_or_default();
            if kind == FileChangeKind::Renamed {
                path = fields.next().unwrap_or_default();
            }
            kinds.insert(path.to_vec(), kind);
            continue;
        }
        let mut columns = field.splitn(3, |byte| *byte == b'\t');
        let (Some(added), Some(removed), Some(path)) =
            (columns.next(), columns.next(), columns.next())
        else {
            continue;
        };
        // A renamed file's two names follow as fields of their own.
        let path = if path.is_empty() { fields.nth(1).unwrap_or_default() } else { path };
        files.push(FileChange {
            path: text::escaped(path),
            kind: kinds.get(path).copied().unwrap_or(FileChangeKind::Modified),
            added: count(added),
            removed: count(removed),
        });
    }
    files
}

fn kind(raw: &[u8]) -> FileChangeKind {
    match raw.rsplit(|byte| *byte == b' ').next().and_then(|status| status.first()) {
        Some(b'A') => FileChangeKind::Added,
        Some(b'D') => FileChangeKind::Deleted,
        Some(b'R' | b'C') => FileChangeKind::Renamed,
        _ => FileChangeKind::Modified,
    }
}

/// Binary files are counted as `-`: no lines.
fn count(digits: &[u8]) -> u32 {
    std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use protocol::session::Author;
    use protocol::{PromptId, SessionId, UserId};

    use super::*;

    #[test]
    fn changes_are_read_with_their_kinds_and_odd_names() {
        let raw = b":000000 100644 0 1 A\0new\nline\0:100644 100644 1 2 R090\0old\0moved\0\
                    :100644 000000 1 0 D\0gone\0:100644 100644 1 2 M\0bin\xFF\0\
                    3\t0\tnew\nline\x001\t2\t\0old\0moved\x000\t9\tgone\0-\t-\tbin\xFF\0";
        let files = parse_changes(raw);
        let told: Vec<_> = files
            .iter()
            .map(|file| (file.path.as_str(), file.kind, file.added, file.removed))
            .collect();
        assert_eq!(
            told,
            [
                ("new\nline", FileChangeKind::Added, 3, 0),
                ("moved", FileChangeKind::Renamed, 1, 2),
                ("gone", FileChangeKind::Deleted, 0, 9),
                ("bin\\xFF", FileChangeKind::Modified, 0, 0),
            ]
        );
    }

    #[test]
    fn the_trailers_are_a_paragraph_of_their_own() {
        let request = CommitRequest {
            session: SessionId::from_bytes([1; 16]),
            prompt: PromptId::from_bytes([2; 16]),
            author: Author { user: UserId::new(), name: "A".into(), email: "a@b".into() },
            subject: "Do\nit".into(),
            body: "Because\0.\n\nSigned-off-by: nobody".into(),
            branch: "b".into(),
            base_commit: String::new(),
        };
        let message = message(&request, &["first".into()]);
        assert!(message.starts_with("Do it\n\nBecause.\n\nSigned-off-by"), "{message}");
        let last = message.trim_end().rsplit("\n\n").next().expect("a paragraph");
        assert_eq!(last.lines().count(), 2);
        assert!(last.starts_with("Hangar-Session: ses_0101"), "{message}");
    }
}
