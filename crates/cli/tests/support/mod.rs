//! A real server in a process of its own, for tests that drive it as clients do.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part")]

pub mod opencode;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cli::client::{Client, News};
use protocol::client::{CreateSession, PromptAccepted, RegisterRepository, SendPrompt};
use protocol::repository::RepositoryName;
use protocol::sandbox::LimitRequest;
use protocol::session::{Delivery, SessionView};
use protocol::{Envelope, Event, PromptId, RequestId, SessionId};
use tempfile::TempDir;

/// Longer than any single step takes on a loaded machine; a test that waits this long has failed.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// A data directory and the server on it, if one runs.
#[derive(Debug)]
pub struct Server {
    pub directory: TempDir,
    child: Option<Child>,
    pub address: String,
    /// What it printed to sign one browser in.
    pub link: String,
    programs: Option<PathBuf>,
}

/// Names the directory of the programs, where it is not the one they were built in.
pub const PROGRAMS: &str = "HANGAR_TEST_PROGRAMS";

/// The program under test, in an environment without keys of the machine.
pub fn hangar() -> Command {
    let built = PathBuf::from(env!("CARGO_BIN_EXE_hangar"));
    let program = std::env::var_os(PROGRAMS).map_or(built, |it| Path::new(&it).join("hangar"));
    hangar_of(program.parent().expect("a directory"))
}

