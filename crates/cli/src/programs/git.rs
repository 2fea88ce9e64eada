//! The host's git with everything it is linked to, for sandboxes on an image without one.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs that git starts by these names; agentd becomes the right one.
const NAMES: [&str; 3] = ["git", "git-remote-http", "git-remote-https"];

/// What makes git run anywhere.
#[derive(Debug, Clone)]
pub(super) struct Git {
    program: PathBuf,
    remote: PathBuf,
    loader: PathBuf,
    libraries: Vec<PathBuf>,
}

/// The host's git, if it is complete and linked as is usual. Without it, sandboxes on an image
/// without git say so.
pub(super) fn find() -> Option<Git> {
    let core = said(Command::new("git").arg("--exec-path"))?;
    let core = Path::new(core.trim());
    let (program, remote) = (core.join("git"), core.join("git-remote-http"));
    let needed = said(Command::new("ldd").args([&program, &remote]))?;
    let mut libraries: Vec<PathBuf> = needed.lines().filter_map(library).collect();
    libraries.sort();
    libraries.dedup();
    let is_loader =
        |path: &PathBuf| path.file_name().is_some_and(|it| it.to_string_lossy().starts_with("ld-"));
    let loader = libraries.iter().find(|path| is_loader(path))?.clone();
    libraries.retain(|path| !is_loader(path));
    Some(Git { program, remote, loader, libraries })
}

/// `libz.so.1 => /lib/libz.so.1 (0x…)`, or the loader's line, which has no arrow.
fn library(line: &str) -> Option<PathBuf> {
    let path = line.split_once("=>").map_or(line, |(_, path)| path);
    let path = path.trim().split_once(" (")?.0;
    path.starts_with('/').then(|| PathBuf::from(path))
}

fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

impl Git {
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        [&self.program, &self.remote, &self.loader].into_iter().chain(&self.libraries).cloned()
    }

    pub(super) fn assemble(&self, place: &Path) -> io::Result<()> {
        for name in ["bin", "core", "lib", "real"] {
            fs::create_dir_all(place.join(name))?;
        }
        fs::copy(&self.program, place.join("real/git"))?;
        fs::copy(&self.remote, place.join("real/git-remote-http"))?;
        fs::copy(&self.loader, place.join("lib/loader"))?;
        for library in &self.libraries {
            if let Some(name) = library.file_name() {
                fs::copy(library, place.join("lib").join(name))?;
            }
        }
        symlink("../../bin/hangar-agentd", place.join("bin/git"))?;
        NAMES
            .into_iter()
            .try_for_each(|name| symlink("../../bin/hangar-agentd", place.join("core").join(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd_name_files() {
        let path = |line| library(line).map(|path| path.display().to_string());
        assert_eq!(path("\tlibz.so.1 => /lib/libz.so.1 (0x7f)").as_deref(), Some("/lib/libz.so.1"));
        assert_eq!(path("\t/lib64/ld-linux.so.2 (0x7f)").as_deref(), Some("/lib64/ld-linux.so.2"));
        assert_eq!(path("\tlinux-vdso.so.1 (0x7f)"), None);
        assert_eq!(path("/usr/bin/git:"), None);
        assert_eq!(path("\tlibx.so => not found"), None);
    }
}
