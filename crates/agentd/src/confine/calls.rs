//! Which system calls the agent's programs may make: what is allowed, what is refused and why.
//!
//! What stands in no list is unknown to them, as on an older kernel, so that programs fall back to
//! what they did before it existed; that is also the answer to every call of a kernel to come.
//! `clone3` is unknown on purpose: its flags are behind a pointer that no filter can follow, and
//! C libraries then use `clone`.

use libc::c_long;

use super::filter::Test::{self, AnyBit, Masked, OneOf};
use super::filter::{Judged, Verdict};

/// Allowed whatever the arguments.
pub(super) const ALLOWED: &[&[c_long]] = &[
    FILES,
    DESCRIPTORS,
    WAITING,
    MEMORY,
    PROCESSES,
    IDENTITY,
    TIME,
    SIGNALS,
    SOCKETS,
    SHARED,
    ASKING,
    #[cfg(target_arch = "x86_64")]
    OLDER,
];

/// Reading, writing and naming files. Which ones is for permissions, mounts and Landlock to say.
const FILES: &[c_long] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_truncate,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_readahead,
    libc::SYS_fadvise64,
    libc::SYS_flock,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_io_setup,
    libc::SYS_io_destroy,
    libc::SYS_io_submit,
    libc::SYS_io_cancel,
    libc::SYS_io_getevents,
];

/// Pipes, copies of descriptors, and files that only exist as descriptors.
const DESCRIPTORS: &[c_long] = &[
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_pipe2,
    libc::SYS_splice,
    libc::SYS_tee,
    libc::SYS_vmsplice,
    libc::SYS_memfd_create,
    libc::SYS_eventfd2,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
];

/// Waiting for several things at once.
const WAITING: &[c_long] = &[
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_restart_syscall,
];

/// A process's own memory. `process_vm_readv` and its twin obey the rule of `ptrace`, below.
const MEMORY: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_mseal,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_membarrier,
    libc::SYS_rseq,
];

/// Starting, watching and debugging processes. The kernel lets nobody look into a process that holds
/// a capability the looker lacks, so debuggers work on everything in a sandbox but agentd.
const PROCESSES: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_set_tid_address,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_restrict_self,
    libc::SYS_setpgid,
    libc::SYS_getpgid,
    libc::SYS_setsid,
    libc::SYS_getsid,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_getattr,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_getpriority,
    libc::SYS_ioprio_get,
    libc::SYS_getcpu,
];

/// Who a process is. Without capabilities these change between ids it has already.
const IDENTITY: &[c_long] = &[
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capget,
    libc::SYS_capset,
];

/// Reading clocks, and timers.
const TIME: &[c_long] = &[
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
];

/// Signals. The kernel drops those to a sandbox's first process.
const SIGNALS: &[c_long] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sigaltstack,
];

/// Using sockets; making one is judged below.
const SOCKETS: &[c_long] = &[
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
];

/// Memory and messages between processes, for databases and browsers; the IPC namespace is its own.
const SHARED: &[c_long] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmdt,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_notify,
    libc::SYS_mq_getsetattr,
];

/// Facts about the machine and a process's own limits.
const ASKING: &[c_long] = &[
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_getrlimit,
    libc::SYS_setrlimit,
    libc::SYS_getrandom,
];

/// Older forms of the above, which newer architectures no longer have.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_getdents,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_unlink,
    libc::SYS_symlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_eventfd,
    libc::SYS_signalfd,
    libc::SYS_inotify_init,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_fork,
    libc::SYS_vfork,
    libc::SYS_getpgrp,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_pause,
    libc::SYS_arch_prctl,
];

/// Refused by name, so that a program says so instead of trying something else.
pub(super) const REFUSED: &[&[c_long]] = &[
    MOUNTS,
    NAMESPACES_OF_OTHERS,
    KERNEL,
    PRIVILEGED_SURFACE,
    HANDLES,
    KEYRINGS,
    CLOCKS,
    MACHINE,
    #[cfg(target_arch = "x86_64")]
    PORTS,
];