/// The program in a directory of its own, with the programs beside it.
fn hangar_of(directory: &Path) -> Command {
    let program = directory.join("hangar");
    for name in ["hangar-agentd", "hangar-agent", "hangar-launch"] {
        let built = directory.join(name).is_file();
        assert!(built, "{name} is missing: cargo build -p agentd -p agent -p sandbox --bins");
    }
    let mut command = Command::new(program);
    for name in
        ["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "HANGAR_SERVER", "HANGAR_DATA", "HANGAR_MODEL"]
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Runs git and gives its output without the last line end.
pub fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(directory)
        .args(["-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.org"])
        .args(arguments)
        .output()
        .expect("git starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// How `hangar try --json` ended.
#[derive(Debug)]
pub struct TryOutput {
    pub code: Option<i32>,
    pub printed: String,
    pub said: String,
}

/// One whole job on a repository, as a person does it.
pub fn try_job(data: &Path, repository: &Path, prompt: &str) -> TryOutput {
    let output = hangar()
        .args(["try", "--json", "--prompt", prompt, "--data"])
        .arg(data)
        .arg("--repository")
        .arg(repository)
        .output()
        .expect("the program starts");
    TryOutput {
        code: output.status.code(),
        printed: String::from_utf8_lossy(&output.stdout).into_owned(),
        said: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The most memory a process has had so far, in bytes.
pub fn memory_peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

impl Server {
    /// A server on a new data directory.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// The same with changes to its command: environment, arguments.
    pub fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        Self::start_in(tempfile::tempdir().expect("a directory"), change)
    }

    /// A server on the directory `data` in this one, which may hold something already.
    pub fn start_in(directory: TempDir, change: impl FnOnce(&mut Command)) -> Self {
        let mut server = Self {
            directory,
            child: None,
            address: String::new(),
            link: String::new(),
            programs: None,
        };
        server.start_again_with(change);
        server
    }

    /// A server of which some program beside it is another: those of a directory.
    pub fn start_of(programs: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let programs = Some(programs.to_owned());
        let mut server =
            Self { directory, child: None, address: String::new(), link: String::new(), programs };
        server.start_again();
        server
    }

    /// A new process on the same data directory.
    pub fn start_again(&mut self) {
        self.start_again_with(|_| {});
    }

    fn start_again_with(&mut self, change: impl FnOnce(&mut Command)) {
        let mut command = self.programs.as_deref().map_or_else(hangar, hangar_of);
        command
            .args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.data())
            .stdout(Stdio::piped())
            .stderr(
                std::fs::File::options().create(true).append(true).open(self.log()).expect("a log"),
            );
        change(&mut command);
        let mut child = command.spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("readable");
        let greeting: serde_json::Value = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("{error} in {line:?}; it said: {}", self.said()));
        greeting["link"].as_str().expect("a link").clone_into(&mut self.link);
        greeting["address"].as_str().expect("an address").clone_into(&mut self.address);
        self.child = Some(child);
    }

    /// Where it keeps everything.
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("server.log")
    }

    /// What it printed to standard error so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Kills it without a chance to put anything in order.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// Ends it as Ctrl-C does, and waits until it has put everything in order.
    pub fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("told");
            let status = child.wait().expect("reaped");
            assert!(status.success(), "{status}; it said: {}", self.said());
        }
    }

    /// A client of it, signed in with its token file.
    pub fn client(&self) -> Client {
        let token = std::fs::read_to_string(self.data().join("token")).expect("a token");
        Client::new(&self.address, token.trim().to_owned().into()).expect("a client")
    }

    /// A repository of Ada's with one commit, registered, its image built.
    pub async fn repository(&self, name: &str) -> RepositoryName {
        let path = self.directory.path().join(name);
        std::fs::create_dir(&path).expect("made");
        git(&path, &["init", "--quiet", "--initial-branch=main"]);
        std::fs::write(path.join("README.md"), "# Small\n\nA small thing.\n").expect("written");
        git(&path, &["add", "--all"]);
        git(&path, &["commit", "--quiet", "--message=First"]);
        self.register(&path).await
    }

    /// A repository that exists, registered, its image built.
    pub async fn register(&self, path: &Path) -> RepositoryName {
        let request = RegisterRepository { path: path.to_string_lossy().into_owned(), name: None };
        let client = self.client();
        let registered = client.register(&request).await.expect("registered");
        let image = client.build_image(&registered.repository.name).await.expect("built");
        let ready = matches!(image.state, protocol::repository::ImageState::Ready);
        assert!(ready, "{image:?}");
        registered.repository.name
    }

    /// A session with its first prompt.
    pub async fn session(&self, repository: &RepositoryName, prompt: &str) -> SessionView {
        let request = CreateSession {
            request: RequestId::new(),
            repository: repository.clone(),
            prompt: Some(prompt.to_owned()),
            agent: None,
            model: None,
            branch: None,
            limits: LimitRequest::default(),
            isolation: None,
        };
        self.client().create(&request).await.expect("created")
    }

    /// A follow-up.
    pub async fn send(&self, session: SessionId, text: &str) -> PromptAccepted {
        self.try_to_send_all(session, text).await.expect("accepted")
    }

    /// A follow-up that may be refused.
    pub async fn try_to_send(&self, session: SessionId, text: &str) -> anyhow::Result<PromptId> {
        self.try_to_send_all(session, text).await.map(|accepted| accepted.prompt)
    }

    async fn try_to_send_all(
        &self,
        session: SessionId,
        text: &str,
    ) -> anyhow::Result<PromptAccepted> {
        let request = SendPrompt {
            request: RequestId::new(),
            text: text.to_owned(),
            delivery: Delivery::Queue,
        };
        self.client().send(session, &request).await
    }

    /// Reads the stream from after a number until an event fits; gives every event, that one last.
    pub async fn until(
        &self,
        session: SessionId,
        after: u64,
        fits: impl Fn(&Event) -> bool,
    ) -> Vec<Envelope> {
        let mut seen = Vec::new();
        let reading = async {
            let mut stream = self.client().stream(session, after).await.expect("a stream");
            loop {
                if let News::Event(envelope) = stream.next().await.expect("readable") {
                    let found = fits(&envelope.event);
                    seen.push(*envelope);
                    if found {
                        return;
                    }
                }
            }
        };
        let came = tokio::time::timeout(PATIENCE, reading).await.is_ok();
        assert!(came, "the event did not come: {seen:#?}\nthe server said: {}", self.said());
        seen
    }

    /// The first processes of its sandboxes that run, by their numbers on this machine.
    pub fn first_processes(&self) -> Vec<u32> {
        let sandboxes = std::fs::read_dir(self.data().join("sandboxes")).into_iter().flatten();
        let running = sandboxes.flatten().filter_map(|sandbox| {
            let state = std::fs::read_to_string(sandbox.path().join("state.json")).ok()?;
            let state: serde_json::Value = serde_json::from_str(&state).ok()?;
            let pid = u32::try_from(state["pid"].as_u64()?).ok()?;
            Path::new("/proc").join(pid.to_string()).exists().then_some(pid)
        });
        running.collect()
    }

    /// The limit group in which those of this data directory's sandboxes lie.
    fn group(&self) -> String {
        let data = self.data().canonicalize().expect("a data directory");
        let hash = data.to_string_lossy().bytes().fold(0x811c_9dc5, |hash: u32, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        format!("hangar-{hash:08x}")
    }

    /// What the server's machine still holds of its sandboxes: processes, limit groups, mounts.
    pub fn leftovers(&self) -> Vec<String> {
        let sandboxes = self.data().join("sandboxes");
        let marks: Vec<String> = std::fs::read_dir(&sandboxes)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        let data = self.data().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
            let path = entry.path();
            let Ok(groups) = std::fs::read_to_string(path.join("cgroup")) else { continue };
            let mounts = std::fs::read_to_string(path.join("mountinfo")).unwrap_or_default();
            let ours = marks
                .iter()
                .any(|mark| groups.contains(mark.as_str()) || mounts.contains(mark.as_str()));
            if ours || mounts.contains(&data) {
                let command = std::fs::read(path.join("cmdline")).unwrap_or_default();
                found.push(format!("{}: {}", path.display(), String::from_utf8_lossy(&command)));
            }
        }
        for mark in marks.iter().chain([&self.group()]) {
            found.extend(groups_named(Path::new("/sys/fs/cgroup"), mark, 6));
        }
        found
    }
}

