//! The OCI bundle of a sandbox: what `config.json` says.

use std::path::{Path, PathBuf};

use oci_spec::runtime;
use protocol::layout;
use serde_json::{Value, json};

use super::config::Config;
use super::files::{failed, write};
use super::handover;
use super::owner::{Owner, hostname};
use super::runtime::{self as taker, Split, Taker};
use super::system_calls;
use crate::{Base, Error, Spec};

/// Kept by PID 1: to mount (the write gate), to act for the agent's user and to end processes.
/// Agents run without any. `CAP_WAKE_ALARM` does nothing in a user namespace; agentd gives it to
/// its own git, because a process without it may then not look into that one.
const CAPABILITIES: [&str; 13] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_WAKE_ALARM",
];

/// Hidden: facts about the host that no sandbox needs, its memory, and what it was booted with.
const MASKED: [&str; 21] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/cmdline",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Write-protected against root inside as well. All of `/proc` is; these stay so where a runtime
/// mounts it anew.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What goes into a bundle besides the specification.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) owner: Owner,
    /// The bundle's own directory.
    pub(super) directory: &'a Path,
    /// Lower directories, the topmost first, the skeleton last.
    pub(super) lower: Vec<PathBuf>,
    pub(super) groups: &'a [PathBuf],
    /// Whether a group holds the number of processes.
    pub(super) pids_held: bool,
    /// What takes it.
    pub(super) taker: &'a Taker,
}

/// Writes `config.json` and the small files of the sandbox's identity.
pub(super) fn write_bundle(spec: &Spec, parts: &Parts<'_>) -> Result<(), Error> {
    let name = hostname(spec.id);
    // A machine id is 32 hexadecimal digits; the sandbox's own are as unique.
    let machine = spec.id.to_string().split_off(4);
    let hosts = format!("127.0.0.1 localhost {name}\n::1 localhost ip6-localhost\n");
    let own = [
        ("machine-id", format!("{machine}\n")),
        ("hostname", format!("{name}\n")),
        ("hosts", hosts),
    ];
    for (file, content) in &own {
        let path = parts.directory.join(file);
        std::fs::write(&path, content).map_err(failed("write", &path))?;
    }
    let path = parts.directory.join(handover::CONFIG);
    let mut described = describe(spec, parts, &name);
    if let Taker::Oci(oci) = parts.taker {
        let to = Split { oci, directory: parts.directory, owner: parts.owner };
        taker::split(&mut described, &to)?;
    }
    let described: runtime::Spec = serde_json::from_value(described)
        .map_err(|error| failed("describe", &path)(error.into()))?;
    let text =
        serde_json::to_vec(&described).map_err(|error| failed("describe", &path)(error.into()))?;
    write(&path, &text)
}

fn describe(spec: &Spec, parts: &Parts<'_>, name: &str) -> Value {
    let Parts { owner, config, directory, .. } = parts;
    let map = |host: u32| json!([{"containerID": 0, "hostID": host, "size": owner.count}]);
    // Where no group can hold their number, the kernel's limit for each user does: within its
    // user namespace the agent's user is only the agent.
    let processes = if parts.pids_held {
        json!([])
    } else {
        json!([{"type": "RLIMIT_NPROC", "hard": spec.limits.pids, "soft": spec.limits.pids}])
    };
    let namespaces = ["user", "mount", "pid", "network", "ipc", "uts", "cgroup"]
        .map(|kind| json!({"type": kind}));
    let quota = i64::from(spec.limits.cpu_millicores) * 100;
    let sets = json!({
        "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
    });
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": "root", "readonly": false},
        "hostname": name,
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": config.init,
            "env": environment(spec, config),
            "cwd": "/",
            "capabilities": sets,
            "rlimits": processes,
            "noNewPrivileges": true,
        },
        "mounts": mounts(spec, parts),
        "linux": {
            "namespaces": namespaces,
            "uidMappings": map(owner.uid),
            "gidMappings": map(owner.gid),
            "cgroupsPath": format!("hangar/{}", spec.id),
            "resources": {
                "memory": {"limit": spec.limits.memory_bytes, "swap": spec.limits.memory_bytes},
                "cpu": {"quota": quota, "period": 100_000},
                "pids": {"limit": spec.limits.pids},
            },
            "rootfsPropagation": "private",
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "seccomp": system_calls::describe(),
        },
        "annotations": {
            handover::LOWER: json!(parts.lower).to_string(),
            handover::UPPER: directory.join("files"),
            handover::GATED: layout::WORKSPACE,
            handover::GROUPS: json!(parts.groups).to_string(),
        },
    })
}

