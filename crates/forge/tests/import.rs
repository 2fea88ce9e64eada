//! Importing and refreshing repositories nobody prepared.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{commit, git, write};
use forge::{Error, Imported, Local, Notice};
use protocol::repository::RepositoryName;

struct Bench {
    directory: tempfile::TempDir,
    local: Local,
}

impl Bench {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let local = Local::open(directory.path().join("forge")).await.unwrap();
        Self { directory, local }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    async fn import(&self, path: &Path) -> Result<Imported, Error> {
        self.local.import(path, &name()).await
    }

    fn bare(&self) -> PathBuf {
        self.local.repository_directory(&name()).unwrap()
    }

    fn branches(&self) -> Vec<String> {
        let listed =
            git(&self.bare(), &["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
        listed.lines().map(str::to_owned).collect()
    }
}

fn name() -> RepositoryName {
    "local/it".parse().unwrap()
}

#[tokio::test]
async fn a_small_repository_arrives_whole() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    git(&source, &["branch", "other", "HEAD~1"]);
    let imported = bench.import(&source).await.unwrap();
    let head = git(&source, &["rev-parse", "HEAD"]);
    let expected = Imported {
        name: name(),
        default_branch: "main".into(),
        head: head.clone(),
        notices: vec![],
    };
    assert_eq!(imported, expected);
    assert_eq!(bench.branches(), ["main", "other"]);
    assert_eq!(git(&bench.bare(), &["tag"]), "v1");
    let local = &bench.local;
    assert_eq!(local.resolve(&name(), "HEAD").await.unwrap(), head);
    assert_eq!(local.resolve(&name(), "main").await.unwrap(), head);
    assert_eq!(local.source(&name()).await.unwrap(), source.canonicalize().unwrap());
    assert!(local.objects_directory(&name()).unwrap().join("pack").is_dir());
    for nonsense in
        ["", "main~1", "main^{tree}", "../main", "refs/heads/main", "v1", "a b", "-x", &head]
    {
        let error = local.resolve(&name(), nonsense).await.unwrap_err();
        assert!(matches!(error, Error::NoSuchBranch { .. }), "{nonsense}: {error}");
    }
    git(&bench.bare(), &["fsck", "--strict"]);
}

#[tokio::test]
async fn a_dirty_tree_is_not_touched_and_nothing_uncommitted_arrives() {
    let bench = Bench::new().await;
    let source = common::dirty(bench.path());
    let before = common::fingerprint(&source);
    bench.import(&source).await.unwrap();
    bench.local.refresh(&name()).await.unwrap();
    assert!(before == common::fingerprint(&source), "the source was changed");
    assert_eq!(bench.branches(), ["main"]);
    let bare = bench.bare();
    let objects = git(&bare, &["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    assert!(objects.lines().count() > 5);
    for object in objects.lines() {
        let contents = git(&bare, &["cat-file", "-p", object]);
        assert!(!contents.contains("SECRET") && !contents.contains("stashed.txt"), "{contents}");
    }
}

#[tokio::test]
async fn a_hostile_repository_runs_nothing() {
    let bench = Bench::new().await;
    let marker = bench.path().join("ran");
    let source = common::hostile(bench.path(), &marker);
    drop(std::fs::remove_file(&marker));
    bench.import(&source).await.unwrap();
    write(&source, "more.txt", "more\n");
    bench.local.refresh(&name()).await.unwrap();
    assert!(!marker.exists(), "ran: {}", std::fs::read_to_string(&marker).unwrap());
    // The trap works: the same repository does run its programs for a careless git.
    drop(common::git_command(&source).args(["status"]).output().unwrap());
    assert!(marker.exists(), "the trap is not set");
}

#[tokio::test]
async fn a_partial_clone_is_refused() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    git(&source, &["config", "uploadpack.allowFilter", "true"]);
    let url = format!("file://{}", source.display());
    git(
        bench.path(),
        &["clone", "--quiet", "--filter=blob:none", "--no-checkout", &url, "partial"],
    );
    let error = bench.import(&bench.path().join("partial")).await.unwrap_err();
    assert!(matches!(error, Error::PartialClone { .. }), "{error}");
}

#[tokio::test]
async fn a_detached_head_becomes_a_branch_that_follows_it() {
    let bench = Bench::new().await;
    let source = common::detached(bench.path());
    let imported = bench.import(&source).await.unwrap();
    assert_eq!(imported.default_branch, "detached-head");
    assert_eq!(imported.head, git(&source, &["rev-parse", "HEAD"]));
    assert!(matches!(&imported.notices[..], [Notice::Detached { .. }]), "{imported:?}");
    write(&source, "next.txt", "next\n");
    let next = commit(&source, "next");
    assert_eq!(bench.local.refresh(&name()).await.unwrap().head, next);
    git(&source, &["checkout", "--quiet", "main"]);
    let back = bench.local.refresh(&name()).await.unwrap();
    assert_eq!((back.default_branch.as_str(), back.head), ("detached-head", next));
}

#[tokio::test]
async fn a_detached_head_at_a_branch_is_that_branch() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    git(&source, &["branch", "aaa"]);
    git(&source, &["checkout", "--quiet", "--detach"]);
    let imported = bench.import(&source).await.unwrap();
    assert_eq!((imported.default_branch.as_str(), imported.notices), ("main", vec![]));
    assert_eq!(bench.branches(), ["aaa", "main"]);
}

#[tokio::test]
async fn a_linked_worktree_brings_its_own_head() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    let tree = bench.path().join("tree");
    git(&source, &["worktree", "add", "--quiet", "-b", "feature", tree.to_str().unwrap()]);
    write(&tree, "feature.txt", "feature\n");
    let head = commit(&tree, "feature");
    let imported = bench.import(&tree).await.unwrap();
    assert_eq!((imported.default_branch.as_str(), imported.head), ("feature", head));
    assert_eq!(bench.branches(), ["feature", "main"]);
}

