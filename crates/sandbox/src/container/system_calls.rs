//! System calls that nothing in a sandbox makes, not even PID 1: what every OCI runtime installs.
//!
//! Agents' programs get far less, by a list of what is allowed, from agentd, which starts them. This
//! list holds for agentd as well, should it be broken: it keeps what mounts the write gate and ends
//! processes, and what starts children.

use libc::c_long;
use serde_json::{Value, json};

/// By name for the runtimes, by number for the launcher. Answered with `EPERM`.
const REFUSED: [(&str, c_long); 38] = [
    // Code for the kernel itself.
    ("init_module", libc::SYS_init_module),
    ("finit_module", libc::SYS_finit_module),
    ("delete_module", libc::SYS_delete_module),
    ("kexec_load", libc::SYS_kexec_load),
    ("kexec_file_load", libc::SYS_kexec_file_load),
    ("bpf", libc::SYS_bpf),
    // Where escapes keep being found, and which nothing here needs.
    ("io_uring_setup", libc::SYS_io_uring_setup),
    ("io_uring_enter", libc::SYS_io_uring_enter),
    ("io_uring_register", libc::SYS_io_uring_register),
    ("userfaultfd", libc::SYS_userfaultfd),
    ("perf_event_open", libc::SYS_perf_event_open),
    ("lookup_dcookie", libc::SYS_lookup_dcookie),
    // Files by their numbers on the disk, whatever lies on the way to them.
    ("open_by_handle_at", libc::SYS_open_by_handle_at),
    ("name_to_handle_at", libc::SYS_name_to_handle_at),
    // Keyrings belong to a user id and not to a namespace.
    ("add_key", libc::SYS_add_key),
    ("request_key", libc::SYS_request_key),
    ("keyctl", libc::SYS_keyctl),
    // Other processes' namespaces, another root, and mounts that no path leads to.
    ("setns", libc::SYS_setns),
    ("pivot_root", libc::SYS_pivot_root),
    ("open_tree", libc::SYS_open_tree),
    ("fsopen", libc::SYS_fsopen),
    ("fsconfig", libc::SYS_fsconfig),
    ("fspick", libc::SYS_fspick),
    ("fsmount", libc::SYS_fsmount),
    ("move_mount", libc::SYS_move_mount),
    // One clock for the whole machine.
    ("settimeofday", libc::SYS_settimeofday),
    ("clock_settime", libc::SYS_clock_settime),
    ("clock_adjtime", libc::SYS_clock_adjtime),
    ("adjtimex", libc::SYS_adjtimex),
    // The machine as a whole, its log and its disks.
    ("reboot", libc::SYS_reboot),
    ("swapon", libc::SYS_swapon),
    ("swapoff", libc::SYS_swapoff),
    ("acct", libc::SYS_acct),
    ("quotactl", libc::SYS_quotactl),
    ("quotactl_fd", libc::SYS_quotactl_fd),
    ("syslog", libc::SYS_syslog),
    ("vhangup", libc::SYS_vhangup),
    ("nfsservctl", libc::SYS_nfsservctl),
];

/// The number of a call that the list refuses.
pub fn number(name: &str) -> Option<c_long> {
    REFUSED.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// `linux.seccomp` of a bundle. Programs for other architectures are ended by every runtime.
pub(super) fn describe() -> Value {
    let architecture =
        if cfg!(target_arch = "aarch64") { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    let names: Vec<&str> = REFUSED.iter().map(|(name, _)| *name).collect();
    json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": [architecture],
        "syscalls": [{
            "names": names,
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": libc::EPERM,
        }],
    })
}
