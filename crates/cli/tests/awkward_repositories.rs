//! Repositories that break careless programs, each through the whole job with every real part: to a
//! pull request, or to a clear sentence with advice and the right exit code.

#[path = "../../forge/tests/common/mod.rs"]
mod generator;
mod support;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use generator::{fingerprint, git};
use protocol::Event;
use serde_json::Value;
use support::{Server, TryOutput, memory_peak, try_job};

/// Memory a server may need in a debug build, whatever passes through it.
const SERVER_MEMORY: u64 = 200 << 20;

/// A pull request that a job has opened, seen from the forge.
struct Offered {
    output: TryOutput,
    forge: PathBuf,
    commit: String,
}

impl Offered {
    /// The work of `prompt` on the repository at `path`, which must be exactly as it was afterwards.
    #[track_caller]
    fn by(directory: &Path, path: &Path, prompt: &str) -> Self {
        let before = fingerprint(path);
        let data = directory.join("data");
        let output = try_job(&data, path, prompt);
        let problem = format!("{:?}\n{}\n{}", output.code, output.printed, output.said);
        assert_eq!(output.code, Some(0), "{problem}");
        assert!(fingerprint(path) == before, "the repository is not as it was: {problem}");
        let document: Value = serde_json::from_str(&output.printed).expect("one JSON document");
        let field = |name: &str| document[name].as_str().expect(name).to_owned();
        let files = &document["pull_request"]["diff_stat"]["files"];
        assert!(files.as_u64() > Some(0), "{problem}");
        let forge = data.join(format!("forge/{}.git", field("repository")));
        let commit = field("commit");
        assert_eq!(git(&forge, &["rev-parse", &field("branch")]), commit);
        git(&forge, &["fsck", "--full", "--strict"]);
        Self { output, forge, commit }
    }

    /// What the commit has at a path: mode, kind and object.
    fn entry(&self, path: &str) -> String {
        git(&self.forge, &["ls-tree", "-z", "--full-tree", &self.commit, path])
    }

    /// The files that the commit changes, as Git prints them with NUL between.
    fn changed(&self) -> Vec<u8> {
        let range = ["diff-tree", "-r", "-z", "--name-only", "--no-commit-id"];
        let asked = generator::git_command(&self.forge).args(range).arg(&self.commit).output();
        asked.expect("git starts").stdout
    }
}

/// A job that must fail before anything starts: its exit code, and what it has to say.
#[track_caller]
fn refused(directory: &Path, path: &Path, code: i32, sentences: &[&str]) {
    let output = try_job(&directory.join("data"), path, "Say more");
    assert_eq!(output.code, Some(code), "{}", output.said);
    assert_eq!(output.printed, "", "errors are not data");
    for sentence in sentences {
        assert!(output.said.contains(sentence), "{sentence:?} is missing in: {}", output.said);
    }
    let sessions = std::fs::read_dir(directory.join("data/sessions")).into_iter().flatten();
    assert_eq!(sessions.count(), 0, "a session was made for nothing");
    assert!(!directory.join("data/server.json").exists(), "the server did not end in order");
}

#[test]
fn what_is_no_repository_is_told_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    refused(root, &root.join("nowhere"), 2, &["error: there is no repository at", "hint: "]);
    let plain = root.join("plain");
    std::fs::create_dir(&plain).expect("made");
    refused(root, &plain, 1, &["is not a Git repository", "git init", "hint: "]);
    std::fs::write(plain.join("file"), "text").expect("written");
    refused(root, &plain.join("file"), 1, &["is not a Git repository", "hint: "]);
    let small = generator::small(root);
    let above = format!("lies inside the repository {}", small.display());
    refused(root, &small.join("src"), 1, &[&above, "hint: "]);
    let empty = generator::empty(root);
    refused(root, &empty, 1, &["has no commit yet", "git commit", "hint: "]);
    let unnamed = root.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::rename(&small, &unnamed).expect("moved");
    refused(root, &unnamed, 2, &["is not UTF-8", "hint: "]);
}

