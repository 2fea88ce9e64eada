//! A sandbox as a test holds it: to run programs in as its agent would, and to look at from the host.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::SandboxId;
use protocol::agentd::ExecRequest;
use protocol::sandbox::{Enforcement, LimitName, SandboxDescription};
use sandbox::Backend as _;
use sandbox::agentd::Client;
use sandbox::container::Container;
use tokio::runtime::Handle;

/// A command that takes longer is killed; the attempt sees [`Said::timed_out`].
pub(crate) const COMMAND_TIME: Duration = Duration::from_secs(30);
/// What is read of a command's output.
const OUTPUT_LIMIT: usize = 1 << 20;

/// A running sandbox. Discarded when dropped.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) id: SandboxId,
    pub(crate) description: SandboxDescription,
    pub(crate) client: Client,
    backend: Container,
    runtime: Handle,
    directory: PathBuf,
}

/// What a command in a sandbox said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) timed_out: bool,
    /// Why there is no more: agentd could not be reached, or the connection broke.
    pub(crate) broken: Option<String>,
}

impl Said {
    /// Both streams.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }
}

impl fmt::Display for Said {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.broken {
            return write!(formatter, "no answer: {why}");
        }
        let how = match (self.timed_out, self.code, self.signal) {
            (true, ..) => "ran until its time was over".to_owned(),
            (_, Some(code), _) => format!("exit code {code}"),
            (_, _, Some(signal)) => format!("signal {signal}"),
            _ => "did not start".to_owned(),
        };
        write!(formatter, "{how}: {}", self.text().trim())
    }
}

impl Sandbox {
    pub(super) fn new(
        backend: Container,
        runtime: Handle,
        data: &std::path::Path,
        description: SandboxDescription,
    ) -> Self {
        let id = description.id;
        let client = Client::new(Arc::new(backend.clone()), id);
        let directory = data.join("sandboxes").join(id.to_string());
        Self { id, description, client, backend, runtime, directory }
    }

    /// Runs a program as the agent would: confined, in its HOME, for [`COMMAND_TIME`] at most.
    pub(crate) fn run(&self, argv: &[&str]) -> Said {
        self.run_with(argv, "", COMMAND_TIME)
    }

    /// A shell line.
    pub(crate) fn shell(&self, line: &str) -> Said {
        self.run(&["bash", "-c", line])
    }

    /// A Perl program, with arguments.
    pub(crate) fn perl(&self, program: &str, arguments: &[&str]) -> Said {
        self.run(&[&["perl", "-e", program], arguments].concat())
    }

    /// A verb of the static program `crates/sandbox/examples/attack.rs`.
    pub(crate) fn attack(&self, arguments: &[&str]) -> Said {
        self.run(&[&[super::world::ATTACK_INSIDE], arguments].concat())
    }

    /// The same with an input, and a time of its own.
    pub(crate) fn run_with(&self, argv: &[&str], stdin: &str, time: Duration) -> Said {
        let request = ExecRequest {
            argv: argv.iter().map(ToString::to_string).collect(),
            directory: Some(protocol::layout::HOME.to_owned()),
            environment: [].into(),
            stdin: stdin.to_owned(),
            timeout_milliseconds: u64::try_from(time.as_millis()).ok(),
        };
        // agentd holds the time; this holds agentd.
        let patience = time + Duration::from_secs(20);
        let ran = self.block_on(async {
            tokio::time::timeout(patience, self.client.exec(&request, OUTPUT_LIMIT)).await
        });
        let output = match ran {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => return Said { broken: Some(chain(&error)), ..Said::default() },
            Err(_) => {
                let broken = Some(format!("nothing within {patience:?}"));
                return Said { broken, ..Said::default() };
            }
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said {
            stdout: text(&output.stdout),
            stderr: text(&output.stderr) + output.exit.error.as_deref().unwrap_or_default(),
            code: output.exit.code,
            signal: output.exit.signal,
            timed_out: output.exit.timed_out,
            broken: None,
        }
    }

    /// Writes a file in the sandbox, which must work.
    pub(crate) fn write(&self, path: &str, content: &[u8]) {
        let content = content.to_vec().into();
        self.block_on(self.client.write_file(path, content)).expect("a file inside is written");
    }

    /// Whether it runs commands, and soon.
    pub(crate) fn answers(&self) -> Result<(), String> {
        let said = self.run_with(&["true"], "", Duration::from_secs(20));
        if said.succeeded() { Ok(()) } else { Err(said.to_string()) }
    }

    /// That it has ended, which the backend knows and says why.
    pub(crate) fn ended(&self) -> Result<(), String> {
        let patience = Duration::from_secs(20);
        let ended = async { tokio::time::timeout(patience, self.backend.ended(self.id)).await };
        match self.block_on(ended) {
            Ok(Ok(reason)) if !reason.is_empty() => Ok(()),
            other => Err(format!("the backend says {other:?}")),
        }
    }

    /// Whether the machine holds it to a limit; else the reason why not.
    pub(crate) fn holds(&self, limit: LimitName) -> Result<(), String> {
        let found = self.description.enforcement.iter().find(|it| it.limit == limit.as_str());
        match found.map(|report| &report.enforcement) {
            Some(Enforcement::Enforced { .. }) => Ok(()),
            Some(Enforcement::NotEnforced { reason }) => Err(reason.clone()),
            None => Err(format!("the limit `{}` is not accounted for", limit.as_str())),
        }
    }

    /// Its directory on the host.
    pub(crate) fn directory(&self) -> PathBuf {
        self.directory.clone()
    }

    /// The gateway's socket on the host: what `/run/hangar/gateway.sock` is inside.
    pub(crate) fn gateway_socket(&self) -> PathBuf {
        self.backend.gateway_directory(self.id).join("gateway.sock")
    }

    /// agentd's socket on the host.
    pub(crate) fn agentd_socket(&self) -> PathBuf {
        self.directory.join("agentd.sock")
    }

    /// PID 1's number on the host.
    pub(crate) fn pid(&self) -> i32 {
        let text = std::fs::read(self.directory.join("state.json")).expect("a state");
        let state: serde_json::Value = serde_json::from_slice(&text).expect("well-formed");
        i32::try_from(state["pid"].as_i64().expect("a number")).expect("a process number")
    }

    /// The limit groups it was started in, on the host.
    pub(crate) fn groups(&self) -> Vec<PathBuf> {
        let text = std::fs::read(self.directory.join("groups.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Waits for something about it.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let discarded = self.runtime.block_on(self.backend.discard(self.id));
        if !std::thread::panicking() {
            discarded.expect("a sandbox can be discarded, whatever it did");
        }
    }
}

/// An error with its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
