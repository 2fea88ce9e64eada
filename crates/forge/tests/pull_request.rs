//! Pull requests from what was really pushed.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{commit, git, write};
use forge::{Error, Local, NewPullRequest};
use protocol::repository::RepositoryName;
use protocol::session::{Author, DiffStat, PullRequestState};
use protocol::{SessionId, Timestamp, UserId};

const BRANCH: &str = "hangar/12345678-fix";

struct Bench {
    directory: tempfile::TempDir,
    local: Local,
    /// A clone whose pushes stand for a sandbox's.
    clone: PathBuf,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::open(directory.path().join("forge")).await.unwrap();
        local.import(&common::small(directory.path()), &name()).await.unwrap();
        let bare = local.repository_directory(&name()).unwrap();
        git(directory.path(), &["clone", "--quiet", bare.to_str().unwrap(), "clone"]);
        let clone = directory.path().join("clone");
        git(&clone, &["checkout", "--quiet", "-b", BRANCH]);
        Self { directory, local, clone }
    }

    async fn reopen(&mut self) {
        self.local = Local::open(self.directory.path().join("forge")).await.unwrap();
    }

    fn push(&self, file: &str, contents: &[u8]) -> String {
        write(&self.clone, file, contents);
        let commit = commit(&self.clone, file);
        git(&self.clone, &["push", "--quiet", "origin", "HEAD"]);
        commit
    }

    /// Moves `main` on the forge as another person's push would.
    fn push_to_main(&self, file: &str, contents: &str) -> String {
        git(&self.clone, &["checkout", "--quiet", "main"]);
        let pushed = self.push(file, contents.as_bytes());
        git(&self.clone, &["checkout", "--quiet", BRANCH]);
        pushed
    }

    async fn open(&self, commit: &str) -> Result<(protocol::client::PullRequest, bool), Error> {
        self.local.open_pull_request(new(commit)).await
    }

    fn bare(&self) -> PathBuf {
        self.local.repository_directory(&name()).unwrap()
    }
}

fn name() -> RepositoryName {
    "local/it".parse().unwrap()
}

fn ada() -> Author {
    let user = UserId::from_bytes([7; 16]);
    Author { user, name: "Ada".into(), email: "ada@example.com".into() }
}

fn new(commit: &str) -> NewPullRequest {
    NewPullRequest {
        repository: name(),
        session: Some(SessionId::from_bytes([1; 16])),
        title: "Fix it".into(),
        body: "Because.".into(),
        author: ada(),
        base_branch: "main".into(),
        branch: BRANCH.into(),
        commit: commit.into(),
        now: Timestamp(1000),
    }
}

#[tokio::test]
async fn a_pull_request_is_opened_once_also_across_a_crash() {
    let mut bench = Bench::new().await;
    let pushed = bench.push("new.txt", b"one\ntwo\n");
    // The push is done; whoever would have opened the pull request is gone.
    bench.reopen().await;
    let (first, created) = bench.open(&pushed).await.unwrap();
    assert!(created);
    assert_eq!((first.number, first.commit.as_str()), (1, pushed.as_str()));
    assert_eq!(first.diff_stat, DiffStat { files: 1, added: 2, removed: 0 });
    assert_eq!((first.state, first.author.clone()), (PullRequestState::Open, ada()));
    // It is recorded; the answer was lost.
    bench.reopen().await;
    let (again, created) = bench.open(&pushed).await.unwrap();
    assert_eq!((&again, created), (&first, false));

    let next = bench.push("more.txt", b"three\n");
    let (updated, created) = bench
        .local
        .open_pull_request(NewPullRequest { now: Timestamp(2000), ..new(&next) })
        .await
        .unwrap();
    assert!(!created);
    assert_eq!((updated.id, updated.number, updated.commit.as_str()), (first.id, 1, next.as_str()));
    assert_eq!(updated.diff_stat, DiffStat { files: 2, added: 3, removed: 0 });
    assert_eq!((updated.created_at, updated.updated_at), (Timestamp(1000), Timestamp(2000)));
    assert_eq!(bench.local.pull_request(&name(), 1).await.unwrap(), updated);
}

#[tokio::test]
async fn asking_at_the_same_time_opens_one() {
    let bench = Bench::new().await;
    let pushed = bench.push("new.txt", b"one\n");
    let asking = (0..8).map(|_| bench.open(&pushed));
    let answers = futures_util::future::join_all(asking).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|(_, created)| *created).count(), 1);
    assert!(answers.iter().all(|(it, _)| it.number == 1 && it.id == answers[0].0.id));
}

