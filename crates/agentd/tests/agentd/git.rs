//! Git on the workspace, with real repositories.

use std::path::Path;
use std::process::Command;

use protocol::agentd::{
    CommitAnswer, CommitDescription, CommitRequest, PushAnswer, PushRequest, Report, SyncAnswer,
    SyncRequest,
};
use protocol::session::{Author, FileChangeKind};
use protocol::{PromptId, SessionId, UserId};

use crate::harness::{Agentd, Answer};

const BRANCH: &str = "hangar/1a2b-try";

fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args([
            "-c",
            "user.name=Somebody",
            "-c",
            "user.email=some@body",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .expect("git runs");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// An agentd with one remote repository of one commit, and that commit.
fn prepared() -> (Agentd, String) {
    let agentd = Agentd::start();
    let commit = remote(&agentd);
    (agentd, commit)
}

/// Makes the remote repository with one commit, and gives that.
pub(crate) fn remote(agentd: &Agentd) -> String {
    let source = agentd.path("source");
    std::fs::create_dir(&source).expect("made");
    git(&source, &["init", "--quiet"]);
    std::fs::write(source.join("README.md"), "hello\n").expect("written");
    std::fs::write(source.join(".gitignore"), "ignored\n").expect("written");
    git(&source, &["add", "-A"]);
    git(&source, &["commit", "--quiet", "-m", "first"]);
    let remote = agentd.path("remotes/one.git");
    git(&source, &["clone", "--quiet", "--bare", ".", &remote.display().to_string()]);
    git(&source, &["rev-parse", "HEAD"])
}

fn author(name: &str) -> Author {
    Author { user: UserId::new(), name: name.into(), email: format!("{name}@example.org") }
}

pub(crate) fn sync(agentd: &Agentd, commit: &str) -> Answer {
    agentd.post(
        "/v1/workspace/sync",
        &SyncRequest {
            remote: "/one.git".into(),
            branch: BRANCH.into(),
            commit: commit.into(),
            identity: author("Ada"),
        },
    )
}

fn synced() -> (Agentd, String) {
    let (agentd, commit) = prepared();
    let answer: SyncAnswer = sync(&agentd, &commit).json();
    assert_eq!(answer, SyncAnswer { commit: commit.clone(), changed: true });
    (agentd, commit)
}

fn request(base: &str, prompt: PromptId) -> CommitRequest {
    CommitRequest {
        session: SessionId::from_bytes([9; 16]),
        prompt,
        author: author("Grace"),
        subject: "Do it".into(),
        body: "At once.".into(),
        branch: BRANCH.into(),
        base_commit: base.into(),
    }
}

fn commit(agentd: &Agentd, base: &str, prompt: PromptId) -> Option<CommitDescription> {
    let answer: CommitAnswer = agentd.post("/v1/workspace/commit", &request(base, prompt)).json();
    answer.commit
}

fn push(agentd: &Agentd, commit: &str) -> Answer {
    let order =
        PushRequest { remote: "/one.git".into(), branch: BRANCH.into(), commit: commit.into() };
    agentd.post("/v1/workspace/push", &order)
}

#[test]
fn an_empty_workspace_is_cloned_committed_and_pushed() {
    let (agentd, base) = synced();
    let workspace = agentd.path("workspace");
    assert_eq!(git(&workspace, &["branch", "--show-current"]), BRANCH);
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
    std::fs::write(workspace.join("new file\n"), "1\n2\n").expect("written");
    std::fs::write(workspace.join("README.md"), "hello there\n").expect("written");
    std::fs::write(workspace.join("ignored"), "x").expect("written");
    std::os::unix::fs::symlink("/etc/passwd", workspace.join("link")).expect("linked");
    let prompt = PromptId::new();
    let made = commit(&agentd, &base, prompt).expect("a commit");
    let told: Vec<_> =
        made.files.iter().map(|file| (file.path.as_str(), file.kind, file.added)).collect();
    assert_eq!(
        told,
        [
            ("README.md", FileChangeKind::Modified, 1),
            ("link", FileChangeKind::Added, 1),
            ("new file\n", FileChangeKind::Added, 2),
        ]
    );
    let shown = git(&workspace, &["log", "-1", "--format=%an <%ae>|%cn|%P|%(trailers:unfold)"]);
    assert!(shown.starts_with(&format!("Grace <Grace@example.org>|Grace|{base}|")), "{shown}");
    assert!(shown.contains(&format!("Hangar-Prompt: {prompt}")), "{shown}");
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
    assert_eq!(commit(&agentd, &base, prompt), Some(made.clone()), "found, not made again");
    assert_eq!(commit(&agentd, &base, PromptId::new()), None, "nothing changed since");
    let pushed: PushAnswer = push(&agentd, &made.id).json();
    assert_eq!(pushed.commit, made.id);
    let _: PushAnswer = push(&agentd, &made.id).json();
    let remote = agentd.path("remotes/one.git");
    assert_eq!(git(&remote, &["rev-parse", &format!("refs/heads/{BRANCH}")]), made.id);
}

#[test]
fn a_fresh_sandbox_continues_the_branch() {
    let (agentd, base) = synced();
    std::fs::write(agentd.path("workspace/a"), "a").expect("written");
    let made = commit(&agentd, &base, PromptId::new()).expect("a commit");
    let _: PushAnswer = push(&agentd, &made.id).json();
    std::fs::remove_dir_all(agentd.path("workspace")).expect("removed");
    std::fs::create_dir(agentd.path("workspace")).expect("made");
    let answer: SyncAnswer = sync(&agentd, &base).json();
    assert_eq!(answer, SyncAnswer { commit: made.id.clone(), changed: true });
    std::fs::write(agentd.path("workspace/b"), "b").expect("written");
    let next = commit(&agentd, &base, PromptId::new()).expect("a commit");
    let parent = git(&agentd.path("workspace"), &["rev-parse", "HEAD^"]);
    assert_eq!(parent, made.id);
    let _: PushAnswer = push(&agentd, &next.id).json();
}

#[test]
fn work_left_by_a_lost_sandbox_is_kept() {
    let (agentd, base) = synced();
    let workspace = agentd.path("workspace");
    std::fs::write(workspace.join("README.md"), "half done").expect("written");
    std::fs::write(workspace.join("unsaved"), "x").expect("written");
    git(&workspace, &["checkout", "--quiet", "--detach"]);
    let answer: SyncAnswer = sync(&agentd, &base).json();
    assert!(!answer.changed);
    assert_eq!(std::fs::read_to_string(workspace.join("README.md")).expect("there"), "half done");
    assert!(workspace.join("unsaved").exists());
}

#[test]
fn an_interrupted_clone_is_completed() {
    let (agentd, base) = prepared();
    let workspace = agentd.path("workspace");
    git(&workspace, &["init", "--quiet"]);
    std::fs::remove_file(workspace.join(".git/HEAD")).expect("removed");
    std::fs::write(workspace.join(".git/index.lock"), "").expect("written");
    std::fs::write(workspace.join("README.md"), "hel").expect("written");
    let _: SyncAnswer = sync(&agentd, &base).json();
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
    assert_eq!(std::fs::read_to_string(workspace.join("README.md")).expect("there"), "hello\n");
}

#[test]
fn an_image_with_another_branch_and_dirty_files_is_brought_over() {
    let (agentd, base) = prepared();
    let workspace = agentd.path("workspace");
    let remote = agentd.path("remotes/one.git").display().to_string();
    git(&workspace, &["clone", "--quiet", &remote, "."]);
    let source = agentd.path("source");
    std::fs::write(source.join("README.md"), "newer\n").expect("written");
    git(&source, &["commit", "--quiet", "-am", "second"]);
    git(&source, &["push", "--quiet", &remote, "HEAD:main"]);
    let newer = git(&source, &["rev-parse", "HEAD"]);
    assert_ne!(base, newer);
    std::fs::write(workspace.join("README.md"), "by the build\n").expect("written");
    let answer: SyncAnswer = sync(&agentd, &newer).json();
    assert_eq!(answer, SyncAnswer { commit: newer, changed: true });
    assert_eq!(std::fs::read_to_string(workspace.join("README.md")).expect("there"), "newer\n");
    let reports = agentd.reports_until(0, |_| true);
    assert!(
        matches!(&reports[0].1, Report::Notice { text, .. } if text.contains("git stash list"))
    );
    assert!(git(&workspace, &["stash", "list"]).contains("before the session"));
}

#[test]
fn objects_of_the_mirror_are_not_copied() {
    let (agentd, base) = prepared();
    let remote = agentd.path("remotes/one.git");
    git(&remote, &["repack", "-adq"]);
    std::os::unix::fs::symlink(&remote, agentd.path("mirror")).expect("linked");
    let _: SyncAnswer = sync(&agentd, &base).json();
    let workspace = agentd.path("workspace");
    assert!(git(&workspace, &["count-objects", "-v"]).contains("in-pack: 0"));
    assert_eq!(git(&workspace, &["rev-parse", "origin/main"]), base);
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "");
}

#[test]
fn what_is_wrong_with_the_remote_is_said() {
    let (agentd, _) = prepared();
    let none = sync(&agentd, &"ab".repeat(20));
    assert!(none.failure().contains("has no commit abab"), "{}", none.failure());
    std::fs::remove_dir_all(agentd.path("remotes/one.git")).expect("removed");
    git(&agentd.path("remotes"), &["init", "--quiet", "--bare", "one.git"]);
    assert!(sync(&agentd, &"ab".repeat(20)).failure().contains("is empty"));
    std::fs::remove_dir_all(agentd.path("remotes/one.git")).expect("removed");
    assert!(sync(&agentd, &"ab".repeat(20)).failure().contains("git failed at `git ls-remote"));
    assert!(sync(&agentd, "main").failure().contains("no full commit id"));
}

#[test]
fn a_full_directory_that_is_no_repository_is_left_alone() {
    let (agentd, base) = prepared();
    std::fs::write(agentd.path("workspace/x"), "mine").expect("written");
    assert!(sync(&agentd, &base).failure().contains("no git repository"));
    assert_eq!(commit_failure(&agentd, &base).status, 409);
}

fn commit_failure(agentd: &Agentd, base: &str) -> Answer {
    agentd.post("/v1/workspace/commit", &request(base, PromptId::new()))
}

#[test]
fn the_agents_own_commits_become_the_authors() {
    let (agentd, base) = synced();
    let workspace = agentd.path("workspace");
    for name in ["one", "two"] {
        std::fs::write(workspace.join(name), name).expect("written");
        git(&workspace, &["add", "-A"]);
        git(&workspace, &["commit", "--quiet", "-m", &format!("agent's {name}")]);
    }
    // And it leaves the branch, in the middle of something.
    git(&workspace, &["checkout", "--quiet", "-b", "elsewhere"]);
    std::fs::write(workspace.join("three"), "3").expect("written");
    std::fs::write(workspace.join(".git/index.lock"), "").expect("written");
    let made = commit(&agentd, &base, PromptId::new()).expect("a commit");
    assert_eq!(made.files.len(), 3);
    assert_eq!(git(&workspace, &["branch", "--show-current"]), BRANCH);
    assert_eq!(git(&workspace, &["log", "--format=%an", &format!("{base}..{BRANCH}")]), "Grace");
    let body = git(&workspace, &["log", "-1", "--format=%b"]);
    assert!(body.contains("- agent's one\n- agent's two"), "{body}");
    assert_eq!(git(&workspace, &["status", "--porcelain"]), "", "the stale lock is gone too");
}

#[test]
fn a_rewritten_history_still_only_grows_the_branch() {
    let (agentd, base) = synced();
    let workspace = agentd.path("workspace");
    std::fs::write(workspace.join("a"), "a").expect("written");
    let first = commit(&agentd, &base, PromptId::new()).expect("a commit");
    let _: PushAnswer = push(&agentd, &first.id).json();
    std::fs::write(workspace.join("a"), "b").expect("written");
    git(&workspace, &["commit", "--quiet", "--amend", "-am", "rewritten"]);
    let second = commit(&agentd, &base, PromptId::new()).expect("a commit");
    assert_eq!(git(&workspace, &["rev-parse", "HEAD^"]), first.id);
    let _: PushAnswer = push(&agentd, &second.id).json();
}

#[test]
fn hostile_settings_of_the_repository_run_nothing() {
    let (agentd, base) = synced();
    let workspace = agentd.path("workspace");
    let trap = agentd.path("trap");
    let spring = format!("touch {}; cat", trap.display());
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "diff.external",
        "diff.evil.textconv",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "filter.a b.clean",
        "credential.helper",
        "gpg.program",
        "core.editor",
        "trailer.x.cmd",
    ] {
        git(&workspace, &["config", key, &spring]);
    }
    git(&workspace, &["config", "core.alternateRefsCommand", &spring]);
    git(&workspace, &["config", "protocol.ext.allow", "always"]);
    git(&workspace, &["config", "filter.evil.required", "true"]);
    git(&workspace, &["config", "commit.gpgSign", "true"]);
    git(&workspace, &["config", "core.worktree", "/"]);
    let hooks = workspace.join(".git/hooks");
    std::fs::create_dir_all(&hooks).expect("made");
    for hook in ["pre-commit", "post-commit", "pre-push", "reference-transaction", "post-checkout"]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let path = hooks.join(hook);
        std::fs::write(&path, format!("#!/bin/sh\n{spring}\n")).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    }
    std::fs::write(
        workspace.join(".gitattributes"),
        "*.txt filter=evil diff=evil\nb filter=\"a b\"\n",
    )
    .expect("written");
    std::fs::write(workspace.join("a.txt"), "text\n").expect("written");
    let diff = agentd.get(&format!("/v1/workspace/diff?base={base}"));
    assert!(String::from_utf8_lossy(&diff.body).contains("+text"));
    let made = commit(&agentd, &base, PromptId::new()).expect("a commit");
    let _: PushAnswer = push(&agentd, &made.id).json();
    assert!(!trap.exists(), "a program of the repository's settings ran");
    let remote = agentd.path("remotes/one.git");
    assert_eq!(git(&remote, &["show", &format!("{BRANCH}:a.txt")]), "text");
}

