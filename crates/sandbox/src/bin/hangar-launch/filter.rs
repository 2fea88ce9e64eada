//! The filter of system calls that a bundle asks for, as a program for the kernel.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};
use sandbox::container::handover::Area;
use sandbox::container::system_calls;
use seccompiler::{BpfProgram, sock_filter};

use crate::failure::{Doing as _, Outcome, invalid};

const ARCHITECTURE: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };
/// From here on the numbers of x32, a second set for the same calls.
const X32: u32 = 0x4000_0000;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

const KILL: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;
const ERROR: u32 = 0x0005_0000;

/// What a bundle lets PID 1 and everything below it not do.
pub(crate) fn compile(filter: &LinuxSeccomp) -> Outcome<BpfProgram> {
    let strange = || invalid("understand the bundle's filter of system calls");
    if filter.default_action() != LinuxSeccompAction::ScmpActAllow {
        return Err(strange());
    }
    let mut refused = Vec::new();
    for rule in filter.syscalls().iter().flatten() {
        let plain = rule.action() == LinuxSeccompAction::ScmpActErrno && rule.args().is_none();
        let error = rule.errno_ret().filter(|_| plain).ok_or_else(strange)?;
        for name in rule.names() {
            let number = system_calls::number(name).and_then(|number| u32::try_from(number).ok());
            let number = number.ok_or_else(|| invalid(format!("refuse the call {name}")))?;
            refused.push((number, error));
        }
    }
    Ok(program(&refused))
}

/// Installs it; nothing takes it away again.
pub(crate) fn install(program: &BpfProgram) -> Outcome<()> {
    seccompiler::apply_filter(program)
        .map_err(std::io::Error::other)
        .doing(Area::Other, || "install the filter of system calls".into())
}

fn program(refused: &[(u32, u32)]) -> BpfProgram {
    let mut program = vec![
        instruction(LOAD, 0, 0, 4),
        instruction(JUMP_EQUAL, 1, 0, ARCHITECTURE),
        instruction(RETURN, 0, 0, KILL),
        instruction(LOAD, 0, 0, 0),
        instruction(JUMP_NOT_LESS, 0, 1, X32),
        instruction(RETURN, 0, 0, ERROR | libc::ENOSYS.unsigned_abs()),
    ];
    for (number, error) in refused {
        program.push(instruction(JUMP_EQUAL, 0, 1, *number));
        program.push(instruction(RETURN, 0, 0, ERROR | error));
    }
    program.push(instruction(RETURN, 0, 0, ALLOW));
    program
}

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
