//! The attack program where nothing prevents it: each of its attacks is real.
//!
//! The suite in `cli` runs it inside sandboxes and takes a refusal for a wall; without this a
//! mistake in the program would pass for one.

use std::process::Command;

use crate::support::launcher;

/// Shell lines in namespaces of their own, with the program as `$A`, that must say `DONE`.
const IN_NAMESPACES: [&str; 19] = [
    "$A mount /mnt",
    "mkdir -p /tmp/e/f; $A mount-new /tmp/e",
    "mount -t tmpfs none /mnt; mount -o remount,bind,ro /mnt; $A remount /mnt",
    "mount -t tmpfs none /mnt; mount -o remount,bind,ro /mnt; $A set-attributes /mnt",
    "mount --bind /dev/null /proc/version; $A unmask /proc/version",
    "$A pivot",
    "$A chroot",
    "sleep 30 & $A trace $!",
    "sleep 30 & $A memory $!",
    "sleep 30 & $A look $!",
    "sleep 30 & $A enter $!",
    "exec 3</dev/null; sleep 30 & $A take-descriptor $! 3",
    "sleep 30 & $A signal $!",
    "sleep 30 & $A slow $!",
    "sleep 30 & $A limit $!",
    "$A name",
    "$A who",
    "$A raw",
    "$A groups",
];

/// The same with the rights of whoever runs the test.
const AS_ANYBODY: [&str; 8] = [
    "$A create $TMPDIR",
    "$A write-back $TMPDIR/hangar-was-here",
    "$A overwrite $TMPDIR/hangar-was-here",
    "$A personality",
    "$A families",
    "$A keyring hangar-attack",
    "$A abstract-listen hangar-attack-$$ 20 & until $A abstract hangar-attack-$$; do :; done",
    "$A netlink",
];

/// The same as the machine's root, with mounts and processes of its own.
const AS_ROOT: [&str; 12] = [
    "$A handle /",
    "$A device c 1 5",
    "$A write-back /proc/sys/kernel/core_pattern",
    "$A namespaces",
    "$A type",
    "$A bpf",
    "$A perf",
    "$A io-uring",
    "$A userfaultfd",
    "$A clock",
    "$A log",
    "$A machine",
];

fn run(line: &str, wrapper: &[&str]) -> String {
    let place = tempfile::tempdir().expect("a directory");
    std::fs::write(place.path().join("hangar-was-here"), "x").expect("written");
    let program = launcher().with_file_name("examples").join("attack");
    assert!(program.exists(), "cargo build -p sandbox --examples");
    let words: Vec<&str> = wrapper.iter().copied().chain(["sh", "-c", line]).collect();
    let output = Command::new(words[0])
        .args(&words[1..])
        .env("A", &program)
        .env("TMPDIR", place.path())
        .current_dir(place.path())
        .output()
        .expect("it starts");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn all_are_done<'a>(lines: impl IntoIterator<Item = &'a str>, wrapper: &[&str]) {
    let failed: Vec<String> = lines
        .into_iter()
        .map(|line| (line, run(line, wrapper)))
        .filter(|(_, said)| !said.contains("DONE"))
        .map(|(line, said)| format!("{line}: {said}"))
        .collect();
    assert!(failed.is_empty(), "these attacks do not work:\n{}", failed.join("\n"));
}

#[test]
fn attacks_work_in_namespaces_without_walls() {
    let wrapper = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"];
    let more = ["--net", "--uts", "--ipc", "--kill-child", "--mount-proc"];
    all_are_done(IN_NAMESPACES, &[&wrapper[..], &more].concat());
}

#[test]
fn attacks_work_for_anybody() {
    all_are_done(AS_ANYBODY, &["env"]);
}

#[test]
fn attacks_work_for_root() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TRIED: the attacks that need root, since this user is not");
        return;
    }
    all_are_done(AS_ROOT, &["unshare", "--mount", "--pid", "--fork", "--kill-child"]);
}
