//! Agents in the data directory, and how they get there: whole or not at all.
//!
//! ```text
//!   toolkit/agents/opencode-1.18.33/bin/{opencode, rg}   installed here once, from a draft by rename
//!   toolkit/<version>/bin/{hangar-agentd, …, opencode, rg}   what sandboxes see, made at server start
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Serialize;
use tokio::process::Command;

use crate::failure::{Exit, Failure};
use crate::format;

/// The one version of OpenCode that the agent driver was tested with.
pub const OPENCODE_VERSION: &str = "1.18.33";

/// OpenCode searches with ripgrep, and would fetch it at its first search, which no sandbox can.
const RIPGREP_VERSION: &str = "1.18.0";

/// An agent and whether it is here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Agent {
    /// Its name on the command line.
    pub name: &'static str,
    /// The version that is, or would be, installed.
    pub version: &'static str,
    /// Whether sandboxes can have it.
    pub installed: bool,
    /// Its program on this machine, when installed.
    pub program: Option<PathBuf>,
    /// Bytes of that program.
    pub bytes: Option<u64>,
}

/// Where OpenCode's program is, or would be.
pub fn opencode(data: &Path) -> PathBuf {
    data.join(format!("toolkit/agents/opencode-{OPENCODE_VERSION}/bin/opencode"))
}

/// Where runtimes of sandboxes are that were installed here.
pub fn runtimes(data: &Path) -> PathBuf {
    data.join("toolkit/runtimes")
}

/// The search program that came with it.
pub fn ripgrep(data: &Path) -> PathBuf {
    opencode(data).with_file_name("rg")
}

/// Whether all of it is there.
pub fn has_opencode(data: &Path) -> bool {
    opencode(data).exists() && ripgrep(data).exists()
}

/// Every agent Hangar knows. The built-in one comes with the program itself.
pub fn agents(data: &Path, built_in: Option<PathBuf>) -> Vec<Agent> {
    let agent = |name, version, program: Option<PathBuf>| {
        let found =
            program.and_then(|path| fs::metadata(&path).ok().map(|meta| (path, meta.len())));
        let (program, bytes) = found.unzip();
        Agent { name, version, installed: program.is_some(), program, bytes }
    };
    vec![
        agent("built-in", env!("CARGO_PKG_VERSION"), built_in),
        agent("opencode", OPENCODE_VERSION, has_opencode(data).then(|| opencode(data))),
    ]
}

/// One line for each agent.
pub fn lines(agents: &[Agent]) -> Vec<String> {
    let row = |agent: &Agent| {
        let state = match agent.bytes {
            Some(bytes) => format!("installed, {}", format::bytes(bytes)),
            None if agent.name == "built-in" => {
                "missing: hangar-agent is not beside this program".to_owned()
            }
            None => format!("not installed: hangar toolkit install {}", agent.name),
        };
        vec![agent.name.to_owned(), agent.version.to_owned(), state]
    };
    format::table(&agents.iter().map(row).collect::<Vec<_>>())
}

/// An npm package that is one program for one kind of machine and needs no Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name at npm.
    pub name: &'static str,
    /// The version that is installed.
    pub version: &'static str,
    /// The program in its `bin/`.
    pub program: &'static str,
}

/// What OpenCode consists of on a machine, named as in `std::env::consts::ARCH`.
///
/// The package of the platform alone is one program; the package people usually install brings two
/// of them and a script.
pub fn opencode_packages(architecture: &str) -> Option<[Package; 2]> {
    let (opencode, ripgrep) = match architecture {
        "x86_64" => ("opencode-linux-x64", "@vscode/ripgrep-linux-x64"),
        "aarch64" => ("opencode-linux-arm64", "@vscode/ripgrep-linux-arm64"),
        _ => return None,
    };
    Some([
        Package { name: opencode, version: OPENCODE_VERSION, program: "opencode" },
        Package { name: ripgrep, version: RIPGREP_VERSION, program: "rg" },
    ])
}

/// Installs OpenCode below the data directory with npm, which checks what it fetched.
pub async fn install_opencode(data: &Path) -> anyhow::Result<PathBuf> {
    let program = opencode(data);
    if has_opencode(data) {
        return Ok(program);
    }
    let architecture = std::env::consts::ARCH;
    let packages = opencode_packages(architecture).ok_or_else(|| {
        Failure::new(Exit::Machine, format!("there is no OpenCode for {architecture} machines"))
            .hint("use the built-in agent")
    })?;
    let agents = data.join("toolkit/agents");
    let draft = agents.join(format!(".opencode-{}", std::process::id()));
    let installed = install(&packages, &agents, &draft, &program).await;
    // What is left of the draft, also after a failure; absent after success.
    let _ = fs::remove_dir_all(&draft);
    installed.map(|()| program)
}

