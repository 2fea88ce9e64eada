//! Gathers what was measured until the report is written.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::promise::PROMISES;
use crate::report::Metric;

/// Measurements taken first and left out: caches fill, lazy parts start.
pub(crate) const WARM_UPS: usize = 3;

/// The samples of each metric.
#[derive(Debug)]
pub(crate) struct Samples {
    wanted: usize,
    taken: BTreeMap<&'static str, Vec<f64>>,
}

impl Samples {
    /// So many for each metric that is cheap.
    pub(crate) fn new(wanted: usize) -> Self {
        Self { wanted, taken: BTreeMap::new() }
    }

    /// How many are wanted of each.
    pub(crate) const fn wanted(&self) -> usize {
        self.wanted
    }

    /// One more, in the promise's unit.
    pub(crate) fn add(&mut self, name: &'static str, sample: f64) {
        self.taken.entry(name).or_default().push(sample);
    }

    /// The figures of everything that was measured.
    pub(crate) fn metrics(self) -> anyhow::Result<BTreeMap<&'static str, Metric>> {
        let known = |name: &str| PROMISES.iter().find(|promise| promise.name == name);
        self.taken
            .into_iter()
            .map(|(name, samples)| {
                let promise = known(name).with_context(|| format!("{name} is not promised"))?;
                ensure!(samples.iter().all(|it| it.is_finite()), "{name} is no number");
                Ok((name, Metric::new(promise, samples).context("no samples")?))
            })
            .collect()
    }
}

/// With the clock's whole resolution.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