#[tokio::test]
async fn a_bare_repository_is_a_source_too() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    git(bench.path(), &["clone", "--quiet", "--bare", source.to_str().unwrap(), "bare.git"]);
    let imported = bench.import(&bench.path().join("bare.git")).await.unwrap();
    assert_eq!(imported.head, git(&source, &["rev-parse", "HEAD"]));
    let inside = bench.path().join("bare.git/objects");
    let error = bench.import(&inside).await.unwrap_err();
    assert!(matches!(error, Error::InsideARepository { .. }), "{error}");
}

#[tokio::test]
async fn a_directory_inside_a_repository_names_the_root() {
    let bench = Bench::new().await;
    let source = common::small(bench.path()).canonicalize().unwrap();
    for inside in ["src", ".git", ".git/objects"] {
        let error = bench.import(&source.join(inside)).await.unwrap_err();
        assert!(matches!(&error, Error::InsideARepository { .. }), "{inside}: {error}");
        assert!(error.to_string().contains("name that directory instead"), "{error}");
    }
    let error = bench.import(&source.join("src")).await.unwrap_err();
    assert!(error.to_string().contains(source.to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn what_is_no_repository_gets_a_sentence() {
    let bench = Bench::new().await;
    let plain = bench.path().join("plain");
    std::fs::create_dir(&plain).unwrap();
    std::fs::write(plain.join("file"), "").unwrap();
    std::os::unix::fs::symlink("circle", plain.join("circle")).unwrap();
    let empty = common::empty(bench.path());
    for (path, sentence) in [
        (bench.path().join("nothing"), "there is nothing at"),
        (plain.clone(), "is not a Git repository"),
        (plain.join("file"), "is not a Git repository"),
        (plain.join("file/below"), "could not read"),
        (plain.join("circle"), "could not read"),
        (empty, "make a first one"),
    ] {
        let error = bench.import(&path).await.unwrap_err().to_string();
        assert!(error.contains(sentence), "{}: {error}", path.display());
    }
    let left = bench.path().join("forge/.hangar/incoming");
    assert_eq!(std::fs::read_dir(left).unwrap().count(), 0);
    let error = bench.local.resolve(&name(), "HEAD").await.unwrap_err();
    assert!(matches!(error, Error::NoSuchRepository { .. }), "{error}");
}

#[tokio::test]
async fn an_unborn_branch_gives_way_to_one_with_commits() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    git(&source, &["checkout", "--quiet", "--orphan", "fresh"]);
    let imported = bench.import(&source).await.unwrap();
    assert_eq!(imported.default_branch, "main");
    assert_eq!(imported.notices, [Notice::UnbornBranch { branch: "main".into() }]);
}

#[tokio::test]
async fn a_shallow_clone_works_and_can_be_completed() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    let url = format!("file://{}", source.display());
    git(bench.path(), &["clone", "--quiet", "--depth=1", &url, "shallow"]);
    let shallow = bench.path().join("shallow");
    let imported = bench.import(&shallow).await.unwrap();
    assert_eq!(imported.notices, [Notice::Shallow]);
    assert!(bench.local.is_shallow(&name()).unwrap());
    assert_eq!(git(&bench.bare(), &["rev-list", "--count", "main"]), "1");
    write(&shallow, "more.txt", "more\n");
    let head = commit(&shallow, "more");
    assert_eq!(bench.local.refresh(&name()).await.unwrap().head, head);
    git(&shallow, &["fetch", "--quiet", "--unshallow"]);
    assert_eq!(bench.local.refresh(&name()).await.unwrap().notices, []);
    assert!(!bench.local.is_shallow(&name()).unwrap());
    assert_eq!(git(&bench.bare(), &["rev-list", "--count", "main"]), "3");
}

#[tokio::test]
async fn submodules_and_pointers_are_kept_and_said() {
    let bench = Bench::new().await;
    let imported = bench.import(&common::submodule(bench.path())).await.unwrap();
    assert_eq!(imported.notices, [Notice::Submodules { count: 1 }]);
    assert!(git(&bench.bare(), &["ls-tree", "main"]).contains("160000 commit"));
    let pointers = common::lfs_pointer(bench.path());
    let other: RepositoryName = "local/lfs".parse().unwrap();
    let imported = bench.local.import(&pointers, &other).await.unwrap();
    assert_eq!(imported.notices, [Notice::LargeFileStorage]);
    let path = "assets/big.bin";
    let pointer = bench.local.read_file(&other, &imported.head, path, 1000).await.unwrap().unwrap();
    assert!(pointer.starts_with(b"version https://git-lfs"), "{pointer:?}");
}

#[tokio::test]
async fn a_sha256_repository_works() {
    let bench = Bench::new().await;
    let source = bench.path().join("long ids");
    std::fs::create_dir(&source).unwrap();
    git(&source, &["init", "--quiet", "--object-format=sha256"]);
    write(&source, "a", "a\n");
    let head = commit(&source, "first");
    assert_eq!(head.len(), 64);
    assert_eq!(bench.import(&source).await.unwrap().head, head);
}

#[tokio::test]
async fn branches_named_like_ours_stay_behind() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    git(&source, &["branch", "hangar/mine"]);
    git(&source, &["branch", "hangar/deep/er"]);
    let imported = bench.import(&source).await.unwrap();
    assert_eq!(imported.notices, [Notice::SessionBranches { count: 2 }]);
    assert_eq!(bench.branches(), ["main"]);
    git(&source, &["checkout", "--quiet", "hangar/mine"]);
    // Looking at a session's branch does not keep anybody from refreshing.
    assert_eq!(bench.local.refresh(&name()).await.unwrap().default_branch, "main");
    let other: RepositoryName = "local/other".parse().unwrap();
    let error = bench.local.import(&source, &other).await.unwrap_err();
    assert!(matches!(error, Error::BranchNotUsable { .. }), "{error}");
}

