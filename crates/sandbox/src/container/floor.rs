//! The benchmark `floor`: the least that any sandbox of this kind can cost on this machine.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::files::{failed, make_directory, remove_tree};
use super::owner::Owner;
use crate::Error;

/// Starts `runs` minimal sandboxes: user, mount, process, network, IPC and host name namespaces,
/// an overlay, and a static program. Each time runs from before `clone3` until that program runs.
/// `directory` is made for it and removed.
pub async fn floor(launcher: &Path, directory: &Path, runs: u32) -> Result<Vec<Duration>, Error> {
    let owner = Owner::of_this_process();
    prepare(launcher, directory, runs, owner)?;
    let map = |id: u32| format!("0 {id} {}\n", owner.count);
    let output = tokio::process::Command::new(launcher)
        .args([Path::new("floor"), directory])
        .args([runs.to_string(), map(owner.uid), map(owner.gid)])
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .output()
        .await;
    remove_tree(directory)?;
    let output = output.map_err(failed("run", launcher))?;
    let times: Vec<u64> = serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        failed("measure with", launcher)(std::io::Error::other(said))
    })?;
    Ok(times.into_iter().map(Duration::from_nanos).collect())
}

fn prepare(launcher: &Path, directory: &Path, runs: u32, owner: Owner) -> Result<(), Error> {
    remove_tree(directory)?;
    let give = |path: &Path| owner.give(path).map_err(failed("give away", path));
    let lower = directory.join("lower");
    make_directory(&lower, 0o755)?;
    give(&lower)?;
    let program = lower.join("program");
    std::fs::copy(launcher, &program).map_err(failed("copy", launcher))?;
    give(&program)?;
    for number in 0..runs {
        for name in ["upper", "work"] {
            let path = directory.join(number.to_string()).join(name);
            make_directory(&path, 0o755)?;
            give(&path)?;
        }
    }
    Ok(())
}
