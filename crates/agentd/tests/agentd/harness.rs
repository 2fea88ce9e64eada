//! A running agentd with its own directories, and a client for it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use protocol::agentd::{ExecExit, Report, ReportLine, frame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a busy machine before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub(crate) const AGENTD: &str = env!("CARGO_BIN_EXE_hangar-agentd");

/// agentd outside a sandbox.
pub(crate) struct Agentd {
    process: Child,
    pub(crate) directory: TempDir,
}

impl Drop for Agentd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An answer's status and body, whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json<T: DeserializeOwned>(&self) -> T {
        let text = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, 200, "{text}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The failure's text.
    pub(crate) fn failure(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        assert!(self.status >= 400, "{} {text}", self.status);
        let value: Value = serde_json::from_slice(&self.body).expect("a failure");
        value["error"].as_str().expect("its text").to_owned()
    }
}

impl Agentd {
    /// Starts one whose agent is the scripted one and whose gateway is a directory of repositories.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        for name in ["workspace", "home", "toolkit/bin", "remotes"] {
            std::fs::create_dir_all(at(name)).expect("made");
        }
        std::os::unix::fs::symlink(scripted_agent(), at("toolkit/bin/hangar-agent"))
            .expect("linked");
        let process = Command::new(AGENTD)
            .args(["--unconfined-for-tests", "--listen"])
            .arg(at("agentd.sock"))
            .arg("--workspace")
            .arg(at("workspace"))
            .arg("--home")
            .arg(at("home"))
            .arg("--toolkit")
            .arg(at("toolkit"))
            .arg("--mirror")
            .arg(at("mirror"))
            .arg("--gateway")
            .arg(format!("file://{}", at("remotes").display()))
            .stdin(Stdio::null())
            .spawn()
            .expect("agentd starts");
        let agentd = Self { process, directory };
        agentd.connect();
        agentd
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    fn connect(&self) -> UnixStream {
        connect(&self.path("agentd.sock"))
    }

    pub(crate) fn request(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        request(self.connect(), method, target, body)
    }

    pub(crate) fn get(&self, target: &str) -> Answer {
        self.request("GET", target, b"")
    }

    pub(crate) fn post(&self, target: &str, body: &impl Serialize) -> Answer {
        self.request("POST", target, &serde_json::to_vec(body).expect("JSON"))
    }

    /// A request whose answer is read by the caller as it comes.
    pub(crate) fn stream(&self, method: &str, target: &str, body: &[u8]) -> Streamed {
        Streamed::open(self.connect(), method, target, body)
    }

    pub(crate) fn exec(&self, body: &Value) -> (Vec<u8>, Vec<u8>, ExecExit) {
        frames(&self.post("/v1/exec", body).body)
    }

    pub(crate) fn shell(&self, script: &str) -> (String, ExecExit) {
        let (out, _, exit) = self.exec(&serde_json::json!({"argv": ["sh", "-c", script]}));
        (String::from_utf8(out).expect("text"), exit)
    }

    /// The reports after a number, until one fits.
    pub(crate) fn reports_until(
        &self,
        after: u64,
        fits: impl Fn(&Report) -> bool,
    ) -> Vec<(u64, Report)> {
        let mut stream = self.stream("GET", &format!("/v1/reports?after={after}"), b"");
        assert_eq!(stream.status, 200);
        let mut reports = Vec::new();
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE, "nothing fits in {reports:?}");
            if let ReportLine::Report { number, report } = stream.line() {
                let done = fits(&report);
                reports.push((number, report));
                if done {
                    return reports;
                }
            }
        }
    }
}

pub(crate) fn connect(path: &Path) -> UnixStream {
    let start = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).expect("set");
                return stream;
            }
            Err(error) => assert!(start.elapsed() < PATIENCE, "{}: {error}", path.display()),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn scripted_agent() -> PathBuf {
    let test = std::env::current_exe().expect("this test");
    let built = test.ancestors().nth(2).expect("the profile's directory");
    let agent = built.join("examples/scripted_agent");
    assert!(agent.exists(), "{} is built by `cargo test -p agentd`", agent.display());
    agent
}

/// Standard output, standard error and exit of an exec's frames.
pub(crate) fn frames(mut bytes: &[u8]) -> (Vec<u8>, Vec<u8>, ExecExit) {
    let (mut out, mut err, mut exit) = (Vec::new(), Vec::new(), None);
    while !bytes.is_empty() {
        let length = u32::from_be_bytes(bytes[1..5].try_into().expect("four")) as usize;
        let payload = &bytes[5..5 + length];
        assert!(exit.is_none(), "the exit is the last frame");
        match bytes[0] {
            frame::STDOUT => out.extend_from_slice(payload),
            frame::STDERR => err.extend_from_slice(payload),
            frame::EXIT => exit = Some(serde_json::from_slice(payload).expect("an exit")),
            other => panic!("a frame of kind {other}"),
        }
        bytes = &bytes[5 + length..];
    }
    (out, err, exit.expect("an exit"))
}

pub(crate) fn request(stream: UnixStream, method: &str, target: &str, body: &[u8]) -> Answer {
    let mut streamed = Streamed::open(stream, method, target, body);
    let mut body = Vec::new();
    while let Some(mut chunk) = streamed.chunk() {
        body.append(&mut chunk);
    }
    Answer { status: streamed.status, body }
}

/// An answer that is being read: plain HTTP/1.1, so that nothing is buffered behind the test's back.
pub(crate) struct Streamed {
    pub(crate) status: u16,
    reader: BufReader<UnixStream>,
    /// Bytes left, or none for a chunked body.
    left: Option<usize>,
    pending: Vec<u8>,
}

impl Streamed {
    fn open(mut stream: UnixStream, method: &str, target: &str, body: &[u8]) -> Self {
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: agentd\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("sent");
        stream.write_all(body).expect("sent");
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status).expect("a status line");
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        let mut left = Some(0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a header");
            let line = line.trim().to_ascii_lowercase();
            if let Some(length) = line.strip_prefix("content-length: ") {
                left = Some(length.parse().expect("a length"));
            }
            if line == "transfer-encoding: chunked" {
                left = None;
            }
            if line.is_empty() {
                return Self { status, reader, left, pending: Vec::new() };
            }
        }
    }

    /// The next piece of the body; none at its end.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        if let Some(left) = self.left.take() {
            self.left = Some(0);
            let mut bytes = vec![0; left];
            self.reader.read_exact(&mut bytes).expect("the body");
            return (left > 0).then_some(bytes);
        }
        let mut size = String::new();
        self.reader.read_line(&mut size).expect("a chunk's size");
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        let mut bytes = vec![0; size + 2];
        self.reader.read_exact(&mut bytes).expect("a chunk");
        bytes.truncate(size);
        (size > 0).then_some(bytes)
    }

    /// The next line of reports.
    pub(crate) fn line(&mut self) -> ReportLine {
        loop {
            if let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=end).collect();
                return serde_json::from_slice(&line).expect("a line");
            }
            let mut chunk = self.chunk().expect("no end");
            self.pending.append(&mut chunk);
        }
    }
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs.
pub(crate) fn alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z'))
}

/// Memory a process has in use, in KiB.
pub(crate) fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("its memory");
    line.split_ascii_whitespace().nth(1).expect("a number").parse().expect("a number")
}
