//! Removing a tree that somebody hostile filled: closed or open, however deep, and never through a link.
//!
//! The standard library's way calls itself for every level: 20,000 nested directories overflow the
//! stack and end the whole server. Here what lies too deep is lifted to the top first.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, chmodat, fchmod, fstat, openat, renameat_with,
    unlinkat,
};
use rustix::io::Errno;

/// Levels that are held open at once.
const DEPTH: usize = 50;
/// Names that are read at once.
const BATCH: usize = 10_000;
const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a file, a link, or a directory with everything in it; what is not there is removed, also
/// where somebody else removed it meanwhile.
pub(super) fn remove(path: &Path) -> Result<(), Errno> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    let removed = open(CWD, path).and_then(|top| {
        Removal { top: &top, lifted: 0 }.clear(&top, 0)?;
        unlinkat(CWD, path, AtFlags::REMOVEDIR)
    });
    gone(removed)
}

struct Removal<'a> {
    top: &'a OwnedFd,
    lifted: u64,
}

impl Removal<'_> {
    /// Empties a directory. What is lifted meanwhile appears in the topmost, whose turn is last.
    fn clear(&mut self, directory: &OwnedFd, depth: usize) -> Result<(), Errno> {
        loop {
            let names = names(directory)?;
            if names.is_empty() {
                return Ok(());
            }
            for name in names {
                self.remove_in(directory, &name, depth)?;
            }
        }
    }

    fn remove_in(&mut self, above: &OwnedFd, name: &CString, depth: usize) -> Result<(), Errno> {
        match unlinkat(above, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        match unlinkat(above, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        // Opened also where it is only lifted: its owner must be able to write to it for that.
        let removed = open(above, name).and_then(|directory| {
            if depth >= DEPTH {
                return self.lift(above, name);
            }
            self.clear(&directory, depth + 1)?;
            unlinkat(above, name, AtFlags::REMOVEDIR)
        });
        gone(removed)
    }

    fn lift(&mut self, above: &OwnedFd, name: &CString) -> Result<(), Errno> {
        loop {
            self.lifted += 1;
            let new = format!("lifted-{}", self.lifted);
            match renameat_with(above, name, self.top, &*new, RenameFlags::NOREPLACE) {
                Err(Errno::EXIST) => {}
                renamed => return renamed,
            }
        }
    }
}

fn gone(removed: Result<(), Errno>) -> Result<(), Errno> {
    if removed == Err(Errno::NOENT) { Ok(()) } else { removed }
}

fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut entries = Dir::read_from(directory)?;
    let mut names = Vec::new();
    while names.len() < BATCH
        && let Some(entry) = entries.read()
    {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Opens a directory, and gives one that its owner may not change back to them; root needs no leave.
fn open<P: rustix::path::Arg + Copy>(
    above: impl std::os::fd::AsFd,
    name: P,
) -> Result<OwnedFd, Errno> {
    let opened = match openat(&above, name, FLAGS, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // By descriptor, so that what is changed is what was found there.
            let found = openat(&above, name, FLAGS | OFlags::PATH, Mode::empty())?;
            let path = format!("/proc/self/fd/{}", found.as_raw_fd());
            chmodat(CWD, &*path, Mode::RWXU, AtFlags::empty())?;
            openat(CWD, &*path, FLAGS.difference(OFlags::NOFOLLOW), Mode::empty())?
        }
        opened => opened?,
    };
    if !rustix::process::geteuid().is_root() {
        let mode = Mode::from_raw_mode(fstat(&opened)?.st_mode);
        if !mode.contains(Mode::RWXU) {
            fchmod(&opened, Mode::RWXU)?;
        }
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use rustix::fs::mkdirat;

    use super::*;

    fn place() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    #[test]
    fn trees_files_and_links_go_and_what_links_name_stays() {
        let place = place();
        std::fs::write(place.path().join("kept"), "x").expect("written");
        let tree = place.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b/c")).expect("made");
        std::fs::write(tree.join("a/b/file"), "x").expect("written");
        symlink(place.path(), tree.join("a/link")).expect("a link");
        std::fs::create_dir(tree.join("lifted-1")).expect("made");
        remove(&tree).expect("it goes");
        assert!(!tree.exists() && place.path().join("kept").exists());
        symlink(place.path(), &tree).expect("a link");
        remove(&tree).expect("the link goes");
        assert!(place.path().join("kept").exists());
        remove(&tree).expect("it is gone");
    }

    #[test]
    fn closed_directories_go() {
        let place = place();
        let tree = place.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).expect("made");
        std::fs::write(tree.join("a/b/file"), "x").expect("written");
        for path in ["a/b", "a"] {
            let closed = std::fs::Permissions::from_mode(0o000);
            std::fs::set_permissions(tree.join(path), closed).expect("closed");
        }
        remove(&tree).expect("it goes");
        assert!(!tree.exists());
    }

    #[test]
    fn deep_trees_go_without_a_deep_stack() {
        let place = place();
        let tree = place.path().join("tree");
        std::fs::create_dir(&tree).expect("made");
        let mut at = openat(CWD, &tree, FLAGS, Mode::empty()).expect("opened");
        for level in 0..20_000 {
            mkdirat(&at, "d", Mode::RWXU).expect("made");
            if level % 100 == 0 {
                for name in ["a", "lifted-7", "z"] {
                    mkdirat(&at, name, Mode::RWXU).expect("made");
                }
            }
            at = openat(&at, "d", FLAGS, Mode::empty()).expect("opened");
        }
        drop(at);
        // A tenth of what threads have.
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let removed = small.spawn(move || remove(&tree)).expect("a thread").join();
        removed.expect("no panic").expect("it goes");
        assert_eq!(std::fs::read_dir(place.path()).expect("readable").count(), 0);
    }
}
