//! Attacks on other processes, on PID 1 above all, and on its own rights.

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use crate::calls::{Attempted, any, argument, call, descriptor, refused, text, told};

fn process(arguments: &[String]) -> usize {
    argument(arguments, 0).parse().unwrap_or(1)
}

/// Seizes a process as a debugger does.
pub(crate) fn trace(arguments: &[String]) -> Attempted {
    let pid = process(arguments);
    any([(0x4206, "PTRACE_SEIZE"), (16, "PTRACE_ATTACH")].map(|(request, name)| {
        call(name, libc::SYS_ptrace, [request, pid, 0, 0])?;
        Ok(format!("{pid} is traced"))
    }))
}

/// Reads and writes a process's memory, with and without its file.
pub(crate) fn memory(arguments: &[String]) -> Attempted {
    let pid = process(arguments);
    let by_file = || {
        let path = format!("/proc/{pid}/mem");
        told("mem", std::fs::File::options().read(true).write(true).open(path))?;
        Ok(format!("the memory of {pid} is open"))
    };
    let by_call = |name, number| {
        let mut mine = [0_u8; 8];
        let address = address_in(pid);
        let local = [mine.as_mut_ptr() as usize, mine.len()];
        let remote = [address, mine.len()];
        let [local, remote] = [local.as_ptr() as usize, remote.as_ptr() as usize];
        call(name, number, [pid, local, 1, remote, 1, 0])?;
        Ok(format!("{name} reaches {pid}"))
    };
    any([
        by_file(),
        by_call("process_vm_readv", libc::SYS_process_vm_readv),
        by_call("process_vm_writev", libc::SYS_process_vm_writev),
    ])
}

/// A writable address of a process if its map may be read, else one of this very program.
fn address_in(pid: usize) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let writable = maps.lines().find(|line| line.contains(" rw-p "));
    let start = writable.and_then(|line| line.split('-').next());
    start.and_then(|start| usize::from_str_radix(start, 16).ok()).unwrap_or(0x0040_0000)
}

/// Looks into what `/proc` shows of a process to those who may debug it.
pub(crate) fn look(arguments: &[String]) -> Attempted {
    let pid = process(arguments);
    let names = ["environ", "maps", "auxv", "syscall", "io", "stack"];
    let read = names.map(|name| {
        let mut first = [0; 1];
        let opened = std::fs::File::open(format!("/proc/{pid}/{name}"));
        told(name, opened.and_then(|mut file| file.read_exact(&mut first)))?;
        Ok(format!("{name} of {pid} can be read"))
    });
    let links = ["root", "cwd", "exe", "fd/3", "ns/mnt"].map(|name| {
        told(name, std::fs::read_link(format!("/proc/{pid}/{name}")))?;
        Ok(format!("{name} of {pid} can be followed"))
    });
    any(read.into_iter().chain(links))
}

/// Enters a process's namespaces, by file and by process.
pub(crate) fn enter(arguments: &[String]) -> Attempted {
    let pid = process(arguments);
    let by_file = ["mnt", "user", "pid", "net", "cgroup"].map(|name| {
        let path = format!("/proc/{pid}/ns/{name}");
        let namespace = told(name, std::fs::File::open(path))?;
        call("setns", libc::SYS_setns, [namespace.as_raw_fd() as usize, 0])?;
        Ok(format!("in the namespace {name} of {pid}"))
    });
    let by_process = || {
        let process = descriptor(call("pidfd_open", libc::SYS_pidfd_open, [pid, 0])?);
        let all = (libc::CLONE_NEWNS | libc::CLONE_NEWNET) as usize;
        call("setns", libc::SYS_setns, [process.as_raw_fd() as usize, all])?;
        Ok(format!("in the namespaces of {pid}"))
    };
    any(by_file.into_iter().chain([by_process()]))
}

/// Takes a descriptor out of a process: agentd's listening socket.
pub(crate) fn take_descriptor(arguments: &[String]) -> Attempted {
    let (pid, wanted) = (process(arguments), argument(arguments, 1).parse().unwrap_or(3));
    let process = descriptor(call("pidfd_open", libc::SYS_pidfd_open, [pid, 0])?);
    let number = libc::SYS_pidfd_getfd;
    let taken = call("pidfd_getfd", number, [process.as_raw_fd() as usize, wanted, 0])?;
    drop(descriptor(taken));
    Ok(format!("descriptor {wanted} of {pid} is ours"))
}

/// Sends a process every signal; done if one was accepted.
pub(crate) fn signal(arguments: &[String]) -> Attempted {
    let pid = process(arguments);
    any((1..=64).map(|number| {
        call("kill", libc::SYS_kill, [pid, number])?;
        Ok(format!("signal {number} was sent to {pid}"))
    }))
    .map_err(|mut all| {
        all.dedup();
        all
    })
}

/// Makes a process the last to be served.
pub(crate) fn slow(arguments: &[String]) -> Attempted {
    let pid = process(arguments);
    let (lowest, idle) = (19, [0_i32; 1]);
    let one = [1_u64; 16];
    any([
        call("setpriority", libc::SYS_setpriority, [0, pid, lowest]),
        call("sched_setscheduler", libc::SYS_sched_setscheduler, [pid, 5, idle.as_ptr() as usize]),
        call("sched_setaffinity", libc::SYS_sched_setaffinity, [pid, 8, one.as_ptr() as usize]),
        call("ioprio_set", libc::SYS_ioprio_set, [1, pid, 3 << 13]),
    ]
    .map(|answer| answer.map(|_| format!("{pid} is slowed down"))))
}

