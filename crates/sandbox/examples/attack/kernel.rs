//! Attacks on the kernel's wide doors, and on the machine as a whole.

use crate::calls::{Attempted, any, argument, call, descriptor, text};

/// A map, the simplest thing the call makes.
pub(crate) fn bpf(_: &[String]) -> Attempted {
    // An array of one value of four bytes.
    let mut order = [0_u32; 32];
    order[..4].copy_from_slice(&[2, 4, 4, 1]);
    let made = call("bpf", libc::SYS_bpf, [0, order.as_ptr() as usize, size_of_val(&order)])?;
    drop(descriptor(made));
    Ok("a map was made".to_owned())
}

/// A software counter of its own time.
pub(crate) fn perf(_: &[String]) -> Attempted {
    let mut order = [0_u64; 16];
    order[0] = 1 | (128 << 32);
    // Of its own process only, not of the kernel's work: what the strictest setting may allow.
    order[5] = 0b110_0000;
    let arguments = [order.as_ptr() as usize, 0, usize::MAX, usize::MAX, 0];
    drop(descriptor(call("perf_event_open", libc::SYS_perf_event_open, arguments)?));
    Ok("a counter runs".to_owned())
}

/// Faults handled here hold the kernel for as long as this likes; 1 is the unprivileged kind.
pub(crate) fn userfaultfd(_: &[String]) -> Attempted {
    drop(descriptor(call("userfaultfd", libc::SYS_userfaultfd, [1])?));
    Ok("faults are handled here".to_owned())
}

/// A ring whose work no filter of system calls sees.
pub(crate) fn io_uring(_: &[String]) -> Attempted {
    let mut order = [0_u32; 30];
    let arguments = [4, order.as_mut_ptr() as usize];
    drop(descriptor(call("io_uring_setup", libc::SYS_io_uring_setup, arguments)?));
    Ok("a ring was made".to_owned())
}

/// Puts a key where every process of this user id finds it, and asks for it.
pub(crate) fn keyring(arguments: &[String]) -> Attempted {
    let (kind, name, value) = (text("user"), text(argument(arguments, 0)), "hangar");
    let [kind, name] = [&kind, &name].map(|text| text.as_ptr() as usize);
    // KEY_SPEC_USER_KEYRING, KEY_SPEC_SESSION_KEYRING
    let rings = [-4_isize, -3].map(isize::cast_unsigned);
    let put = rings.map(|ring| {
        let arguments = [kind, name, value.as_ptr() as usize, value.len(), ring];
        let key = call("add_key", libc::SYS_add_key, arguments)?;
        // KEYCTL_INVALIDATE: nothing is left of it.
        call("keyctl", libc::SYS_keyctl, [21, key])?;
        Ok(format!("key {key} was kept"))
    });
    let asked = || {
        let key = call("request_key", libc::SYS_request_key, [kind, name, 0, 0])?;
        Ok(format!("key {key} was found"))
    };
    // KEYCTL_GET_KEYRING_ID
    let listed = || {
        let ring = call("keyctl", libc::SYS_keyctl, [0, rings[0], 1])?;
        Ok(format!("keyring {ring} of the user"))
    };
    any(put.into_iter().chain([asked(), listed()]))
}

/// Sets the machine's clock to what it is.
pub(crate) fn clock(_: &[String]) -> Attempted {
    let mut now = [0_i64; 2];
    call("clock_gettime", libc::SYS_clock_gettime, [0, now.as_mut_ptr() as usize])?;
    let micro = [now[0], now[1] / 1000];
    // ADJ_TICK with the value it has anyway.
    let mut adjustment = [0_u64; 26];
    adjustment[0] = 0x4000;
    adjustment[11] = 10_000;
    let [now, micro, adjustment] = [now.as_ptr(), micro.as_ptr(), adjustment.as_ptr().cast()];
    // The first that is done is the last: an adjustment to the same changes nothing at all.
    let attempts = [
        ("adjtimex", libc::SYS_adjtimex, [adjustment as usize, 0]),
        ("clock_adjtime", libc::SYS_clock_adjtime, [0, adjustment as usize]),
        ("settimeofday", libc::SYS_settimeofday, [micro as usize, 0]),
        ("clock_settime", libc::SYS_clock_settime, [0, now as usize]),
    ];
    any(attempts.into_iter().map(|(name, number, arguments)| {
        call(name, number, arguments).map(|_| "the clock was set".to_owned())
    }))
}

/// Code for the kernel. Garbage would be refused as such (`ENOEXEC`) by a kernel that lets it in.
pub(crate) fn load(_: &[String]) -> Attempted {
    let (module, nothing) = (b"hangar", text(""));
    let parameters = nothing.as_ptr() as usize;
    let attempts = [
        call("init_module", libc::SYS_init_module, [module.as_ptr() as usize, 6, parameters]),
        call("finit_module", libc::SYS_finit_module, [0, parameters, 0]),
        call("delete_module", libc::SYS_delete_module, [parameters, 0]),
        call("kexec_load", libc::SYS_kexec_load, [0, 0, 0, 0]),
    ];
    let judged = attempts.map(|answer| match answer {
        Ok(_) => Ok("the kernel took it".to_owned()),
        Err(refusal) if refusal[0].ends_with("EPERM") || refusal[0].ends_with("ENOSYS") => {
            Err(refusal)
        }
        Err(refusal) => Ok(format!("the kernel looked at it: {}", refusal[0])),
    });
    any(judged)
}

