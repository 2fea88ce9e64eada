//! The destination as a tree of descriptors: no path is ever followed through a link.

use std::collections::BTreeMap;
use std::io::{Read, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, linkat, mkdirat, mknodat, openat, openat2, statat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;
use sandbox::base::handover::Refusal;

/// Owner of what has none inside.
const ROOT: u32 = 0;
/// The attribute by which an overlay hides what lies beneath a directory.
const OPAQUE: &str = "user.overlay.opaque";

/// A name relative to the root, in its parts; none for the root itself.
pub(super) type Path = Vec<Vec<u8>>;

/// What an entry says about itself besides its content.
#[derive(Debug, Clone, Default)]
pub(super) struct Traits {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) seconds: i64,
    pub(super) nanoseconds: i64,
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// What stopped the unpacker.
#[derive(Debug)]
pub(super) enum Stop {
    Refused(Refusal),
    Machine(Errno),
    /// The archive cannot be read on.
    Reading,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NAMETOOLONG => Self::Refused(Refusal::BadName),
            errno => Self::Machine(errno),
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
fn machine(error: std::io::Error) -> Stop {
    Errno::from_io_error(&error).unwrap_or(Errno::IO).into()
}

pub(super) type Done<T> = Result<T, Stop>;

/// The destination, and what lies beneath it.
#[derive(Debug)]
pub(super) struct Tree {
    root: OwnedFd,
    below: Vec<OwnedFd>,
    /// Ids that exist inside.
    count: u32,
    pub(super) owners_changed: u64,
    /// Set when everything is there: content changes a directory's time.
    directories: BTreeMap<Path, Traits>,
    /// The directory of the last entry; most have the same.
    last: Option<(Path, OwnedFd)>,
}

/// What is found under a name of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Directory,
    /// The mark of a deletion.
    Whiteout,
    Link,
    File,
    Special,
}

impl Tree {
    pub(super) fn new(root: OwnedFd, below: Vec<OwnedFd>, count: u32) -> Self {
        let directories = BTreeMap::new();
        Self { root, below, count, owners_changed: 0, directories, last: None }
    }

    pub(super) fn directory(&mut self, path: &Path, traits: Traits) -> Done<()> {
        if let Some((name, above)) = path.split_last() {
            let parent = self.parent(above)?;
            make(&parent, name)?;
        }
        self.directories.insert(path.clone(), traits);
        Ok(())
    }

    pub(super) fn file(
        &mut self,
        path: &[Vec<u8>],
        content: &mut impl Read,
        traits: &Traits,
    ) -> Done<()> {
        let (parent, name) = self.room(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::WRONLY;
        let file = openat(&parent, name, flags | OFlags::CLOEXEC, Mode::from(0o600))?;
        let mut file = std::fs::File::from(file);
        copy(content, &mut file)?;
        let (uid, gid) = self.owner(traits);
        rustix::fs::fchown(&file, uid, gid)?;
        // After the owner, which takes the set-user-id bits away.
        fchmod(&file, Mode::from_raw_mode(traits.mode & 0o7777))?;
        attributes(&file, traits)?;
        Ok(rustix::fs::futimens(&file, &times(traits))?)
    }

    pub(super) fn link(&mut self, path: &[Vec<u8>], target: &[u8], traits: &Traits) -> Done<()> {
        if target.is_empty() || target.len() > 4095 || target.contains(&0) {
            return Err(Refusal::BadName.into());
        }
        let (parent, name) = self.room(path)?;
        symlinkat(target, &parent, name)?;
        self.dress(&parent, name, traits)
    }

    pub(super) fn fifo(&mut self, path: &[Vec<u8>], traits: &Traits) -> Done<()> {
        let (parent, name) = self.room(path)?;
        let mode = Mode::from_raw_mode(traits.mode & 0o777);
        mknodat(&parent, name, FileType::Fifo, mode, 0)?;
        self.dress(&parent, name, traits)
    }

    /// A second name for a regular file that this archive brought.
    pub(super) fn hard_link(&mut self, path: &[Vec<u8>], target: &[Vec<u8>]) -> Done<()> {
        let (name, above) = target.split_last().ok_or(Refusal::LinkToSpecial)?;
        let from = match self.existing(above) {
            Err(Errno::NOENT) => return Err(Refusal::LinkToNothing.into()),
            Err(Errno::LOOP | Errno::NOTDIR) => return Err(Refusal::BeneathLink.into()),
            found => found?,
        };
        match found(&from, name)? {
            Found::File => {}
            Found::Nothing | Found::Whiteout => return Err(Refusal::LinkToNothing.into()),
            _ => return Err(Refusal::LinkToSpecial.into()),
        }
        if path == target {
            return Ok(());
        }
        let (parent, to) = self.room(path)?;
        Ok(linkat(&from, name.as_slice(), &parent, to, AtFlags::empty())?)
    }

    /// Hides what the layers beneath have under this name. What this layer has stays.
    pub(super) fn whiteout(&mut self, path: &[Vec<u8>]) -> Done<()> {
        let (name, above) = path.split_last().ok_or(Refusal::BadWhiteout)?;
        let parent = self.parent(above)?;
        match found(&parent, name)? {
            // The kernel lets everyone make this one device, because it is none.
            Found::Nothing => {
                Ok(mknodat(&parent, name.as_slice(), FileType::CharacterDevice, Mode::empty(), 0)?)
            }
            Found::Directory => opaque(&child(&parent, name)?),
            _ => Ok(()),
        }
    }

    /// Hides what the layers beneath have in this directory.
    pub(super) fn opaque(&mut self, path: &[Vec<u8>]) -> Done<()> {
        let directory = self.parent(path)?;
        let directory = openat(
            &directory,
            ".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        opaque(&directory)
    }

    /// Gives the directories their owners, modes and times, the innermost first.
    pub(super) fn finish(&mut self) -> Done<()> {
        self.last = None;
        if !self.directories.contains_key(&Path::new()) {
            let traits = self.beneath(&[])?;
            self.directories.insert(Path::new(), traits);
        }
        let directories = std::mem::take(&mut self.directories);
        for (path, traits) in directories.into_iter().rev() {
            let directory = self.existing(&path)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let directory = openat(&directory, ".", flags, Mode::empty())?;
            let (uid, gid) = self.owner(&traits);
            rustix::fs::fchown(&directory, uid, gid)?;
            fchmod(&directory, Mode::from_raw_mode(traits.mode & 0o7777))?;
            attributes(&directory, &traits)?;
            rustix::fs::futimens(&directory, &times(&traits))?;
        }
        Ok(())
    }

    /// The directory for a new entry that is none itself, with its place made free.
    fn room<'a>(&mut self, path: &'a [Vec<u8>]) -> Done<(OwnedFd, &'a [u8])> {
        let (name, above) = path.split_last().ok_or(Refusal::KindChanged)?;
        let parent = self.parent(above)?;
        match found(&parent, name)? {
            Found::Nothing => {}
            Found::Directory => return Err(Refusal::KindChanged.into()),
            _ => unlinkat(&parent, name.as_slice(), AtFlags::empty())?,
        }
        Ok((parent, name))
    }

    /// A directory of the destination; one that the archive did not name is as beneath.
    fn parent(&mut self, path: &[Vec<u8>]) -> Done<OwnedFd> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return directory.try_clone().map_err(machine);
        }
        let mut at = self.root.try_clone().map_err(machine)?;
        for depth in 0..path.len() {
            let name = &path[depth];
            match found(&at, name)? {
                Found::Directory => {}
                Found::Link => return Err(Refusal::BeneathLink.into()),
                Found::Nothing => {
                    let traits = self.beneath(&path[..=depth])?;
                    make(&at, name)?;
                    self.directories.insert(path[..=depth].to_vec(), traits);
                }
                // Deleted and made again: nothing of the old one is to be seen.
                Found::Whiteout => {
                    make(&at, name)?;
                    self.directories.insert(path[..=depth].to_vec(), usual());
                }
                Found::File | Found::Special => return Err(Refusal::BeneathFile.into()),
            }
            at = child(&at, name)?;
        }
        let kept = at.try_clone().map_err(machine)?;
        self.last = Some((path.to_vec(), kept));
        Ok(at)
    }

    fn existing(&self, path: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        beneath(&self.root, path, OFlags::DIRECTORY)
    }

    /// What the layers beneath say about a directory.
    fn beneath(&self, path: &[Vec<u8>]) -> Done<Traits> {
        for layer in &self.below {
            let stat = match beneath(layer, path, OFlags::NOFOLLOW) {
                Ok(opened) => rustix::fs::fstat(&opened)?,
                Err(Errno::NOENT) => continue,
                // Something on the way is no directory; below that everything is hidden.
                Err(Errno::NOTDIR) => break,
                Err(Errno::LOOP) => return Err(Refusal::BeneathLink.into()),
                Err(errno) => return Err(errno.into()),
            };
            return match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Ok(Traits {
                    mode: stat.st_mode & 0o7777,
                    uid: stat.st_uid.into(),
                    gid: stat.st_gid.into(),
                    seconds: stat.st_mtime,
                    nanoseconds: i64::try_from(stat.st_mtime_nsec).unwrap_or(0),
                    attributes: Vec::new(),
                }),
                FileType::Symlink => Err(Refusal::BeneathLink.into()),
                _ => break,
            };
        }
        Ok(usual())
    }

    fn owner(&mut self, traits: &Traits) -> (Option<Uid>, Option<Gid>) {
        let count = u64::from(self.count);
        if traits.uid >= count || traits.gid >= count {
            self.owners_changed += 1;
        }
        let known = |id: u64| u32::try_from(id).ok().filter(|id| *id < self.count).unwrap_or(ROOT);
        (Some(Uid::from_raw(known(traits.uid))), Some(Gid::from_raw(known(traits.gid))))
    }

    /// Owner and time of what is no file and no directory.
    fn dress(&mut self, parent: &OwnedFd, name: &[u8], traits: &Traits) -> Done<()> {
        let (uid, gid) = self.owner(traits);
        chownat(parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(utimensat(parent, name, &times(traits), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

fn usual() -> Traits {
    Traits { mode: 0o755, ..Traits::default() }
}

/// Makes a directory, in place of a deletion's mark too.
fn make(parent: &OwnedFd, name: &[u8]) -> Done<()> {
    match found(parent, name)? {
        Found::Directory => Ok(()),
        Found::Nothing => Ok(mkdirat(parent, name, Mode::from(0o700))?),
        Found::Whiteout => {
            unlinkat(parent, name, AtFlags::empty())?;
            mkdirat(parent, name, Mode::from(0o700))?;
            opaque(&child(parent, name)?)
        }
        Found::Link | Found::File | Found::Special => Err(Refusal::KindChanged.into()),
    }
}

fn found(parent: &OwnedFd, name: &[u8]) -> Done<Found> {
    let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        stat => stat?,
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Found::Directory,
        FileType::RegularFile => Found::File,
        FileType::Symlink => Found::Link,
        FileType::CharacterDevice => Found::Whiteout,
        _ => Found::Special,
    })
}

fn child(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn beneath(root: &OwnedFd, path: &[Vec<u8>], flags: OFlags) -> Result<OwnedFd, Errno> {
    let whole = if path.is_empty() { b".".to_vec() } else { path.join(&b'/') };
    // With NOFOLLOW a link at the end is opened as such; one on the way is always an error.
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(root, whole, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), within)
}

fn opaque(directory: impl AsFd) -> Done<()> {
    Ok(rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())?)
}

fn attributes(file: impl AsFd, traits: &Traits) -> Done<()> {
    for (name, value) in &traits.attributes {
        rustix::fs::fsetxattr(file.as_fd(), name.as_slice(), value, XattrFlags::empty())?;
    }
    Ok(())
}

fn times(traits: &Traits) -> Timestamps {
    let time = Timespec { tv_sec: traits.seconds, tv_nsec: traits.nanoseconds };
    Timestamps { last_access: time, last_modification: time }
}

/// Copies the content; long runs of zeros become holes.
fn copy(content: &mut impl Read, file: &mut std::fs::File) -> Done<()> {
    let mut buffer = vec![0; 64 << 10];
    let mut hole = false;
    loop {
        let mut length = 0;
        while length < buffer.len() {
            match content.read(&mut buffer[length..]).map_err(|_| Stop::Reading)? {
                0 => break,
                more => length += more,
            }
        }
        if length == 0 {
            break;
        }
        hole = length == buffer.len() && buffer.iter().all(|byte| *byte == 0);
        if hole {
            let whole = i64::try_from(length).unwrap_or(i64::MAX);
            file.seek(SeekFrom::Current(whole)).map_err(machine)?;
        } else {
            file.write_all(&buffer[..length]).map_err(machine)?;
        }
    }
    if hole {
        let length = file.stream_position().map_err(machine)?;
        file.set_len(length).map_err(machine)?;
    }
    Ok(())
}
