//! `idle_300_…`: what sandboxes cost that are up and do nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use protocol::sandbox::Isolation;
use sandbox::agentd::Client;
use sandbox::{Backend as _, ObservedState, Spec};

use crate::samples::Samples;
use crate::starts::{Start, run_true};
use crate::world::World;

/// Sandboxes alive at once.
const ALIVE: u32 = 300;
/// Starts at a time.
const AT_ONCE: usize = 10;
/// After so long what has nothing to do is idle.
const SETTLING: Duration = Duration::from_secs(3);

/// Starts them all, lets them idle, counts, and has each run one more command.
pub(crate) async fn measure(world: &World, samples: &mut Samples) -> anyhow::Result<()> {
    let level = Isolation::Namespaces;
    let start = Start::find(world, level).await?.context("the weakest level must work")?;
    let specs: Vec<Spec> = (0..ALIVE).map(|_| start.spec()).collect();
    let before = meminfo()?;
    let counted = async {
        let starts = specs.iter().map(|spec| async {
            world.container.create(spec).await?;
            run_true(&client(world, spec)).await
        });
        stream::iter(starts).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        tokio::time::sleep(SETTLING).await;
        count(world, &specs, &before, samples)?;
        let observed = world.container.observe().await?;
        let running = observed.iter().filter(|one| {
            one.state == ObservedState::Running && specs.iter().any(|spec| spec.id == one.id)
        });
        ensure!(running.count() == specs.len(), "not all of {ALIVE} sandboxes live");
        for spec in &specs {
            run_true(&client(world, spec)).await?;
        }
        anyhow::Ok(())
    };
    let counted = counted.await;
    try_join_all(specs.iter().map(|spec| world.container.discard(spec.id))).await?;
    counted
}

fn client(world: &World, spec: &Spec) -> Client {
    Client::new(Arc::new(world.container.clone()), spec.id)
}

fn count(
    world: &World,
    specs: &[Spec],
    before: &HashMap<String, f64>,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let after = meminfo()?;
    let children = children()?;
    for spec in specs {
        samples.add("idle_300_pss_kib", proportional(first_process(world, spec)?, &children)?);
    }
    let grown = |name: &str| {
        let of = |when: &HashMap<String, f64>| when.get(name).copied().context("meminfo");
        anyhow::Ok((of(&after)? - of(before)?) / f64::from(ALIVE))
    };
    samples.add("idle_300_machine_kib", -grown("MemAvailable")?);
    let kernel = ["Slab", "KernelStack", "PageTables", "Percpu"].map(grown);
    let kernel: f64 = kernel.into_iter().collect::<anyhow::Result<Vec<_>>>()?.iter().sum();
    samples.add("idle_300_kernel_kib", kernel);
    Ok(())
}

fn first_process(world: &World, spec: &Spec) -> anyhow::Result<u32> {
    let path = world.data.join("sandboxes").join(spec.id.to_string()).join("state.json");
    let state: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let pid = state["pid"].as_u64().context("a sandbox without a PID 1")?;
    Ok(u32::try_from(pid)?)
}

/// What a process and its descendants use of memory, shared pages by their share, in KiB.
fn proportional(first: u32, children: &HashMap<u32, Vec<u32>>) -> anyhow::Result<f64> {
    let mut open = vec![first];
    let mut sum = 0.0;
    while let Some(pid) = open.pop() {
        open.extend(children.get(&pid).into_iter().flatten());
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        sum += figure(&text, "Pss:").context("no Pss")?;
    }
    Ok(sum)
}

fn children() -> anyhow::Result<HashMap<u32, Vec<u32>>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended since it was listed.
        let Ok(text) = std::fs::read_to_string(entry.path().join("status")) else { continue };
        let parent = text.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(pid);
    }
    Ok(children)
}

fn meminfo() -> anyhow::Result<HashMap<String, f64>> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let lines = text.lines().filter_map(|line| {
        let (name, _) = line.split_once(':')?;
        Some((name.to_owned(), figure(line, &format!("{name}:"))?))
    });
    Ok(lines.collect())
}

/// A figure in KiB, as the kernel writes them.
fn figure(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().trim_end_matches(" kB").trim().parse().ok()
}
