//! `server_start` and `server_idle_mib`: `hangar serve` as a process of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::samples::{Samples, WARM_UPS, milliseconds};

/// After so long a server that has nothing to do is idle.
const SETTLING: Duration = Duration::from_secs(1);
/// Servers that are left to become idle.
const IDLE_SAMPLES: usize = 10;

/// Starts servers one after the other on one data directory, each until its first answer; the first
/// start of all, which gathers the programs for sandboxes, is a warm-up.
pub(crate) fn start_and_idle(directory: &Path, samples: &mut Samples) -> anyhow::Result<()> {
    let data = directory.join("server");
    for run in 0..WARM_UPS + samples.wanted() {
        let begun = Instant::now();
        let mut server = Server::start(&data)?;
        server.answers()?;
        let took = begun.elapsed();
        if run >= WARM_UPS {
            samples.add("server_start", milliseconds(took));
        }
        if (WARM_UPS..WARM_UPS + IDLE_SAMPLES).contains(&run) {
            std::thread::sleep(SETTLING);
            samples.add("server_idle_mib", server.resident_mib()?);
        }
        server.end()?;
    }
    Ok(())
}

/// Killed when dropped, so that a failed measurement leaves nothing running.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(data: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hangar"));
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = command.spawn().context("starting hangar serve")?;
        let mut server = Self { child, address: String::new() };
        let mut line = String::new();
        let output = server.child.stdout.take().context("no output")?;
        BufReader::new(output).read_line(&mut line).context("reading the greeting")?;
        let greeting: serde_json::Value = serde_json::from_str(&line).context("the greeting")?;
        let address = greeting["address"].as_str().context("no address")?;
        address.trim_start_matches("http://").clone_into(&mut server.address);
        Ok(server)
    }

    fn answers(&self) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(&self.address).context("connecting")?;
        let host = &self.address;
        write!(stream, "GET /healthz HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("reading the answer")?;
        ensure!(answer.starts_with("HTTP/1.1 200 "), "the server answered {answer:?}");
        Ok(())
    }

    fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmRSS")?;
        Ok(kib.trim().parse::<f64>()? / 1024.0)
    }

    fn end(&mut self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::INT).context("ending the server")?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, unless something failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