/// The kernel's log, by call and by its files.
pub(crate) fn log(_: &[String]) -> Attempted {
    let mut some = vec![0_u8; 4096];
    // SYSLOG_ACTION_READ_ALL
    let arguments = [3, some.as_mut_ptr() as usize, some.len()];
    let by_call = match call("syslog", libc::SYS_syslog, arguments) {
        Ok(length @ 1..) => Ok(format!("{length} bytes of the log")),
        Ok(_) => Err(vec!["an empty log".to_owned()]),
        Err(refusal) => Err(refusal),
    };
    let by_file = ["/dev/kmsg", "/proc/kmsg"].map(|path| {
        use std::io::Read as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::File::options();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let read = options.open(path).and_then(|mut file| file.read(&mut [0; 4096]));
        match read {
            Ok(length @ 1..) => Ok(format!("{length} bytes of {path}")),
            Ok(_) => Err(vec![format!("{path} is empty")]),
            Err(error) => Err(vec![format!("{path} {error}")]),
        }
    });
    any([by_call].into_iter().chain(by_file))
}

/// The machine as a whole. Each would be harmless: the keyboard's way to restart is switched off,
/// and no such swap file, account file or quota exists; a refusal for want of rights comes first.
pub(crate) fn machine(_: &[String]) -> Attempted {
    let nothing = text("/nothing/here");
    let path = nothing.as_ptr() as usize;
    let attempts = [
        call("reboot", libc::SYS_reboot, [0xfee1_dead, 0x2812_1969, 0, 0]),
        call("swapon", libc::SYS_swapon, [path, 0]),
        call("swapoff", libc::SYS_swapoff, [path]),
        call("acct", libc::SYS_acct, [path]),
        call("quotactl", libc::SYS_quotactl, [0x8000_0100, path, 0, 0]),
        call("iopl", libc::SYS_iopl, [3]),
        call("ioperm", libc::SYS_ioperm, [0x80, 1, 1]),
    ];
    any(attempts.map(|answer| match answer {
        Ok(_) => Ok("the machine obeyed".to_owned()),
        Err(refusal) if refusal[0].ends_with("ENOENT") => {
            Ok(format!("only the file was missing: {}", refusal[0]))
        }
        Err(refusal) => Err(refusal),
    }))
}

/// Makes all memory that can be read executable.
pub(crate) fn personality(_: &[String]) -> Attempted {
    call("personality", libc::SYS_personality, [0x0040_0000])?;
    Ok("what can be read can be run".to_owned())
}

/// Another host name.
pub(crate) fn name(_: &[String]) -> Attempted {
    let name = "attacker";
    any([
        call("sethostname", libc::SYS_sethostname, [name.as_ptr() as usize, name.len()]),
        call("setdomainname", libc::SYS_setdomainname, [name.as_ptr() as usize, name.len()]),
    ]
    .map(|answer| answer.map(|_| "it has another name".to_owned())))
}

/// The calls of 32-bit programs, which have numbers of their own: 20 is `getpid`, and `read` by the
/// usual ones. Where it is refused this process is ended, so it is tried in another.
pub(crate) fn i386(_: &[String]) -> Attempted {
    // SAFETY: the child only calls the kernel and ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let answer = thirty_two_bits(20);
        std::process::exit(i32::from(answer <= 0));
    }
    let mut status = 0;
    // SAFETY: `status` is valid for the call.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0 {
        return Ok("a call for 32 bits was answered".to_owned());
    }
    let how = if libc::WIFSIGNALED(status) { "ended by signal" } else { "failed with" };
    let number = if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { status >> 8 };
    Err(vec![format!("{how} {number}")])
}

#[cfg(target_arch = "x86_64")]
fn thirty_two_bits(number: i64) -> i64 {
    let mut answer = number;
    // SAFETY: the kernel's old door; it changes the registers named here and no memory.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("rax") answer,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    answer
}

#[cfg(not(target_arch = "x86_64"))]
fn thirty_two_bits(_: i64) -> i64 {
    -1
}

/// The second set of numbers for the same calls, which filters have forgotten before.
pub(crate) fn x32(_: &[String]) -> Attempted {
    let bit = 0x4000_0000;
    let user = libc::CLONE_NEWUSER as usize;
    any([
        call("x32 getpid", libc::SYS_getpid | bit, []),
        call("x32 unshare", libc::SYS_unshare | bit, [user]),
        call("x32 bpf", libc::SYS_bpf | bit, [0, 0, 0]),
        call("x32 keyctl", libc::SYS_keyctl | bit, [0, usize::MAX, 0]),
    ]
    .map(|answer| answer.map(|_| "a call by its second number was answered".to_owned())))
}

/// No attack: which version of Landlock the kernel has.
pub(crate) fn landlock(_: &[String]) -> Attempted {
    let number = libc::SYS_landlock_create_ruleset;
    call("landlock", number, [0, 0, 1]).map(|version| format!("version {version}"))
}