#[test]
fn a_detached_head_is_where_work_begins() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = generator::detached(directory.path());
    let head = git(&path, &["rev-parse", "HEAD"]);
    let offered = Offered::by(directory.path(), &path, "Say more");
    assert_eq!(git(&offered.forge, &["rev-parse", &format!("{}^", offered.commit)]), head);
    assert!(offered.output.said.contains("detached"), "{}", offered.output.said);
}

#[test]
fn uncommitted_work_is_neither_touched_nor_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = generator::dirty(directory.path());
    let search = "(git log --all -p; git stash list; git remote -v; ls -a; cat *) 2>&1 | \
                  grep -e SECRET -e 'Changed, not' -e debug.log -e example.invalid; echo found $?";
    let script = format!("@@ bash {search} ;; bash echo agent >> README.md ;; say done @@END");
    let offered = Offered::by(directory.path(), &path, &script);
    let Offered { output, forge, .. } = &offered;
    // What grep ends with when it finds nothing.
    assert!(output.said.contains("│ found 1\n"), "the agent saw it: {}", output.said);
    let objects = ["cat-file", "--batch-all-objects", "--batch"];
    let all = generator::git_command(forge).args(objects).output().expect("git starts").stdout;
    assert!(!String::from_utf8_lossy(&all).contains("D SECRET"), "the forge has it");
    assert_eq!(offered.changed(), b"README.md\0");
}

#[test]
fn a_submodule_stays_at_its_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = generator::submodule(directory.path());
    let offered = Offered::by(directory.path(), &path, "Say more");
    let before = git(&path, &["ls-tree", "-z", "HEAD", "vendored"]);
    assert!(before.starts_with("160000 commit "), "{before}");
    assert_eq!(offered.entry("vendored"), before);
    assert!(offered.output.said.contains("submodule"), "{}", offered.output.said);
}

#[test]
fn pointers_of_large_file_storage_stay_pointers() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = generator::lfs_pointer(directory.path());
    let offered = Offered::by(directory.path(), &path, "Say more");
    assert_eq!(offered.entry("assets/"), git(&path, &["ls-tree", "-z", "HEAD", "assets/"]));
    assert!(offered.output.said.contains("LFS"), "{}", offered.output.said);
}

#[test]
fn odd_file_names_come_through_and_go_out_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = generator::odd_names(directory.path());
    let script = r#"@@ bash echo more >> "$(printf 'new\nline')" ;;
        bash echo more >> "$(printf 'not-utf8-\377\376.txt')" ;;
        bash echo new > "$(printf 'made \377\n\033[31m')" ;;
        bash rm -- --option=x ;; bash mv -- '*star*' '#moved#' ;; say done @@END"#;
    let offered = Offered::by(directory.path(), &path, script);
    let changed = offered.changed();
    let mut names: Vec<_> = changed.split(|byte| *byte == 0).filter(|it| !it.is_empty()).collect();
    names.sort_unstable();
    let mut expected: [&[u8]; 6] = [
        b"#moved#",
        b"*star*",
        b"--option=x",
        b"made \xff\n\x1b[31m",
        b"new\nline",
        b"not-utf8-\xff\xfe.txt",
    ];
    expected.sort_unstable();
    assert_eq!(names, expected);
    // Names are shown so that they cannot drive a terminal.
    assert!(!offered.output.said.contains('\u{1b}'), "{:?}", offered.output.said);
    let all = git(&offered.forge, &["ls-tree", "-r", "-z", "--name-only", &offered.commit]);
    assert_eq!(all.matches('\0').count(), generator::odd_file_names().len());
    assert!(!path.join("pwned").exists(), "a file's name was run");
}