#[tokio::test]
async fn what_a_sandbox_claims_is_checked() {
    let bench = Bench::new().await;
    let error = bench.open(&"0".repeat(40)).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchBranch { .. }), "{error}");
    git(&bench.clone, &["push", "--quiet", "origin", "HEAD"]);
    let main = git(&bench.clone, &["rev-parse", "main"]);
    let error = bench.open(&main).await.unwrap_err();
    assert!(matches!(error, Error::NothingToOffer { .. }), "{error}");
    let pushed = bench.push("new.txt", b"one\n");
    let only_there = commit(&bench.clone, "not pushed");
    let error = bench.open(&only_there).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchCommit { .. }), "{error}");
    let elsewhere = bench.push_to_main("other.txt", "other\n");
    let error = bench.open(&elsewhere).await.unwrap_err();
    assert!(matches!(error, Error::CommitNotOnBranch { .. }), "{error}");
    let missing = NewPullRequest { base_branch: "nothing".into(), ..new(&pushed) };
    let error = bench.local.open_pull_request(missing).await.unwrap_err();
    assert!(matches!(&error, Error::NoSuchBranch { branch, .. } if branch == "nothing"), "{error}");
    // An older commit of the branch is true but not what is offered.
    let (opened, _) = bench.open(&main).await.unwrap();
    assert_eq!(opened.commit, pushed);
}

#[tokio::test]
async fn sizes_and_patches_show_the_branch_alone() {
    let bench = Bench::new().await;
    bench.push_to_main("unrelated.txt", "not of the branch\n");
    std::fs::rename(bench.clone.join("README.md"), bench.clone.join("READ\nME.md")).unwrap();
    write(&bench.clone, "src/main.c", "int main(void) {\n    return 2;\n}\n");
    write(&bench.clone, "binary", b"\0\x01\x02\xff");
    let pushed = bench.push("odd name.txt", b"x\ny\n");
    let (opened, _) = bench.open(&pushed).await.unwrap();
    assert_eq!(opened.diff_stat, DiffStat { files: 4, added: 3, removed: 1 });
    let patch = bench.local.diff(&name(), 1).await.unwrap();
    for line in ["-    return 1;", "+    return 2;", "rename to \"READ\\nME.md\"", "Binary files"] {
        assert!(patch.contains(line), "{line}: {patch}");
    }
    assert!(!patch.contains("unrelated"), "{patch}");
}

#[tokio::test]
async fn a_huge_patch_is_cut_with_a_note() {
    let bench = Bench::new().await;
    let pushed = bench.push("long.txt", "a line that repeats\n".repeat(400_000).as_bytes());
    let (opened, _) = bench.open(&pushed).await.unwrap();
    assert_eq!(opened.diff_stat.added, 400_000);
    let patch = bench.local.diff(&name(), 1).await.unwrap();
    assert!(patch.len() < 5 * 1024 * 1024);
    assert!(patch.lines().last().unwrap().starts_with("[cut after "), "no note");
}

#[tokio::test]
async fn lists_are_newest_first_with_a_cursor() {
    let bench = Bench::new().await;
    for number in 1..=5 {
        git(&bench.clone, &["checkout", "--quiet", "-B", &format!("hangar/{number}"), "main"]);
        let pushed = bench.push(&format!("{number}.txt"), b"x\n");
        let branch = format!("hangar/{number}");
        let opened = bench.local.open_pull_request(NewPullRequest { branch, ..new(&pushed) }).await;
        assert_eq!(opened.unwrap().0.number, number);
    }
    let list = async |state, cursor: Option<&str>| {
        let page = bench.local.pull_requests(&name(), state, cursor, 2).await.unwrap();
        (page.items.iter().map(|it| it.number).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(list(None, None).await, (vec![5, 4], Some("4".into())));
    assert_eq!(list(None, Some("4")).await, (vec![3, 2], Some("2".into())));
    assert_eq!(list(None, Some("2")).await, (vec![1], None));
    bench.local.set_state(&name(), 3, PullRequestState::Closed, Timestamp(3000)).await.unwrap();
    assert_eq!(list(Some(PullRequestState::Closed), None).await, (vec![3], None));
    let error = bench.local.pull_requests(&name(), None, Some("x"), 2).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchCursor { .. }), "{error}");
    let error = bench.local.pull_request(&name(), 9).await.unwrap_err();
    assert!(matches!(error, Error::NoSuchPullRequest { .. }), "{error}");
}

#[tokio::test]
async fn closing_and_opening_again() {
    let bench = Bench::new().await;
    let pushed = bench.push("new.txt", b"one\n");
    bench.open(&pushed).await.unwrap();
    let set = async |state| bench.local.set_state(&name(), 1, state, Timestamp(3000)).await;
    assert_eq!(set(PullRequestState::Closed).await.unwrap().state, PullRequestState::Closed);
    assert_eq!(set(PullRequestState::Closed).await.unwrap().state, PullRequestState::Closed);
    let error = bench.local.merge(&name(), 1, &ada(), Timestamp(3000)).await.unwrap_err();
    assert!(matches!(error, Error::StateNotAllowed { .. }), "{error}");
    // What a person closed is not opened again by a repeated effect, only by new work.
    let (same, created) = bench.open(&pushed).await.unwrap();
    assert_eq!((same.state, created), (PullRequestState::Closed, false));
    let next = bench.push("next.txt", b"two\n");
    let (second, created) = bench.open(&next).await.unwrap();
    assert_eq!((second.number, created), (2, true));
    let error = set(PullRequestState::Open).await.unwrap_err();
    assert!(matches!(error, Error::BranchAlreadyOffered { open: 2, .. }), "{error}");
    let error = set(PullRequestState::Merged).await.unwrap_err();
    assert!(matches!(error, Error::StateNotAllowed { .. }), "{error}");
}

