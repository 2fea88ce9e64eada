//! What the backend and `hangar-launch` tell each other, besides the bundle's `config.json`.
//!
//! The launcher runs in the bundle's directory and is waited for; PID 1 is not. On success it
//! prints nothing and exits 0; on failure it prints one [`Failure`] as JSON and exits 1.

use serde::{Deserialize, Serialize};

/// Annotation: a JSON array of the overlay's lower directories, the topmost first.
pub const LOWER: &str = "dev.hangar.overlay.lower";
/// Annotation: a directory in which `upper` and `work` lie.
pub const UPPER: &str = "dev.hangar.overlay.files";
/// Annotation: a path inside that becomes its own, read-only mount, to be opened later.
pub const GATED: &str = "dev.hangar.gated";
/// Annotation: a JSON array of directories of limit groups to join.
pub const GROUPS: &str = "dev.hangar.cgroups";

/// Annotation: a [`World`] as JSON, where an OCI runtime takes the finished root.
pub const RUNTIME: &str = "dev.hangar.runtime";

/// The bundle's description, in the bundle.
pub const CONFIG: &str = "config.json";
/// [`Started`], in the bundle: written before PID 1 does anything.
pub const STATE: &str = "state.json";
/// Locked by the launcher while it works, in the bundle.
pub const LOCK: &str = "launch.lock";
/// agentd's socket, in the bundle.
pub const SOCKET: &str = "agentd.sock";
/// What PID 1 prints, in the bundle.
pub const LOG: &str = "pid1.log";

/// What an OCI runtime sees, and how it is run. It becomes PID 1 of the namespaces, stays in the
/// foreground, and the sandbox's own PID 1 is beneath it: when one ends, both do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct World {
    /// Mounts of its root, in order; sources are paths of the host.
    pub mounts: Vec<oci_spec::runtime::Mount>,
    /// The runtime and its arguments.
    pub arguments: Vec<String>,
    /// Whether it hands the socket [`SOCKET`] on as the descriptor agentd expects.
    pub passes_listener: bool,
}

impl World {
    /// Where the sandbox's root is in it.
    pub const ROOT: &str = "/rootfs";
}

/// Which process is PID 1 of the sandbox.
///
/// Numbers are reused, so the time of its start belongs to it; and that is counted from the boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Its number on the host.
    pub pid: u32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks from boot to its start.
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot: String,
}

/// Which part of the machine refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// Making the namespaces or mapping ids into them.
    UserNamespaces,
    /// Mounting the root.
    Overlay,
    /// Mounting `/proc`.
    Proc,
    /// Joining limit groups.
    Groups,
    /// Running PID 1's program.
    Program,
    /// Anything else.
    Other,
}

/// What failed in the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was being done, to what.
    pub step: String,
    /// The system's error number.
    pub errno: i32,
    /// Which part of the machine it was about.
    pub area: Area,
}

/// Field 22 of a process's `stat`, and its state letter; none when it cannot be read.
pub fn start_time(stat: &str) -> Option<(u64, char)> {
    // The name in parentheses may hold anything, a closing parenthesis included.
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((fields.nth(18)?.parse().ok()?, state))
}

#[cfg(test)]
mod tests {
    #[test]
    fn odd_names_do_not_shift_the_fields() {
        let fields: Vec<String> = (4..=30).map(|field| field.to_string()).collect();
        let stat = format!("7 (a) b (c)) S {}", fields.join(" "));
        assert_eq!(super::start_time(&stat), Some((22, 'S')));
        assert_eq!(super::start_time("7 (a"), None);
    }
}
