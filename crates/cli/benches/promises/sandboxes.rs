//! `floor` and `rebuild_unchanged`: the least a sandbox can cost, and images.

use std::path::Path;
use std::time::Instant;

use anyhow::ensure;

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
