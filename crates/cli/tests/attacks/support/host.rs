//! What the host sees of a sandbox: its processes, its mounts, its limit groups.

use std::path::{Path, PathBuf};

use super::sandbox::Sandbox;

impl Sandbox {
    /// Its processes on the host, PID 1 first: all that lie in PID 1's process namespace.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let first = self.pid();
        let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(ours) = namespace(first) else { return Vec::new() };
        let mut found = vec![first];
        found.extend(all().filter(|pid| *pid != first && namespace(*pid).as_ref() == Some(&ours)));
        found
    }

    /// A number from a file of its limit groups: `memory.usage_in_bytes`, `pids.current` …
    pub(crate) fn group_value(&self, names: &[&str]) -> Option<u64> {
        let mut files = self.groups().into_iter().flat_map(|group| {
            names.iter().map(move |name| group.join(name)).collect::<Vec<PathBuf>>()
        });
        files.find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse().ok())
    }
}

/// Every process number on the host.
fn all() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").expect("processes").flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Lines of the test's own mount table that name a path.
pub(crate) fn mounts_below(path: &Path) -> Vec<String> {
    let path = path.to_string_lossy().into_owned();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
    mounts.lines().filter(|line| line.contains(&path)).map(str::to_owned).collect()
}
