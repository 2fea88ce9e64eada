//! Attacks on the tree: mounts, other roots, files by number, devices.

use std::ffi::CString;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use crate::calls::{Attempted, any, argument, call, descriptor, text, told};

/// As a pointer for the kernel.
fn at(text: &CString) -> usize {
    text.as_ptr() as usize
}

const HERE: usize = libc::AT_FDCWD as usize;

/// Mounts a tmpfs over a directory; done if what was there is gone.
pub(crate) fn mount(arguments: &[String]) -> Attempted {
    let place = argument(arguments, 0);
    let (kind, directory) = (text("tmpfs"), text(place));
    call("mount", libc::SYS_mount, [at(&kind), at(&directory), at(&kind), 0, 0])?;
    empty(place)
}

fn empty(place: &str) -> Attempted {
    let entries = told("read_dir", std::fs::read_dir(place))?.count();
    if entries == 0 {
        Ok(format!("{place} is covered"))
    } else {
        Err(vec!["nothing changed".into()])
    }
}

/// The same by the interface of descriptors.
pub(crate) fn mount_new(arguments: &[String]) -> Attempted {
    let place = argument(arguments, 0);
    let (kind, nothing, directory) = (text("tmpfs"), text(""), text(place));
    let made = || {
        let context = descriptor(call("fsopen", libc::SYS_fsopen, [at(&kind), 0])?);
        let number = context.as_raw_fd() as usize;
        call("fsconfig", libc::SYS_fsconfig, [number, 6, 0, 0, 0])?;
        let mount = descriptor(call("fsmount", libc::SYS_fsmount, [number, 0, 0])?);
        attach(mount.as_raw_fd() as usize, &nothing, &directory)?;
        empty(place)
    };
    let copied = || {
        let source = text("/tmp");
        let tree = call("open_tree", libc::SYS_open_tree, [HERE, at(&source), 1])?;
        attach(descriptor(tree).as_raw_fd() as usize, &nothing, &directory)?;
        Ok("a copied mount is attached".to_owned())
    };
    any([made(), copied()])
}

fn attach(mount: usize, nothing: &CString, place: &CString) -> Result<usize, Vec<String>> {
    call("move_mount", libc::SYS_move_mount, [mount, at(nothing), HERE, at(place), 4])
}

/// Makes a read-only mount writable and writes there.
pub(crate) fn remount(arguments: &[String]) -> Attempted {
    let place = argument(arguments, 0);
    let directory = text(place);
    let flags = (libc::MS_REMOUNT | libc::MS_BIND) as usize;
    call("mount", libc::SYS_mount, [0, at(&directory), 0, flags, 0])?;
    create(arguments)
}

/// The same by the newer call.
pub(crate) fn set_attributes(arguments: &[String]) -> Attempted {
    let directory = text(argument(arguments, 0));
    let attributes: [u64; 4] = [0, libc::MOUNT_ATTR_RDONLY, 0, 0];
    let pointer = attributes.as_ptr() as usize;
    let number = libc::SYS_mount_setattr;
    call("mount_setattr", number, [HERE, at(&directory), 0, pointer, size_of_val(&attributes)])?;
    create(arguments)
}

/// Makes a file in a directory, or changes one.
pub(crate) fn create(arguments: &[String]) -> Attempted {
    let place = Path::new(argument(arguments, 0));
    let path = if place.is_dir() { place.join("hangar-was-here") } else { place.to_owned() };
    let file = std::fs::File::options().create(true).append(true).open(&path);
    told("write", told("open", file)?.write_all(b"x"))?;
    Ok(format!("{} is written", path.display()))
}

/// Takes away what covers a path; done if something can be read there.
pub(crate) fn unmask(arguments: &[String]) -> Attempted {
    let path = argument(arguments, 0);
    let covered = text(path);
    call("umount2", libc::SYS_umount2, [at(&covered), libc::MNT_DETACH as usize])?;
    let mut first = [0; 1];
    let read = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut first));
    told("read", read).map(|()| format!("{path} is uncovered"))
}

/// Another root for every process of this mount namespace.
pub(crate) fn pivot(_: &[String]) -> Attempted {
    let place = "/tmp/pivot";
    // A root must be a mount of its own.
    let (directory, nothing, kind) = (text(place), text("."), text("tmpfs"));
    told("mkdir", std::fs::create_dir_all(place))?;
    let mounted = call("mount", libc::SYS_mount, [at(&kind), at(&directory), at(&kind), 0, 0]);
    call("chdir", libc::SYS_chdir, [at(&directory)])?;
    let pivoted = call("pivot_root", libc::SYS_pivot_root, [at(&nothing), at(&nothing)]);
    match (mounted, pivoted) {
        (_, Ok(_)) => Ok("the root is another".to_owned()),
        (mounted, Err(refused)) => {
            Err(mounted.err().into_iter().flatten().chain(refused).collect())
        }
    }
}

