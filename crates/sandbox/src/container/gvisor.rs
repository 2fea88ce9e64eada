//! Getting gVisor's `runsc` where the machine has none: from the mirrors its own apt is configured with.
//!
//! Never done unasked. Debian has it since long, but only since the release named here one whose platform
//! is fast, and as one static file that runs on older releases too.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::files::{failed, make_directory, remove_tree};
use crate::Error;

/// The Debian release whose package is taken.
const RELEASE: &str = "trixie";

/// Puts `runsc` into a directory, where it is not there already, and says where it is. apt checks the
/// signature of what it fetches; nothing of the system is changed.
pub async fn install(directory: &Path) -> Result<PathBuf, Error> {
    let program = directory.join("runsc");
    if program.is_file() {
        return Ok(program);
    }
    make_directory(directory, 0o755)?;
    let draft = directory.join(format!(".draft-{}", std::process::id()));
    remove_tree(&draft)?;
    let fetched = fetch(&draft).await;
    let moved = fetched.and_then(|unpacked| {
        // Somebody else may have been faster: both are the same.
        std::fs::rename(&unpacked, &program).map_err(failed("install", &program))
    });
    remove_tree(&draft)?;
    moved.map(|()| program)
}

async fn fetch(draft: &Path) -> Result<PathBuf, Error> {
    for name in ["lists/partial", "cache/archives/partial"] {
        make_directory(&draft.join(name), 0o755)?;
    }
    let list = draft.join("newer.list");
    let mirrors = run(
        draft,
        "apt-get",
        &["indextargets", "--format", "$(ORIGIN) $(CODENAME) $(REPO_URI)", "Created-By: Packages"],
    )
    .await?;
    let sources = sources(&mirrors);
    if sources.is_empty() {
        return Err(unsupported("this machine's apt is configured with no mirror of Debian"));
    }
    std::fs::write(&list, sources).map_err(failed("write", &list))?;
    let option = |name: &str, path: &Path| format!("-o{name}={}", path.display());
    let own = [
        option("Dir::Etc::sourcelist", &list),
        option("Dir::State::lists", &draft.join("lists")),
        option("Dir::Cache", &draft.join("cache")),
        "-oDir::Etc::sourceparts=-".to_owned(),
        "-oAcquire::Languages=none".to_owned(),
        // The draft is ours alone; apt's own user could not write into it.
        "-oAPT::Sandbox::User=".to_owned(),
        "-qq".to_owned(),
    ];
    for verb in [["update"].as_slice(), &["download", "runsc"]] {
        let arguments: Vec<&str> =
            own.iter().map(String::as_str).chain(verb.iter().copied()).collect();
        run(draft, "apt-get", &arguments).await?;
    }
    let entries = std::fs::read_dir(draft).map_err(failed("read", draft))?;
    let package = entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .ok_or_else(|| unsupported("apt downloaded no package runsc"))?;
    run(draft, "dpkg", &["-x", &package.to_string_lossy(), "unpacked"]).await?;
    Ok(draft.join("unpacked/usr/bin/runsc"))
}

/// Lines for apt that name the wanted release at every mirror of Debian.
fn sources(mirrors: &str) -> String {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (origin, release, mirror) = (words.next()?, words.next()?, words.next()?);
        // Updates and security have repositories or releases of their own.
        let is_main = origin == "Debian" && !release.contains('-');
        is_main.then(|| format!("deb {mirror} {RELEASE} main\n"))
    };
    let mut lines: Vec<String> = mirrors.lines().filter_map(line).collect();
    lines.sort();
    lines.dedup();
    lines.concat()
}

async fn run(directory: &Path, program: &str, arguments: &[&str]) -> Result<String, Error> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| unsupported(&format!("{program} cannot be run ({error})")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let verb = arguments.iter().rev().find(|it| !it.starts_with('-')).copied().unwrap_or_default();
    Err(unsupported(&format!("{program} ({verb}) failed: {last}")))
}

fn unsupported(what: &str) -> Error {
    Error::Unsupported {
        what: format!("gVisor cannot be fetched: {what}"),
        hint: "install runsc as gVisor's own documentation says, and name it with --runtime \
               gvisor=PATH"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_mirrors_of_debian_itself_are_asked() {
        let mirrors = "\
Debian bookworm http://mirror.example/debian/
Debian bookworm-updates http://mirror.example/debian/
Debian bookworm-security http://mirror.example/debian-security/
Somebody stable https://packages.example/apt/
Debian bookworm http://mirror.example/debian/
";
        assert_eq!(super::sources(mirrors), "deb http://mirror.example/debian/ trixie main\n");
        assert_eq!(super::sources("Ubuntu noble http://mirror.example/ubuntu/\n"), "");
    }
}