/// What runs in the sandboxes of a data directory: process numbers out here, and command lines.
pub fn processes_in_sandboxes(data: &Path) -> Vec<(i32, String)> {
    let sandboxes = std::fs::read_dir(data.join("sandboxes")).into_iter().flatten().flatten();
    let first = sandboxes.filter_map(|sandbox| {
        let state = std::fs::read_to_string(sandbox.path().join("state.json")).ok()?;
        let state: serde_json::Value = serde_json::from_str(&state).ok()?;
        i32::try_from(state["pid"].as_i64()?).ok()
    });
    let all: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut found: Vec<i32> = first.collect();
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| child));
        next += 1;
    }
    let command = |pid| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        (pid, String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned())
    };
    // One that has ended and was not collected yet has no command line any more.
    found.into_iter().map(command).filter(|(_, command)| !command.is_empty()).collect()
}

fn parent(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

fn groups_named(directory: &Path, mark: &str, depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    if depth == 0 {
        return found;
    }
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(mark) {
            found.push(entry.path().display().to_string());
        }
        found.extend(groups_named(&entry.path(), mark, depth - 1));
    }
    found
}

impl Drop for Server {
    /// Leaves nothing running, whatever the test did: the sandboxes' first processes are ended.
    fn drop(&mut self) {
        self.kill();
        let sandboxes = std::fs::read_dir(self.data().join("sandboxes")).into_iter().flatten();
        for sandbox in sandboxes.flatten() {
            let state = std::fs::read_to_string(sandbox.path().join("state.json"));
            let Ok(state) = state else { continue };
            let state: serde_json::Value = serde_json::from_str(&state).unwrap_or_default();
            let pid = state["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { continue };
            // Only if the process is still the one that was recorded.
            let mark = sandbox.file_name().to_string_lossy().into_owned();
            let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero()));
            if cgroup.is_ok_and(|groups| groups.contains(&mark)) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            remove_groups(&sandbox.path());
        }
    }
}

/// Removes the limit groups a sandbox was started in, once the kernel has counted the dead out.
fn remove_groups(sandbox: &Path) {
    let recorded = std::fs::read(sandbox.join("groups.json")).unwrap_or_default();
    let groups: Vec<PathBuf> = serde_json::from_slice(&recorded).unwrap_or_default();
    let until = std::time::Instant::now() + Duration::from_secs(5);
    for group in groups {
        while group.exists() && std::fs::remove_dir(&group).is_err() {
            if std::time::Instant::now() > until {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _in_use = group.parent().map(std::fs::remove_dir);
    }
}
