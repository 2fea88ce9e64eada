//! The lowest layer of the `host` base: links, mount points and an `/etc` with nothing private.
//!
//! Of the host's `/etc` only what is listed here is copied, and of that only what everyone may
//! read. In particular no `shadow`, no keys, no `npmrc` or `pip.conf` (they may hold tokens).
//! A layer is named by what it was made from, so a changed host gets a new one and sandboxes that
//! still use the old one keep it.
//!
//! Beneath an image lies a barer one: what every sandbox needs and some images lack. Whatever the
//! image has itself is above it.

use std::fs::{Metadata, Permissions};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use protocol::layout;

use super::files::{failed, make_directory, remove_tree};
use super::owner::Owner;
use crate::Error;

/// Part of the name; raised whenever the content made here changes.
const VERSION: u32 = 1;

/// Directories of every root that are links into `/usr` on most systems.
const USR_LINKS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Copied from the host's `/etc` where they exist: what programs in `/usr` need to run.
const ETC: [&str; 41] = [
    "alternatives",
    "bash.bashrc",
    "bindresvport.blacklist",
    "ca-certificates.conf",
    "chromium.d",
    "crypto-policies",
    "debian_version",
    "dpkg/origins",
    "ethertypes",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "login.defs",
    "magic",
    "magic.mime",
    "maven",
    "mime.types",
    "networks",
    "os-release",
    "perl",
    "pki/ca-trust",
    "pki/tls/certs",
    "protocols",
    "python3",
    "python3.11",
    "python3.12",
    "python3.13",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
];

/// Written here. Root inside is the agent; its home is the agent's.
const GENERATED: [(&str, &str); 11] = [
    (
        "passwd",
        "root:x:0:0:agent:/home/agent:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    (
        "nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n",
    ),
    ("resolv.conf", "# There is no name resolution here: the gateway is the only way out.\n"),
    // Objects and repositories may belong to ids that are strangers in here.
    ("gitconfig", "[safe]\n\tdirectory = *\n"),
    ("profile", "umask 022\n"),
    ("shells", "/bin/sh\n/bin/bash\n"),
    ("fstab", ""),
    // Mount points of each sandbox's own.
    ("machine-id", ""),
    ("hostname", ""),
    ("hosts", ""),
];

/// Packages are installed by root inside, who is the only user there: nobody to step down to.
const PACKAGES: (&str, &str) = ("etc/apt/apt.conf.d/90hangar", "APT::Sandbox::User \"root\";\n");

