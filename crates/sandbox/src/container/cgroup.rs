//! Limit groups (cgroups), version 1 and 2: found, made, filled with limits and removed.
//!
//! Groups lie in one of our own, `hangar-<data directory>`, beneath the group this process is in,
//! so that whatever holds this process holds its sandboxes too. No other group is ever touched.

use std::path::{Path, PathBuf};

use protocol::SandboxId;
use protocol::sandbox::{Enforcement, LimitReport, Limits};

/// Period of the CPU limit, in microseconds: the kernel's own default.
const CPU_PERIOD: u64 = 100_000;

/// Where groups are made on this machine.
#[derive(Debug)]
pub(super) struct Groups {
    memory: Controller,
    cpu: Controller,
    pids: Controller,
    ours: String,
}

/// Where one limit is held, or why it is not.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Controller {
    V1(PathBuf),
    V2(PathBuf),
    Missing(String),
}

/// The groups made for one sandbox.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) directories: Vec<PathBuf>,
    pub(super) reports: Vec<LimitReport>,
}

impl Groups {
    /// Looks at the mounted hierarchies and at which group this process is in.
    pub(super) fn find(data: &Path) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let (mounts, own) = (read("/proc/self/mountinfo"), read("/proc/self/cgroup"));
        let unified = unified(&mounts, &own);
        let controller = |name: &str| {
            version_1(name, &mounts, &own).unwrap_or_else(|| version_2(name, unified.as_deref()))
        };
        Self {
            memory: controller("memory"),
            cpu: controller("cpu"),
            pids: controller("pids"),
            ours: format!("hangar-{:08x}", short_hash(data)),
        }
    }

    /// Makes a sandbox's groups and writes its limits into them.
    pub(super) fn make(&self, id: SandboxId, limits: &Limits) -> Made {
        let mut made = Made { directories: Vec::new(), reports: Vec::new() };
        let quota = u64::from(limits.cpu_millicores) * CPU_PERIOD / 1000;
        let (memory, pids) = (limits.memory_bytes.to_string(), limits.pids.to_string());
        self.one("memory", &self.memory, id, &mut made, |version| match version {
            1 => vec![
                Setting::needed("memory.limit_in_bytes", &memory),
                Setting::wanted("memory.memsw.limit_in_bytes", &memory),
            ],
            _ => vec![
                Setting::needed("memory.max", &memory),
                Setting::wanted("memory.swap.max", "0"),
            ],
        });
        self.one("cpu", &self.cpu, id, &mut made, |version| match version {
            1 => vec![
                Setting::needed("cpu.cfs_period_us", &CPU_PERIOD.to_string()),
                Setting::needed("cpu.cfs_quota_us", &quota.to_string()),
            ],
            _ => vec![Setting::needed("cpu.max", &format!("{quota} {CPU_PERIOD}"))],
        });
        self.one("pids", &self.pids, id, &mut made, |_| vec![Setting::needed("pids.max", &pids)]);
        made.reports.extend(other_limits());
        made
    }

    /// Which limits hold here, found by holding a group to them.
    pub(super) fn reports(&self, limits: &Limits) -> Vec<LimitReport> {
        let id = SandboxId::new();
        let reports = self.make(id, limits).reports;
        let _nothing_is_in_it = self.remove(id, &[]);
        reports
    }

    /// Kills whatever is left in a sandbox's groups and removes them. The error says what remains.
    ///
    /// `recorded` are those it was started in: this process may itself be in another group since.
    pub(super) fn remove(&self, id: SandboxId, recorded: &[PathBuf]) -> Result<(), String> {
        let now = self.parents().into_iter().map(|it| it.join(&self.ours).join(id.to_string()));
        for group in now.chain(recorded.iter().cloned()) {
            // Only what has our name is ours, whatever was recorded.
            if group.file_name().and_then(|name| name.to_str()) != Some(&id.to_string()) {
                continue;
            }
            kill_all(&group);
            match std::fs::remove_dir(&group) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{} cannot be removed ({error})", group.display()));
                }
                _ => {}
            }
            // Succeeds with the last sandbox only.
            let _in_use = group.parent().map(std::fs::remove_dir);
        }
        Ok(())
    }

    /// The sandboxes that have groups.
    pub(super) fn known(&self) -> Vec<SandboxId> {
        let mut ids: Vec<SandboxId> = self
            .parents()
            .iter()
            .flat_map(|parent| std::fs::read_dir(parent.join(&self.ours)))
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Removes our own group where nothing is in it: a crash may have come between a sandbox's end
    /// and that.
    pub(super) fn sweep(&self) {
        for parent in self.parents() {
            let _in_use = std::fs::remove_dir(parent.join(&self.ours));
        }
    }

    fn parents(&self) -> Vec<PathBuf> {
        let mut parents: Vec<PathBuf> = [&self.memory, &self.cpu, &self.pids]
            .into_iter()
            .filter_map(|controller| match controller {
                Controller::V1(path) | Controller::V2(path) => Some(path.clone()),
                Controller::Missing(_) => None,
            })
            .collect();
        parents.dedup();
        parents
    }

    fn one(
        &self,
        limit: &str,
        controller: &Controller,
        id: SandboxId,
        made: &mut Made,
        settings: impl FnOnce(u8) -> Vec<Setting>,
    ) {
        let (version, parent) = match controller {
            Controller::V1(path) => (1, path),
            Controller::V2(path) => (2, path),
            Controller::Missing(reason) => {
                made.reports.push(not_enforced(limit, reason.clone()));
                return;
            }
        };
        let group = parent.join(&self.ours).join(id.to_string());
        let done = make_group(&group, version == 2)
            .and_then(|()| settings(version).iter().try_for_each(|it| it.write(&group)));
        made.reports.push(match done {
            Ok(()) => enforced(limit, format!("cgroup v{version} {limit}")),
            Err(error) => not_enforced(limit, without_right(&group, &error)),
        });
        if !group.is_dir() {
            // Where only our own group could be made, it is not left behind.
            let _in_use = group.parent().map(std::fs::remove_dir);
        } else if !made.directories.contains(&group) {
            made.directories.push(group);
        }
    }
}

