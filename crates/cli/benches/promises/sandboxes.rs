//! `floor`, `tti_1cmd`, `tti_2cmd`, `rebuild_unchanged`: sandboxes and images.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use protocol::agentd::ExecRequest;
use protocol::sandbox::{Isolation, Limits, StartPath};
use protocol::{ImageId, SandboxId};
use sandbox::agentd::Client;
use sandbox::{Backend as _, Base, Spec};

use crate::samples::{Samples, WARM_UPS, milliseconds};
use crate::world::World;

/// The least that a sandbox of this kind costs here.
pub(crate) async fn floor(directory: &Path, samples: &mut Samples) -> anyhow::Result<()> {
    let launcher = cli::programs::require("hangar-launch")?;
    let runs = u32::try_from(samples.wanted() + WARM_UPS)?;
    let times = sandbox::container::floor(&launcher, &directory.join("floor"), runs).await?;
    ensure!(times.len() == runs as usize, "the launcher measured {} starts", times.len());
    times[WARM_UPS..].iter().for_each(|time| samples.add("floor", milliseconds(*time)));
    Ok(())
}

/// Start from an image to the first and the second command done.
pub(crate) async fn start_to_commands(world: &World, samples: &mut Samples) -> anyhow::Result<()> {
    let image = world.hangar.build_image(&world.user, &world.repository).await?.id;
    let layer = world.data.join("images").join(image.to_string()).join("layer");
    ensure!(layer.is_dir(), "the image has no layer at {}", layer.display());
    for run in 0..WARM_UPS + samples.wanted() {
        let spec = spec(world, image, layer.clone());
        let client = Client::new(Arc::new(world.container.clone()), spec.id);
        let begun = Instant::now();
        world.container.create(&spec).await?;
        run_true(&client).await?;
        let first = begun.elapsed();
        run_true(&client).await?;
        let second = begun.elapsed();
        world.container.discard(spec.id).await?;
        if run >= WARM_UPS {
            samples.add("tti_1cmd", milliseconds(first));
            samples.add("tti_2cmd", milliseconds(second));
        }
    }
    Ok(())
}

/// An image build that finds nothing new.
pub(crate) async fn rebuild_unchanged(world: &World, samples: &mut Samples) -> anyhow::Result<()> {
    let before = world.hangar.build_image(&world.user, &world.repository).await?;
    for run in 0..WARM_UPS + samples.wanted() {
        let begun = Instant::now();
        let image = world.hangar.build_image(&world.user, &world.repository).await?;
        let took = begun.elapsed();
        ensure!(image.id == before.id, "another image was built");
        if run >= WARM_UPS {
            samples.add("rebuild_unchanged", milliseconds(took));
        }
    }
    Ok(())
}

/// As a session's sandbox is started.
fn spec(world: &World, image: ImageId, layer: PathBuf) -> Spec {
    Spec {
        id: SandboxId::new(),
        image,
        layers: vec![layer],
        base: Base::Host,
        isolation: Isolation::Namespaces,
        environment: Vec::new(),
        limits: Limits::default(),
        upper_from: None,
        mirror: None,
        toolkit: world.toolkit.clone(),
        path: StartPath::Image,
    }
}

async fn run_true(client: &Client) -> anyhow::Result<()> {
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
