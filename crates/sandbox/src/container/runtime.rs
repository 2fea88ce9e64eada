//! Which program takes a sandbox's bundle at each level of isolation, and how it is told.
//!
//! | level | taker |
//! |---|---|
//! | `namespaces` | `hangar-launch` itself, or a `crun` or `runc` that the server's configuration names |
//! | `gvisor` | `runsc` |
//! | `microvm` | `krun` (crun with libkrun), or Kata's `kata-runtime` with the OCI command line |
//!
//! A level is had by its own taker or not at all: nothing here falls back to another one.

mod bundle;

use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::sandbox::Isolation;

pub(super) use self::bundle::{AGENTD, ASLEEP, CHECKPOINT, DIRECTORY, Split, split};
use super::config::Config;
use crate::Error;

/// The name of `hangar-launch` among runtimes.
pub const LAUNCHER: &str = "launcher";

/// Longer than the start of another kernel takes on a loaded machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What takes a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Taker {
    /// Our own launcher alone.
    Launcher,
    /// An OCI runtime, started by the launcher within the sandbox's namespaces.
    Oci(Oci),
}

/// An OCI runtime of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Oci {
    pub(super) program: PathBuf,
    pub(super) flavour: Flavour,
}

/// Whose command line it understands besides the common one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Crun,
    Runc,
    Runsc,
    Krun,
    Kata,
}

impl Flavour {
    /// Whether what runs in it talks to a kernel of its own. Such a kernel mounts its own `/proc` and
    /// `/dev`, and inherits no descriptor.
    pub(super) const fn has_own_kernel(self) -> bool {
        matches!(self, Self::Runsc | Self::Krun | Self::Kata)
    }

    /// Whether it starts a virtual machine.
    pub(super) const fn needs_machine(self) -> bool {
        matches!(self, Self::Krun | Self::Kata)
    }

    /// The flavour of a program at a level; none when that program makes another wall.
    fn of(program: &Path, isolation: Isolation) -> Option<Self> {
        let name = program.file_name()?.to_string_lossy().into_owned();
        match isolation {
            Isolation::Namespaces if name.contains("runsc") || name.contains("kata") => None,
            Isolation::Namespaces if name.contains("krun") => None,
            Isolation::Namespaces if name.contains("crun") => Some(Self::Crun),
            Isolation::Namespaces => Some(Self::Runc),
            Isolation::Gvisor if name.contains("runc") || name.contains("crun") => None,
            Isolation::Gvisor => Some(Self::Runsc),
            Isolation::Microvm if name.contains("krun") => Some(Self::Krun),
            Isolation::Microvm if name.contains("kata") => Some(Self::Kata),
            Isolation::Microvm | Isolation::Simulated => None,
        }
    }

    /// The arguments before the command, with the state kept in `/state`.
    pub(super) fn options(self) -> &'static [&'static str] {
        match self {
            Self::Crun | Self::Krun => &["--root=/state", "--cgroup-manager=disabled"],
            Self::Runc => &["--root=/state", "--rootless=true"],
            Self::Kata => &["--root=/state"],
            // The launcher joined the limit groups and there is no interface. What is written goes to
            // the files of the sandbox, and sockets lead to the gateway and from the host to agentd.
            Self::Runsc => &[
                "--root=/state",
                "--platform=systrap",
                "--network=none",
                "--ignore-cgroups",
                "--overlay2=none",
                "--host-uds=all",
            ],
        }
    }
}

/// The taker of a level on this machine, or why there is none.
pub(super) fn choose(config: &Config, isolation: Isolation) -> Result<Taker, Error> {
    let wanted = config.runtimes.get(&isolation).map(String::as_str);
    let usual: &[&str] = match isolation {
        Isolation::Namespaces => &[LAUNCHER],
        Isolation::Gvisor => &["runsc"],
        Isolation::Microvm => &["krun", "kata-runtime"],
        Isolation::Simulated => {
            return Err(unsupported(
                isolation,
                "sandboxes on this machine are real",
                "ask for `namespaces`, `gvisor` or `microvm`",
            ));
        }
    };
    let names = wanted.as_ref().map_or(usual, std::slice::from_ref);
    if isolation == Isolation::Namespaces && names == [LAUNCHER] {
        return Ok(Taker::Launcher);
    }
    let program = names.iter().find_map(|name| find(name, &config.search)).ok_or_else(|| {
        let what = format!("there is no program {}", names.join(" or "));
        unsupported(isolation, &what, how_to_get(isolation))
    })?;
    let flavour = Flavour::of(&program, isolation).ok_or_else(|| {
        let what = format!("{} makes another wall", program.display());
        unsupported(isolation, &what, how_to_get(isolation))
    })?;
    if isolation == Isolation::Microvm {
        let opened = std::fs::File::options().read(true).write(true).open("/dev/kvm");
        opened.map_err(|error| {
            let hint = "run hangar on a machine with hardware virtualization, as a user who may \
                        open /dev/kvm (group kvm)";
            unsupported(isolation, &format!("/dev/kvm cannot be opened ({error})"), hint)
        })?;
    }
    Ok(Taker::Oci(Oci { program, flavour }))
}

