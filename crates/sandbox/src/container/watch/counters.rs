//! What the kernel counts in a sandbox's limit groups, version 1 and 2.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Counters that only grow, and the highest use of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Processes killed for want of memory.
    pub(super) memory_kills: u64,
    /// The most memory that was used at once, where the kernel says.
    pub(super) memory_peak: Option<u64>,
    /// Processes that could not be started.
    pub(super) pids_refused: u64,
    /// Time that processes were ready to run and had to wait.
    pub(super) cpu_throttled: Duration,
}

/// Where these are, as far as they are anywhere.
#[derive(Debug, Default)]
pub(crate) struct Files {
    memory_events: Option<PathBuf>,
    memory_peak: Option<PathBuf>,
    pids_events: Option<PathBuf>,
    cpu_stat: Option<PathBuf>,
}

impl Files {
    /// Looks which of the files there are.
    pub(super) fn of(groups: &[PathBuf]) -> Self {
        let find = |names: [&str; 2]| {
            let paths = names.iter().flat_map(|name| groups.iter().map(move |it| it.join(name)));
            paths.into_iter().find(|path| path.exists())
        };
        Self {
            memory_events: find(["memory.events", "memory.oom_control"]),
            memory_peak: find(["memory.peak", "memory.max_usage_in_bytes"]),
            pids_events: find(["pids.events", "pids.events"]),
            // In version 2 every group has one; only where the limit is held it says `throttled`.
            cpu_stat: find(["cpu.stat", "cpu.stat"]),
        }
    }

    pub(super) fn read(&self) -> Counters {
        let text = |path: &Option<PathBuf>| path.as_deref().map(read).unwrap_or_default();
        let cpu = text(&self.cpu_stat);
        let throttled = match (field(&cpu, "throttled_usec"), field(&cpu, "throttled_time")) {
            (Some(microseconds), _) => Duration::from_micros(microseconds),
            (None, Some(nanoseconds)) => Duration::from_nanos(nanoseconds),
            (None, None) => Duration::ZERO,
        };
        Counters {
            memory_kills: field(&text(&self.memory_events), "oom_kill").unwrap_or(0),
            memory_peak: text(&self.memory_peak).trim().parse().ok(),
            pids_refused: field(&text(&self.pids_events), "max").unwrap_or(0),
            cpu_throttled: throttled,
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(' ')?;
        (found == name).then(|| value.trim().parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(files: &[(&str, &str)]) -> Counters {
        let group = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            std::fs::write(group.path().join(name), text).expect("written");
        }
        Files::of(&[group.path().to_owned()]).read()
    }

    #[test]
    fn both_versions_are_read() {
        let expected = Counters {
            memory_kills: 3,
            memory_peak: Some(4096),
            pids_refused: 7,
            cpu_throttled: Duration::from_millis(5),
        };
        let first = [
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ("memory.max_usage_in_bytes", "4096\n"),
            ("pids.events", "max 7\n"),
            ("cpu.stat", "nr_periods 9\nnr_throttled 5\nthrottled_time 5000000\n"),
        ];
        assert_eq!(counters(&first), expected);
        let second = [
            ("memory.events", "low 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n"),
            ("memory.peak", "4096\n"),
            ("pids.events", "max 7\n"),
            ("cpu.stat", "usage_usec 99\nnr_throttled 5\nthrottled_usec 5000\n"),
        ];
        assert_eq!(counters(&second), expected);
    }

    #[test]
    fn what_is_not_there_counts_nothing() {
        assert_eq!(counters(&[]), Counters::default());
        let odd = counters(&[("pids.events", "nonsense\n"), ("memory.oom_control", "oom_kill x")]);
        assert_eq!(odd, Counters::default());
    }
}
