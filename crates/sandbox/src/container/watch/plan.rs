//! When to measure, and what a number means: no files, no clock.

use std::path::Path;
use std::time::{Duration, Instant};

use protocol::SandboxId;
use protocol::sandbox::{Consequence, LimitName, Limits};

use super::counters::Counters;
use crate::Exceeded;

/// The time over which the processor is judged.
pub(super) const CPU_WINDOW: Duration = Duration::from_secs(30);
/// Growth below which a sandbox is not what fills the machine's disk.
pub(super) const GROWTH: u64 = 64 << 20;
/// What is left free on the machine's disk: this, or a twentieth of a small one.
const RESERVE: u64 = 1 << 30;
/// Files freed elsewhere may hide that one sandbox grew, for this long at most.
const UNMEASURED: Duration = Duration::from_secs(30);
/// Time between two walks, in times of what the last one took.
const REST: u32 = 20;

/// A limit that was hit, of a sandbox yet to be named.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hit {
    limit: LimitName,
    usage: u64,
    maximum: u64,
    what: String,
}

impl Hit {
    pub(super) fn of(self, sandbox: SandboxId) -> Exceeded {
        let Self { limit, usage, maximum, what } = self;
        let consequence = Consequence::Throttled;
        Exceeded { sandbox, limit, usage, maximum, consequence, what }
    }
}

/// What the kernel refused between two looks.
pub(super) fn counted(before: &Counters, now: &Counters, limits: &Limits) -> Vec<Hit> {
    let mut hits = Vec::new();
    let kills = now.memory_kills.saturating_sub(before.memory_kills);
    if kills > 0 {
        hits.push(Hit {
            limit: LimitName::Memory,
            usage: now.memory_peak.unwrap_or(limits.memory_bytes),
            maximum: limits.memory_bytes,
            what: format!("processes killed for want of memory: {kills}"),
        });
    }
    let refused = now.pids_refused.saturating_sub(before.pids_refused);
    if refused > 0 {
        hits.push(Hit {
            limit: LimitName::Pids,
            usage: limits.pids.into(),
            maximum: limits.pids.into(),
            what: format!("processes that could not be started: {refused}"),
        });
    }
    hits
}

/// Whether the processor was asked for much more than there is, for most of the time.
pub(super) fn throttled(
    before: &Counters,
    now: &Counters,
    passed: Duration,
    limits: &Limits,
) -> Option<Hit> {
    let waited = now.cpu_throttled.saturating_sub(before.cpu_throttled);
    if waited * 2 < passed {
        return None;
    }
    let maximum = limits.cpu_millicores.into();
    Some(Hit { limit: LimitName::Cpu, usage: maximum, maximum, what: "it had to wait".into() })
}

/// Room on the file system of the data directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    pub(super) free: u64,
    pub(super) total: u64,
    pub(super) free_files: u64,
    pub(super) files: u64,
}

impl Space {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let found = rustix::fs::statvfs(path).ok()?;
        Some(Self {
            free: found.f_bavail.saturating_mul(found.f_frsize),
            total: found.f_blocks.saturating_mul(found.f_frsize),
            free_files: found.f_favail,
            files: found.f_files,
        })
    }

    /// Whether the machine itself is about to run out of room.
    pub(super) fn is_short(self) -> bool {
        let few_files = self.files > 0 && self.free_files < self.files / 50;
        self.free < RESERVE.min(self.total / 20) || few_files
    }
}

/// What is known of one sandbox's files.
#[derive(Debug)]
pub(super) struct Disk {
    limit: u64,
    /// More than the limit for one that began with more: it is to have room to clean up.
    maximum: u64,
    continues: bool,
    first: Option<u64>,
    last: Option<Measured>,
}

#[derive(Debug, Clone, Copy)]
struct Measured {
    bytes: u64,
    at: Instant,
    took: Duration,
    free: u64,
}

impl Disk {
    pub(super) fn new(limit: u64, continues: bool) -> Self {
        Self { limit, maximum: limit, continues, first: None, last: None }
    }

    pub(super) fn maximum(&self) -> u64 {
        // Nothing is too much before it is known with what it began.
        if self.continues && self.first.is_none() { u64::MAX } else { self.maximum }
    }

    pub(super) fn bytes(&self) -> Option<u64> {
        self.last.map(|last| last.bytes)
    }

