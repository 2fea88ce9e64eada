//! How much a sandbox wrote: a walk through files that somebody hostile may be changing meanwhile.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, chmodat, openat, statat};
use rustix::io::Errno;

/// Directories held open at once. Deeper trees with branches on every level are refused.
const HELD: usize = 400;
/// Files with several names that are remembered; beyond, each name counts.
const REMEMBERED: usize = 100_000;
/// What a file is counted as at least: an empty one takes an inode and a name.
const LEAST: u64 = 4096;

/// Bytes taken by everything in a directory, or more than `most` as soon as that is known.
///
/// Every directory is opened from the one above it and never through a link, so that nothing
/// outside is ever counted, whatever is renamed or linked during the walk.
pub(super) fn written(path: &Path, most: u64) -> std::io::Result<u64> {
    let root = openat(CWD, path, FLAGS, Mode::empty())?;
    let mut walk = Walk { bytes: 0, seen: HashSet::new(), open: Vec::new(), held: 0 };
    walk.read(root)?;
    while let Some((above, name)) = walk.open.pop() {
        if walk.bytes > most {
            break;
        }
        let opened = open(&above, &name);
        if Rc::strong_count(&above) == 1 {
            walk.held -= 1;
        }
        drop(above);
        match opened {
            Ok(directory) => walk.read(directory)?,
            // Renamed or removed meanwhile; the next walk finds it where it is then.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(walk.bytes)
}

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

struct Walk {
    bytes: u64,
    seen: HashSet<(u64, u64)>,
    /// Directories yet to be read, by name in the one above.
    open: Vec<(Rc<OwnedFd>, CString)>,
    /// Directories above those, which are open.
    held: usize,
}

impl Walk {
    fn read(&mut self, directory: OwnedFd) -> std::io::Result<()> {
        let directory = Rc::new(directory);
        let mut entries = Dir::read_from(&directory)?;
        let mut held = false;
        while let Some(entry) = entries.read() {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            self.count(&stat);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                if !held {
                    held = true;
                    self.held += 1;
                }
                if self.held > HELD {
                    return Err(Errno::LOOP.into());
                }
                self.open.push((Rc::clone(&directory), name.to_owned()));
            }
        }
        Ok(())
    }

    fn count(&mut self, stat: &Stat) {
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if stat.st_nlink > 1 && !is_directory && self.seen.len() < REMEMBERED {
            #[allow(clippy::useless_conversion, reason = "these are narrower on some systems")]
            let which = (u64::from(stat.st_dev), u64::from(stat.st_ino));
            if !self.seen.insert(which) {
                return;
            }
        }
        let blocks = u64::try_from(stat.st_blocks).unwrap_or(0);
        self.bytes = self.bytes.saturating_add(blocks.saturating_mul(512).max(LEAST));
    }
}

/// Opens a directory. One that its owner may not look into is given to them: else whatever is in it
/// could grow unseen. Root needs no leave.
fn open(above: &OwnedFd, name: &CString) -> Result<OwnedFd, Errno> {
    let opened = match openat(above, name, FLAGS, Mode::empty()) {
        Err(Errno::ACCESS) => {
            // By descriptor, so that what is changed is what was found there.
            let found = openat(above, name, FLAGS | OFlags::PATH, Mode::empty())?;
            let path = format!("/proc/self/fd/{}", found.as_raw_fd());
            let mode = Mode::from_raw_mode(rustix::fs::fstat(&found)?.st_mode);
            chmodat(CWD, &*path, mode | LOOK, AtFlags::empty())?;
            openat(CWD, &*path, FLAGS.difference(OFlags::NOFOLLOW), Mode::empty())?
        }
        opened => opened?,
    };
    if !rustix::process::geteuid().is_root() {
        let mode = Mode::from_raw_mode(rustix::fs::fstat(&opened)?.st_mode);
        if !mode.contains(LOOK) {
            rustix::fs::fchmod(&opened, mode | LOOK)?;
        }
    }
    Ok(opened)
}

/// What an owner needs to look into a directory.
const LOOK: Mode = Mode::RUSR.union(Mode::XUSR);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn tree() -> tempfile::TempDir {
        tempfile::tempdir().expect("a directory")
    }

    fn bytes(path: &Path) -> u64 {
        written(path, u64::MAX).expect("measured")
    }

    #[test]
    fn files_count_by_what_they_take_and_at_least_a_block() {
        let tree = tree();
        assert_eq!(bytes(tree.path()), 0);
        for name in ["a", "b", "c"] {
            std::fs::write(tree.path().join(name), "").expect("written");
        }
        assert_eq!(bytes(tree.path()), 3 * LEAST);
        let sparse = std::fs::File::create(tree.path().join("sparse")).expect("made");
        sparse.set_len(1 << 40).expect("a hole");
        assert_eq!(bytes(tree.path()), 4 * LEAST, "a hole takes nothing");
        std::fs::create_dir_all(tree.path().join("x/y")).expect("made");
        std::fs::write(tree.path().join("x/y/full"), vec![1; 1 << 20]).expect("written");
        let all = bytes(tree.path());
        assert!((1 << 20..2 << 20).contains(&all), "{all}");
        assert!(written(tree.path(), 1000).expect("measured") > 1000);
    }

    #[test]
    fn links_lead_nowhere_and_names_of_one_file_count_once() {
        let (tree, other) = (tree(), tree());
        std::fs::write(other.path().join("large"), vec![1; 1 << 20]).expect("written");
        symlink(other.path(), tree.path().join("link")).expect("a link");
        assert_eq!(bytes(tree.path()), LEAST);
        std::fs::write(tree.path().join("one"), vec![1; 8192]).expect("written");
        let before = bytes(tree.path());
        std::fs::hard_link(tree.path().join("one"), tree.path().join("two")).expect("a name");
        assert_eq!(bytes(tree.path()), before);
    }

    #[test]
    fn what_nobody_may_look_into_is_counted() {
        let tree = tree();
        let closed = tree.path().join("closed");
        std::fs::create_dir(&closed).expect("made");
        std::fs::write(closed.join("large"), vec![1; 1 << 20]).expect("written");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).expect("closed");
        assert!(bytes(tree.path()) > 1 << 20);
        let mode = closed.metadata().expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, if rustix::process::geteuid().is_root() { 0 } else { 0o500 });
        // Else nobody but root could remove it.
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o700)).expect("opened");
    }

    /// Deeper than any path may be long.
    fn nest(tree: &Path, levels: u32, branch: bool) {
        let mut at = openat(CWD, tree, FLAGS, Mode::empty()).expect("opened");
        for _ in 0..levels {
            for name in if branch { &["d", "e"][..] } else { &["d"] } {
                rustix::fs::mkdirat(&at, *name, Mode::RWXU).expect("made");
            }
            at = openat(&at, "d", FLAGS, Mode::empty()).expect("opened");
        }
    }

    #[test]
    fn deep_trees_are_measured_or_refused_without_holding_everything_open() {
        let chain = tree();
        nest(chain.path(), 5000, false);
        assert!(bytes(chain.path()) >= 5000 * LEAST);
        let branched = tree();
        nest(branched.path(), 2000, true);
        // Which branch is entered first is the file system's choice; either way it ends.
        match written(branched.path(), u64::MAX) {
            Ok(bytes) => assert!(bytes >= 4000 * LEAST),
            Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::LOOP.raw_os_error())),
        }
    }
}
