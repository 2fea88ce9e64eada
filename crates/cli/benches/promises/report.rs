//! What was measured, as the JSON document and as the table for people; no clock, no files.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::promise::{PROMISES, Promise};

/// Contents of `target/bench/report.json`.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Where it was measured.
    pub(crate) machine: Machine,
    /// What was measured, by the promise's name. What was not is not here.
    pub(crate) metrics: BTreeMap<&'static str, Metric>,
}

/// The machine, and how busy it was.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// `uname`'s system and release.
    pub(crate) kernel: String,
    /// The type of the data directory's file system.
    pub(crate) file_system: String,
    /// Processors this process may use.
    pub(crate) cores: usize,
    /// The processor's own name.
    pub(crate) processor: String,
    /// Processes ready to run, averaged over 1, 5 and 15 minutes.
    pub(crate) load: Load,
    /// Programs that matter, by name.
    pub(crate) versions: BTreeMap<&'static str, String>,
}

/// The load averages around the measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Load {
    /// At the start.
    pub(crate) before: [f64; 3],
    /// At the end.
    pub(crate) after: [f64; 3],
}

/// One measured promise.
#[derive(Debug, Serialize)]
pub(crate) struct Metric {
    /// Of every number here.
    pub(crate) unit: &'static str,
    /// In the order in which they were taken; warm-ups are not among them.
    pub(crate) samples: Vec<f64>,
    /// The median.
    pub(crate) p50: f64,
    /// The 95th percentile.
    pub(crate) p95: f64,
    /// The 99th percentile; of fewer than 100 samples the largest.
    pub(crate) p99: f64,
    /// The promised median.
    pub(crate) target_p50: Option<f64>,
    /// The promised 99th percentile.
    pub(crate) target_p99: Option<f64>,
}

impl Metric {
    /// The figures of a promise from its samples; none without samples.
    pub(crate) fn new(promise: &Promise, samples: Vec<f64>) -> Option<Self> {
        let mut sorted = samples.clone();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            unit: promise.unit,
            p50: percentile(&sorted, 50)?,
            p95: percentile(&sorted, 95)?,
            p99: percentile(&sorted, 99)?,
            samples,
            target_p50: promise.target_p50,
            target_p99: promise.target_p99,
        })
    }

    /// Whether both targets are kept; none if there is no target.
    pub(crate) fn met(&self) -> Option<bool> {
        let within = |measured: f64, target: Option<f64>| target.map(|target| measured <= target);
        match (within(self.p50, self.target_p50), within(self.p99, self.target_p99)) {
            (None, None) => None,
            (p50, p99) => Some(p50.unwrap_or(true) && p99.unwrap_or(true)),
        }
    }

    fn range(&self) -> (f64, f64) {
        let least = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        (least, self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }
}

/// The smallest sample that at least so many percent do not exceed.
fn percentile(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.checked_sub(1)?).copied()
}

/// The table for people: one line for each promise, the machine's noise below.
pub(crate) fn table(report: &Report) -> String {
    let mut text = format!(
        "{:<26} {:>9} {:>9} {:>9} {:>14} {:<8} {:>7}  {}\n",
        "metric", "p50", "p95", "p99", "target (p99)", "met", "samples", "min … max"
    );
    for promise in PROMISES {
        let line = match report.metrics.get(promise.name) {
            Some(metric) => line(promise, metric),
            None => format!("{:<26} not yet measured", promise.name),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    }
    let Machine { kernel, file_system, cores, processor, load, .. } = &report.machine;
    let _ = writeln!(text, "\n{kernel}, {file_system}, {cores} cores ({processor})");
    let _ = writeln!(text, "load {} before, {} after", averages(load.before), averages(load.after));
    text
}

fn line(promise: &Promise, metric: &Metric) -> String {
    let target = match (metric.target_p50, metric.target_p99) {
        (Some(p50), Some(p99)) => format!("{p50} ({p99}) {}", metric.unit),
        (Some(p50), None) => format!("{p50} {}", metric.unit),
        _ => "none".to_owned(),
    };
    let met = metric.met().map_or("", |met| if met { "yes" } else { "NO" });
    let (least, most) = metric.range();
    let Metric { p50, p95, p99, samples, .. } = metric;
    format!(
        "{:<26} {p50:>9.2} {p95:>9.2} {p99:>9.2} {target:>14} {met:<8} {:>7}  {least:.2} … {most:.2}",
        promise.name,
        samples.len(),
    )
}

fn averages(load: [f64; 3]) -> String {
    load.map(|average| format!("{average:.2}")).join(" ")
}
