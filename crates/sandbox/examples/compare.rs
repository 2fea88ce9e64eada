//! Measures starts with each runtime named, one after the other, next to the machine's floor.
//!
//! `compare LAUNCHER DIRECTORY RUNS [LEVEL=]PROGRAM…`, where DIRECTORY is empty but for `toolkit/bin`
//! with `hangar-agentd` in it. Prints milliseconds: until agentd's socket accepts, until the first
//! command is done, and of the removal.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::agentd::ExecRequest;
use protocol::sandbox::{Isolation, Limits, StartPath};
use protocol::{ImageId, SandboxId};
use sandbox::agentd::Client;
use sandbox::container::{Config, Container, floor};
use sandbox::{Backend as _, Base, Spec};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next =
        || arguments.next().ok_or("usage: compare LAUNCHER DIRECTORY RUNS [LEVEL=]PROGRAM…");
    let (launcher, directory): (PathBuf, PathBuf) = (next()?.into(), next()?.into());
    let runs: u32 = next()?.parse()?;
    println!("load: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    show("floor", &mut floor(&launcher, &directory.join("floor"), runs).await?);
    for argument in arguments {
        let (level, program) = match argument.split_once('=') {
            Some((level, program)) => (level.parse()?, program),
            None => (Isolation::Namespaces, argument.as_str()),
        };
        measure(&launcher, &directory, runs, level, program).await?;
    }
    println!("load: {}", std::fs::read_to_string("/proc/loadavg")?.trim());
    Ok(())
}

async fn measure(
    launcher: &Path,
    directory: &Path,
    runs: u32,
    level: Isolation,
    program: &str,
) -> Outcome<()> {
    let mut config = Config::new(directory.join("data"), launcher);
    config.runtimes.insert(level, program.to_owned());
    let backend = Container::open(config)?;
    let (mut accepts, mut answered, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..runs {
        let spec = spec(level, directory);
        let begun = Instant::now();
        backend.create(&spec).await?;
        accepts.push(begun.elapsed());
        command(&backend, spec.id).await?;
        answered.push(begun.elapsed());
        let begun = Instant::now();
        backend.discard(spec.id).await?;
        removed.push(begun.elapsed());
    }
    println!("{level}, {program}");
    show("  accepts", &mut accepts);
    show("  first command", &mut answered);
    show("  removed", &mut removed);
    Ok(())
}

async fn command(backend: &Container, id: SandboxId) -> Outcome<()> {
    let request = ExecRequest {
        argv: vec!["/usr/bin/true".into()],
        directory: Some("/".into()),
        environment: [].into(),
        stdin: String::new(),
        timeout_milliseconds: None,
    };
    let client = Client::new(Arc::new(backend.clone()), id);
    let output = client.exec(&request, 1024).await?;
    if output.exit.code == Some(0) { Ok(()) } else { Err(format!("{output:?}").into()) }
}

fn spec(isolation: Isolation, directory: &Path) -> Spec {
    Spec {
        id: SandboxId::new(),
        image: ImageId::new(),
        layers: Vec::new(),
        base: Base::Host,
        isolation,
        environment: Vec::new(),
        limits: Limits::default(),
        upper_from: None,
        mirror: None,
        toolkit: directory.join("toolkit"),
        path: StartPath::Image,
    }
}

fn show(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1000.0;
    let (median, high, last) = (at(50), at(95), at(100));
    println!("{what:<16} p50 {median:7.1}  p95 {high:7.1}  max {last:7.1}  (n={})", times.len());
}
