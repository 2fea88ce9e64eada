//! Watches running sandboxes: what the kernel counted against their limits, and what they wrote.
//!
//! ```text
//!   every look     statvfs of the data directory: is the machine's disk nearly full?
//!   every 2 s      three small files of each sandbox's limit groups
//!   when needed    a walk of what one sandbox wrote: the disk lost half of what it has left, or
//!                  half a minute has passed; never more than a twentieth of the time
//! ```
//!
//! So watching many idle sandboxes costs next to nothing, and the faster one writes the more often
//! it is measured.

mod counters;
mod measure;
mod plan;
mod unlinked;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use protocol::SandboxId;
use protocol::sandbox::{Consequence, LimitName, Limits, SandboxDescription, StartPath};

use self::counters::{Counters, Files};
use self::plan::{Disk, Space};
use super::process::{Process, recorded};
use super::{Container, recorded_groups};
use crate::Exceeded;

/// Between two looks at the kernel's counters.
const COUNTERS_EVERY: Duration = Duration::from_secs(2);
/// Walks in one look take no longer than this and the last of them.
const WALKING: Duration = Duration::from_millis(250);

/// Everything that is watched.
#[derive(Debug, Default)]
pub(super) struct Watch {
    sandboxes: Mutex<HashMap<SandboxId, Arc<Mutex<Watched>>>>,
    /// Only one looks at a time; since when the counters were not looked at.
    look: Mutex<Option<Instant>>,
    /// What was found otherwise, until the next look.
    told: Mutex<Vec<Exceeded>>,
}

/// One sandbox.
#[derive(Debug)]
struct Watched {
    limits: Limits,
    files: Files,
    counters: Counters,
    /// The counters when the processor was last judged.
    cpu: (Instant, Counters),
    written: PathBuf,
    groups: Vec<PathBuf>,
    /// PID 1.
    first: Option<u32>,
    disk: Disk,
    /// Its end was asked for.
    ending: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Watches a sandbox that runs.
    pub(super) fn add(&self, directory: &Path, description: &SandboxDescription) {
        let groups = recorded_groups(directory);
        let files = Files::of(&groups);
        let first = recorded(directory).ok().flatten().map(|started| started.pid);
        let counters = files.read();
        let limits = description.limits;
        let continues = description.path == StartPath::Restore;
        let watched = Watched {
            limits,
            counters,
            cpu: (Instant::now(), counters),
            files,
            written: directory.join("files"),
            groups,
            first,
            disk: Disk::new(limits.disk_bytes, continues),
            ending: false,
        };
        lock(&self.sandboxes).insert(description.id, Arc::new(Mutex::new(watched)));
    }

    /// Watches it no longer.
    pub(super) fn remove(&self, id: SandboxId) {
        lock(&self.sandboxes).remove(&id);
    }

    /// Processes of a sandbox that has ended were killed for want of memory.
    pub(super) fn ended_by_memory(&self, id: SandboxId, peak: u64, limits: &Limits) {
        lock(&self.told).push(Exceeded {
            sandbox: id,
            limit: LimitName::Memory,
            usage: peak,
            maximum: limits.memory_bytes,
            consequence: Consequence::Ended,
            what: "it ended for want of memory".into(),
        });
    }

    fn all(&self) -> Vec<(SandboxId, Arc<Mutex<Watched>>)> {
        lock(&self.sandboxes).iter().map(|(id, watched)| (*id, Arc::clone(watched))).collect()
    }
}

impl Container {
    /// One look; blocks for as long as files are read.
    pub(super) fn look_at_limits(&self) -> Vec<Exceeded> {
        let watch = &self.watch;
        let mut looked = lock(&watch.look);
        if looked.is_none() {
            self.find_running();
        }
        let mut exceeded = std::mem::take(&mut *lock(&watch.told));
        let now = Instant::now();
        let all = watch.all();
        if looked.is_none_or(|at| now.duration_since(at) >= COUNTERS_EVERY) {
            *looked = Some(now);
            for (id, watched) in &all {
                exceeded.extend(lock(watched).count(*id, now));
            }
        }
        if let Some(space) = Space::of(&self.config.data) {
            exceeded.extend(measure_due(&all, space));
            exceeded.extend(guard(&all, space));
        }
        exceeded
    }

