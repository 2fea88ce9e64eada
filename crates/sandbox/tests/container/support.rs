//! A data directory, a toolkit and a backend for one test.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use protocol::agentd::ExecRequest;
use protocol::sandbox::{Isolation, Limits, StartPath};
use protocol::{ImageId, SandboxId};
use sandbox::agentd::{Client, Output};
use sandbox::conformance::Subject;
use sandbox::container::{Config, Container};
use sandbox::{Backend as _, Base, Spec};

/// The launcher that belongs to these tests.
pub(crate) fn launcher() -> PathBuf {
    env!("CARGO_BIN_EXE_hangar-launch").into()
}

/// Everything one test needs, in a directory of its own.
#[derive(Debug)]
pub(crate) struct House {
    directory: tempfile::TempDir,
    isolation: Isolation,
    pub(crate) backend: Container,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::at(Isolation::Namespaces)
    }

    /// A house whose sandboxes have this wall.
    pub(crate) fn at(isolation: Isolation) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let programs = directory.path().join("toolkit/bin");
        std::fs::create_dir_all(&programs).expect("a toolkit");
        let stand_in = launcher().with_file_name("examples").join("stand-in");
        std::fs::copy(&stand_in, programs.join("hangar-agentd")).expect("the stand-in was built");
        let backend = open(directory.path());
        Self { directory, isolation, backend }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A second backend over the same directory, as after a restart of the server.
    pub(crate) fn again(&self) -> Container {
        open(self.path())
    }

    pub(crate) fn spec(&self) -> Spec {
        Spec { isolation: self.isolation, ..spec(self.path()) }
    }

    pub(crate) fn subject(&self) -> Subject {
        let backend = Arc::new(self.backend.clone());
        Subject { backend, spec: self.spec(), file: "/home/agent/kept".into() }
    }

    pub(crate) fn client(&self, id: SandboxId) -> Client {
        Client::new(Arc::new(self.backend.clone()), id)
    }

    pub(crate) async fn started(&self) -> Spec {
        let spec = self.spec();
        self.backend.create(&spec).await.expect("the sandbox starts");
        spec
    }

    /// PID 1's number on the host.
    pub(crate) fn pid(&self, id: SandboxId) -> u32 {
        let path = self.path().join(format!("data/sandboxes/{id}/state.json"));
        let text = std::fs::read(path).expect("a running sandbox has a state");
        let state: serde_json::Value = serde_json::from_slice(&text).expect("well-formed");
        u32::try_from(state["pid"].as_u64().expect("a number")).expect("a process number")
    }

    /// Discards every sandbox of this house.
    pub(crate) async fn discard_all(&self) {
        let observed = self.backend.observe().await.expect("observed");
        for one in observed {
            self.backend.discard(one.id).await.expect("it goes");
        }
    }

    /// That nothing of any sandbox of this house is left on the machine.
    pub(crate) async fn is_clean(&self) {
        assert_eq!(self.backend.observe().await.expect("observed"), []);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let ours = self.path().to_str().expect("a path");
        assert!(!mounts.contains(ours), "a mount is left: {mounts}");
        assert_eq!(groups_of(self.path()), Vec::<PathBuf>::new());
        assert_eq!(processes_of(self.path()), Vec::<u32>::new());
        let left: Vec<_> = std::fs::read_dir(self.path().join("data/sandboxes"))
            .expect("the directory of sandboxes")
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// A failed test leaves no sandbox behind either.
impl Drop for House {
    fn drop(&mut self) {
        let backend = self.backend.clone();
        let reaper = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                backend.reap(&[]).await?;
                for one in backend.observe().await? {
                    backend.discard(one.id).await?;
                }
                Ok::<(), sandbox::Error>(())
            })
        });
        let reaped = reaper.join().expect("no panic");
        assert!(reaped.is_ok() || std::thread::panicking(), "{reaped:?}");
    }
}

/// What usually is started in a house.
pub(crate) fn spec(place: &Path) -> Spec {
    Spec {
        id: SandboxId::new(),
        image: ImageId::new(),
        layers: Vec::new(),
        base: Base::Host,
        isolation: Isolation::Namespaces,
        environment: Vec::new(),
        limits: Limits { memory_bytes: 256 << 20, pids: 100, ..Limits::default() },
        upper_from: None,
        mirror: None,
        toolkit: place.join("toolkit"),
        path: StartPath::Image,
    }
}

pub(crate) fn open(directory: &Path) -> Container {
    Container::open(config(directory)).expect("a backend")
}

/// The configuration of a house, with every runtime that the tests have.
pub(crate) fn config(directory: &Path) -> Config {
    let mut config = Config::new(directory.join("data"), launcher());
    config.toolkit = Some(directory.join("toolkit"));
    let runsc = runsc().to_string_lossy().into_owned();
    config.runtimes.insert(Isolation::Gvisor, runsc);
    config
}

/// gVisor: `RUNSC`, the one in PATH, or one fetched for these tests. A test of a wall that is not
/// there proves nothing, so none is skipped.
fn runsc() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    let installed = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|it| it.join("runsc")).find(|it| it.is_file())
    };
    let named = || std::env::var_os("RUNSC").map(PathBuf::from);
    FOUND.get_or_init(|| named().or_else(installed).unwrap_or_else(fetched)).clone()
}

fn fetched() -> PathBuf {
    let target = launcher().ancestors().nth(2).expect("the target directory").join("runtimes");
    let fetching = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(sandbox::container::gvisor::install(&target))
    });
    fetching.join().expect("no panic").expect("runsc is fetched; or set RUNSC")
}

/// Processes in whose mount namespace something of a directory is mounted.
pub(crate) fn processes_of(directory: &Path) -> Vec<u32> {
    let ours = directory.to_str().expect("a path");
    let processes = std::fs::read_dir("/proc").expect("processes");
    let pids = processes.flatten().filter_map(|it| it.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let path = format!("/proc/{pid}/mountinfo");
        std::fs::read_to_string(path).is_ok_and(|text| text.contains(ours))
    })
    .collect()
}

/// Limit groups of a house's backend, wherever they are: all lie in one named by the directory.
pub(crate) fn groups_of(directory: &Path) -> Vec<PathBuf> {
    let data = directory.join("data").canonicalize().expect("a data directory");
    let hash =
        data.to_str().expect("a path").bytes().fold(0x811c_9dc5, |hash: u32, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
    let ours = format!("hangar-{hash:08x}");
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(&path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_str() == Some(&ours) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
    }
    found
}

/// Running commands in a sandbox.
pub(crate) trait Run {
    /// Runs a command and returns everything about it.
    async fn run(&self, id: SandboxId, argv: &[&str]) -> Output;

    /// Runs a shell line and returns what it printed, both streams.
    async fn shell(&self, id: SandboxId, line: &str) -> String {
        let output = self.run(id, &["sh", "-c", line]).await;
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

impl Run for House {
    async fn run(&self, id: SandboxId, argv: &[&str]) -> Output {
        let request = ExecRequest {
            argv: argv.iter().map(ToString::to_string).collect(),
            directory: Some("/".into()),
            environment: [].into(),
            stdin: String::new(),
            timeout_milliseconds: None,
        };
        self.client(id).exec(&request, 1 << 20).await.expect("the command runs")
    }
}
