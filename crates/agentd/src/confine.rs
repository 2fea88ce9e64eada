//! What takes a process's rights away, and the few system calls no safe wrapper exists for.
#![expect(unsafe_code, reason = "inherited descriptors and mount_setattr have no safe wrapper")]

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// The capability that keeps git's processes out of the agent's reach while the gate is closed.
///
/// A process may look into another only if it holds every capability the other holds. The agent
/// holds none, so one inert capability is a wall: this one is asked for only in the machine's first
/// user namespace and gives nothing at all inside a sandbox.
const WALL: CapabilitySet = CapabilitySet::WAKE_ALARM;

/// Takes ownership of an inherited descriptor and hides it from programs started later.
///
/// Call it once for a descriptor, before anything else could have opened one with its number.
pub(crate) fn adopt(descriptor: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads; a number that is not open is answered with EBADF.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open (checked above) and nothing in this process owns it: it was
    // inherited, and callers adopt it once, before any other descriptor was opened.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    fcntl_setfd(&owned, FdFlags::CLOEXEC)?;
    Ok(owned)
}

/// Makes a read-only mount writable in the caller's mount namespace and changes nothing else of it.
///
/// Clearing needs no quiet moment: a process that waits inside the mount writes at its next attempt.
pub(crate) fn make_writable(path: &Path) -> io::Result<()> {
    let target = CString::new(path.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: 0,
        attr_clr: libc::MOUNT_ATTR_RDONLY,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string and the attributes a structure of the size given, both alive
    // for the duration of the call, which writes to neither.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            0,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Gives the calling process, which must have one thread, its own writable view of a mount.
pub(crate) fn private_writable_view(path: &Path) -> io::Result<()> {
    // SAFETY: the only flag is NEWNS; no descriptor table is unshared, and the process has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(
        "/",
        rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC,
    )?;
    make_writable(path)
}

/// Takes every capability and every way to get one from the calling process, for good.
///
/// With `walled`, the process keeps one inert capability so that the agent cannot look into it.
pub(crate) fn drop_rights(walled: bool) -> io::Result<()> {
    if walled {
        // While the bounding set still holds it: nothing outside that set becomes inheritable.
        let sets = rustix::thread::capabilities(None)?;
        rustix::thread::set_capabilities(None, CapabilitySets { inheritable: WALL, ..sets })?;
    }
    // The kernel knows up to 64 capabilities; it answers EINVAL from the first unknown one on.
    for bit in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let kept = if walled { WALL } else { CapabilitySet::empty() };
    if walled {
        rustix::thread::configure_capability_in_ambient_set(WALL, true)?;
    }
    rustix::thread::set_capabilities_secure_bits(
        CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED,
    )?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: kept, permitted: kept, inheritable: kept },
    )?;
    Ok(())
}

/// System calls that only widen the kernel's attack surface or undo the sandbox: answered EPERM.
const DENIED: &[libc::c_long] = &[
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
];

/// Every namespace a process could make for itself.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Families of sockets programs need. Of the others some know no network namespace (vsock leads to the
/// hypervisor), and all lead deep into the kernel.
const FAMILIES: [libc::c_int; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Installs the filters above for the calling process and all it starts.
///
/// `no_new_privs` must be set. A program for another architecture's system calls is killed.
pub(crate) fn filter_system_calls() -> Result<(), seccompiler::Error> {
    let (denied, missing) = filters()?;
    seccompiler::apply_filter(&missing)?;
    seccompiler::apply_filter(&denied)
}

fn filters() -> Result<(BpfProgram, BpfProgram), seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in DENIED {
        rules.insert(*call, Vec::new());
    }
    // One rule for each bit: a rule's condition compares a masked value with one wanted value.
    let mut namespaces = Vec::new();
    for bit in (0..31).map(|shift| 1 << shift).filter(|bit| NAMESPACES & bit != 0) {
        let mask = u64::from(libc::c_int::unsigned_abs(bit));
        let condition =
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), mask)?;
        namespaces.push(SeccompRule::new(vec![condition])?);
    }
    let mut other_families = Vec::new();
    for family in FAMILIES {
        let family = u64::from(libc::c_int::unsigned_abs(family));
        other_families.push(dword(0, SeccompCmpOp::Ne, family)?);
    }
    let other_families = SeccompRule::new(other_families)?;
    rules.insert(libc::SYS_socket, vec![other_families.clone()]);
    rules.insert(libc::SYS_socketpair, vec![other_families]);
    // agentd runs under the same user id, which is all the kernel asks for here.
    let of_another = SeccompRule::new(vec![dword(0, SeccompCmpOp::Ne, 0)?])?;
    rules.insert(libc::SYS_prlimit64, vec![of_another]);
    rules.insert(libc::SYS_unshare, namespaces.clone());
    rules.insert(libc::SYS_clone, namespaces);
    let denied = program(rules, libc::EPERM)?;
    // clone3's flags are behind a pointer no filter can follow. C libraries fall back to clone
    // when the kernel does not know it.
    let missing = program(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)?;
    Ok((denied, missing))
}

fn dword(
    argument: u8,
    comparison: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, comparison, value)
}

fn program(
    mut rules: BTreeMap<i64, Vec<SeccompRule>>,
    error: libc::c_int,
) -> Result<BpfProgram, seccompiler::Error> {
    if cfg!(target_arch = "x86_64") {
        // The x32 numbers reach the same calls.
        let twins: Vec<_> =
            rules.iter().map(|(call, rule)| (call | 0x4000_0000, rule.clone())).collect();
        rules.extend(twins);
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(error.unsigned_abs()),
        architecture(),
    )?;
    Ok(filter.try_into()?)
}

const fn architecture() -> TargetArch {
    if cfg!(target_arch = "aarch64") { TargetArch::aarch64 } else { TargetArch::x86_64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile() {
        let (denied, missing) = filters().expect("the lists are well formed");
        assert!(denied.len() > DENIED.len());
        assert!(!missing.is_empty());
    }

    #[test]
    fn a_closed_descriptor_is_not_adopted() {
        let error = adopt(9_999).expect_err("nothing is open there");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}
