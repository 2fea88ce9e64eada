//! `tti_…` and `burst_100_…`: from the start of a sandbox to its first commands, at every level.
//!
//! *Cold* means: before each start the pages of everything of ours that the start reads (the image's
//! layer, the lowest layer, agentd, the launcher) are written back and dropped from the page cache
//! with `posix_fadvise(DONTNEED)`. The host's own `/usr`, which other processes map, stays warm, and
//! so do the names and inodes the kernel remembers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures_util::future::{join_all, try_join_all};
use protocol::agentd::ExecRequest;
use protocol::sandbox::{Isolation, Limits, StartPath};
use protocol::{ImageId, SandboxId};
use rustix::fs::Advice;
use sandbox::agentd::Client;
use sandbox::{Backend as _, Base, Spec};

use crate::samples::{Samples, WARM_UPS, at, milliseconds};
use crate::world::World;

/// Starts at once.
const BURST: usize = 100;
/// Bursts that are measured: each is a hundred starts.
const BURSTS: usize = 10;
/// The same at levels whose starts take a hundred times as long.
const SLOW_BURSTS: usize = 2;

/// An image to start from, at one level.
#[derive(Debug, Clone)]
pub(crate) struct Start {
    image: ImageId,
    layer: PathBuf,
    toolkit: PathBuf,
    pub(crate) level: Isolation,
}

impl Start {
    /// What sandboxes of this level start from; none where the level does not work here.
    pub(crate) async fn find(world: &World, level: Isolation) -> anyhow::Result<Option<Self>> {
        let image = world.hangar.build_image(&world.user, &world.repository).await?.id;
        let layer = world.data.join("images").join(image.to_string()).join("layer");
        ensure!(layer.is_dir(), "the image has no layer at {}", layer.display());
        let start = Self { image, layer, toolkit: world.toolkit.clone(), level };
        let spec = start.spec();
        let created = world.container.create(&spec).await;
        world.container.discard(spec.id).await?;
        Ok(match created {
            Ok(description) if description.isolation == level => Some(start),
            Ok(description) => {
                ensure!(description.isolation < level, "asked for {level}: {description:?}");
                None
            }
            Err(sandbox::Error::Unsupported { .. }) => None,
            Err(error) => return Err(error).with_context(|| format!("starting at {level}")),
        })
    }

    /// As a session's sandbox is started.
    pub(crate) fn spec(&self) -> Spec {
        Spec {
            id: SandboxId::new(),
            image: self.image,
            layers: vec![self.layer.clone()],
            base: Base::Host,
            isolation: self.level,
            environment: Vec::new(),
            limits: Limits::default(),
            upper_from: None,
            mirror: None,
            toolkit: self.toolkit.clone(),
            path: StartPath::Image,
        }
    }
}

/// Start from an image to the first and the second command done: one at a time and a hundred at
/// once, with warm caches and cold.
pub(crate) async fn measure(world: &World, samples: &mut Samples) -> anyhow::Result<()> {
    for level in Isolation::LEVELS {
        let Some(start) = Start::find(world, level).await? else { continue };
        for cold in [false, true] {
            one_at_a_time(world, &start, cold, samples).await?;
            bursts(world, &start, cold, samples).await?;
        }
    }
    samples.add_ratio("tti_over_floor", "tti_1cmd", "floor")
}

async fn one_at_a_time(
    world: &World,
    start: &Start,
    cold: bool,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let (one, two) =
        if cold { ("tti_1cmd_cold", "tti_2cmd_cold") } else { ("tti_1cmd", "tti_2cmd") };
    for run in 0..WARM_UPS + samples.wanted() {
        if cold {
            forget(world, start)?;
        }
        let spec = start.spec();
        let client = Client::new(Arc::new(world.container.clone()), spec.id);
        let begun = Instant::now();
        world.container.create(&spec).await?;
        run_true(&client).await?;
        let first = begun.elapsed();
        run_true(&client).await?;
        let second = begun.elapsed();
        world.container.discard(spec.id).await?;
        if run >= WARM_UPS {
            samples.add(at(one, start.level)?, milliseconds(first));
            samples.add(at(two, start.level)?, milliseconds(second));
        }
    }
    Ok(())
}

async fn bursts(
    world: &World,
    start: &Start,
    cold: bool,
    samples: &mut Samples,
) -> anyhow::Result<()> {
    let wall = at(if cold { "burst_100_cold_wall" } else { "burst_100_wall" }, start.level)?;
    let each = at(if cold { "burst_100_cold_1cmd" } else { "burst_100_1cmd" }, start.level)?;
    let measured = if start.level == Isolation::Namespaces { BURSTS } else { SLOW_BURSTS };
    // The first one is a warm-up.
    for run in 0..=measured {
        if cold {
            forget(world, start)?;
        }
        let specs: Vec<Spec> = (0..BURST).map(|_| start.spec()).collect();
        let begun = Instant::now();
        let started = specs.iter().map(|spec| {
            let (container, spec) = (world.container.clone(), spec.clone());
            let client = Client::new(Arc::new(world.container.clone()), spec.id);
            tokio::spawn(async move {
                container.create(&spec).await?;
                run_true(&client).await?;
                anyhow::Ok(begun.elapsed())
            })
        });
        let started = join_all(started).await;
        let took = begun.elapsed();
        try_join_all(specs.iter().map(|spec| world.container.discard(spec.id))).await?;
        // None may fail: neither its start nor its command.
        let times = started.into_iter().map(|one| one.context("a start panicked")?);
        let times: Vec<Duration> = times.collect::<anyhow::Result<_>>()?;
        if run > 0 {
            samples.add(wall, milliseconds(took));
            for time in times {
                samples.add(each, milliseconds(time));
            }
        }
    }
    Ok(())
}

/// Runs `true`, which must work.
pub(crate) async fn run_true(client: &Client) -> anyhow::Result<()> {
    let request = ExecRequest {
        argv: vec!["true".to_owned()],
        directory: None,
        environment: [].into(),
        stdin: String::new(),
        timeout_milliseconds: None,
    };
    let output = client.exec(&request, 1024).await.context("running `true`")?;
    ensure!(output.exit.code == Some(0), "`true` failed: {:?}", output.exit);
    Ok(())
}

/// Drops what a start reads from the page cache.
fn forget(world: &World, start: &Start) -> anyhow::Result<()> {
    let launcher = cli::programs::require("hangar-launch")?;
    for path in [&start.layer, &start.toolkit, &world.data.join("base"), &launcher] {
        forget_below(path)?;
    }
    Ok(())
}

fn forget_below(path: &Path) -> anyhow::Result<()> {
    let found = path.symlink_metadata().with_context(|| format!("reading {}", path.display()))?;
    if found.is_dir() {
        for entry in path.read_dir()? {
            forget_below(&entry?.path())?;
        }
    } else if found.is_file() {
        let file = std::fs::File::open(path)?;
        // Pages that are not written yet cannot be dropped.
        file.sync_data()?;
        rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}