fn unsupported(isolation: Isolation, what: &str, hint: &str) -> Error {
    Error::Unsupported { what: format!("level {isolation}: {what}"), hint: hint.to_owned() }
}

const fn how_to_get(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::Gvisor => {
            "install gVisor (`hangar toolkit install gvisor`, or the package runsc of a \
             distribution of 2024 or newer), or name it with --runtime gvisor=PATH"
        }
        Isolation::Microvm => {
            "install crun with libkrun (a program krun), or name one with --runtime microvm=PATH"
        }
        Isolation::Namespaces | Isolation::Simulated => {
            "choose --runtime launcher, or the path of a crun or runc"
        }
    }
}

/// A program by its path, or by its name in the usual places.
fn find(name: &str, search: &[PathBuf]) -> Option<PathBuf> {
    let candidates = if name.contains('/') {
        vec![PathBuf::from(name)]
    } else {
        search.iter().map(|directory| directory.join(name)).collect()
    };
    let found = candidates.into_iter().find(|path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    })?;
    found.canonicalize().ok()
}

impl Taker {
    /// Whether the sandbox's kernel is not the host's.
    pub(super) fn has_own_kernel(&self) -> bool {
        matches!(self, Self::Oci(oci) if oci.flavour.has_own_kernel())
    }

    /// Its name, and what it says of its version.
    pub(super) async fn version(&self) -> String {
        let Self::Oci(oci) = self else {
            return format!("hangar-launch {}", env!("CARGO_PKG_VERSION"));
        };
        let program = oci.program.display();
        let output = tokio::process::Command::new(&oci.program)
            .arg("--version")
            .env_clear()
            .stdin(std::process::Stdio::piped())
            .kill_on_drop(true)
            .output();
        let said = match tokio::time::timeout(Duration::from_secs(10), output).await {
            Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout).into_owned(),
            Ok(Err(error)) => format!("cannot be run: {error}"),
            Err(_) => "did not say its version".to_owned(),
        };
        format!("{} ({program})", said.lines().next().unwrap_or("unknown version").trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_makes_another_wall_is_refused() {
        let of = |name, isolation| Flavour::of(Path::new(name), isolation);
        assert_eq!(of("/usr/bin/runsc", Isolation::Namespaces), None);
        assert_eq!(of("/usr/bin/krun", Isolation::Namespaces), None);
        assert_eq!(of("/usr/sbin/runc", Isolation::Gvisor), None);
        assert_eq!(of("/usr/bin/crun", Isolation::Microvm), None);
        assert_eq!(of("/usr/bin/crun", Isolation::Namespaces), Some(Flavour::Crun));
        assert_eq!(of("/opt/x/runsc-2024", Isolation::Gvisor), Some(Flavour::Runsc));
    }

    #[test]
    fn a_level_without_its_program_is_refused_with_what_to_do() {
        let mut config = Config::new("/nowhere", "/nowhere/hangar-launch");
        let error = choose(&config, Isolation::Gvisor).expect_err("there is no runsc");
        assert!(error.to_string().contains("level gvisor: there is no program runsc"), "{error}");
        assert!(error.to_string().contains("toolkit install gvisor"), "{error}");
        assert!(choose(&config, Isolation::Simulated).is_err());
        assert_eq!(choose(&config, Isolation::Namespaces).expect("ours"), Taker::Launcher);
        config.runtimes.insert(Isolation::Namespaces, "/no/such/crun".into());
        assert!(choose(&config, Isolation::Namespaces).is_err(), "never another one instead");
    }
}
