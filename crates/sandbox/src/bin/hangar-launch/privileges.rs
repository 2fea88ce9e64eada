//! What PID 1 may still do: the capabilities the bundle names, and never more.

use oci_spec::runtime::Capability;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};
use sandbox::container::handover::Area;

use crate::failure::{Doing, Outcome, invalid};

/// The capabilities a bundle may ask for; all others are always dropped.
const KNOWN: [(Capability, CapabilitySet); 13] = [
    (Capability::Chown, CapabilitySet::CHOWN),
    (Capability::DacOverride, CapabilitySet::DAC_OVERRIDE),
    (Capability::DacReadSearch, CapabilitySet::DAC_READ_SEARCH),
    (Capability::Fowner, CapabilitySet::FOWNER),
    (Capability::Fsetid, CapabilitySet::FSETID),
    (Capability::Kill, CapabilitySet::KILL),
    (Capability::Setgid, CapabilitySet::SETGID),
    (Capability::Setuid, CapabilitySet::SETUID),
    (Capability::Setpcap, CapabilitySet::SETPCAP),
    (Capability::SysChroot, CapabilitySet::SYS_CHROOT),
    (Capability::SysPtrace, CapabilitySet::SYS_PTRACE),
    (Capability::SysAdmin, CapabilitySet::SYS_ADMIN),
    (Capability::WakeAlarm, CapabilitySet::WAKE_ALARM),
];

/// Empties the bounding set of everything not in `keep`: for root, `exec` then grants just that.
pub(crate) fn limit(keep: &[Capability]) -> Outcome<()> {
    let mut kept = CapabilitySet::empty();
    for wanted in keep {
        let known = KNOWN.iter().find(|(capability, _)| capability == wanted);
        kept |= known.ok_or_else(|| invalid(format!("keep the capability {wanted:?}")))?.1;
    }
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(capability) {
            continue;
        }
        match remove_capability_from_bounding_set(capability) {
            // Past the last capability this kernel knows.
            Err(Errno::INVAL) => break,
            removed => removed.doing(Area::Other, || format!("drop capability {number}"))?,
        }
    }
    forbid_new()
}

/// Lets no later `exec` give rights that this process does not have.
pub(crate) fn forbid_new() -> Outcome<()> {
    rustix::thread::set_no_new_privs(true).doing(Area::Other, || "forbid new privileges".into())
}
