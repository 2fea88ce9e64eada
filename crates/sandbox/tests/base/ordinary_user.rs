//! The tests of archives once more, as an ordinary user.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

/// Runs the other tests of this program as nobody; as an ordinary user they ran already.
#[test]
fn the_same_holds_for_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777))
        .expect("open to all");
    let program = std::env::current_exe().expect("this program");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(program)
        .args(["hostile::", "layers::", "--test-threads=2"])
        .env("TMPDIR", directory.path())
        .env("HOME", directory.path())
        .current_dir(directory.path())
        .output()
        .expect("setpriv (util-linux)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    let ran = text.lines().filter(|line| line.ends_with(" ... ok")).count();
    assert!(ran >= 9, "too few tests ran: {text}");
}
