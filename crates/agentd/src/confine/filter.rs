//! The table of system calls as a program for the kernel.
//!
//! A search tree over ranges of numbers: the kernel runs the program once for every number when it
//! is installed, which happens for each command, so a chain of comparisons would be felt.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{BpfProgram, sock_filter};

use super::calls;

/// The answer to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// An error number; zero pretends that it was done.
    Refuse(i32),
}

/// A look at the lower half of an argument, which is all that these calls read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    /// The argument is one of these.
    OneOf(u8, &'static [i32]),
    /// The argument has a bit of these.
    AnyBit(u8, i32),
    /// Under the mask the argument is this.
    Masked(u8, i32, i32),
}

/// Calls whose arguments decide.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) calls: &'static [c_long],
    /// The first whose tests all hold.
    pub(super) cases: &'static [(&'static [Test], Verdict)],
    pub(super) otherwise: Verdict,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    Plain(Verdict),
    Judged(&'static Judged),
}

/// What no list names does not exist.
const UNKNOWN: Verdict = Verdict::Refuse(libc::ENOSYS);

const ARCHITECTURE: u32 = if cfg!(target_arch = "aarch64") { 0xc000_00b7 } else { 0xc000_003e };

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_NOT_LESS: u16 = 0x35;
const JUMP_ANY_BIT: u16 = 0x45;
const RETURN: u16 = 0x06;

const KILL: u32 = 0x8000_0000;
const ALLOW: u32 = 0x7fff_0000;
const ERROR: u32 = 0x0005_0000;

/// Where the number, the architecture and the arguments of a call lie.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program for everything agentd starts for the agent.
///
/// Calls of another architecture, which would mean something else by the same numbers, end the
/// process; x32's numbers are beyond every list.
pub(super) fn program() -> BpfProgram {
    let mut program = vec![
        instruction(LOAD, 0, 0, MACHINE),
        instruction(JUMP_EQUAL, 1, 0, ARCHITECTURE),
        instruction(RETURN, 0, 0, KILL),
        instruction(LOAD, 0, 0, NUMBER),
    ];
    program.extend(search(&ranges(&rules())));
    program
}

fn rules() -> BTreeMap<u32, Rule> {
    let mut rules = BTreeMap::new();
    let mut add = |calls: &[c_long], rule: Rule| {
        rules.extend(calls.iter().filter_map(|call| Some((u32::try_from(*call).ok()?, rule))));
    };
    for group in calls::ALLOWED {
        add(group, Rule::Plain(Verdict::Allow));
    }
    for group in calls::REFUSED {
        add(group, Rule::Plain(Verdict::Refuse(libc::EPERM)));
    }
    add(calls::NOTHING_TO_DO, Rule::Plain(Verdict::Refuse(0)));
    for judged in calls::JUDGED {
        add(judged.calls, Rule::Judged(judged));
    }
    rules
}

/// From which number on which rule holds, up to the next.
fn ranges(rules: &BTreeMap<u32, Rule>) -> Vec<(u32, Rule)> {
    let mut ranges = vec![(0, Rule::Plain(UNKNOWN))];
    let mut add = |from: u32, rule: Rule| match (ranges.last_mut(), rule) {
        (Some((_, Rule::Plain(last))), Rule::Plain(verdict)) if *last == verdict => {}
        (Some((start, last)), rule) if *start == from => *last = rule,
        _ => ranges.push((from, rule)),
    };
    for (number, rule) in rules {
        add(*number, *rule);
        if !rules.contains_key(&(number + 1)) {
            add(number + 1, Rule::Plain(UNKNOWN));
        }
    }
    ranges
}

