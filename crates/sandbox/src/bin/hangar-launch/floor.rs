//! The limit of the machine: namespaces, an overlay and `exec` of a static program, nothing else.
//!
//! In the directory lie `lower`, with this very program as `program`, and a directory for each run
//! with `upper` and `work`. The time runs from before `clone3` until `exec` has happened.

use std::ffi::CString;
use std::io::{PipeReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount, mount_change,
    move_mount, open_tree,
};
use rustix::thread::{Gid, Uid, UnshareFlags};
use sandbox::container::handover::Area;

use crate::failure::{Doing, Outcome};
use crate::kernel::{self, Cloned};

/// The stage of the measurement.
const PLACE: &str = "/mnt";

/// Starts `runs` minimal sandboxes, one after the other, and prints their nanoseconds.
pub(crate) fn run(directory: &Path, runs: u32, uid_map: &str, gid_map: &str) -> Outcome<()> {
    let is_root = !uid_map.trim_end().ends_with(" 1");
    if is_root {
        kernel::unshare(UnshareFlags::NEWNS)
            .doing(Area::UserNamespaces, || "make a private mount namespace".into())?;
        stage(directory)?;
    }
    let times = (0..runs)
        .map(|number| one(directory, number, is_root, [uid_map, gid_map]))
        .collect::<Outcome<Vec<u64>>>()?;
    println!("{}", serde_json::to_string(&times).unwrap_or_default());
    Ok(())
}

fn stage(directory: &Path) -> Outcome<()> {
    let step = || "stage the measurement".to_owned();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(Area::Other, step)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, directory, flags).doing(Area::Other, step)?;
    move_mount(tree, "", CWD, PLACE, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .doing(Area::Other, step)
}

fn one(directory: &Path, number: u32, is_root: bool, maps: [&str; 2]) -> Outcome<u64> {
    let step = || "measure one start".to_owned();
    let begun = Instant::now();
    let (turns, theirs) = UnixStream::pair().doing(Area::Other, step)?;
    let (running, their_running) = std::io::pipe().doing(Area::Other, step)?;
    let (pid, _pidfd) = match kernel::clone_into_namespaces().doing(Area::UserNamespaces, step)? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => {
            drop((turns, running));
            let place = if is_root { Path::new(PLACE) } else { directory };
            let failed = child(place, number, is_root, theirs).err();
            let text = serde_json::to_vec(&failed).unwrap_or_default();
            let _nobody_waits = (&their_running).write_all(&text);
            std::process::exit(1)
        }
    };
    drop((theirs, their_running));
    let mapped = map(pid, is_root, maps).and_then(|()| {
        (&turns).write_all(&[1]).doing(Area::Other, step)?;
        told(&running)
    });
    let nanoseconds = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    drop(turns);
    kernel::wait_for(pid).doing(Area::Other, step)?;
    mapped.map(|()| nanoseconds)
}

fn told(mut running: &PipeReader) -> Outcome<()> {
    let mut told = Vec::new();
    running.read_to_end(&mut told).doing(Area::Other, || "wait for the program".into())?;
    serde_json::from_slice(&told).map_or(Ok(()), Err)
}

fn map(pid: i32, is_root: bool, maps: [&str; 2]) -> Outcome<()> {
    let write = |name: &str, text: &str| {
        std::fs::write(format!("/proc/{pid}/{name}"), text)
            .doing(Area::UserNamespaces, || format!("write {name}"))
    };
    if !is_root {
        write("setgroups", "deny")?;
    }
    write("uid_map", maps[0])?;
    write("gid_map", maps[1])
}

fn child(place: &Path, number: u32, is_root: bool, mut turn: UnixStream) -> Outcome<()> {
    let step = || "start the program".to_owned();
    turn.read_exact(&mut [0]).doing(Area::Other, step)?;
    if is_root {
        rustix::thread::set_thread_groups(&[]).doing(Area::Other, step)?;
    }
    rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).doing(Area::Other, step)?;
    rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).doing(Area::Other, step)?;
    rustix::process::chdir(place).doing(Area::Other, step)?;
    let options =
        format!("lowerdir=lower,upperdir={number}/upper,workdir={number}/work,userxattr,volatile");
    let options = CString::new(options).unwrap_or_default();
    mount("floor", "lower", "overlay", MountFlags::empty(), &*options)
        .doing(Area::Overlay, step)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open("lower", flags, Mode::empty()).doing(Area::Other, step)?;
    crate::root::enter(&root)?;
    Err(kernel::execute(c"/program", &[c"program".into(), c"nothing".into()], &[]))
        .doing(Area::Program, step)
}