/// Takes a process's descriptors away.
pub(crate) fn limit(arguments: &[String]) -> Attempted {
    let pid = process(arguments);
    let mut old = [0_u64; 2];
    let kind = libc::RLIMIT_NOFILE as usize;
    call("prlimit64", libc::SYS_prlimit64, [pid, kind, 0, old.as_mut_ptr() as usize])?;
    call("prlimit64", libc::SYS_prlimit64, [pid, kind, old.as_ptr() as usize, 0])?;
    Ok(format!("limits of {pid} are set"))
}

/// Makes namespaces, in every way there is; each try in a process of its own.
pub(crate) fn namespaces(arguments: &[String]) -> Attempted {
    let only = argument(arguments, 0);
    let kinds = [
        ("user", libc::CLONE_NEWUSER),
        ("mount", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("network", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("cgroup", libc::CLONE_NEWCGROUP),
    ];
    let kinds = kinds.into_iter().filter(|(name, _)| only.is_empty() || *name == only);
    any(kinds.flat_map(|(name, flag)| {
        let made = format!("a {name} namespace");
        [by_clone(flag), by_clone3(flag), by_unshare(flag)].map(|one| one.map(|()| made.clone()))
    }))
}

fn by_unshare(flag: i32) -> Result<(), Vec<String>> {
    call("unshare", libc::SYS_unshare, [flag as usize]).map(drop)
}

fn by_clone(flag: i32) -> Result<(), Vec<String>> {
    // The stack is this one's copy, as after fork.
    let flags = (flag | libc::SIGCHLD) as usize;
    forked(call("clone", libc::SYS_clone, [flags, 0, 0, 0, 0])?);
    Ok(())
}

fn by_clone3(flag: i32) -> Result<(), Vec<String>> {
    let mut order = [0_u64; 11];
    order[0] = u64::from(flag.unsigned_abs());
    order[4] = u64::from(libc::SIGCHLD.unsigned_abs());
    let size = size_of_val(&order);
    forked(call("clone3", libc::SYS_clone3, [order.as_ptr() as usize, size])?);
    Ok(())
}

fn forked(pid: usize) {
    if pid == 0 {
        std::process::exit(0);
    }
    // SAFETY: waiting changes nothing here.
    unsafe { libc::waitpid(i32::try_from(pid).unwrap_or(-1), std::ptr::null_mut(), 0) };
}

/// Writes to programs that others run: PID 1's, and those of every process there is, by the links
/// that lead to them whatever their paths are by now.
pub(crate) fn overwrite(arguments: &[String]) -> Attempted {
    let mut paths: Vec<String> = arguments.to_vec();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.parse::<u32>().is_ok_and(|pid| pid != std::process::id()) {
            paths.push(format!("/proc/{name}/exe"));
        }
    }
    paths.push("/proc/self/exe".to_owned());
    any(paths.iter().map(|path| {
        let opened = std::fs::File::options().append(true).open(path);
        told("write", told(path, opened)?.write_all(b""))?;
        Ok(format!("{path} is open for writing"))
    }))
}

/// Whether it runs with more rights than whoever started it, as a set-user-id program would.
pub(crate) fn who(_: &[String]) -> Attempted {
    // SAFETY: these only ask.
    let (real, effective) = unsafe { (libc::getuid(), libc::geteuid()) };
    let status = told("status", std::fs::read_to_string("/proc/self/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or_default();
    let rights = u64::from_str_radix(line.trim(), 16).unwrap_or(u64::MAX);
    if real == effective && rights == 0 {
        return Err(vec![format!("user {real} as before, no capability")]);
    }
    Ok(format!("user {effective} instead of {real}, capabilities {rights:x}"))
}

/// Types into a terminal as if its reader had: a command for whoever looks at it next.
pub(crate) fn type_into_terminal(_: &[String]) -> Attempted {
    let path = Path::new("/dev/ptmx");
    let main = told("ptmx", std::fs::File::options().read(true).write(true).open(path))?;
    let main = main.as_raw_fd();
    // SAFETY: these take the descriptor, and the name's buffer is long enough.
    let name = unsafe {
        // The end of the terminal must not be ours.
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        libc::unlockpt(main);
        let mut name = [0; 64];
        libc::ptsname_r(main, name.as_mut_ptr(), name.len());
        std::ffi::CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned()
    };
    let _leads_already = call("setsid", libc::SYS_setsid, []);
    let other = text(&name);
    let flags = libc::O_RDWR as usize;
    let here = libc::AT_FDCWD as usize;
    let other = descriptor(call("open", libc::SYS_openat, [here, other.as_ptr() as usize, flags])?);
    let number = other.as_raw_fd();
    call("TIOCSCTTY", libc::SYS_ioctl, [number as usize, 0x540e, 0])?;
    for letter in b"x\n" {
        call("TIOCSTI", libc::SYS_ioctl, [number as usize, 0x5412, &raw const *letter as usize])?;
    }
    let mut read = [0; 2];
    // SAFETY: the buffer is as long as said.
    let length = unsafe { libc::read(number, read.as_mut_ptr().cast(), 2) };
    if length == 2 { Ok("a terminal was typed into".to_owned()) } else { Err(refused("read")) }
}
