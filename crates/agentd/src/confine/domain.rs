//! The second line: a Landlock domain around everything agentd starts.
//!
//! The first line is the sandbox's mounts, its namespaces and the missing capabilities. Should one of
//! them have a hole, this one knows nothing of mounts: it asks which directories lie on the way to a
//! file. Inside the domain
//!
//! - nothing is written but beneath the directories listed here, where the image is closed (its
//!   `/usr` is read-only, as the host's is); an image whose `/usr` may change is one that software is
//!   installed into, at any place, so there this rule would only be in the way;
//! - no device file is made, and none but the standard ones is controlled;
//! - no signal and no connection to an abstract socket leaves it: agentd and the world are outside;
//! - nothing is mounted, and no process outside is looked into.
//!
//! There are no rules about ports: an application's own servers may listen where they like, and
//! there is no network to reach beyond them.
//!
//! One domain holds all of a sandbox's programs, so that one command can end or debug what another
//! started. A kernel too old for a rule enforces the others.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};

/// The newest kernel interface whose rules are known here.
const KNOWN: ABI = ABI::V6;

/// Standard devices, and where terminals and shared memory are.
const DEVICES: [&str; 7] = ["full", "null", "ptmx", "random", "tty", "urandom", "zero"];

/// Puts the calling thread, and all it starts, into a new domain.
///
/// Never written to is `closed`, the toolkit; `opened_later` is the workspace, whose mount will be.
pub(crate) fn enter(closed: &Path, opened_later: &Path) -> Result<(), RulesetError> {
    let writes = AccessFs::from_write(KNOWN) | AccessFs::IoctlDev;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writes)?
        .scope(Scope::from_all(KNOWN))?
        .create()?;
    for path in writable(closed, opened_later) {
        ruleset = allow(ruleset, &path, without_devices(writes))?;
    }
    let devices = Path::new("/dev");
    for name in DEVICES {
        let use_only = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
        ruleset = allow(ruleset, &devices.join(name), use_only)?;
    }
    ruleset = allow(ruleset, &devices.join("pts"), AccessFs::WriteFile | AccessFs::IoctlDev)?;
    ruleset = allow(ruleset, &devices.join("shm"), without_devices(writes))?;
    ruleset.restrict_self().map(drop)
}

fn without_devices(writes: BitFlags<AccessFs>) -> BitFlags<AccessFs> {
    writes & !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev)
}

/// The directories beneath which everything may be written.
fn writable(closed: &Path, opened_later: &Path) -> Vec<PathBuf> {
    let root = Path::new("/");
    if is_writable(&root.join("usr")) {
        return vec![root.to_owned()];
    }
    let mut found = vec![opened_later.to_owned()];
    for path in entries(root) {
        if closed.starts_with(&path) {
            // What lies beside the toolkit, as far as it exists.
            found.extend(entries(&path).filter(|beside| beside != closed));
        } else {
            found.push(path);
        }
    }
    found.retain(|path| path == opened_later || is_writable(path));
    found
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    directory.read_dir().into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether it is a file or directory on a file system that may be written to.
fn is_writable(path: &Path) -> bool {
    let Ok(file) = open(path) else { return false };
    let is_link = file.metadata().is_ok_and(|found| found.is_symlink());
    let is_closed = rustix::fs::fstatvfs(&file)
        .is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY));
    !is_link && !is_closed
}

fn open(path: &Path) -> rustix::io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(File::from)
}

fn allow(
    ruleset: RulesetCreated,
    path: &Path,
    access: impl Into<BitFlags<AccessFs>>,
) -> Result<RulesetCreated, RulesetError> {
    // What does not exist needs no rule, and what cannot be opened gets none.
    let Ok(file) = open(path) else { return Ok(ruleset) };
    let is_directory = file.metadata().is_ok_and(|found| found.is_dir());
    let access: BitFlags<AccessFs> = access.into();
    let access = if is_directory { access } else { access & AccessFs::from_file(KNOWN) };
    ruleset.add_rule(PathBeneath::new(file.as_fd(), access))
}
