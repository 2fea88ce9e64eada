//! `make bench`: measures the promised numbers with the programs people run, and writes them down.
//!
//! `cargo bench -p cli --bench promises -- tti fanout` measures only what these words begin;
//! `HANGAR_BENCH_SAMPLES` sets how many samples of each are taken, `HANGAR_BENCH_DATA` where the
//! data directory is made, `RUNSC` gVisor's program where it is not in PATH.

mod idle;
mod machine;
mod model;
mod promise;
mod prompts;
mod report;
mod samples;
mod sandboxes;
mod server;
mod starts;
mod streams;
mod world;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use report::Report;
use samples::Samples;
use streams::Served;
use world::World;

/// Samples of each metric when nothing else is asked for.
const SAMPLES: usize = 50;

fn main() -> anyhow::Result<()> {
    // Cargo adds options of its own.
    let only: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let results = results_directory();
    std::fs::create_dir_all(&results).with_context(|| format!("making {}", results.display()))?;
    let place = std::env::var_os("HANGAR_BENCH_DATA").map_or_else(|| results.clone(), Into::into);
    let directory = tempfile::Builder::new().prefix("data-").tempdir_in(place)?;
    let wanted = match std::env::var("HANGAR_BENCH_SAMPLES") {
        Ok(text) => text.parse().context("HANGAR_BENCH_SAMPLES is no number")?,
        Err(_) => SAMPLES,
    };
    let before = machine::load()?;
    let mut samples = Samples::new(wanted);
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(directory.path(), &only, &mut samples))?;
    let machine = machine::look(directory.path(), before)?;
    let report = Report { machine, metrics: samples.metrics()? };
    let path = results.join("report.json");
    let document = serde_json::to_vec_pretty(&report)?;
    std::fs::write(&path, document).with_context(|| format!("writing {}", path.display()))?;
    write!(std::io::stdout(), "{}\n{}\n", report::table(&report), path.display())?;
    Ok(())
}

async fn measure(directory: &Path, only: &[String], samples: &mut Samples) -> anyhow::Result<()> {
    let asked = |names: &[&str]| {
        let begins = |word: &String| names.iter().any(|name| name.starts_with(word.as_str()));
        only.is_empty() || only.iter().any(begins)
    };
    let starts = asked(&["tti_1cmd", "tti_2cmd", "tti_over_floor", "burst_100_wall"]);
    // Starts are told beside it, so it is measured in the same run.
    if starts || asked(&["floor"]) {
        sandboxes::floor(directory, samples).await?;
    }
    if asked(&["server_start", "server_idle_mib"]) {
        server::start_and_idle(directory, samples)?;
    }
    let mut world = World::open(directory).await?;
    let measured = async {
        if asked(&["rebuild_unchanged"]) {
            sandboxes::rebuild_unchanged(&world, samples).await?;
        }
        if starts {
            starts::measure(&world, samples).await?;
        }
        if asked(&["idle_300_pss_kib", "idle_300_machine_kib", "idle_300_kernel_kib"]) {
            idle::measure(&world, samples).await?;
        }
        if asked(&["prompt_to_model_warm"]) {
            prompts::prompt_to_model(&world, samples).await?;
        }
        if asked(&["stop_to_gone"]) {
            prompts::stop_to_gone(&mut world, samples).await?;
        }
        let served = Served::start(&world).await?;
        if asked(&["reconnect_10_of_100000"]) {
            streams::reconnect(&world, &served, samples).await?;
        }
        if asked(&["fanout_100"]) {
            streams::fan_out(&mut world, &served, samples).await?;
        }
        Ok(())
    };
    let measured = measured.await;
    // Also after a failure: sandboxes outlive this process.
    world.close().await?;
    measured
}

/// `target/bench`, where cargo builds.
fn results_directory() -> PathBuf {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = cli.ancestors().nth(2).unwrap_or(cli);
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    workspace.join(target).join("bench")
}