/// Mounts are the sandbox's walls: with them go the masks, the read-only toolkit and the write gate.
/// The new interface would do with descriptors what the old one does with paths.
const MOUNTS: &[c_long] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
];

/// Entering another process's namespaces, or taking its descriptors.
const NAMESPACES_OF_OTHERS: &[c_long] = &[libc::SYS_setns, libc::SYS_pidfd_getfd];

/// Code for the kernel itself.
const KERNEL: &[c_long] = &[
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_bpf,
];

/// Where escapes from containers keep being found, and which no programs of ours need: `io_uring`
/// also does other calls' work past this filter, `userfaultfd` holds the kernel in the middle of
/// something for as long as an attacker likes, and counters tell of neighbours' work.
const PRIVILEGED_SURFACE: &[c_long] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_lookup_dcookie,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
];

/// A handle opens a file by its number on the disk, whatever lies on the way to it.
const HANDLES: &[c_long] = &[libc::SYS_open_by_handle_at, libc::SYS_name_to_handle_at];

/// Keyrings belong to a user id, not to a namespace: their content would be shared with the host.
const KEYRINGS: &[c_long] = &[libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl];

/// There is one clock for the whole machine.
const CLOCKS: &[c_long] =
    &[libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex];

/// The machine as a whole, its log, its disks, and the sandbox's name.
const MACHINE: &[c_long] = &[
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Ports of the processor.
#[cfg(target_arch = "x86_64")]
const PORTS: &[c_long] = &[libc::SYS_iopl, libc::SYS_ioperm];

/// Done without doing anything: it would wait for every disk of the machine, and a sandbox's own
/// files are not kept over a crash of the machine whoever asks for it.
pub(super) const NOTHING_TO_DO: &[c_long] = &[libc::SYS_sync];

const REFUSE: Verdict = Verdict::Refuse(libc::EPERM);
const UNKNOWN_FAMILY: Verdict = Verdict::Refuse(libc::EAFNOSUPPORT);
const UNKNOWN_PROTOCOL: Verdict = Verdict::Refuse(libc::EPROTONOSUPPORT);

/// Every namespace a process could make for itself. In one of its own it would have every
/// capability, and with them most of the kernel within reach.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Only `unshare` and `clone3` know this one; to `clone` the bit is part of a signal's number.
const NEW_TIME: i32 = 0x80;

/// `SOCK_PACKET`, the old way to ask for whole frames.
const PACKETS: i32 = 10;

const INTERNET: Test = OneOf(0, &[libc::AF_INET, libc::AF_INET6]);

/// Keys typed into a terminal that somebody else reads (`TIOCSTI`, `TIOCLINUX`), and line
/// disciplines, which load kernel code (`TIOCSETD`).
const TERMINAL_TRICKS: &[i32] = &[0x5412, 0x541c, 0x5423];

/// The bits of a mode that say what kind of file it is, and the two kinds of device.
const KIND: i32 = 0o170_000;
const DEVICES: [i32; 2] = [0o020_000, 0o060_000];

/// As on any Linux, 32 bits wide, with an old name, or with addresses that are not shuffled, which
/// debuggers ask for. The others switch protections of memory off.
const PERSONALITIES: i32 = 0x0006_0008;

/// PID 1.
const AGENTD: i32 = 1;

/// Depends on the arguments: the first case that fits decides.
pub(super) const JUDGED: &[Judged] = &[
    Judged {
        calls: &[libc::SYS_clone],
        cases: &[(&[AnyBit(0, NAMESPACES)], REFUSE)],
        otherwise: Verdict::Allow,
    },
    Judged {
        calls: &[libc::SYS_unshare],
        cases: &[(&[AnyBit(0, NAMESPACES | NEW_TIME)], REFUSE)],
        otherwise: Verdict::Allow,
    },
    // Families programs need. Some of the others know no network namespace (vsock leads to the
    // hypervisor), and all lead deep into the kernel, as do the other protocols of these.
    Judged {
        calls: &[libc::SYS_socket],
        cases: &[
            (&[OneOf(0, &[libc::AF_UNIX])], Verdict::Allow),
            (&[OneOf(0, &[libc::AF_NETLINK]), OneOf(2, NETLINK)], Verdict::Allow),
            (&[OneOf(0, &[libc::AF_NETLINK])], UNKNOWN_PROTOCOL),
            (&[INTERNET, Masked(1, 0xf, libc::SOCK_RAW)], REFUSE),
            (&[INTERNET, Masked(1, 0xf, PACKETS)], REFUSE),
            (&[INTERNET, OneOf(2, PROTOCOLS)], Verdict::Allow),
            (&[INTERNET], UNKNOWN_PROTOCOL),
        ],
        otherwise: UNKNOWN_FAMILY,
    },
    Judged {
        calls: &[libc::SYS_socketpair],
        cases: &[(&[OneOf(0, &[libc::AF_UNIX])], Verdict::Allow)],
        otherwise: UNKNOWN_FAMILY,
    },
    Judged {
        calls: &[libc::SYS_ioctl],
        cases: &[(&[OneOf(1, TERMINAL_TRICKS)], REFUSE)],
        otherwise: Verdict::Allow,
    },
    // Pipes, sockets and plain files may be made.
    Judged {
        calls: &[libc::SYS_mknodat],
        cases: &[
            (&[Masked(2, KIND, DEVICES[0])], REFUSE),
            (&[Masked(2, KIND, DEVICES[1])], REFUSE),
        ],
        otherwise: Verdict::Allow,
    },
    #[cfg(target_arch = "x86_64")]
    Judged {
        calls: &[libc::SYS_mknod],
        cases: &[
            (&[Masked(1, KIND, DEVICES[0])], REFUSE),
            (&[Masked(1, KIND, DEVICES[1])], REFUSE),
        ],
        otherwise: Verdict::Allow,
    },
    Judged {
        calls: &[libc::SYS_personality],
        cases: &[
            // Asks for the present one.
            (&[OneOf(0, &[-1])], Verdict::Allow),
            (&[Masked(0, !PERSONALITIES, 0)], Verdict::Allow),
        ],
        otherwise: REFUSE,
    },
    // agentd runs under the same user id, which is all the kernel asks for.
    Judged {
        calls: &[libc::SYS_prlimit64],
        cases: &[(&[OneOf(0, &[0])], Verdict::Allow)],
        otherwise: REFUSE,
    },
    Judged {
        calls: &[
            libc::SYS_sched_setaffinity,
            libc::SYS_sched_setscheduler,
            libc::SYS_sched_setparam,
            libc::SYS_sched_setattr,
        ],
        cases: &[(&[OneOf(0, &[AGENTD])], REFUSE)],
        otherwise: Verdict::Allow,
    },
    // One process or one group, as long as it is not agentd's; never all of a user's.
    Judged {
        calls: &[libc::SYS_setpriority],
        cases: &[(&[OneOf(1, &[AGENTD])], REFUSE), (&[OneOf(0, &[PRIORITY_OF_USER])], REFUSE)],
        otherwise: Verdict::Allow,
    },
    Judged {
        calls: &[libc::SYS_ioprio_set],
        cases: &[(&[OneOf(1, &[AGENTD])], REFUSE), (&[OneOf(0, &[IO_PRIORITY_OF_USER])], REFUSE)],
        otherwise: Verdict::Allow,
    },
];

/// Addresses and routes, lists of sockets, news of devices.
const NETLINK: &[i32] =
    &[libc::NETLINK_ROUTE, libc::NETLINK_SOCK_DIAG, libc::NETLINK_KOBJECT_UEVENT];

/// The protocols of the internet that programs ask for by number, zero for the usual one.
const PROTOCOLS: &[i32] =
    &[0, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMP, libc::IPPROTO_ICMPV6];

const PRIORITY_OF_USER: i32 = 2;
const IO_PRIORITY_OF_USER: i32 = 3;
