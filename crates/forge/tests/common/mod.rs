//! Awkward repositories, made with the real git, for tests of everything that takes one.
//!
//! Needs nothing but the standard library and `git`, so that other crates' tests can include this
//! file by path.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a fixture that cannot be made is a failed test")]

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A git command that is deaf to the machine's configuration and writes as a fixed person.
pub fn git_command(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", "/nonexistent")
        .env("LC_ALL", "C")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Ada Test")
        .env("GIT_AUTHOR_EMAIL", "ada@example.com")
        .env("GIT_COMMITTER_NAME", "Ada Test")
        .env("GIT_COMMITTER_EMAIL", "ada@example.com")
        .env("GIT_AUTHOR_DATE", "1700000000 +0000")
        .env("GIT_COMMITTER_DATE", "1700000000 +0000")
        .args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main"])
        .stdin(Stdio::null());
    command
}

/// Runs git, which must succeed: its standard output without the last line end.
#[track_caller]
pub fn git<S: AsRef<OsStr>>(directory: &Path, arguments: &[S]) -> String {
    let output = git_command(directory).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let asked: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_owned()).collect();
    assert!(output.status.success(), "git {asked:?} in {}: {said}", directory.display());
    String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
}

/// Runs git, which must fail: its standard error.
#[track_caller]
pub fn git_fails(directory: &Path, arguments: &[&str]) -> String {
    let output = git_command(directory).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "git {arguments:?} succeeded: {said}");
    said
}