/// The classic way out of a changed root: change it once more, with a directory outside open.
pub(crate) fn chroot(_: &[String]) -> Attempted {
    told("mkdir", std::fs::create_dir_all("/tmp/chroot"))?;
    let (directory, up) = (text("/tmp/chroot"), text("../../../../../.."));
    call("chroot", libc::SYS_chroot, [at(&directory)])?;
    call("chdir", libc::SYS_chdir, [at(&up)])?;
    Ok("the root was changed and left".to_owned())
}

/// Mounts the limit groups, whose `release_agent` the host would run.
pub(crate) fn groups(_: &[String]) -> Attempted {
    told("mkdir", std::fs::create_dir_all("/tmp/groups"))?;
    let place = text("/tmp/groups");
    // In a namespace of its own an attacker would have the right to.
    let flags = (libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP) as usize;
    let left = call("unshare", libc::SYS_unshare, [flags]);
    let attempts = [("cgroup", "memory"), ("cgroup", "name=systemd"), ("cgroup2", "")].map(
        |(kind, options)| {
            let (kind, options) = (text(kind), text(options));
            let options = if options.is_empty() { 0 } else { at(&options) };
            call("mount", libc::SYS_mount, [at(&kind), at(&place), at(&kind), 0, options])?;
            Ok(format!("{} is mounted", kind.to_string_lossy()))
        },
    );
    let refusal = [left.map_or_else(Err, |_| Err(Vec::new()))];
    any(refusal.into_iter().chain(attempts))
}

/// Opens a file by a handle: that of the disk's root, which lies on the way to nothing in here.
pub(crate) fn handle(arguments: &[String]) -> Attempted {
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        file: [u8; 128],
    }
    let path = argument(arguments, 0);
    let place = told("open", std::fs::File::open(path))?;
    let mut handle = Handle { bytes: 128, kind: 0, file: [0; 128] };
    let mut mount = 0_i32;
    let target = text(path);
    let number = libc::SYS_name_to_handle_at;
    let pointer = &raw mut handle as usize;
    let asked =
        call("name_to_handle_at", number, [HERE, at(&target), pointer, &raw mut mount as usize, 0]);
    if asked.is_err() {
        // The well-known one: inode 2 of ext4, generation 0.
        let mut file = [0; 128];
        file[0] = 2;
        handle = Handle { bytes: 8, kind: 1, file };
    }
    let pointer = &raw mut handle as usize;
    let flags = (libc::O_RDONLY | libc::O_PATH) as usize;
    let number = libc::SYS_open_by_handle_at;
    let opened = call("open_by_handle_at", number, [place.as_raw_fd() as usize, pointer, flags]);
    match opened {
        Ok(opened) => {
            drop(descriptor(opened));
            Ok("a file is open by its handle".to_owned())
        }
        Err(refused) => Err(asked.err().into_iter().flatten().chain(refused).collect()),
    }
}

/// Makes device nodes wherever it may write, and reads from them: `device b|c MAJOR MINOR`.
pub(crate) fn device(arguments: &[String]) -> Attempted {
    let number = |index| argument(arguments, index).parse::<u32>().unwrap_or_default();
    let (kind, device) = (argument(arguments, 0), libc::makedev(number(1), number(2)));
    let mode = 0o666 | if kind == "b" { libc::S_IFBLK } else { libc::S_IFCHR };
    let places = ["/tmp", "/home/agent", "/dev/shm", "/dev", "/workspace", "/var/tmp", "."];
    any(places.iter().filter(|place| Path::new(place).is_dir()).map(|place| {
        let path = format!("{place}/hangar-device-{}", std::process::id());
        let node = text(&path);
        let device = usize::try_from(device).unwrap_or_default();
        call("mknodat", libc::SYS_mknodat, [HERE, at(&node), mode as usize, device])?;
        let read = std::fs::File::open(&path).and_then(|mut file| file.read_exact(&mut [0]));
        let removed = std::fs::remove_file(&path);
        told("read", read)?;
        told("remove", removed)?;
        Ok(format!("a device in {place} can be read"))
    }))
}

/// Writes to a file what it says already: a change that hurts nobody where it succeeds.
pub(crate) fn write_back(arguments: &[String]) -> Attempted {
    any(arguments.iter().map(|path| {
        let opened = std::fs::File::options().read(true).write(true).open(path);
        let mut file = told(&format!("open {path}"), opened)?;
        let mut content = Vec::new();
        told("read", file.read_to_end(&mut content))?;
        told("seek", file.rewind())?;
        told("write", file.write_all(&content))?;
        Ok(format!("{path} is written"))
    }))
}