#[test]
fn a_rewritten_address_leads_to_no_program() {
    let (agentd, base) = synced();
    let workspace = agentd.path("workspace");
    let trap = agentd.path("trap");
    std::fs::write(workspace.join("a.txt"), "text\n").expect("written");
    let made = commit(&agentd, &base, PromptId::new()).expect("a commit");
    let program = format!("url.ext::touch {} .insteadOf", trap.display());
    git(&workspace, &["config", "protocol.ext.allow", "always"]);
    git(&workspace, &["config", &program, "file://"]);
    let refused = push(&agentd, &made.id);
    assert_ne!(refused.status, 200);
    let said = String::from_utf8_lossy(&refused.body).into_owned();
    assert!(said.contains("ext"), "{said}");
    assert!(!trap.exists(), "the address was carried out");
}

#[test]
fn a_filter_that_cannot_be_switched_off_stops_the_work() {
    let (agentd, base) = synced();
    let workspace = agentd.path("workspace");
    let trap = agentd.path("trap");
    let spring = format!("touch {}; cat", trap.display());
    git(&workspace, &["config", "filter.a=b.clean", &spring]);
    std::fs::write(workspace.join(".gitattributes"), "*.txt filter=a=b\n").expect("written");
    std::fs::write(workspace.join("a.txt"), "text\n").expect("written");
    let diff = agentd.get(&format!("/v1/workspace/diff?base={base}"));
    let said = String::from_utf8_lossy(&diff.body).into_owned();
    assert!(said.contains("a=b"), "{said}");
    assert!(!trap.exists(), "the filter ran");
}

