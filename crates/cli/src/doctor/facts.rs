//! Looks at the machine: programs, directories, and whether variables are set.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::data::Data;
use crate::{programs, toolkit};

/// Time for a program to tell its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The data directory.
    pub data: PathBuf,
    /// Why it cannot be used, if so.
    pub data_trouble: Option<String>,
    /// Bytes that may still be written there.
    pub free_bytes: Option<u64>,
    /// What `git --version` says.
    pub git_version: Option<String>,
    /// The program that serves repositories.
    pub git_http_backend: Option<PathBuf>,
    /// What `npm --version` says.
    pub npm_version: Option<String>,
    /// The built-in agent beside this program.
    pub built_in_agent: Option<PathBuf>,
    /// Whether OpenCode is in the data directory.
    pub opencode_installed: bool,
    /// The names of the keys that are set.
    pub model_keys: Vec<&'static str>,
}

/// Looks.
pub async fn gather(data: &Data) -> Facts {
    let set = |name: &&'static str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let core = said("git", &["--exec-path"]).await.map(PathBuf::from);
    let backend = core.map(|path| path.join("git-http-backend")).filter(|path| path.is_file());
    Facts {
        data: data.root().to_owned(),
        data_trouble: data.prepare().err().map(|error| error.to_string()),
        free_bytes: free_bytes(data.root()),
        git_version: said("git", &["--version"]).await,
        git_http_backend: backend,
        npm_version: said("npm", &["--version"]).await,
        built_in_agent: programs::beside_us("hangar-agent"),
        opencode_installed: toolkit::has_opencode(data.root()),
        model_keys: ["ANTHROPIC_API_KEY", "OPENAI_API_KEY"].into_iter().filter(set).collect(),
    }
}

fn free_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|path| path.exists())?;
    let statistics = rustix::fs::statvfs(existing).ok()?;
    Some(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

/// The first line a program prints; `None` if it is not there, fails, or hangs.
async fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or_default().trim().to_owned())
}