    /// Sandboxes that an earlier process started.
    fn find_running(&self) {
        for entry in std::fs::read_dir(self.sandboxes()).into_iter().flatten().flatten() {
            let directory = entry.path();
            let Ok(Some(started)) = recorded(&directory) else { continue };
            if Process::find(&started).is_none() {
                continue;
            }
            match super::launch::described(&directory) {
                Ok(description) if !lock(&self.watch.sandboxes).contains_key(&description.id) => {
                    self.watch.add(&directory, &description);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a sandbox that runs is not watched"),
            }
        }
    }
}

impl Watched {
    /// What the kernel counted since the last time.
    fn count(&mut self, id: SandboxId, now: Instant) -> Vec<Exceeded> {
        let counters = self.files.read();
        let mut exceeded = plan::counted(&self.counters, &counters, &self.limits);
        let (since, before) = self.cpu;
        let passed = now.duration_since(since);
        if passed >= plan::CPU_WINDOW {
            exceeded.extend(plan::throttled(&before, &counters, passed, &self.limits));
            self.cpu = (now, counters);
        }
        self.counters = counters;
        exceeded.into_iter().map(|it| it.of(id)).collect()
    }

    fn measure(&mut self, space: Space) {
        let begun = Instant::now();
        let most = self.disk.maximum();
        match measure::written(&self.written, most) {
            Ok(named) => {
                let nameless = self.first.map_or(0, |it| unlinked::unlinked(&self.groups, it));
                let bytes = named.saturating_add(nameless);
                self.disk.measured(bytes, begun, begun.elapsed(), space);
            }
            // Discarded meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                // What cannot be measured cannot be allowed to grow.
                let path = self.written.display();
                tracing::warn!(%path, %error, "what a sandbox wrote cannot be measured");
                self.disk.measured(u64::MAX, begun, begun.elapsed(), space);
            }
        }
    }

    fn over(&mut self, id: SandboxId) -> Option<Exceeded> {
        let usage = self.disk.bytes().filter(|bytes| *bytes > self.disk.maximum())?;
        let what = if usage == u64::MAX {
            "what it wrote cannot be measured: its directories are nested too deeply".to_owned()
        } else {
            format!("it wrote {}", LimitName::Disk.show(usage))
        };
        self.end(id, usage, what)
    }

    /// Once only: the rest is for whoever stops it.
    fn end(&mut self, id: SandboxId, usage: u64, what: String) -> Option<Exceeded> {
        (!std::mem::replace(&mut self.ending, true)).then_some(Exceeded {
            sandbox: id,
            limit: LimitName::Disk,
            usage,
            maximum: self.limits.disk_bytes,
            consequence: Consequence::Ended,
            what,
        })
    }
}

/// Measures those that may have come near their limit, the longest unmeasured first.
fn measure_due(all: &[(SandboxId, Arc<Mutex<Watched>>)], space: Space) -> Vec<Exceeded> {
    let begun = Instant::now();
    let mut due: Vec<_> = all
        .iter()
        .filter_map(|(id, watched)| {
            let held = lock(watched);
            let due = !held.ending && held.disk.is_due(begun, space);
            due.then(|| (held.disk.measured_at(), *id, watched))
        })
        .collect();
    due.sort_by_key(|(at, ..)| *at);
    let mut exceeded = Vec::new();
    for (_, id, watched) in due {
        let mut watched = lock(watched);
        watched.measure(space);
        exceeded.extend(watched.over(id));
        if begun.elapsed() > WALKING {
            break;
        }
    }
    exceeded
}

/// Where the machine's own disk is nearly full, ends the sandbox that wrote most of late.
fn guard(all: &[(SandboxId, Arc<Mutex<Watched>>)], space: Space) -> Option<Exceeded> {
    if !space.is_short() {
        return None;
    }
    let grown = |(id, watched): &(SandboxId, Arc<Mutex<Watched>>)| {
        let mut held = lock(watched);
        if held.ending {
            return None;
        }
        held.measure(space);
        Some((held.disk.growth(), *id, Arc::clone(watched)))
    };
    let (growth, id, watched) = all.iter().filter_map(grown).max_by_key(|(growth, ..)| *growth)?;
    if growth < plan::GROWTH {
        return None;
    }
    let what = format!(
        "the server's disk has only {} left, and this sandbox wrote {} of late",
        LimitName::Disk.show(space.free),
        LimitName::Disk.show(growth)
    );
    let mut watched = lock(&watched);
    let usage = watched.disk.bytes().unwrap_or(growth);
    watched.end(id, usage, what)
}