async fn install(
    packages: &[Package],
    agents: &Path,
    draft: &Path,
    program: &Path,
) -> anyhow::Result<()> {
    let files = |doing: &str, path: &Path| {
        let text = format!("installing OpenCode: {doing} {}", path.display());
        move |error: io::Error| Failure::new(Exit::Failed, format!("{text}: {error}"))
    };
    fs::create_dir_all(agents).map_err(files("making", agents))?;
    let _ = fs::remove_dir_all(draft);
    fs::create_dir(draft).map_err(files("making", draft))?;
    npm(packages, draft).await?;
    let home = draft.join("whole");
    fs::create_dir_all(home.join("bin")).map_err(files("making", &home))?;
    for package in packages {
        let fetched = draft.join("node_modules").join(package.name).join("bin");
        let fetched = fetched.join(package.program);
        fs::rename(&fetched, home.join("bin").join(package.program))
            .map_err(files("moving", &fetched))?;
    }
    answers(&home.join("bin/opencode"), &draft.join("home")).await?;
    let target = program.parent().and_then(Path::parent).unwrap_or(agents);
    let whole = || program.exists() && program.with_file_name("rg").exists();
    if target.exists() && !whole() {
        // An installation of an older Hangar, which did not have all of it.
        fs::remove_dir_all(target).map_err(files("replacing", target))?;
    }
    match fs::rename(&home, target) {
        // Somebody else was faster: their copy is as good.
        Err(_) if whole() => Ok(()),
        moved => Ok(moved.map_err(files("moving it to", target))?),
    }
}

async fn npm(packages: &[Package], draft: &Path) -> Result<(), Failure> {
    let wanted: Vec<String> =
        packages.iter().map(|package| format!("{}@{}", package.name, package.version)).collect();
    let mut command = Command::new("npm");
    command
        .args(["install", "--prefix"])
        .arg(draft)
        .args(["--ignore-scripts", "--no-audit", "--no-fund", "--no-save", "--loglevel=error"])
        .args(&wanted)
        .current_dir(draft)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = command.output().await.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::new(Exit::Machine, "OpenCode is installed with npm, which is missing")
                .hint("apt-get install npm, or use the built-in agent")
        }
        _ => Failure::new(Exit::Machine, format!("npm could not be started: {error}")),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).take(5).collect();
    let text = format!("npm could not install {}: {}", wanted.join(" and "), said.join("; "));
    Err(Failure::new(Exit::Failed, text).hint("check the network and npm's registry: npm ping"))
}

/// A program that does not say its version is not one that a sandbox should get.
async fn answers(program: &Path, home: &Path) -> Result<(), Failure> {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    // It writes to HOME even to say its version; the person's own is none of its business.
    command.env_clear().env("HOME", home);
    let output = command.output().await.map_err(|error| {
        Failure::new(Exit::Failed, format!("the fetched OpenCode does not start: {error}"))
    })?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if version == OPENCODE_VERSION {
        return Ok(());
    }
    let text = format!("the fetched OpenCode says it is `{version}`, not {OPENCODE_VERSION}");
    Err(Failure::new(Exit::Failed, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_machine_has_its_package() {
        for (architecture, suffix) in [("x86_64", "linux-x64"), ("aarch64", "linux-arm64")] {
            let packages = opencode_packages(architecture).expect("known");
            assert!(packages.iter().all(|package| package.name.ends_with(suffix)), "{packages:?}");
        }
        assert_eq!(opencode_packages("riscv64"), None);
    }

    #[test]
    fn the_list_says_what_to_do() {
        let directory = tempfile::tempdir().expect("a directory");
        let program = opencode(directory.path());
        let before = agents(directory.path(), None);
        assert_eq!(
            lines(&before)[1],
            "opencode  1.18.33  not installed: hangar toolkit install opencode"
        );
        fs::create_dir_all(program.parent().expect("a parent")).expect("made");
        fs::write(&program, vec![0; 2048]).expect("written");
        assert!(!agents(directory.path(), None)[1].installed, "without its search program");
        fs::write(ripgrep(directory.path()), "rg").expect("written");
        let after = agents(directory.path(), Some(program));
        assert_eq!(
            lines(&after),
            ["built-in  0.1.0    installed, 2.0 KiB", "opencode  1.18.33  installed, 2.0 KiB"]
        );
    }
}