/// Writes a file, making its directories.
pub fn write(directory: &Path, name: impl AsRef<OsStr>, contents: impl AsRef<[u8]>) {
    let path = directory.join(Path::new(name.as_ref()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

/// Commits everything in a working tree: the commit's id.
pub fn commit(directory: &Path, message: &str) -> String {
    git(directory, &["add", "--all"]);
    git(directory, &["commit", "--quiet", "--allow-empty", "-m", message]);
    git(directory, &["rev-parse", "HEAD"])
}

fn made(parent: &Path, name: &str) -> PathBuf {
    let path = parent.join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// A repository without any commit.
pub fn empty(parent: &Path) -> PathBuf {
    let path = made(parent, "empty");
    git(&path, &["init", "--quiet"]);
    path
}

/// A small repository with two commits on `main` and a tag.
pub fn small(parent: &Path) -> PathBuf {
    let path = made(parent, "small");
    git(&path, &["init", "--quiet"]);
    write(&path, "README.md", "# Small\n\nA small repository.\n");
    write(&path, "src/main.c", "int main(void) {\n    return 0;\n}\n");
    commit(&path, "first");
    git(&path, &["tag", "-a", "v1", "-m", "one"]);
    write(&path, "src/main.c", "int main(void) {\n    return 1;\n}\n");
    commit(&path, "second");
    path
}

/// On no branch, at a commit that no branch has.
pub fn detached(parent: &Path) -> PathBuf {
    let path = made(&made(parent, "detached"), "work");
    let small = small(&path);
    git(&small, &["checkout", "--quiet", "--detach"]);
    write(&small, "only-here.txt", "on no branch\n");
    commit(&small, "on no branch");
    small
}

/// With a stash, staged, changed, deleted, untracked and ignored files, a remote and a hook.
pub fn dirty(parent: &Path) -> PathBuf {
    let path = small(&made(parent, "dirty"));
    write(&path, ".gitignore", "*.log\n");
    commit(&path, "ignore logs");
    write(&path, "stashed.txt", "STASHED SECRET\n");
    git(&path, &["add", "stashed.txt"]);
    git(&path, &["stash", "push", "--quiet"]);
    write(&path, "staged.txt", "STAGED SECRET\n");
    git(&path, &["add", "staged.txt"]);
    write(&path, "README.md", "# Changed, not committed\n");
    std::fs::remove_file(path.join("src/main.c")).unwrap();
    write(&path, "untracked.txt", "UNTRACKED SECRET\n");
    write(&path, "debug.log", "ignored\n");
    git(&path, &["remote", "add", "origin", "https://example.invalid/x.git"]);
    git(&path, &["update-ref", "refs/remotes/origin/main", "HEAD"]);
    path
}

/// With one submodule.
pub fn submodule(parent: &Path) -> PathBuf {
    let root = made(parent, "submodule");
    let inner = small(&root);
    let path = made(&root, "outer");
    git(&path, &["init", "--quiet"]);
    let inner = inner.to_str().unwrap();
    git(&path, &["submodule", "--quiet", "add", inner, "vendored"]);
    commit(&path, "with a submodule");
    path
}

/// With a pointer of Git LFS; made by hand, so Git LFS need not be installed.
pub fn lfs_pointer(parent: &Path) -> PathBuf {
    let path = made(parent, "lfs");
    git(&path, &["init", "--quiet"]);
    write(&path, "assets/.gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    let digest = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
    let pointer = format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize 2147483648\n"
    );
    write(&path, "assets/big.bin", pointer);
    commit(&path, "with a pointer");
    path
}

/// The names in [`odd_names`].
pub fn odd_file_names() -> Vec<OsString> {
    let mut names: Vec<OsString> = [
        "with space",
        " leading",
        "trailing ",
        "new\nline",
        "tab\there",
        "quote\"d",
        "back\\slash",
        "-dash",
        "--option=x",
        ":colon",
        "*star*",
        "[set]",
        "$(touch pwned)",
        "ünïcödé",
        "日本語",
        "dir with space/new\nline/file",
        "\u{7}bell",
        "CON",
        "%41",
        "a;b",
        "a&b",
        "~home",
        "#hash",
    ]
    .into_iter()
    .map(OsString::from)
    .collect();
    names.push(OsString::from_vec(b"not-utf8-\xff\xfe.txt".to_vec()));
    names.push(OsString::from_vec(b"latin1-caf\xe9/\xe9.txt".to_vec()));
    names
}

/// Files whose names break careless programs, each holding its own name.
pub fn odd_names(parent: &Path) -> PathBuf {
    let path = made(parent, "odd names");
    git(&path, &["init", "--quiet"]);
    for name in odd_file_names() {
        write(&path, &name, name.as_bytes());
    }
    commit(&path, "odd names");
    path
}

/// With symbolic links out of the tree, to nowhere, in a circle, and a `hangar.toml` that is one.
pub fn symlinks(parent: &Path) -> PathBuf {
    let path = made(parent, "symlinks");
    git(&path, &["init", "--quiet"]);
    write(&path, "real.txt", "real\n");
    for (name, target) in [
        ("out", "../../../../../../etc/passwd"),
        ("absolute", "/etc/passwd"),
        ("nowhere", "does/not/exist"),
        ("circle", "circle"),
        ("directory", "/etc"),
        ("hangar.toml", "/etc/passwd"),
    ] {
        std::os::unix::fs::symlink(target, path.join(name)).unwrap();
    }
    commit(&path, "symbolic links");
    path
}

/// With one file of `bytes` bytes that do not compress, written piece by piece.
pub fn large_file(parent: &Path, bytes: u64) -> PathBuf {
    let path = made(parent, "large");
    git(&path, &["init", "--quiet"]);
    git(&path, &["config", "core.compression", "0"]);
    let mut file = std::fs::File::create(path.join("large.bin")).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = bytes;
    while left > 0 {
        let mut piece = Vec::with_capacity(1 << 20);
        while piece.len() < 1 << 20 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            piece.extend_from_slice(&state.to_le_bytes());
        }
        piece.truncate(usize::try_from(left.min(1 << 20)).unwrap());
        file.write_all(&piece).unwrap();
        left -= u64::try_from(piece.len()).unwrap();
    }
    drop(file);
    write(&path, "README.md", "# Large\n");
    commit(&path, "a large file");
    path
}

/// With `files` small files in directories of a hundred, made by `fast-import` in seconds.
pub fn many_files(parent: &Path, files: usize) -> PathBuf {
    use std::fmt::Write as _;
    let path = made(parent, "many");
    git(&path, &["init", "--quiet"]);
    let mut stream = String::from("commit refs/heads/main\n");
    stream.push_str("committer Ada Test <ada@example.com> 1700000000 +0000\ndata 4\nmany\n");
    for number in 0..files {
        let contents = format!("file {number}\n");
        let directory = number / 100;
        write!(
            stream,
            "M 100644 inline d{directory}/f{number}.txt\ndata {}\n{contents}\n",
            contents.len()
        )
        .unwrap();
    }
    feed(&path, &["fast-import", "--quiet"], stream.as_bytes());
    git(&path, &["reset", "--quiet", "--hard"]);
    path
}

/// With `commits` commits on one branch, made by `fast-import` in seconds.
pub fn many_commits(parent: &Path, commits: usize) -> PathBuf {
    use std::fmt::Write as _;
    let path = made(parent, "long");
    git(&path, &["init", "--quiet"]);
    let mut stream = String::new();
    for number in 0..commits {
        let contents = format!("change {number}\n");
        write!(
            stream,
            "commit refs/heads/main\ncommitter Ada Test <ada@example.com> {} +0000\ndata <<END\n\
             change {number}\nEND\nM 100644 inline f{}.txt\ndata {}\n{contents}\n",
            1_600_000_000 + number,
            number % 50,
            contents.len()
        )
        .unwrap();
    }
    feed(&path, &["fast-import", "--quiet"], stream.as_bytes());
    git(&path, &["reset", "--quiet", "--hard"]);
    path
}

/// A repository whose configuration, hooks and attributes try to run a program that writes
/// `marker`.
pub fn hostile(parent: &Path, marker: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = small(&made(parent, "hostile"));
    write(&path, ".gitattributes", "* filter=evil diff=evil merge=evil\n");
    commit(&path, "attributes");
    let script = path.join(".git/evil");
    let text = format!("#!/bin/sh\necho \"$0 $*\" >> '{}'\nexec \"$@\"\n", marker.display());
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let program = script.to_str().unwrap();
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.askPass",
        "core.alternateRefsCommand",
        "uploadpack.packObjectsHook",
        "diff.external",
        "diff.evil.textconv",
        "diff.evil.command",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "merge.evil.driver",
        "credential.helper",
        "gpg.program",
        "sequence.editor",
        "pager.rev-parse",
        "pager.for-each-ref",
        "pager.config",
        "alias.rev-parse",
        "alias.upload-pack",
        "remote.origin.uploadpack",
    ] {
        git(&path, &["config", key, program]);
    }
    let hooks = path.join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    for hook in ["post-checkout", "reference-transaction", "post-index-change", "pre-auto-gc"] {
        std::fs::copy(&script, hooks.join(hook)).unwrap();
    }
    git(&path, &["config", "core.hooksPath", hooks.to_str().unwrap()]);
    path
}

#[track_caller]
fn feed(directory: &Path, arguments: &[&str], input: &[u8]) {
    let mut child = git_command(directory).args(arguments).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    assert!(child.wait().unwrap().success(), "git {arguments:?}");
}

/// Every file below `root` with its bytes, kind and time of change: what must not change.
pub fn fingerprint(root: &Path) -> Vec<(PathBuf, String, Vec<u8>)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let facts = format!(
            "{:o} {} {} {}.{} {}.{}",
            metadata.mode(),
            metadata.ino(),
            metadata.nlink(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ctime(),
            metadata.ctime_nsec()
        );
        let bytes = if metadata.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        if metadata.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push((path, facts, bytes));
    }
    found.sort();
    found
}