/// The base's own variables first, because ours say what holds in every sandbox.
fn environment(spec: &Spec, config: &Config) -> Vec<String> {
    let on_host = spec.base == Base::Host;
    let usual = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned();
    let given = spec.environment.iter().rfind(|(name, _)| name == "PATH");
    let programs = given.map_or(usual, |(_, path)| path.clone());
    let tools = format!("{}/bin", layout::TOOLKIT);
    // A git for images without one; after theirs.
    let git = format!("{}/git/bin", layout::TOOLKIT);
    let more = config.path.iter().filter(|_| on_host).cloned();
    let path: Vec<String> = ["/home/agent/.local/bin".to_owned(), tools]
        .into_iter()
        .chain(more)
        .chain([programs])
        .chain((!on_host).then_some(git))
        .collect();
    let fixed = [
        ("PATH", path.join(":")),
        ("HOME", layout::HOME.to_owned()),
        ("USER", "root".to_owned()),
        ("SHELL", if on_host { "/bin/bash" } else { "/bin/sh" }.to_owned()),
        ("HANGAR_SANDBOX", spec.id.to_string()),
    ];
    let mut all = std::collections::BTreeMap::from([("LANG".to_owned(), "C.UTF-8".to_owned())]);
    all.extend(spec.environment.iter().cloned());
    all.extend(fixed.map(|(name, value)| (name.to_owned(), value)));
    all.extend(config.environment.iter().filter(|_| on_host).cloned());
    all.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn bind(source: impl AsRef<Path>, destination: &str, options: &[&str]) -> Value {
    let options: Vec<&str> = ["rbind"].iter().chain(options).copied().collect();
    json!({
        "destination": destination, "type": "none", "source": source.as_ref(), "options": options,
    })
}

fn file_system(kind: &str, destination: &str, options: &[&str]) -> Value {
    json!({"destination": destination, "type": kind, "source": kind, "options": options})
}

fn mounts(spec: &Spec, parts: &Parts<'_>) -> Vec<Value> {
    let closed = &["ro", "nosuid", "nodev"];
    let on_host = spec.base == Base::Host;
    let mut mounts = if on_host { programs_of_the_host(closed) } else { Vec::new() };
    mounts.push(bind(&spec.toolkit, layout::TOOLKIT, closed));
    if let Some(mirror) = &spec.mirror {
        mounts.push(bind(mirror, layout::MIRROR, &["ro", "nosuid", "nodev", "noexec"]));
    }
    let gateway = parts.directory.join("gateway");
    mounts.push(bind(gateway, layout::RUN, &["ro", "nosuid", "nodev", "noexec"]));
    for file in ["machine-id", "hostname", "hosts"] {
        let options = &["ro", "nosuid", "nodev", "noexec"];
        mounts.push(bind(parts.directory.join(file), &format!("/etc/{file}"), options));
    }
    // tmpfs counts as memory that no killing of processes frees: both full leave a quarter, or the
    // kernel kills one process after the other and PID 1 at last. Where memory is not held, this
    // bounds it.
    let size = format!("size={}", spec.limits.memory_bytes / 2);
    let shared = format!("size={}", spec.limits.memory_bytes / 4);
    mounts.extend([
        // Read-only as a whole: what a process may change about itself it changes by system calls,
        // and the rest are knobs of the kernel and of agentd, which has the same user id.
        file_system("proc", "/proc", &["ro", "nosuid", "nodev", "noexec"]),
        file_system("tmpfs", "/tmp", &["nosuid", "nodev", "mode=1777", &size]),
        file_system("tmpfs", "/sys", &["ro", "nosuid", "nodev", "noexec", "mode=0755"]),
        bind("/sys/devices/system/cpu", "/sys/devices/system/cpu", closed),
        file_system("tmpfs", "/dev", &["ro", "nosuid", "noexec", "mode=0755"]),
    ]);
    for device in DEVICES {
        let path = format!("/dev/{device}");
        mounts.push(bind(&path, &path, &["nosuid", "noexec"]));
    }
    let terminals = &["nosuid", "noexec", "mode=0620", "ptmxmode=0666"];
    mounts.push(file_system("devpts", "/dev/pts", terminals));
    mounts.push(file_system("tmpfs", "/dev/shm", &["nosuid", "nodev", "mode=1777", &shared]));
    // Last, because one may lie beneath a mount above.
    for extra in parts.config.extra_read_only.iter().filter(|_| on_host) {
        mounts.push(bind(&extra.host, &extra.inside, closed));
    }
    mounts
}

fn programs_of_the_host(closed: &[&str]) -> Vec<Value> {
    // The latter are directories of their own on some hosts, and links into /usr on most.
    let own = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"]
        .into_iter()
        .filter(|path| Path::new(path).symlink_metadata().is_ok_and(|found| found.is_dir()));
    ["/usr"].into_iter().chain(own).map(|path| bind(path, path, closed)).collect()
}
