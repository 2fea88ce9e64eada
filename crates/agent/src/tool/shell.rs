//! `shell`: one command, its output bounded, its processes gone when it is stopped.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep_until};

use super::{Done, Error, Place, schema};
use crate::dialect::Definition;
use crate::text::HeadAndTail;

const TIMEOUT: u64 = 120;
const LONGEST_TIMEOUT: u64 = 600;
/// For the model: failures are told at the end of an output, sometimes at its beginning.
const HEAD_BYTES: usize = 8 * 1024;
const TAIL_BYTES: usize = 24 * 1024;
/// For people who watch.
const SHOWN_BYTES: usize = 8 * 1024;
const FIRST_SHOW: Duration = Duration::from_millis(100);
/// After the command has ended its output is read to its end, but not longer: something it left
/// running may hold the pipe open.
const DRAIN: Duration = Duration::from_millis(250);

/// Arguments of `shell`.
#[derive(Debug, Deserialize)]
pub struct Arguments {
    pub(super) command: String,
    #[serde(default, alias = "timeout")]
    timeout_seconds: Option<u64>,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "shell",
        description: "Run a command with bash in the workspace. Every call is a new shell without a \
                      terminal or input. Output is cut in its middle when it is long. The command and \
                      what it started are killed at the timeout; to leave something running, start it \
                      with its output redirected to a file and & at the end. There is no network but \
                      what the environment's proxy allows.",
        schema: schema(
            &json!({
                "command": { "type": "string", "description": "The command" },
                "timeout_seconds": { "type": "integer", "description": "120 if missing, at most 600" },
            }),
            &["command"],
        ),
    }
}

/// Runs the command. Dropping the future kills it, with everything in its process group.
pub(super) async fn run(
    arguments: Arguments,
    place: &Place,
    progress: &(dyn Fn(String) + Send + Sync),
) -> Result<Done, Error> {
    let seconds = arguments.timeout_seconds.unwrap_or(TIMEOUT).clamp(1, LONGEST_TIMEOUT);
    let (mut running, mut output) = start(&arguments.command, place.directory())?;
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(seconds);
    let mut kept = HeadAndTail::new(HEAD_BYTES, TAIL_BYTES);
    let mut show = Shown::new(begun, progress);
    let mut buffer = vec![0; 64 * 1024];
    let mut open = true;
    let ended = loop {
        tokio::select! {
            read = output.read(&mut buffer), if open => {
                let bytes = read.unwrap_or(0);
                open = bytes > 0;
                kept.push(&buffer[..bytes]);
                show.push(&buffer[..bytes]);
            }
            status = running.child.wait() => break Some(status),
            () = sleep_until(deadline) => break None,
            () = sleep_until(show.next), if show.is_due() => show.show(),
        }
    };
    if ended.is_some() && open {
        let end = Instant::now() + DRAIN;
        while let Ok(Ok(bytes @ 1..)) = tokio::time::timeout_at(end, output.read(&mut buffer)).await
        {
            kept.push(&buffer[..bytes]);
            if Instant::now() >= end {
                break;
            }
        }
    }
    let Some(status) = ended else {
        running.kill().await;
        let text = format!(
            "{}\n[killed after {seconds} seconds, with everything it had started]",
            kept.text()
        );
        return Ok(Done { text, failed: true, change: None });
    };
    running.done = true;
    let status = status.map_err(|source| Error::Start { program: "the command", source })?;
    Ok(answer(&kept, status))
}

/// A process group that dies with this value unless it is `done`.
struct Running {
    child: Child,
    group: Option<Pid>,
    done: bool,
}

impl Running {
    fn signal(&self) {
        if let Some(group) = self.group {
            // Fails only if nothing of the group is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    async fn kill(&mut self) {
        self.signal();
        let _ = self.child.wait().await;
        self.done = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.done {
            self.signal();
        }
    }
}

fn start(command: &str, directory: &Path) -> Result<(Running, Receiver), Error> {
    let bash = ["/bin/bash", "/usr/bin/bash"].into_iter().find(|path| Path::new(path).exists());
    let program = bash.unwrap_or("/bin/sh");
    let wrong = |source| Error::Start { program, source };
    // One pipe for both, so that lines stay in order.
    let (read, write) = std::io::pipe().map_err(wrong)?;
    let child = Command::new(program)
        .arg("-c")
        .arg(command)
        .current_dir(directory)
        // Nothing may wait for a person or for a pager.
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_EDITOR", "true")
        .env("GIT_PAGER", "cat")
        .env("PAGER", "cat")
        .stdin(Stdio::null())
        .stdout(write.try_clone().map_err(wrong)?)
        .stderr(write)
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(wrong)?;
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let output = Receiver::from_owned_fd(OwnedFd::from(read)).map_err(wrong)?;
    Ok((Running { child, group, done: false }, output))
}

fn answer(kept: &HeadAndTail, status: ExitStatus) -> Done {
    use std::os::unix::process::ExitStatusExt;
    let ending = match (status.code(), status.signal()) {
        (Some(0), _) => None,
        (Some(code), _) => Some(format!("[exit code {code}]")),
        (None, signal) => Some(format!("[ended by signal {}]", signal.unwrap_or_default())),
    };
    let output = kept.text();
    let text = match (&ending, output.trim_end()) {
        (None, "") => "(no output)".to_owned(),
        (None, _) => output,
        (Some(ending), "") => ending.clone(),
        (Some(ending), output) => format!("{output}\n{ending}"),
    };
    Done { text, failed: ending.is_some(), change: None }
}

/// Shows output to people while it comes: soon at first, then less and less often, so that even a
/// flood of hours costs little.
struct Shown<'a> {
    progress: &'a (dyn Fn(String) + Send + Sync),
    kept: HeadAndTail,
    begun: Instant,
    next: Instant,
    taken: u64,
}

impl<'a> Shown<'a> {
    fn new(begun: Instant, progress: &'a (dyn Fn(String) + Send + Sync)) -> Self {
        let kept = HeadAndTail::new(SHOWN_BYTES / 4, SHOWN_BYTES / 4 * 3);
        Self { progress, kept, begun, next: begun + FIRST_SHOW, taken: 0 }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.kept.push(bytes);
    }

    fn is_due(&self) -> bool {
        self.kept.total() > self.taken
    }

    fn show(&mut self) {
        self.taken = self.kept.total();
        (self.progress)(self.kept.text());
        let now = Instant::now();
        self.next = now + FIRST_SHOW.max((now - self.begun) / 20);
    }
}

#[cfg(test)]
mod tests;
