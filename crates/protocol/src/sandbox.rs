//! What is said about sandboxes outside the crate that runs them.

use serde::{Deserialize, Serialize};

use crate::secret::SecretName;
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
    /// Every wall a sandbox can really have, from weakest to strongest.
    pub const LEVELS: [Self; 3] = [Self::Namespaces, Self::Gvisor, Self::Microvm];

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

impl std::fmt::Display for Isolation {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A text that names no isolation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no isolation: write `namespaces`, `gvisor` or `microvm`")]
pub struct ParseIsolationError(String);

impl std::str::FromStr for Isolation {
    type Err = ParseIsolationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = Self::LEVELS.into_iter().find(|level| level.as_str() == text);
        named.ok_or_else(|| ParseIsolationError(text.to_owned()))
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
    /// Bits per second that may leave through the gateway.
    #[serde(default = "gigabit")] // Sandboxes recorded before there was this limit.
    pub egress_bits_per_second: u64,
}

const fn gigabit() -> u64 {
    1_000_000_000
}

/// One of the [`Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    /// Memory, in bytes.
    Memory,
    /// Processor time, in thousandths of a core.
    Cpu,
    /// Processes and threads.
    Pids,
    /// What may be written, in bytes.
    Disk,
    /// Time from start to forced stop, in seconds.
    RunTime,
    /// What may leave through the gateway, in bits per second.
    Egress,
}

impl LimitName {
    /// The word as people and [`LimitReport::limit`] write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Disk => "disk",
            Self::RunTime => "run_time",
            Self::Egress => "egress",
        }
    }
}

/// Limits somebody asks for; what is missing is left to those above: the repository, the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// Bytes of memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_millicores: Option<u32>,
    /// Processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Bytes that may be written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Seconds from start to forced stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_seconds: Option<u64>,
    /// Bits per second that may leave through the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress_bits_per_second: Option<u64>,
}

impl LimitRequest {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            cpu_millicores: 2000,
            pids: 512,
            disk_bytes: 10 << 30,
            run_seconds: 4 * 3600,
            egress_bits_per_second: gigabit(),
        }
    }
}

/// What happens to a sandbox that wants more than a limit gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consequence {
    /// It was stopped; its files are kept.
    Ended,
    /// It goes on with what the limit gives: slower, or with an error where it asked for more.
    Throttled,
}

/// Whether this machine can hold a sandbox to one of its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Enforcement {
    /// It is held.
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
    /// `memory`, `cpu`, `pids`, `disk`, `run_time` or `egress` ([`LimitName::as_str`]).
    pub limit: String,
    /// Whether it holds.
    #[serde(flatten)]
    pub enforcement: Enforcement,
}

/// Whether a level of isolation works on the server's machine, found by starting a sandbox behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelReport {
    /// The level.
    pub isolation: Isolation,
    /// Whether a sandbox started and a command ran in it.
    pub works: bool,
    /// The program that makes this wall, with its version; none where it was not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// How long the start took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_milliseconds: Option<u64>,
    /// Why it does not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What would change that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Which limits hold behind it; empty where nothing could be tried.
    #[serde(default)]
    pub limits: Vec<LimitReport>,
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
    /// Secrets whose values it holds as they are: code in it can read them and send them wherever
    /// it may go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plain_secrets: Vec<SecretName>,
}
