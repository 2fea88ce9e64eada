//! The same attempts by an ordinary user: this program again, as nobody, from where nobody may look.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use protocol::sandbox::Isolation;

use super::attempt::Group;
use super::run;
use super::world::{RUNSC, example, runsc};

/// Nobody, where nobody in particular is needed.
const NOBODY: u32 = 65534;
const PROGRAMS: [&str; 4] = ["hangar", "hangar-agentd", "hangar-agent", "hangar-launch"];

/// Makes every attempt of a group as an ordinary user. Where the tests run as one anyway, the test
/// without `as_ordinary_user` in its name has done so.
pub(crate) fn group(group: Group, level: Isolation) {
    if run::user() == "user" {
        eprintln!("{} at {level}: the tests run as an ordinary user already", group.as_str());
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    let program = stage(place);
    let only = std::env::var("HANGAR_ATTACK").ok();
    let output = Command::new("setpriv")
        .args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string()])
        .args(["--clear-groups", "--inh-caps=-all"])
        .arg(&program)
        .args(["--exact", &format!("{level}::{}", group.as_str()), "--nocapture"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", place.join("home"))
        .env("TMPDIR", place.join("tmp"))
        .env(run::RESULTS, place.join("results"))
        .env(crate::server::PROGRAMS, place.join("bin"))
        .env(RUNSC, place.join("bin/runsc"))
        .envs(only.iter().map(|name| ("HANGAR_ATTACK", name)))
        .current_dir(place)
        .stdin(Stdio::null())
        .output()
        .expect("setpriv starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    eprint!("{said}");
    assert!(output.status.success(), "{}\n{printed}\n{said}", output.status);
    assert!(printed.contains("1 passed"), "no test of that name ran:\n{printed}");
    if only.is_none() && collect(&place.join("results"), group, level) {
        run::note(group, level, "user");
    }
}

/// This program and those it runs, in a directory where everybody may look, with places that
/// nobody may write to.
fn stage(place: &Path) -> PathBuf {
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let bin = place.join("bin");
    std::fs::create_dir(&bin).expect("made");
    for name in PROGRAMS {
        bring(&cli::programs::require(name).expect("all programs are built"), &bin.join(name));
    }
    for name in ["attack", "hostile"] {
        if let Some(built) = example(name) {
            bring(&built, &bin.join(name));
        }
    }
    bring(&runsc(), &bin.join("runsc"));
    let program = bin.join("attacks");
    bring(&std::env::current_exe().expect("a program"), &program);
    for name in ["home", "tmp", "results"] {
        let path = place.join(name);
        std::fs::create_dir(&path).expect("made");
        chown(&path, Some(NOBODY), Some(NOBODY)).expect("given away");
    }
    program
}

/// A link where that is possible, because these are large.
fn bring(from: &Path, to: &Path) {
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).expect("copied");
    }
}

/// Puts the result beside root's; whether anything was tried.
fn collect(from: &Path, group: Group, level: Isolation) -> bool {
    let name = format!("{}-{level}-user.json", group.as_str());
    let text = std::fs::read(from.join(&name)).expect("a result");
    let to = run::results();
    std::fs::create_dir_all(&to).expect("a directory for results");
    std::fs::write(to.join(&name), &text).expect("copied");
    let result: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    result.get("not_here").is_none()
}
