//! What a sandbox wrote to files that have no name any more: no walk finds them, their holders do.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, fstatfs, openat};

/// What the kernel calls an overlay; memory behind `/tmp` is counted as memory.
const OVERLAY: u64 = 0x794c_7630;
/// Descriptors that are looked at.
const DESCRIPTORS: usize = 50_000;

/// Bytes taken by files without a name that processes of a sandbox hold open.
///
/// A file that is only mapped, or on its way through a socket, is not seen: that the disk shrinks
/// all the same is seen by the guard of the machine's own room.
pub(super) fn unlinked(groups: &[PathBuf], first: u32) -> u64 {
    let (mut seen, mut bytes, mut left) = (HashSet::new(), 0_u64, DESCRIPTORS);
    for process in processes(groups, first) {
        let directory = format!("/proc/{process}/fd");
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            if left == 0 {
                return bytes;
            }
            left -= 1;
            if let Some((which, size)) = nameless(&entry.path())
                && seen.insert(which)
            {
                bytes = bytes.saturating_add(size);
            }
        }
    }
    bytes
}

/// The file behind a descriptor and what it takes, if it has no name and lies in the overlay.
fn nameless(descriptor: &Path) -> Option<((u64, u64), u64)> {
    // Opened without touching what it is: a pipe or a device is not woken.
    let opened = openat(CWD, descriptor, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let stat = fstat(&opened).ok()?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    if stat.st_nlink > 0 || !is_file {
        return None;
    }
    let kind = u64::try_from(fstatfs(&opened).ok()?.f_type).ok()?;
    let blocks = u64::try_from(stat.st_blocks).ok()?;
    (kind == OVERLAY).then_some(((stat.st_dev, stat.st_ino), blocks.saturating_mul(512)))
}

/// A sandbox's processes: those of a limit group, or where there is none of its process namespace.
fn processes(groups: &[PathBuf], first: u32) -> Vec<u32> {
    let listed = |group: &PathBuf| std::fs::read_to_string(group.join("cgroup.procs")).ok();
    if let Some(text) = groups.iter().find_map(listed) {
        return text.lines().filter_map(|line| line.parse().ok()).collect();
    }
    let namespace = |process: u32| std::fs::read_link(format!("/proc/{process}/ns/pid")).ok();
    let Some(ours) = namespace(first) else { return Vec::new() };
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|process| namespace(*process).as_ref() == Some(&ours)).collect()
}
