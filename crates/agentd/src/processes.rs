//! The processes of the sandbox, as `/proc` shows them.

use std::fs;

use rustix::process::{Pid, Signal};

/// One process at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    /// Its id.
    pub(crate) pid: i32,
    /// Its parent's id.
    pub(crate) parent: i32,
    /// Its session's id: the leader's process id.
    pub(crate) session: i32,
    /// Whether it ended and waits to be collected.
    pub(crate) ended: bool,
    /// When it started, in the kernel's ticks: tells two processes with one id apart.
    started: u64,
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        parse(pid, &stat)
    }

    /// Whether both are the same process.
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.pid == other.pid && self.started == other.started
    }

    /// Kills it; nothing happens when it is gone.
    pub(crate) fn kill(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }

    /// Whether it was started with exactly this `NAME=value` in its environment.
    pub(crate) fn has_variable(&self, assignment: &str) -> bool {
        fs::read(format!("/proc/{}/environ", self.pid))
            .is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == assignment.as_bytes()))
    }
}

/// The name in parentheses may hold anything, so fields are counted after the last one.
fn parse(pid: i32, stat: &[u8]) -> Option<Process> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        ended: matches!(*fields.first()?, "Z" | "X"),
        started: fields.get(19)?.parse().ok()?,
    })
}

/// Every process that can be seen.
pub(crate) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .collect()
}

/// Whether a process is `ancestor` or has it among its ancestors.
pub(crate) fn descends(process: &Process, ancestor: i32, all: &[Process]) -> bool {
    let mut current = process;
    // Bounded, since the list is no snapshot and could show a circle.
    for _ in 0..=all.len() {
        if current.pid == ancestor {
            return true;
        }
        match all.iter().find(|other| other.pid == current.parent) {
            Some(parent) => current = parent,
            None => return false,
        }
    }
    false
}

/// The ids of agentd's own children, adopted ones included.
pub(crate) fn children_of_mine() -> Vec<i32> {
    let me = std::process::id();
    match fs::read_to_string(format!("/proc/self/task/{me}/children")) {
        Ok(list) => list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect(),
        // A kernel without that list.
        Err(_) => all()
            .into_iter()
            .filter(|process| u32::try_from(process.parent) == Ok(me))
            .map(|process| process.pid)
            .collect(),
    }
}

/// Whether agentd is the first process of a PID namespace: a sandbox is its own.
pub(crate) fn am_first() -> bool {
    std::process::id() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_moves_no_field() {
        let stat = b"42 (a) R 1 1 1) S 7 8 9 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 555 1 1";
        let process = parse(42, stat).expect("a stat line");
        assert_eq!((process.parent, process.session, process.started), (7, 9, 555));
        assert!(!process.ended);
    }

    #[test]
    fn this_test_sees_itself() {
        let me = i32::try_from(std::process::id()).expect("a small number");
        let all = all();
        let myself = all.iter().find(|process| process.pid == me).expect("I run");
        assert!(descends(myself, myself.parent, &all));
        assert!(myself.has_variable(&format!("PATH={}", std::env::var("PATH").expect("PATH"))));
    }
}