#[tokio::test]
async fn a_refresh_follows_the_source_and_spares_what_is_ours() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    git(&source, &["branch", "gone"]);
    git(&source, &["branch", "rewritten"]);
    bench.import(&source).await.unwrap();
    let ours = git(&source, &["rev-parse", "main~1"]);
    git(&bench.bare(), &["update-ref", "refs/heads/hangar/12345678-x", &ours]);
    // A merge made here, which the source does not have.
    let tree = git(&bench.bare(), &["rev-parse", "main^{tree}"]);
    let merge = git(&bench.bare(), &["commit-tree", &tree, "-p", "main", "-m", "merge"]);
    git(&bench.bare(), &["update-ref", "refs/heads/main", &merge]);

    git(&source, &["branch", "-D", "gone"]);
    git(&source, &["branch", "gone/deeper"]);
    git(&source, &["branch", "-f", "rewritten", "main~1"]);
    let refreshed = bench.local.refresh(&name()).await.unwrap();
    assert_eq!((refreshed.head.as_str(), &refreshed.notices[..]), (merge.as_str(), &[][..]));
    let branches = ["gone/deeper", "hangar/12345678-x", "main", "rewritten"];
    assert_eq!(bench.branches(), branches);
    assert_eq!(bench.local.resolve(&name(), "rewritten").await.unwrap(), ours);
    assert_eq!(bench.local.resolve(&name(), "hangar/12345678-x").await.unwrap(), ours);

    // Both moved: ours stays and a person is told.
    write(&source, "theirs.txt", "theirs\n");
    commit(&source, "theirs");
    let refreshed = bench.local.refresh(&name()).await.unwrap();
    assert_eq!(refreshed.head, merge);
    assert_eq!(refreshed.notices, [Notice::Diverged { branch: "main".into() }]);

    // The source takes ours in: from then on it is followed again.
    git(
        &source,
        &["pull", "--quiet", "--no-rebase", "--no-edit", bench.bare().to_str().unwrap(), "main"],
    );
    let refreshed = bench.local.refresh(&name()).await.unwrap();
    assert_eq!(refreshed.head, git(&source, &["rev-parse", "main"]));
    assert_eq!(refreshed.notices, []);
}

