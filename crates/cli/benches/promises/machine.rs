//! Looks at the machine that measures.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;

use crate::report::{Load, Machine};

/// The load averages now.
pub(crate) fn load() -> anyhow::Result<[f64; 3]> {
    let text = fs::read_to_string("/proc/loadavg").context("reading the load")?;
    let averages: Vec<f64> =
        text.split(' ').take(3).map(str::parse).collect::<Result<_, _>>().context("load")?;
    averages.try_into().map_err(|_| anyhow::anyhow!("the kernel tells no load: {text:?}"))
}

/// The machine, with the load from before and now.
pub(crate) fn look(data: &Path, before: [f64; 3]) -> anyhow::Result<Machine> {
    let system = rustix::system::uname();
    let text = |part: &std::ffi::CStr| part.to_string_lossy().into_owned();
    let versions = BTreeMap::from([
        ("hangar", env!("CARGO_PKG_VERSION").to_owned()),
        ("rustc", said("rustc")?),
        ("git", said("git")?),
    ]);
    Ok(Machine {
        kernel: format!("{} {}", text(system.sysname()), text(system.release())),
        file_system: file_system(data)?,
        cores: std::thread::available_parallelism().context("counting processors")?.get(),
        processor: processor()?,
        load: Load { before, after: load()? },
        versions,
    })
}

/// The type of the mount that holds a path.
fn file_system(path: &Path) -> anyhow::Result<String> {
    let path = path.canonicalize().with_context(|| format!("finding {}", path.display()))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    let holding = mounts.lines().filter_map(|line| {
        let (place, kind) = line.split_once(" - ")?;
        let place = Path::new(place.split(' ').nth(4)?);
        path.starts_with(place).then(|| (place.components().count(), kind.split(' ').next()))
    });
    // Of two mounts on one place the later one is seen.
    let deepest = holding.max_by_key(|(depth, _)| *depth);
    Ok(deepest.and_then(|(_, kind)| kind).context("no mount holds the data")?.to_owned())
}

fn processor() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/cpuinfo").context("reading the processor's name")?;
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(name.map_or(std::env::consts::ARCH, |(_, name)| name).to_owned())
}

fn said(program: &str) -> anyhow::Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("asking {program} for its version"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
