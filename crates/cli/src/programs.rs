//! The programs that belong to `hangar`: found beside it, gathered for sandboxes to see.

mod git;

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::failure::{Exit, Failure};
use crate::toolkit;

/// What every sandbox has in `/opt/hangar/bin`.
const INSIDE: [&str; 2] = ["hangar-agentd", "hangar-agent"];

/// A program in the directory of this one, if it is there.
pub fn beside_us(name: &str) -> Option<PathBuf> {
    let directory = std::env::current_exe().ok()?.parent()?.to_owned();
    // Tests run from a directory below the programs.
    let places = [Some(directory.clone()), directory.parent().map(Path::to_owned)];
    places.into_iter().flatten().map(|place| place.join(name)).find(|path| path.is_file())
}

/// The same, or an error that says what to do.
pub fn require(name: &str) -> anyhow::Result<PathBuf> {
    beside_us(name).ok_or_else(|| {
        let failure = Failure::new(Exit::Machine, format!("{name} is not beside this program"));
        failure.hint("build all programs with `make build`, and keep them in one directory").into()
    })
}

/// How a person at this shell calls this program, on the data directory they named, if they did:
/// `hangar` when that finds it, else its path.
pub(crate) fn invocation(data: Option<&Path>) -> String {
    let ours = std::env::current_exe().ok().and_then(|path| path.canonicalize().ok());
    let search = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&search).map(|place| place.join("hangar"));
    let first = found.find(|path| path.is_file()).and_then(|path| path.canonicalize().ok());
    let program = match ours {
        Some(path) if first.as_ref() != Some(&path) => shown_from_here(&path),
        _ => "hangar".to_owned(),
    };
    match data {
        Some(data) => format!("{program} --data {}", data.display()),
        None => program,
    }
}

/// The shorter of the absolute path and the one from the working directory.
fn shown_from_here(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let below = here.and_then(|here| path.strip_prefix(here).map(Path::to_owned).ok());
    below.unwrap_or_else(|| path.to_owned()).display().to_string()
}

/// Makes the directory that sandboxes see at `/opt/hangar`, and gives its path.
///
/// Its name follows from what is in it, so that an upgrade makes a new one: running sandboxes keep
/// theirs, and a program that is in use is never written to.
pub fn assemble(data: &Path) -> anyhow::Result<PathBuf> {
    let mut contents = Vec::new();
    for name in INSIDE {
        contents.push((name, require(name)?));
    }
    let opencode = toolkit::opencode(data);
    if toolkit::has_opencode(data) {
        contents.push(("opencode", opencode));
        contents.push(("rg", toolkit::ripgrep(data)));
    }
    let git = git::find();
    let parts = git.iter().flat_map(git::Git::files);
    let of_git: Vec<(&str, PathBuf)> = parts.map(|path| ("git", path)).collect();
    let all = [contents.clone(), of_git].concat();
    let name = identity(&all).context("reading the programs that sandboxes get")?;
    let whole = data.join("toolkit").join(name);
    if whole.exists() {
        return Ok(whole);
    }
    let draft = data.join("toolkit").join(format!(".draft-{}", std::process::id()));
    let make = || -> io::Result<()> {
        let bin = draft.join("bin");
        fs::create_dir_all(&bin)?;
        for (name, source) in &contents {
            copy(source, &bin.join(name))?;
        }
        if let Some(git) = &git {
            git.assemble(&draft.join("git"))?;
        }
        match fs::rename(&draft, &whole) {
            // Another server on another data directory cannot get here; another thread may.
            Err(_) if whole.exists() => fs::remove_dir_all(&draft),
            moved => moved,
        }
    };
    make()
        .with_context(|| format!("gathering the programs for sandboxes in {}", whole.display()))?;
    Ok(whole)
}

/// Agents of 200 MB are linked, not copied, where the file system allows; ours must be copies,
/// because a build writes to them.
fn copy(source: &Path, target: &Path) -> io::Result<()> {
    let ours = INSIDE.iter().any(|name| target.ends_with(name));
    if !ours && fs::hard_link(source, target).is_ok() {
        return Ok(());
    }
    fs::copy(source, target).map(drop)
}

/// A name that differs when a program differs: ours by content, fetched ones by path and size,
/// because these are of one pinned version.
fn identity(contents: &[(&str, PathBuf)]) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    for (name, path) in contents {
        name.hash(&mut hasher);
        if INSIDE.contains(name) {
            hash_file(path, &mut hasher)?;
        } else {
            (path, fs::metadata(path)?.len()).hash(&mut hasher);
        }
    }
    Ok(format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), hasher.finish()))
}

fn hash_file(path: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    let mut file = fs::File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        hasher.write(&buffer[..length]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_program_is_another_toolkit() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("hangar-agentd");
        let name = |text: &str| {
            fs::write(&path, text).expect("written");
            identity(&[("hangar-agentd", path.clone())]).expect("readable")
        };
        let first = name("one");
        assert_ne!(first, name("two"));
        assert_eq!(first, name("one"));
    }
}
