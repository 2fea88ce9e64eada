//! OpenCode for tests: installed once below the target directory, shared by all of them.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::hangar;

/// Puts OpenCode into a data directory, and gives its version.
pub fn into(data: &Path) -> String {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("opencode");
    std::fs::create_dir_all(&cache).expect("made");
    // Tests of other processes wait for whoever installs; the lock ends with the file.
    let lock = File::create(cache.join("lock")).expect("a lock");
    lock.lock().expect("locked");
    let output = hangar()
        .args(["toolkit", "install", "opencode", "--json", "--data"])
        .arg(cache.join("data"))
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "installing OpenCode: {said}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let program = PathBuf::from(answer["program"].as_str().expect("a path"));
    let installed = program.parent().and_then(Path::parent).expect("a directory");
    let agents = data.join("toolkit/agents");
    std::fs::create_dir_all(&agents).expect("made");
    std::os::unix::fs::symlink(installed, agents.join(installed.file_name().expect("a name")))
        .expect("linked");
    answer["version"].as_str().expect("a version").to_owned()
}
