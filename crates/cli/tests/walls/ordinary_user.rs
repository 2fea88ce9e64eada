//! The whole job by a person without any special right.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;

use crate::real_part;
use crate::support::{git, hangar};

/// Nobody, where nobody in particular is needed.
const NOBODY: u32 = 65534;

/// Runs as an ordinary user: this one if it is one, else nobody.
fn as_ordinary_user(program: &Path, home: &Path) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        let user = NOBODY.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--inh-caps=-all"]);
        command.arg(program);
        command
    } else {
        Command::new(program)
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("HOME", home);
    command
}

fn give(path: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("given away");
        for entry in path.read_dir().into_iter().flatten().flatten() {
            give(&entry.path());
        }
    }
}

#[test]
fn an_ordinary_user_needs_no_right_of_root() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path();
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    // The build may lie where only root may look.
    let programs = Path::new(hangar().get_program()).parent().expect("a directory").to_owned();
    let bin = place.join("bin");
    std::fs::create_dir(&bin).expect("made");
    for name in ["hangar", "hangar-agentd", "hangar-agent", "hangar-launch"] {
        std::fs::copy(programs.join(name), bin.join(name)).expect("copied");
    }
    let (home, repository) = (place.join("home"), place.join("small"));
    for path in [&home, &repository] {
        std::fs::create_dir(path).expect("made");
    }
    git(&repository, &["init", "--quiet", "--initial-branch=main"]);
    std::fs::write(repository.join("README.md"), "# Small\n\nA small thing.\n").expect("written");
    git(&repository, &["add", "--all"]);
    git(&repository, &["commit", "--quiet", "--message=First"]);
    give(&home);
    give(&repository);
    let run = |arguments: &[&str]| {
        let output = as_ordinary_user(&bin.join("hangar"), &home)
            .args(arguments)
            .current_dir(place)
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "hangar {arguments:?}: {}\n{said}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // Which user it really is, seen by a sandbox's own account of its limits.
    let found = run(&["doctor"]);
    assert!(found.contains("This machine is ready"), "{found}");
    let path = repository.to_str().expect("text");
    let document = run(&["try", "--json", "--prompt", "Say more", "--repository", path]);
    let document: serde_json::Value = serde_json::from_str(&document).expect("JSON");
    assert_eq!(document["isolation"], "namespaces");
    assert!(document["pull_request"]["diff_stat"]["added"].as_u64() > Some(0), "{document}");
    let data = home.join(".local/share/hangar");
    let owner = std::os::unix::fs::MetadataExt::uid(&data.metadata().expect("there"));
    let expected = if rustix::process::geteuid().is_root() {
        NOBODY
    } else {
        rustix::process::geteuid().as_raw()
    };
    assert_eq!(owner, expected, "it ran as somebody else");
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    assert!(!mounted.contains(path), "nothing is left mounted");
    real_part::worked("sandbox", "namespaces, by an ordinary user");
}