#[tokio::test]
async fn a_merge_moves_the_base_forward_where_that_is_enough() {
    let bench = Bench::new().await;
    let pushed = bench.push("new.txt", b"one\n");
    bench.open(&pushed).await.unwrap();
    let merged = bench.local.merge(&name(), 1, &ada(), Timestamp(5000)).await.unwrap();
    assert_eq!((merged.state, merged.updated_at), (PullRequestState::Merged, Timestamp(5000)));
    assert_eq!(bench.local.resolve(&name(), "main").await.unwrap(), pushed);
    let again = bench.local.merge(&name(), 1, &ada(), Timestamp(6000)).await.unwrap();
    assert_eq!(again, merged);
    let (same, created) = bench.open(&pushed).await.unwrap();
    assert_eq!((same, created), (merged, false));
    // The patch stays what it was when it was offered.
    assert!(bench.local.diff(&name(), 1).await.unwrap().contains("+one"));
    let source = bench.directory.path().join("small");
    assert_ne!(git(&source, &["rev-parse", "main"]), pushed, "the person's repository was touched");
    assert_eq!(bench.local.refresh(&name()).await.unwrap().head, pushed);
}

#[tokio::test]
async fn a_merge_commit_is_made_as_the_person_who_merges() {
    let bench = Bench::new().await;
    let pushed = bench.push("new.txt", b"one\n");
    bench.open(&pushed).await.unwrap();
    let base = bench.push_to_main("other.txt", "other\n");
    let grace = Author { name: "Grace".into(), email: "grace@example.com".into(), ..ada() };
    bench.local.merge(&name(), 1, &grace, Timestamp(1_700_000_000_500)).await.unwrap();
    let bare = bench.bare();
    let facts = git(&bare, &["log", "-1", "--format=%P|%an|%ae|%cn|%at|%s", "main"]);
    let expected = format!(
        "{base} {pushed}|Grace|grace@example.com|Grace|1700000000|Merge pull request #1: Fix it"
    );
    assert_eq!(facts, expected);
    let tree = git(&bare, &["ls-tree", "-r", "--name-only", "main"]);
    assert_eq!(tree, "README.md\nnew.txt\nother.txt\nsrc/main.c");
}

#[tokio::test]
async fn a_merge_that_was_not_recorded_is_found() {
    let bench = Bench::new().await;
    let pushed = bench.push("new.txt", b"one\n");
    bench.open(&pushed).await.unwrap();
    git(&bench.bare(), &["update-ref", "refs/heads/main", &pushed]);
    let merged = bench.local.merge(&name(), 1, &ada(), Timestamp(5000)).await.unwrap();
    assert_eq!(merged.state, PullRequestState::Merged);
    assert_eq!(bench.local.resolve(&name(), "main").await.unwrap(), pushed);
}

#[tokio::test]
async fn a_conflict_names_its_files_and_changes_nothing() {
    let bench = Bench::new().await;
    let pushed = bench.push("src/main.c", b"int main(void) { return 2; }\n");
    bench.open(&pushed).await.unwrap();
    let base = bench.push_to_main("src/main.c", "int main(void) { return 3; }\n");
    let error = bench.local.merge(&name(), 1, &ada(), Timestamp(5000)).await.unwrap_err();
    assert!(matches!(&error, Error::Conflict { files, .. } if files == &["src/main.c"]), "{error}");
    assert_eq!(bench.local.resolve(&name(), "main").await.unwrap(), base);
    let state = bench.local.pull_request(&name(), 1).await.unwrap().state;
    assert_eq!(state, PullRequestState::Open);
}

#[tokio::test]
async fn a_branch_without_common_history_is_all_new() {
    let bench = Bench::new().await;
    git(&bench.clone, &["checkout", "--quiet", "--orphan", "fresh"]);
    git(&bench.clone, &["branch", "-D", BRANCH]);
    git(&bench.clone, &["checkout", "--quiet", "--orphan", BRANCH]);
    let pushed = bench.push("README.md", b"fresh\n");
    let (opened, _) = bench.open(&pushed).await.unwrap();
    assert_eq!(opened.diff_stat, DiffStat { files: 2, added: 4, removed: 0 });
    assert!(bench.local.diff(&name(), 1).await.unwrap().contains("+fresh"));
    assert!(Path::new(&bench.bare()).join("HEAD").exists());
}
