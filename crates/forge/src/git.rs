//! Starts the real `git` so that no configuration but ours can run code or reach the network.
//!
//! Three kinds of input are hostile here: the configuration and contents of a repository that is
//! imported, the environment of the person who started the server (`GIT_DIR`, `GIT_SSH_COMMAND`…),
//! and what sandboxes push. So the environment is built from nothing, system and user
//! configuration are replaced by a file of ours, hooks lead nowhere, and the only transport is a
//! path on this machine. Git honours `uploadpack.packObjectsHook` and `safe.directory` from
//! protected configuration only, which is exactly that file and the command line.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};

use crate::Error;

/// How long a command that only looks at a repository may take.
const LOOK: Duration = Duration::from_mins(2);
/// Bytes of standard output that are kept unless a caller says otherwise.
const OUTPUT: usize = 256 * 1024 * 1024;
/// Bytes of standard error that are kept.
const COMPLAINT: usize = 4 * 1024;
/// `merge-tree --write-tree` came with this one.
const OLDEST: (u32, u32) = (2, 38);

/// Read by every git we start, instead of the person's own configuration.
///
/// `safe.directory` is open because a server run by root imports repositories of other people, and
/// nothing in them is run. Values are durable (`fsync`) because an acknowledged push must survive
/// a power cut.
const CONFIGURATION: &str = "\
# Written by Hangar at every start; changes are lost.
[safe]
\tdirectory = *
[core]
\thooksPath = /dev/null
\tfsmonitor = false
\tbigFileThreshold = 32m
\tfsync = committed,reference
\tfsyncMethod = batch
[protocol]
\tallow = never
[protocol \"file\"]
\tallow = always
[gc]
\tauto = 0
[maintenance]
\tauto = false
[init]
\tdefaultBranch = main
[advice]
\tdetachedHead = false
";

/// A usable `git` and the configuration it is run with.
#[derive(Debug, Clone)]
pub(crate) struct Git {
    program: PathBuf,
    configuration: PathBuf,
    path: OsString,
}

impl Git {
    /// Finds `git` in PATH, checks its version, and writes our configuration below `directory`.
    pub(crate) async fn find(directory: &Path) -> Result<Self, Error> {
        let path =
            std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let program = std::env::split_paths(&path)
            .map(|directory| directory.join("git"))
            .find(|candidate| candidate.is_absolute() && candidate.is_file())
            .ok_or(Error::GitMissing)?;
        let configuration = directory.join("gitconfig");
        std::fs::write(&configuration, CONFIGURATION).map_err(|source| Error::Files {
            doing: "write",
            path: configuration.clone(),
            source,
        })?;
        let git = Self { program, configuration, path };
        let said = git.start("ask git for its version").arg("version").text().await?;
        if version(&said).is_some_and(|found| found >= OLDEST) {
            Ok(git)
        } else {
            Err(Error::GitTooOld { found: said.trim_start_matches("git version ").to_owned() })
        }
    }

    /// A git command outside any repository; `doing` completes "could not …".
    pub(crate) fn start(&self, doing: impl Into<String>) -> Invocation {
        Invocation {
            command: self.command(),
            doing: doing.into(),
            input: None,
            output_limit: OUTPUT,
            time_limit: LOOK,
        }
    }

    /// A git command on a bare repository of ours.
    pub(crate) fn at(&self, repository: &Path, doing: impl Into<String>) -> Invocation {
        let mut option = OsString::from("--git-dir=");
        option.push(repository);
        self.start(doing).arg(option)
    }

    /// The bare command, in an environment that holds nothing of ours and nothing secret.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", "/nonexistent")
            .env("LC_ALL", "C")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", &self.configuration)
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", "file")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_OPTIONAL_LOCKS", "0")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            // The command line outranks a repository's own configuration; the file does not.
            .args(["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"])
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

fn version(said: &str) -> Option<(u32, u32)> {
    let mut numbers = said.split_whitespace().nth(2)?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// One git command being put together.
#[derive(Debug)]
pub(crate) struct Invocation {
    command: Command,
    doing: String,
    input: Option<Vec<u8>>,
    output_limit: usize,
    time_limit: Duration,
}

/// What a git command left.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Its exit code; none if it was killed.
    pub(crate) code: Option<i32>,
    /// Its standard output, up to the limit.
    pub(crate) output: Vec<u8>,
    /// Whether there was more, in which case git was stopped and `code` means nothing.
    pub(crate) cut: bool,
    /// The end of its standard error.
    pub(crate) said: String,
}

impl Invocation {
    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn args<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn input(mut self, bytes: Vec<u8>) -> Self {
        self.command.stdin(Stdio::piped());
        self.input = Some(bytes);
        self
    }

    pub(crate) fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    pub(crate) fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Runs it to its end, or to a limit, whatever its exit code.
    pub(crate) async fn finish(mut self) -> Result<Finished, Error> {
        let failed = |source| Error::Run { doing: self.doing.clone(), source };
        let mut child = self.command.spawn().map_err(failed)?;
        let group = Group::of(&child);
        let seconds = self.time_limit.as_secs();
        let work = talk(&mut child, self.input.take(), self.output_limit);
        match tokio::time::timeout(self.time_limit, work).await {
            Ok(Ok(finished)) => {
                // When the output was cut the command still runs: the group is ended on drop.
                if !finished.cut {
                    group.disarm();
                }
                Ok(finished)
            }
            Ok(Err(source)) => Err(Error::Run { doing: self.doing, source }),
            Err(_) => Err(Error::TimedOut { doing: self.doing, seconds }),
        }
    }

    /// Runs it and expects exit code 0: its standard output.
    pub(crate) async fn output(self) -> Result<Vec<u8>, Error> {
        let doing = self.doing.clone();
        let finished = self.finish().await?;
        if finished.code == Some(0) && !finished.cut {
            Ok(finished.output)
        } else {
            Err(finished.failure(doing))
        }
    }

    /// Runs it and expects exit code 0: its standard output as text without the last line end.
    pub(crate) async fn text(self) -> Result<String, Error> {
        let output = self.output().await?;
        Ok(String::from_utf8_lossy(&output).trim_end_matches('\n').to_owned())
    }

    /// Runs a command whose exit codes 0 and 1 mean yes and no.
    pub(crate) async fn answer(self) -> Result<bool, Error> {
        let doing = self.doing.clone();
        let finished = self.finish().await?;
        match finished.code {
            Some(0) => Ok(true),
            Some(1) => Ok(false),
            _ => Err(finished.failure(doing)),
        }
    }
}

impl Finished {
    /// The error this end amounts to.
    pub(crate) fn failure(self, doing: String) -> Error {
        let said = match (self.cut, self.said.is_empty()) {
            (true, _) => "more output than expected".to_owned(),
            (false, true) => match self.code {
                Some(code) => format!("nothing (exit code {code})"),
                None => "nothing (it was killed)".to_owned(),
            },
            (false, false) => self.said,
        };
        Error::Git { doing, said }
    }
}

async fn talk(child: &mut Child, input: Option<Vec<u8>>, limit: usize) -> io::Result<Finished> {
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let (fed, output, said) =
        tokio::join!(feed(stdin, input), read(stdout, limit), complaint(stderr));
    fed?;
    let (output, cut) = output?;
    let code = if cut { None } else { child.wait().await?.code() };
    Ok(Finished { code, output, cut, said })
}

async fn feed(stdin: Option<ChildStdin>, input: Option<Vec<u8>>) -> io::Result<()> {
    let (Some(mut stdin), Some(input)) = (stdin, input) else { return Ok(()) };
    match stdin.write_all(&input).await {
        // Git stopped reading; its exit code and standard error say why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

async fn read(stdout: Option<impl AsyncRead + Unpin>, limit: usize) -> io::Result<(Vec<u8>, bool)> {
    let mut output = Vec::new();
    let Some(stdout) = stdout else { return Ok((output, false)) };
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    stdout.take(most).read_to_end(&mut output).await?;
    let cut = output.len() > limit;
    output.truncate(limit);
    Ok((output, cut))
}

/// The end of what a command writes to standard error, read to its end so that it never blocks.
pub(crate) async fn complaint(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stderr) = stderr else { return String::new() };
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut piece).await {
        kept.extend_from_slice(&piece[..count]);
        if kept.len() > 2 * COMPLAINT {
            kept.drain(..kept.len() - COMPLAINT);
        }
    }
    let from = kept.len().saturating_sub(COMPLAINT);
    without_progress(&String::from_utf8_lossy(&kept[from..]))
}

/// The lines that say what is wrong; all of them where git marks none.
fn without_progress(said: &str) -> String {
    let is_marked = |line: &&str| line.starts_with("fatal: ") || line.starts_with("error: ");
    let lines: Vec<_> = said.split(['\n', '\r']).collect();
    match lines.iter().position(is_marked) {
        Some(first) => lines[first..].join("\n").trim().to_owned(),
        None => said.trim().to_owned(),
    }
}

/// A git command and everything it started; killed on drop unless it ended by itself.
#[derive(Debug)]
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// The group led by a child that was started with `process_group(0)`.
    pub(crate) fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        Self(leader.and_then(Pid::from_raw))
    }

    /// Says that the leader was waited for: its number may mean someone else from now on.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }

    /// Signals every member. A group that is gone is what was wanted.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(leader) = self.0
            && let Err(error) = kill_process_group(leader, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(%error, "could not signal a group of git processes");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_from_progress() {
        let said = "Receiving: 1%\rReceiving: 2%\rerror: no space\nfatal: index-pack failed\n";
        assert_eq!(without_progress(said), "error: no space\nfatal: index-pack failed");
        assert_eq!(without_progress("usage: git\n"), "usage: git");
    }

    #[test]
    fn versions_of_all_builds_are_read() {
        assert_eq!(version("git version 2.47.3"), Some((2, 47)));
        assert_eq!(version("git version 2.39.5 (Apple Git-154)"), Some((2, 39)));
        assert_eq!(version("git version 2.51.0.rc1.dirty"), Some((2, 51)));
        assert_eq!(version("something else"), None);
    }
}