    pub(super) fn growth(&self) -> u64 {
        self.bytes().unwrap_or(0).saturating_sub(self.first.unwrap_or(0))
    }

    pub(super) fn measured_at(&self) -> Option<Instant> {
        self.last.map(|last| last.at)
    }

    pub(super) fn measured(&mut self, bytes: u64, at: Instant, took: Duration, space: Space) {
        if self.first.is_none() {
            self.first = Some(bytes);
            if self.continues && bytes != u64::MAX {
                self.maximum = self.limit.max(bytes.saturating_add(self.limit / 10));
            }
        }
        self.last = Some(Measured { bytes, at, took, free: space.free });
    }

    /// Whether it may have come near its limit since it was measured.
    pub(super) fn is_due(&self, now: Instant, space: Space) -> bool {
        let Some(last) = self.last else { return true };
        let since = now.duration_since(last.at);
        let left = self.maximum.saturating_sub(last.bytes);
        let gone = last.free.saturating_sub(space.free);
        since >= last.took * REST && (since >= UNMEASURED || gone > left / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Space = Space { free: 100 << 30, total: 200 << 30, free_files: 1000, files: 1000 };

    fn with_free(free: u64) -> Space {
        Space { free, ..SPACE }
    }

    #[test]
    fn only_what_is_new_is_told() {
        let limits = Limits::default();
        let before = Counters {
            memory_kills: 2,
            pids_refused: 5,
            memory_peak: Some(7),
            ..Counters::default()
        };
        assert_eq!(counted(&before, &before, &limits), []);
        let now = Counters { memory_kills: 3, pids_refused: 9, ..before };
        let hits = counted(&before, &now, &limits);
        let told: Vec<_> =
            hits.iter().map(|hit| (hit.limit, hit.usage, hit.what.as_str())).collect();
        let memory = (LimitName::Memory, 7, "processes killed for want of memory: 1");
        let pids = (LimitName::Pids, 512, "processes that could not be started: 4");
        assert_eq!(told, [memory, pids]);
    }

    #[test]
    fn a_processor_that_waits_half_of_the_time_is_told() {
        let waited = |seconds| Counters {
            cpu_throttled: Duration::from_secs(seconds),
            ..Counters::default()
        };
        let passed = Duration::from_secs(30);
        let judged =
            |before, now| throttled(&waited(before), &waited(now), passed, &Limits::default());
        assert_eq!(judged(100, 114), None);
        assert_eq!(judged(100, 115).expect("it waited").limit, LimitName::Cpu);
    }

    #[test]
    fn a_walk_is_due_when_half_of_the_rest_may_be_gone() {
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut disk = Disk::new(10 << 30, false);
        assert!(disk.is_due(begun, SPACE), "it was never measured");
        disk.measured(2 << 30, begun, Duration::from_millis(100), SPACE);
        assert!(!disk.is_due(after(3), with_free(97 << 30)), "3 of 8 GiB at most");
        assert!(disk.is_due(after(3), with_free(95 << 30)), "5 of 8 GiB may be its own");
        assert!(!disk.is_due(after(1), with_free(95 << 30)), "not before it has rested");
        assert!(disk.is_due(after(31), SPACE), "somebody may have freed what it took");
    }

    #[test]
    fn what_continues_with_too_much_has_room_to_clean_up() {
        let begun = Instant::now();
        let mut disk = Disk::new(1000, true);
        disk.measured(5000, begun, Duration::ZERO, SPACE);
        assert_eq!(disk.maximum(), 5100);
        let mut disk = Disk::new(1000, true);
        disk.measured(500, begun, Duration::ZERO, SPACE);
        assert_eq!(disk.maximum(), 1000);
        let mut fresh = Disk::new(1000, false);
        fresh.measured(5000, begun, Duration::ZERO, SPACE);
        assert_eq!(fresh.maximum(), 1000);
    }

    #[test]
    fn a_machine_keeps_room_for_itself() {
        assert!(!SPACE.is_short());
        assert!(with_free(512 << 20).is_short());
        let small = Space { free: 60 << 20, total: 1 << 30, ..SPACE };
        assert!(!small.is_short(), "a small disk has a small reserve");
        assert!(Space { free: 50 << 20, ..small }.is_short());
        assert!(Space { free_files: 10, ..SPACE }.is_short());
        assert!(!Space { free_files: 0, files: 0, ..SPACE }.is_short(), "btrfs counts none");
    }
}