/// Other directories of the root, with their modes.
const DIRECTORIES: [(&str, u32); 16] = [
    ("dev", 0o755),
    ("home/agent", 0o755),
    ("media", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

/// The layer for this host as it is now, made where it does not exist.
pub(super) fn layer(base: &Path, owner: Owner, mount_points: &[&str]) -> Result<PathBuf, Error> {
    let path = base.join(format!("host-{:016x}", fingerprint(owner, mount_points)));
    make(base, path, owner, |new| fill(new, mount_points))
}

/// The layer beneath images, made where it does not exist. Nothing of the host is in it.
pub(super) fn bare(base: &Path, owner: Owner) -> Result<PathBuf, Error> {
    let mut hasher = DefaultHasher::new();
    (VERSION, owner.uid, GENERATED, DIRECTORIES, PACKAGES).hash(&mut hasher);
    let path = base.join(format!("bare-{:016x}", hasher.finish()));
    make(base, path, owner, |new| {
        directories(new, &[])?;
        generated(&new.join("etc"))?;
        let (name, content) = PACKAGES;
        let file = new.join(name);
        make_directory(file.parent().unwrap_or(new), 0o755)?;
        std::fs::write(&file, content).map_err(failed("write", &file))
    })
}

fn make(
    base: &Path,
    path: PathBuf,
    owner: Owner,
    fill: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<PathBuf, Error> {
    if path.is_dir() {
        return Ok(path);
    }
    make_directory(base, 0o700)?;
    let new = base.join(format!("new-{}", std::process::id()));
    remove_tree(&new)?;
    make_directory(&new, 0o755)?;
    fill(&new)?;
    give(&new, owner)?;
    match std::fs::rename(&new, &path) {
        // Somebody else made the same meanwhile.
        Err(_) if path.is_dir() => remove_tree(&new)?,
        renamed => renamed.map_err(failed("create", &path))?,
    }
    Ok(path)
}

fn directories(root: &Path, mount_points: &[&str]) -> Result<(), Error> {
    for (name, mode) in DIRECTORIES {
        let path = root.join(name);
        make_directory(&path, 0o755)?;
        std::fs::set_permissions(&path, Permissions::from_mode(mode))
            .map_err(failed("create", &path))?;
    }
    let fixed = [layout::WORKSPACE, layout::TOOLKIT, layout::RUN, layout::MIRROR];
    for inside in fixed.iter().chain(mount_points) {
        make_directory(&root.join(inside.trim_start_matches('/')), 0o755)?;
    }
    Ok(())
}

fn generated(etc: &Path) -> Result<(), Error> {
    make_directory(etc, 0o755)?;
    for (name, content) in GENERATED {
        let path = etc.join(name);
        std::fs::write(&path, content).map_err(failed("write", &path))?;
    }
    let path = etc.join("mtab");
    symlink("/proc/self/mounts", &path).map_err(failed("create", &path))
}

fn fill(root: &Path, mount_points: &[&str]) -> Result<(), Error> {
    directories(root, mount_points)?;
    for name in USR_LINKS {
        if let Ok(to) = std::fs::read_link(Path::new("/").join(name)) {
            let path = root.join(name);
            symlink(to, &path).map_err(failed("create", &path))?;
        }
    }
    let etc = root.join("etc");
    make_directory(&etc, 0o755)?;
    for name in ETC {
        let to = etc.join(name);
        if let Some(parent) = to.parent() {
            make_directory(parent, 0o755)?;
        }
        copy(&Path::new("/etc").join(name), &to)?;
    }
    generated(&etc)
}

/// Copies what everyone may read; links as links.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let Ok(found) = from.symlink_metadata() else { return Ok(()) };
    if found.is_symlink() {
        let target = std::fs::read_link(from).map_err(failed("read", from))?;
        symlink(target, to).map_err(failed("create", to))
    } else if found.is_dir() {
        copy_directory(from, to, &found)
    } else if found.is_file() && found.mode() & 0o004 != 0 {
        std::fs::copy(from, to).map(drop).map_err(failed("copy", from))
    } else {
        Ok(())
    }
}

fn copy_directory(from: &Path, to: &Path, found: &Metadata) -> Result<(), Error> {
    if found.mode() & 0o005 != 0o005 {
        return Ok(());
    }
    make_directory(to, 0o755)?;
    for entry in std::fs::read_dir(from).map_err(failed("read", from))? {
        let entry = entry.map_err(failed("read", from))?;
        copy(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}

fn give(path: &Path, owner: Owner) -> Result<(), Error> {
    owner.give(path).map_err(failed("give away", path))?;
    if path.symlink_metadata().is_ok_and(|found| found.is_dir()) {
        for entry in std::fs::read_dir(path).map_err(failed("read", path))? {
            give(&entry.map_err(failed("read", path))?.path(), owner)?;
        }
    }
    Ok(())
}

fn fingerprint(owner: Owner, mount_points: &[&str]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (VERSION, owner.uid, mount_points).hash(&mut hasher);
    for name in USR_LINKS {
        std::fs::read_link(Path::new("/").join(name)).ok().hash(&mut hasher);
    }
    for name in ETC {
        look(&Path::new("/etc").join(name), &mut hasher);
    }
    hasher.finish()
}

fn look(path: &Path, hasher: &mut DefaultHasher) {
    let Ok(found) = path.symlink_metadata() else { return };
    (path, found.len(), found.mode(), found.mtime(), found.mtime_nsec()).hash(hasher);
    if found.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            look(&path, hasher);
        }
    }
}
