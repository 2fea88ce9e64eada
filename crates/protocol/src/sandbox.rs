//! What is said about sandboxes outside the crate that runs them.

use serde::{Deserialize, Serialize};

use crate::{ImageId, SandboxId};

/// The wall around a sandbox, from weakest to strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// No wall: the simulated backend, which runs no foreign code.
    Simulated,
    /// Linux namespaces in the host's kernel.
    Namespaces,
    /// A kernel in user space (gVisor).
    Gvisor,
    /// A virtual machine of its own.
    Microvm,
}

impl Isolation {
    /// The word as people and configuration files write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Namespaces => "namespaces",
            Self::Gvisor => "gvisor",
            Self::Microvm => "microvm",
        }
    }
}

/// How a session came by its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartPath {
    /// Taken from the pool.
    Pool,
    /// Continued from an earlier sandbox's files.
    Restore,
    /// Started from the repository's image.
    Image,
}

/// What one sandbox may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Thousandths of a core.
    pub cpu_millicores: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Bytes that may be written.
    pub disk_bytes: u64,
    /// Seconds from start to forced stop.
    pub run_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            cpu_millicores: 2000,
            pids: 512,
            disk_bytes: 10 << 30,
            run_seconds: 4 * 3600,
        }
    }
}

/// Whether this machine can hold a sandbox to one of its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Enforcement {
    /// The kernel holds it.
    Enforced {
        /// By which means, for people: `cgroup v1 memory`.
        by: String,
    },
    /// Nothing holds it here.
    NotEnforced {
        /// Why, and what would change it.
        reason: String,
    },
}

/// One limit and whether it holds; shown by `hangar doctor` and on every session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitReport {
    /// `memory`, `cpu`, `pids`, `disk` or `run_time`.
    pub limit: String,
    /// Whether it holds.
    #[serde(flatten)]
    pub enforcement: Enforcement,
}

/// What a session says about the sandbox it runs in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxDescription {
    /// Which one.
    pub id: SandboxId,
    /// The image it started from.
    pub image: ImageId,
    /// The wall around it.
    pub isolation: Isolation,
    /// How it came to be.
    pub path: StartPath,
    /// What it may use.
    pub limits: Limits,
    /// Which of these the machine really holds it to.
    pub enforcement: Vec<LimitReport>,
}
