//! The world of an OCI runtime: a root of its own that holds the sandbox's root, the bundle, and no more.
//!
//! The runtime runs behind the walls that PID 1 has without one: in the namespaces of the sandbox, as
//! nobody of the host, within the limit groups. So what a runtime leaves behind goes with its PID
//! namespace, and what breaks out of it has reached nothing of the host's files yet.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::MoveMountFlags;
use sandbox::container::handover::{Area, World};

use crate::bundle::Bundle;
use crate::failure::{Doing, Outcome};
use crate::{root, stage};

/// Where programs of `/usr` look for their loader and libraries.
const LINKS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Mounts the world with the finished root in it.
pub(crate) fn build(bundle: &Bundle, finished: &OwnedFd) -> Outcome<OwnedFd> {
    let step = || "make the runtime's own root".to_owned();
    let tree = root::file_system_named("tmpfs", &["mode=0755".into(), "nodev".into()])?;
    rustix::mount::move_mount(
        &tree,
        "",
        CWD,
        stage::WORLD,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .doing(Area::Other, step)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let world = rustix::fs::open(stage::WORLD, flags, Mode::empty()).doing(Area::Other, step)?;
    for name in LINKS {
        if let Ok(to) = std::fs::read_link(std::path::Path::new("/").join(name)) {
            rustix::fs::symlinkat(&to, &world, name).doing(Area::Other, step)?;
        }
    }
    root::fill(&world, bundle.all_mounts().skip(bundle.mounts.len()))?;
    let place = root::target(&world, World::ROOT, true)?;
    root::attach(finished, &place).doing(Area::Other, step)?;
    Ok(world)
}
