//! What is pushed is looked at before a reference moves.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/server.rs"]
mod server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{commit, git, git_command, write};
use forge::{Access, Inspection, Inspector, Local};
use protocol::repository::RepositoryName;
use server::Server;

/// Finds a word, while it is told to.
#[derive(Debug)]
struct Finder(AtomicBool);

struct Finding(Vec<u8>);

impl Inspector for Finder {
    fn begin(&self) -> Option<Box<dyn Inspection>> {
        self.0.load(Ordering::Relaxed).then(|| Box::new(Finding(Vec::new())) as Box<_>)
    }
}

impl Inspection for Finding {
    fn start(&mut self) {
        self.0.clear();
    }

    fn feed(&mut self, piece: &[u8]) -> Option<String> {
        self.0.extend_from_slice(piece);
        let found = self.0.windows(9).any(|nine| nine == b"FORBIDDEN");
        found.then(|| "the word".to_owned())
    }
}

struct World {
    directory: tempfile::TempDir,
    server: Server,
    local: Local,
    finder: Arc<Finder>,
}

fn with_file(repository: &Path, name: &str, contents: &str) {
    write(repository, name, contents);
    commit(repository, &format!("adds {name}"));
}

fn name() -> RepositoryName {
    "local/project".parse().unwrap()
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        std::fs::create_dir(&source).unwrap();
        git(&source, &["init", "-q", "-b", "main"]);
        with_file(&source, "README.md", "of old FORBIDDEN\n");
        let local = Local::open(directory.path().join("forge")).await.unwrap();
        local.import(&source, &name()).await.unwrap();
        let finder = Arc::new(Finder(AtomicBool::new(true)));
        local.inspect_pushes(Arc::clone(&finder) as Arc<_>);
        let server = Server::start(local.clone(), Access::Write).await;
        let world = Self { directory, server, local, finder };
        let url = world.server.url(&name());
        let clone = world.clone_path();
        tokio::task::spawn_blocking(move || {
            git(Path::new("/"), &["clone", "-q", &url, clone.to_str().unwrap()]);
        })
        .await
        .unwrap();
        world
    }

    fn clone_path(&self) -> std::path::PathBuf {
        self.directory.path().join("clone")
    }

    /// Pushes and gives what git says when it is refused.
    async fn push(&self, branch: &'static str) -> Result<(), String> {
        let clone = self.clone_path();
        let output = tokio::task::spawn_blocking(move || {
            let reference = format!("HEAD:refs/heads/{branch}");
            git_command(&clone).args(["push", "-q", "origin", &reference]).output().unwrap()
        });
        let output = output.await.unwrap();
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).replace('\n', " "))
    }

    fn pipes(&self) -> usize {
        let incoming = self.directory.path().join("forge/.hangar/incoming");
        std::fs::read_dir(incoming).unwrap().count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_refused_for_what_it_brings_and_for_nothing_older() {
    let world = World::new().await;
    let clone = world.clone_path();
    with_file(&clone, "good.txt", "fine\n");
    world.push("hangar/1").await.unwrap();

    std::fs::create_dir(clone.join("deep")).unwrap();
    with_file(&clone, "deep/bad.bin", &("x".repeat(300_000) + "FORBIDDEN"));
    let said = world.push("hangar/2").await.unwrap_err();
    assert!(said.contains("the file deep/bad.bin contains the word"), "{said}");
    assert!(world.local.resolve(&name(), "hangar/2").await.is_err(), "no reference moved");
    let forge = world.local.repository_directory(&name()).unwrap();
    let third = git(&clone, &["rev-parse", "HEAD"]);
    let there = git_command(&forge).args(["cat-file", "-e", third.trim()]).output().unwrap();
    assert!(!there.status.success(), "what was refused was thrown away");

    // Taking it out of the newest commit is not enough: the one before still has it.
    git(&clone, &["rm", "-q", "deep/bad.bin"]);
    git(&clone, &["commit", "-q", "-m", "fourth"]);
    let said = world.push("hangar/2").await.unwrap_err();
    assert!(said.contains("deep/bad.bin"), "{said}");
    git(&clone, &["reset", "-q", "--soft", "HEAD~2"]);
    git(&clone, &["commit", "-q", "--allow-empty", "-m", "fifth"]);
    world.push("hangar/2").await.unwrap();

    git(&clone, &["commit", "-q", "--allow-empty", "-m", "a FORBIDDEN message"]);
    let said = world.push("hangar/3").await.unwrap_err();
    assert!(said.contains("the message of a commit"), "{said}");
    // While there is nothing to look for, nobody looks.
    world.finder.0.store(false, Ordering::Relaxed);
    world.push("hangar/3").await.unwrap();
    let waiting = std::time::Instant::now();
    while world.pipes() > 0 {
        assert!(waiting.elapsed().as_secs() < 10, "pipes stay behind");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_cannot_run_refuses_instead_of_being_passed_over() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new().await;
    with_file(&world.clone_path(), "good.txt", "fine\n");
    let hook = world.directory.path().join("forge/.hangar/hooks/pre-receive");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o644)).unwrap();
    let said = world.push("hangar/1").await.unwrap_err();
    assert!(said.contains("500"), "{said}");
    assert!(world.local.resolve(&name(), "hangar/1").await.is_err());
}