#[test]
fn the_diff_shows_new_and_odd_files_and_touches_no_index() {
    let (agentd, base) = synced();
    let workspace = agentd.path("workspace");
    std::fs::write(workspace.join("new"), "fresh\n").expect("written");
    std::fs::write(workspace.join("data.bin"), [0, 159, 146, 150]).expect("written");
    std::fs::remove_file(workspace.join("README.md")).expect("removed");
    let before = git(&workspace, &["status", "--porcelain"]);
    let diff = agentd.get(&format!("/v1/workspace/diff?base={base}"));
    let text = String::from_utf8_lossy(&diff.body);
    assert!(text.contains("+fresh") && text.contains("-hello"), "{text}");
    assert!(text.contains("GIT binary patch"), "{text}");
    assert_eq!(git(&workspace, &["status", "--porcelain"]), before);
    assert_eq!(agentd.get("/v1/workspace/diff?base=HEAD").status, 400);
}

#[test]
fn the_remotes_refusal_is_passed_on() {
    use std::os::unix::fs::PermissionsExt as _;

    let (agentd, base) = synced();
    let hook = agentd.path("remotes/one.git/hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().expect("hooks")).expect("made");
    std::fs::write(&hook, "#!/bin/sh\necho not on my watch >&2\nexit 1\n").expect("written");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("set");
    std::fs::write(agentd.path("workspace/a"), "a").expect("written");
    let made = commit(&agentd, &base, PromptId::new()).expect("a commit");
    let failure = push(&agentd, &made.id).failure();
    assert!(failure.contains("not on my watch"), "{failure}");
}

#[test]
fn lfs_and_submodules_are_named_as_left_out() {
    let (agentd, _) = prepared();
    let source = agentd.path("source");
    std::fs::write(source.join(".gitattributes"), "*.psd filter=lfs diff=lfs merge=lfs -text\n")
        .expect("written");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
    std::fs::write(source.join("a.psd"), pointer).expect("written");
    std::fs::write(source.join(".gitmodules"), "").expect("written");
    git(&source, &["add", "-A"]);
    git(&source, &["commit", "--quiet", "-m", "large"]);
    let remote = agentd.path("remotes/one.git").display().to_string();
    git(&source, &["push", "--quiet", &remote, "HEAD:main"]);
    let _: SyncAnswer = sync(&agentd, &git(&source, &["rev-parse", "HEAD"])).json();
    assert_eq!(std::fs::read_to_string(agentd.path("workspace/a.psd")).expect("there"), pointer);
    let mut told = Vec::new();
    for (_, report) in agentd.reports_until(
        0,
        |report| matches!(report, Report::Notice { text, .. } if text.contains("submodules")),
    ) {
        if let Report::Notice { text, .. } = report {
            told.push(text);
        }
    }
    assert!(told[0].contains("Git LFS"), "{told:?}");
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_committed() {
    let (agentd, base) = synced();
    let workspace = agentd.path("workspace");
    std::fs::write(workspace.join("fine"), "x").expect("written");
    let inner = workspace.join("inner");
    std::fs::create_dir(&inner).expect("made");
    git(&inner, &["init", "--quiet"]);
    let made = commit(&agentd, &base, PromptId::new()).expect("a commit");
    assert!(made.files.iter().any(|file| file.path == "fine"), "{:?}", made.files);
}