fn search(ranges: &[(u32, Rule)]) -> BpfProgram {
    if let [(_, rule)] = ranges {
        return match rule {
            Rule::Plain(verdict) => vec![answer(*verdict)],
            Rule::Judged(judged) => judge(judged),
        };
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let pivot = high.first().map_or(u32::MAX, |(from, _)| *from);
    let (low, high) = (search(low), search(high));
    let mut program = if let Ok(near) = u8::try_from(low.len()) {
        vec![instruction(JUMP_NOT_LESS, near, 0, pivot)]
    } else {
        let far = u32::try_from(low.len()).unwrap_or(u32::MAX);
        vec![instruction(JUMP_NOT_LESS, 0, 1, pivot), instruction(JUMP, 0, 0, far)]
    };
    program.extend(low);
    program.extend(high);
    program
}

fn judge(judged: &Judged) -> BpfProgram {
    let mut program = Vec::new();
    for (tests, verdict) in judged.cases {
        // From the end, because a test that fails jumps over all that follows.
        let mut case = vec![answer(*verdict)];
        for test in tests.iter().rev() {
            let beyond = u8::try_from(case.len()).unwrap_or(u8::MAX);
            let mut tried = look(test, beyond);
            tried.append(&mut case);
            case = tried;
        }
        program.extend(case);
    }
    program.push(answer(judged.otherwise));
    program
}

/// Goes on after itself if the test holds, and so many instructions further if not.
fn look(test: &Test, beyond: u8) -> BpfProgram {
    let load = |argument: u8| instruction(LOAD, 0, 0, ARGUMENTS + 8 * u32::from(argument));
    match *test {
        Test::OneOf(argument, values) => {
            let mut program = vec![load(argument)];
            for (index, value) in values.iter().enumerate() {
                let rest = u8::try_from(values.len() - index - 1).unwrap_or(u8::MAX);
                let fails = if rest == 0 { beyond } else { 0 };
                program.push(instruction(JUMP_EQUAL, rest, fails, value.cast_unsigned()));
            }
            program
        }
        Test::AnyBit(argument, bits) => {
            vec![load(argument), instruction(JUMP_ANY_BIT, 0, beyond, bits.cast_unsigned())]
        }
        Test::Masked(argument, mask, value) => vec![
            load(argument),
            instruction(AND, 0, 0, mask.cast_unsigned()),
            instruction(JUMP_EQUAL, 0, beyond, value.cast_unsigned()),
        ],
    }
}

fn answer(verdict: Verdict) -> sock_filter {
    let value = match verdict {
        Verdict::Allow => ALLOW,
        Verdict::Refuse(error) => ERROR | error.unsigned_abs(),
    };
    instruction(RETURN, 0, 0, value)
}

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would answer: the same machine, in a few lines.
    fn run(program: &[sock_filter], machine: u32, call: c_long, arguments: [i32; 6]) -> u32 {
        let number = u32::try_from(call).expect("a number");
        let (mut at, mut register) = (0, 0);
        for _ in 0..program.len() {
            let sock_filter { code, jt, jf, k } = program[at].clone();
            at += 1;
            let mut jump = |holds: bool| at += usize::from(if holds { jt } else { jf });
            match code {
                LOAD if k == NUMBER => register = number,
                LOAD if k == MACHINE => register = machine,
                LOAD => register = arguments[(k as usize - 16) / 8].cast_unsigned(),
                AND => register &= k,
                JUMP => at += k as usize,
                JUMP_EQUAL => jump(register == k),
                JUMP_NOT_LESS => jump(register >= k),
                JUMP_ANY_BIT => jump(register & k != 0),
                RETURN => return k,
                _ => panic!("an unknown instruction {code}"),
            }
        }
        panic!("the program does not end");
    }

    fn judged(call: c_long, arguments: &[i32]) -> Verdict {
        let mut six = [0; 6];
        six[..arguments.len()].copy_from_slice(arguments);
        match run(&program(), ARCHITECTURE, call, six) {
            ALLOW => Verdict::Allow,
            refused => Verdict::Refuse((refused - ERROR).cast_signed()),
        }
    }

    const REFUSED: Verdict = Verdict::Refuse(libc::EPERM);

    #[test]
    fn every_list_is_what_the_program_answers() {
        for (lists, verdict) in [(calls::ALLOWED, Verdict::Allow), (calls::REFUSED, REFUSED)] {
            for call in lists.iter().copied().flatten() {
                assert_eq!(judged(*call, &[]), verdict, "{call}");
            }
        }
        assert_eq!(judged(libc::SYS_sync, &[]), Verdict::Refuse(0));
        let listed = rules();
        for number in 0..1000 {
            if !listed.contains_key(&number) {
                assert_eq!(judged(number.into(), &[]), UNKNOWN, "{number}");
            }
        }
    }

    #[test]
    fn no_call_is_in_two_lists() {
        let plain = calls::ALLOWED.iter().chain(calls::REFUSED).copied();
        let judged = calls::JUDGED.iter().map(|judged| judged.calls);
        let all = plain.chain(judged).chain([calls::NOTHING_TO_DO]).flatten();
        assert_eq!(all.count(), rules().len());
    }

    #[test]
    fn other_architectures_are_ended() {
        let (i386, x32) = (0x4000_0003, 0x4000_0000);
        assert_eq!(run(&program(), i386, libc::SYS_read, [0; 6]), KILL);
        for call in [libc::SYS_read, libc::SYS_mount, libc::SYS_bpf, libc::SYS_clone3] {
            assert_eq!(judged(call | x32, &[]), UNKNOWN, "{call}");
        }
    }

    #[test]
    fn arguments_decide() {
        let allowed: &[(c_long, &[i32])] = &[
            (libc::SYS_clone, &[libc::CLONE_VM | libc::CLONE_THREAD]),
            (libc::SYS_unshare, &[libc::CLONE_FILES]),
            (libc::SYS_socket, &[libc::AF_UNIX, libc::SOCK_STREAM, 0]),
            (libc::SYS_socket, &[libc::AF_INET6, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 6]),
            (libc::SYS_socket, &[libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE]),
            (libc::SYS_socketpair, &[libc::AF_UNIX, libc::SOCK_STREAM, 0]),
            (libc::SYS_ioctl, &[0, 0x5401]),
            (libc::SYS_mknodat, &[-100, 0, 0o010_644]),
            (libc::SYS_personality, &[-1]),
            (libc::SYS_personality, &[0x0004_0000]),
            (libc::SYS_prlimit64, &[0, 7]),
            (libc::SYS_sched_setaffinity, &[17]),
            (libc::SYS_setpriority, &[0, 0]),
        ];
        for (call, arguments) in allowed {
            assert_eq!(judged(*call, arguments), Verdict::Allow, "{call} {arguments:?}");
        }
        let refused: &[(c_long, &[i32])] = &[
            (libc::SYS_clone, &[libc::CLONE_NEWUSER | libc::SIGCHLD]),
            (libc::SYS_clone, &[libc::CLONE_NEWCGROUP]),
            (libc::SYS_unshare, &[NEW_TIME]),
            (libc::SYS_socket, &[libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 1]),
            (libc::SYS_socket, &[libc::AF_INET, 10, 0]),
            (libc::SYS_ioctl, &[0, 0x5412]),
            (libc::SYS_mknodat, &[-100, 0, 0o020_666]),
            (libc::SYS_mknodat, &[-100, 0, 0o060_666]),
            (libc::SYS_personality, &[0x0040_0000]),
            (libc::SYS_prlimit64, &[1, 7]),
            (libc::SYS_sched_setscheduler, &[1]),
            (libc::SYS_setpriority, &[2, 0]),
        ];
        for (call, arguments) in refused {
            assert_eq!(judged(*call, arguments), REFUSED, "{call} {arguments:?}");
        }
        for family in [libc::AF_VSOCK, libc::AF_ALG, libc::AF_PACKET, libc::AF_BLUETOOTH, 44] {
            let answer = judged(libc::SYS_socket, &[family, libc::SOCK_STREAM, 0]);
            assert_eq!(answer, Verdict::Refuse(libc::EAFNOSUPPORT), "{family}");
        }
        for (family, protocol) in
            [(libc::AF_NETLINK, 12), (libc::AF_INET, 132), (libc::AF_INET6, 262)]
        {
            let answer = judged(libc::SYS_socket, &[family, libc::SOCK_STREAM, protocol]);
            assert_eq!(answer, Verdict::Refuse(libc::EPROTONOSUPPORT), "{family} {protocol}");
        }
    }

    const NEW_TIME: i32 = 0x80;
}