#[tokio::test]
async fn a_name_belongs_to_one_source_and_importing_again_refreshes() {
    let bench = Bench::new().await;
    let source = common::small(bench.path());
    bench.import(&source).await.unwrap();
    write(&source, "more.txt", "more\n");
    let head = commit(&source, "more");
    assert_eq!(bench.import(&source).await.unwrap().head, head);
    let other = common::symlinks(bench.path());
    let error = bench.import(&other).await.unwrap_err();
    assert!(matches!(error, Error::NameTaken { .. }), "{error}");
}

#[tokio::test]
async fn odd_names_survive_and_files_are_read_bounded() {
    let bench = Bench::new().await;
    let source = common::odd_names(bench.path());
    let imported = bench.import(&source).await.unwrap();
    let (ours, theirs) = (
        git(&bench.bare(), &["rev-parse", "main^{tree}"]),
        git(&source, &["rev-parse", "HEAD^{tree}"]),
    );
    assert_eq!(ours, theirs);
    let local = &bench.local;
    for file in common::odd_file_names() {
        let Some(path) = file.to_str() else { continue };
        let found = local.read_file(&name(), &imported.head, path, 100).await.unwrap();
        assert_eq!(found.as_deref(), Some(path.as_bytes()), "{path:?}");
    }
    for absent in ["nothing", "", "/etc/passwd", "../x", "dir with space", "*"] {
        let found = local.read_file(&name(), &imported.head, absent, 100).await;
        assert!(matches!(found, Ok(None) | Err(Error::Git { .. })), "{absent:?}: {found:?}");
    }
    let error = local.read_file(&name(), &imported.head, "with space", 3).await.unwrap_err();
    assert!(matches!(error, Error::FileTooLarge { bytes: 10, .. }), "{error}");
    for commit in ["HEAD", "main", "--help", "ffffffffffffffffffffffffffffffffffffffff"] {
        let error = local.read_file(&name(), commit, "with space", 100).await.unwrap_err();
        assert!(matches!(error, Error::NoSuchCommit { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_symbolic_link_is_no_file_of_the_repository() {
    let bench = Bench::new().await;
    let imported = bench.import(&common::symlinks(bench.path())).await.unwrap();
    for link in ["hangar.toml", "out", "circle", "nowhere"] {
        let found = bench.local.read_file(&name(), &imported.head, link, 10_000).await.unwrap();
        assert_eq!(found, None, "{link}");
    }
    let real = bench.local.read_file(&name(), &imported.head, "real.txt", 10_000).await.unwrap();
    assert_eq!(real.as_deref(), Some(b"real\n".as_slice()));
}

#[tokio::test]
async fn an_interrupted_import_leaves_nothing_after_the_next_start() {
    let bench = Bench::new().await;
    let left = bench.path().join("forge/.hangar/incoming/req_left");
    std::fs::create_dir_all(left.join("objects")).unwrap();
    let source = common::small(bench.path());
    bench.import(&source).await.unwrap();
    let again = Local::open(bench.path().join("forge")).await.unwrap();
    assert!(!left.exists());
    assert!(again.resolve(&name(), "HEAD").await.is_ok());
}

#[tokio::test]
async fn fifty_thousand_files_and_as_many_commits_arrive() {
    let bench = Bench::new().await;
    let imported = bench.import(&common::many_files(bench.path(), 50_000)).await.unwrap();
    let path = "d499/f49999.txt";
    let last = bench.local.read_file(&name(), &imported.head, path, 100).await.unwrap();
    assert_eq!(last.as_deref(), Some(b"file 49999\n".as_slice()));
    let long: RepositoryName = "local/long".parse().unwrap();
    let source = common::many_commits(bench.path(), 50_000);
    bench.local.import(&source, &long).await.unwrap();
    let bare = bench.local.repository_directory(&long).unwrap();
    assert_eq!(git(&bare, &["rev-list", "--count", "main"]), "50000");
}

/// Set in the process that is killed, to the directory it works in.
const KILLED: &str = "FORGE_TEST_KILLED";

/// Processes of git that read the configuration of the forge in `directory`.
fn processes(directory: &Path) -> usize {
    let configuration = directory.join("forge/.hangar/gitconfig");
    let needle = format!("GIT_CONFIG_GLOBAL={}", configuration.display());
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let environments = entries.filter_map(|entry| std::fs::read(entry.path().join("environ")).ok());
    environments
        .filter(|found| {
            found.split(|byte| *byte == 0).any(|variable| variable == needle.as_bytes())
        })
        .count()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let patience = std::time::Duration::from_mins(1);
    tokio::time::timeout(patience, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_killed_server_leaves_no_git_behind() {
    if let Some(directory) = std::env::var_os(KILLED) {
        let directory = PathBuf::from(directory);
        let local = Local::open(directory.join("forge")).await.unwrap();
        local.import(&directory.join("long"), &name()).await.unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    common::many_commits(&path, 50_000);
    let mut server = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_killed_server_leaves_no_git_behind"])
        .env(KILLED, &path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // The pack arrives: from here to the branches is most of the work.
    let incoming = path.join("forge/.hangar/incoming");
    let receiving = || {
        let made = std::fs::read_dir(&incoming).into_iter().flatten().filter_map(Result::ok);
        let mut packs = made.filter_map(|made| made.path().join("objects/pack").read_dir().ok());
        packs.any(|mut files| files.next().is_some())
    };
    until("nothing was received", receiving).await;
    server.kill().unwrap();
    server.wait().unwrap();
    until("git runs on", || processes(&path) == 0).await;
    let left = std::fs::read_dir(&incoming).unwrap().next().unwrap().unwrap().path();
    assert!(!left.join("refs/hangar/source/heads/main").exists(), "git finished the orphan's work");
    let local = Local::open(path.join("forge")).await.unwrap();
    assert_eq!(std::fs::read_dir(&incoming).unwrap().count(), 0);
    local.import(&path.join("long"), &name()).await.unwrap();
}