/// The last one who knows of our own group takes it along, if no sandbox is left in it.
impl Drop for Groups {
    fn drop(&mut self) {
        self.sweep();
    }
}

/// How many processes the kernel killed in one of these groups for want of memory.
pub(super) fn memory_kills(groups: &[PathBuf]) -> u64 {
    let count = |path: PathBuf| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.parse::<u64>().ok())
    };
    let files = ["memory.oom_control", "memory.events"];
    let found = groups.iter().flat_map(|group| files.map(|file| count(group.join(file))));
    found.flatten().max().unwrap_or(0)
}

/// The most memory that was used at once in one of these groups, where the kernel says.
pub(super) fn memory_peak(groups: &[PathBuf]) -> Option<u64> {
    let files = ["memory.peak", "memory.max_usage_in_bytes"];
    let paths = groups.iter().flat_map(|group| files.map(|file| group.join(file)));
    let mut found = paths.filter_map(|path| std::fs::read_to_string(path).ok());
    found.find_map(|text| text.trim().parse().ok())
}

/// One file of a group and what goes into it.
#[derive(Debug)]
struct Setting {
    file: &'static str,
    value: String,
    needed: bool,
}

impl Setting {
    fn needed(file: &'static str, value: &str) -> Self {
        Self { file, value: value.to_owned(), needed: true }
    }

    /// Swap accounting is not compiled into every kernel.
    fn wanted(file: &'static str, value: &str) -> Self {
        Self { needed: false, ..Self::needed(file, value) }
    }

    fn write(&self, group: &Path) -> std::io::Result<()> {
        let path = group.join(self.file);
        if !self.needed && !path.exists() {
            return Ok(());
        }
        std::fs::write(path, &self.value)
    }
}

fn make_group(group: &Path, pass_on_controllers: bool) -> std::io::Result<()> {
    // The parent goes away with its last group, which may be just now.
    for _ in 0..10 {
        let Some(ours) = group.parent() else { break };
        match std::fs::create_dir(ours) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if pass_on_controllers {
            std::fs::write(ours.join("cgroup.subtree_control"), "+memory +cpu +pids")?;
        }
        match std::fs::create_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => return Ok(()),
        }
    }
    Err(std::io::ErrorKind::NotFound.into())
}

