//! Git for images that have none: the host's, with its own libraries, started through its own loader.
//!
//! ```text
//!   /opt/hangar/git/bin/git           a link to this program, last in PATH
//!   /opt/hangar/git/core/git…         the same, where git looks for its helpers
//!   /opt/hangar/git/real/{git, git-remote-http}
//!   /opt/hangar/git/lib/{loader, lib*.so.*}
//! ```
//!
//! The image may have another C library or none, so neither its loader nor its libraries are used.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use protocol::layout::TOOLKIT;

/// The name of a git program, if this program was called by one.
pub fn called_as(program: Option<OsString>) -> Option<String> {
    let program = program?;
    let name = Path::new(&program).file_name()?.to_str()?;
    (name == "git" || name.starts_with("git-")).then(|| name.to_owned())
}

/// Becomes the real program of this name; returns only if it cannot.
pub fn run(name: &str, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let place = Path::new(TOOLKIT).join("git");
    // One program serves every scheme; and git itself every command that is built in.
    let real = if name.starts_with("git-remote-") { "git-remote-http" } else { "git" };
    let error = Command::new(place.join("lib/loader"))
        .args(["--argv0", name, "--library-path"])
        .arg(place.join("lib"))
        .arg(place.join("real").join(real))
        .args(arguments)
        .env("GIT_EXEC_PATH", place.join("core"))
        // Its templates are no part of it, and it would complain.
        .env("GIT_TEMPLATE_DIR", "")
        .exec();
    let mut output = std::io::stderr().lock();
    let _nobody_reads_it = writeln!(output, "cannot start {name} from the toolkit: {error}");
    ExitCode::from(127)
}

#[cfg(test)]
mod tests {
    use super::called_as;

    #[test]
    fn only_git_s_names_are_taken() {
        let called = |name: &str| called_as(Some(name.into()));
        assert_eq!(called("/opt/hangar/git/bin/git").as_deref(), Some("git"));
        assert_eq!(called("git-remote-https").as_deref(), Some("git-remote-https"));
        assert_eq!(called("/opt/hangar/bin/hangar-agentd"), None);
        assert_eq!(called_as(None), None);
    }
}
