//! Runs a program of a sandbox's runtime where that runtime runs.

use std::ffi::CString;
use std::fs::File;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::thread::{Gid, ThreadNameSpaceType, Uid};
use sandbox::container::handover::{self, Area, Started};

use crate::failure::{Doing, Outcome, invalid};
use crate::kernel;

/// Longer than writing down all of a sandbox's memory takes.
const SECONDS: u32 = 300;

/// In the namespaces of the sandbox in `directory`, becomes the program named. Its exit is ours.
pub(crate) fn run(directory: &std::path::Path, arguments: &[&str]) -> Outcome<()> {
    kernel::end_after(SECONDS);
    let pid = recorded(directory)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).doing(Area::Other, || "find PID 1".into())?;
    // First the descriptor, then the look: what is seen now is what it refers to.
    if recorded(directory)? != pid {
        return Err(invalid("find PID 1"));
    }
    let spaces = ThreadNameSpaceType::USER
        | ThreadNameSpaceType::MOUNT
        | ThreadNameSpaceType::PROCESS_ID
        | ThreadNameSpaceType::NETWORK
        | ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION
        | ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME;
    rustix::thread::move_into_thread_name_spaces(std::os::fd::AsFd::as_fd(&pidfd), spaces)
        .doing(Area::UserNamespaces, || "enter the sandbox's namespaces".into())?;
    let step = || "become root inside".to_owned();
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)
        .doing(Area::UserNamespaces, step)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)
        .doing(Area::UserNamespaces, step)?;
    let words: Vec<CString> =
        arguments.iter().filter_map(|word| CString::new(*word).ok()).collect();
    let program = words.first().ok_or_else(|| invalid("find the program to run"))?;
    // Only a child is in the PID namespace that was entered.
    match kernel::fork().doing(Area::Other, || "fork".into())? {
        Some(child) if kernel::succeeds(child).doing(Area::Other, || "wait".into())? => Ok(()),
        Some(_) => Err(invalid(format!("run {}", arguments.join(" ")))),
        None => {
            let _ = kernel::close_on_exec_from(3);
            Err(kernel::execute(program, &words, &[])).doing(Area::Program, || "execute".into())
        }
    }
}

/// PID 1 of the sandbox, if it is still the one that was started.
fn recorded(directory: &std::path::Path) -> Outcome<Pid> {
    let path = directory.join(handover::STATE);
    let text = std::fs::read(&path).doing(Area::Other, || format!("read {}", path.display()))?;
    let started: Started =
        serde_json::from_slice(&text).map_err(|_| invalid("understand the state"))?;
    let stat = File::open(format!("/proc/{}/stat", started.pid))
        .and_then(std::io::read_to_string)
        .doing(Area::Other, || "look at PID 1".into())?;
    let lives = handover::start_time(&stat).is_some_and(|(time, _)| time == started.start_time);
    let pid = i32::try_from(started.pid).ok().and_then(Pid::from_raw);
    pid.filter(|_| lives).ok_or_else(|| invalid("find PID 1"))
}
