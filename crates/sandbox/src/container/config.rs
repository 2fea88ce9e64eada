//! Where a container backend keeps its files, and what of the host its sandboxes see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::sandbox::Isolation;

/// How to run containers. The environment is read by whoever fills this in, never here.
#[derive(Debug, Clone)]
pub struct Config {
    /// The data directory: `sandboxes`, `images` and `base` are made in it.
    pub data: PathBuf,
    /// The program `hangar-launch`.
    pub launcher: PathBuf,
    /// PID 1's program and arguments; the toolkit's agentd unless a test says otherwise.
    pub init: Vec<String>,
    /// Directories of the host seen read-only besides `/usr`.
    pub extra_read_only: Vec<ReadOnly>,
    /// Added to PID 1's environment.
    pub environment: Vec<(String, String)>,
    /// Directories put before the usual ones in PATH.
    pub path: Vec<String>,
    /// The OCI runtime of a level: `launcher`, a name to search for, or a path. Levels that are not
    /// named have their usual one.
    pub runtimes: BTreeMap<Isolation, String>,
    /// Where runtimes are searched for by name.
    pub search: Vec<PathBuf>,
    /// The toolkit that probes start sandboxes with; without one nothing can be tried.
    pub toolkit: Option<PathBuf>,
}

/// A directory of the host that sandboxes see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOnly {
    /// On the host.
    pub host: PathBuf,
    /// In the sandbox, absolute.
    pub inside: String,
}

impl Config {
    /// The usual settings: agentd as PID 1, nothing but `/usr` from the host.
    pub fn new(data: impl Into<PathBuf>, launcher: impl Into<PathBuf>) -> Self {
        Self {
            data: data.into(),
            launcher: launcher.into(),
            init: vec![protocol::layout::AGENTD.to_owned()],
            extra_read_only: Vec::new(),
            environment: Vec::new(),
            path: Vec::new(),
            runtimes: BTreeMap::new(),
            search: Vec::new(),
            toolkit: None,
        }
    }

    /// Shows the Rust toolchains of a home directory, where there are any: `RUSTUP_HOME` or
    /// `~/.rustup` at `/opt/rustup` and the programs of `CARGO_HOME` or `~/.cargo` at
    /// `/opt/cargo/bin`. Never the rest of `~/.cargo`, which may hold credentials.
    #[must_use]
    pub fn with_rust_toolchains(
        mut self,
        home: &Path,
        rustup_home: Option<&Path>,
        cargo_home: Option<&Path>,
    ) -> Self {
        let rustup = rustup_home.map_or_else(|| home.join(".rustup"), Path::to_owned);
        let programs = cargo_home.map_or_else(|| home.join(".cargo"), Path::to_owned).join("bin");
        if rustup.join("toolchains").is_dir() && programs.join("rustup").exists() {
            self.extra_read_only.extend(linked(&rustup.join("toolchains")));
            self.extra_read_only.push(ReadOnly { host: rustup, inside: "/opt/rustup".into() });
            self.extra_read_only.push(ReadOnly { host: programs, inside: "/opt/cargo/bin".into() });
            self.environment.push(("RUSTUP_HOME".into(), "/opt/rustup".into()));
            self.environment.push(("CARGO_HOME".into(), "/home/agent/.cargo".into()));
            self.path.push("/opt/cargo/bin".into());
        }
        self
    }
}

/// Toolchains that are links elsewhere (`rustup toolchain link`), shown where the links lead to.
fn linked(toolchains: &Path) -> Vec<ReadOnly> {
    let entries = std::fs::read_dir(toolchains).into_iter().flatten().flatten();
    let mut targets: Vec<PathBuf> = entries
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .filter(|target| target.is_absolute() && target.join("bin/rustc").exists())
        .collect();
    targets.sort();
    targets.dedup();
    let shown = targets.into_iter().filter_map(|host| {
        let inside = host.to_str()?.to_owned();
        Some(ReadOnly { host, inside })
    });
    shown.collect()
}