#[test]
fn links_out_of_the_tree_lead_nowhere() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = generator::symlinks(directory.path());
    let passwords = std::fs::read("/etc/passwd").expect("readable");
    let script = "@@ write out pwned ;; write absolute pwned ;; write directory/pwned pwned ;; \
                  bash echo pwned > out ;; bash echo pwned > directory/pwned ;; \
                  bash echo agent >> real.txt ;; say done @@END";
    let offered = Offered::by(directory.path(), &path, script);
    assert_eq!(std::fs::read("/etc/passwd").expect("readable"), passwords);
    assert!(!Path::new("/etc/pwned").exists(), "the link led out of the sandbox");
    assert_eq!(offered.changed(), b"real.txt\0");
    for link in ["out", "absolute", "nowhere", "circle", "directory", "hangar.toml"] {
        assert!(offered.entry(link).starts_with("120000 "), "{link}: {}", offered.entry(link));
    }
}

#[test]
fn a_repository_cannot_run_programs_outside_the_sandbox() {
    let directory = tempfile::tempdir().expect("a directory");
    let marker = directory.path().join("marker");
    let path = generator::hostile(directory.path(), &marker);
    // Making it has run its own hooks.
    let _ = std::fs::remove_file(&marker);
    let offered = Offered::by(directory.path(), &path, "Say more");
    assert!(!marker.exists(), "{}", std::fs::read_to_string(&marker).unwrap_or_default());
    assert_eq!(offered.changed(), b"README.md\0");
}

#[test]
fn sha256_works_like_sha1() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("sha256");
    std::fs::create_dir(&path).expect("made");
    git(&path, &["init", "--quiet", "--object-format=sha256"]);
    generator::write(&path, "README.md", "# Longer names\n");
    generator::commit(&path, "first");
    let offered = Offered::by(directory.path(), &path, "Say more");
    assert_eq!(offered.commit.len(), 64);
}

#[test]
fn cut_off_histories_and_bare_repositories_work_and_partial_clones_are_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let small = generator::small(root);
    let address = format!("file://{}", small.display());
    git(root, &["clone", "--quiet", "--depth=1", &address, "shallow"]);
    git(root, &["clone", "--quiet", "--bare", &address, "bare.git"]);
    git(&small, &["config", "uploadpack.allowFilter", "true"]);
    git(root, &["clone", "--quiet", "--filter=blob:none", "--no-checkout", &address, "partial"]);
    refused(root, &root.join("partial"), 1, &["is a partial clone", "git clone", "hint: "]);
    Offered::by(root, &root.join("shallow"), "Say more");
    Offered::by(root, &root.join("bare.git"), "Say more");
}

#[tokio::test]
async fn a_large_file_passes_through_without_filling_memory() {
    const SIZE: u64 = 300 << 20;
    let mut server = Server::start();
    let path = server.directory.path().join("large");
    std::fs::create_dir(&path).expect("made");
    git(&path, &["init", "--quiet"]);
    generator::write(&path, "README.md", "# Large\n");
    // Holes: the size is real, the disk and the time are not.
    let file = std::fs::File::create(path.join("large.bin")).expect("made");
    file.set_len(SIZE).expect("sized");
    generator::commit(&path, "a large file");
    let repository = server.register(&path).await;
    let script = "@@ bash stat -c %s large.bin ;; bash echo agent >> README.md ;; say done @@END";
    let session = server.session(&repository, script).await.summary.id;
    let events =
        server.until(session, 0, |event| matches!(event, Event::PromptFinished { .. })).await;
    let seen = |fits: &dyn Fn(&Event) -> bool| events.iter().any(|event| fits(&event.event));
    let size = SIZE.to_string();
    assert!(
        seen(
            &|event| matches!(event, Event::ToolCallFinished { output, .. } if output.contains(&size))
        ),
        "{events:#?}"
    );
    assert!(seen(&|event| matches!(event, Event::PullRequestOffered { .. })), "{events:#?}");
    let peak = memory_peak(server.pid());
    assert!(peak < SERVER_MEMORY, "the server needed {peak} bytes");
    server.end();
}