fn kill_all(group: &Path) {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let pids = text.lines().filter_map(|line| rustix::process::Pid::from_raw(line.parse().ok()?));
    for pid in pids {
        let _it_is_gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

fn enforced(limit: &str, by: String) -> LimitReport {
    LimitReport { limit: limit.into(), enforcement: Enforcement::Enforced { by } }
}

fn not_enforced(limit: &str, reason: String) -> LimitReport {
    LimitReport { limit: limit.into(), enforcement: Enforcement::NotEnforced { reason } }
}

fn other_limits() -> [LimitReport; 3] {
    [
        enforced("disk", "the server, which measures what is written and stops the sandbox".into()),
        enforced("run_time", "the server's clock, while the server runs".into()),
        enforced("egress", "the gateway".into()),
    ]
}

fn without_right(group: &Path, error: &std::io::Error) -> String {
    let hint = "run hangar as root, or as a systemd service with Delegate=yes";
    format!("cannot use {} ({error}); {hint}", group.display())
}

/// The mount point of a hierarchy whose options name `name`, and which part of it is mounted.
fn hierarchy(mounts: &str, kind: &str, name: Option<&str>) -> Option<(PathBuf, String)> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (found, options) = (right.next()?, right.nth(1)?);
        let named = name.is_none_or(|name| options.split(',').any(|option| option == name));
        let mut left = left.split(' ').skip(3);
        let (root, point) = (left.next()?, left.next()?);
        (found == kind && named).then(|| (PathBuf::from(point), root.to_owned()))
    })
}

/// The directory of a group path as `/proc/self/cgroup` names it.
fn directory(point: &Path, root: &str, group: &str) -> PathBuf {
    let within = group.strip_prefix(root.trim_end_matches('/')).unwrap_or(group);
    point.join(within.trim_start_matches('/'))
}

fn version_1(name: &str, mounts: &str, own: &str) -> Option<Controller> {
    let (point, root) = hierarchy(mounts, "cgroup", Some(name))?;
    let group = own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let controllers = fields.next()?;
        let path = fields.next()?;
        controllers.split(',').any(|controller| controller == name).then_some(path)
    })?;
    Some(Controller::V1(directory(&point, &root, group)))
}

/// A group of version 2 beneath which groups with limits can be made.
///
/// Where a group holds processes, the kernel forbids limits beneath it. So besides this process's
/// own group the one above is tried (systemd's `DelegateSubgroup=`), and for root the top.
fn unified(mounts: &str, own: &str) -> Option<PathBuf> {
    let (point, root) = hierarchy(mounts, "cgroup2", None)?;
    let group = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let own = directory(&point, &root, group);
    let above = own.parent().filter(|above| above.starts_with(&point)).map(Path::to_owned);
    let top = rustix::process::geteuid().is_root().then_some(point);
    [Some(own), above, top].into_iter().flatten().find(|group| offers_limits(group))
}

fn offers_limits(group: &Path) -> bool {
    let control = group.join("cgroup.subtree_control");
    let has_all = || {
        let text = std::fs::read_to_string(&control).unwrap_or_default();
        ["memory", "cpu", "pids"].iter().all(|name| text.split_whitespace().any(|it| it == *name))
    };
    let may_write = || {
        rustix::fs::access(group, rustix::fs::Access::WRITE_OK).is_ok()
            && rustix::fs::access(&control, rustix::fs::Access::WRITE_OK).is_ok()
    };
    may_write() && (has_all() || std::fs::write(&control, "+memory +cpu +pids").is_ok())
}

fn version_2(name: &str, group: Option<&Path>) -> Controller {
    group.map_or_else(
        || {
            Controller::Missing(format!(
                "no {name} cgroup is given to this process; run hangar as root, or as a systemd \
                 service with Delegate=yes and DelegateSubgroup=server"
            ))
        },
        |group| Controller::V2(group.to_owned()),
    )
}

/// FNV-1a, folded: tells the groups of several data directories apart.
fn short_hash(path: &Path) -> u32 {
    use std::os::unix::ffi::OsStrExt as _;
    path.as_os_str()
        .as_bytes()
        .iter()
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
30 25 0:26 / /sys/fs/cgroup/cpu rw,relatime shared:1 - cgroup cgroup rw,cpu,cpuacct
31 25 0:27 /docker/abc /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
    const OWN: &str = "4:memory:/docker/abc/job\n1:cpu,cpuacct:/\n0::/user.slice\n";

    #[test]
    fn groups_lie_beneath_our_own_group() {
        let path = |name| version_1(name, MOUNTS, OWN);
        let memory = PathBuf::from("/sys/fs/cgroup/memory/job");
        assert_eq!(path("memory"), Some(Controller::V1(memory)));
        assert_eq!(path("cpu"), Some(Controller::V1("/sys/fs/cgroup/cpu/".into())));
        assert_eq!(path("pids"), None);
    }

    #[test]
    fn without_any_hierarchy_the_reason_is_told() {
        let Controller::Missing(reason) = version_2("memory", None) else {
            panic!("none is there")
        };
        assert!(reason.contains("Delegate=yes"), "{reason}");
    }
}
