//! Gathers what was measured until the report is written.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use protocol::sandbox::Isolation;

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

    /// A metric as a multiple of another one's median; nothing where either was not measured.
    pub(crate) fn add_ratio(
        &mut self,
        name: &'static str,
        of: &str,
        over: &str,
    ) -> anyhow::Result<()> {
        let (Some(of), Some(over)) = (self.taken.get(of), self.taken.get(over)) else {
            return Ok(());
        };
        let mut sorted = over.clone();
        sorted.sort_by(f64::total_cmp);
        let median = *sorted.get(sorted.len() / 2).context("no samples")?;
        let ratios: Vec<f64> = of.iter().map(|sample| sample / median).collect();
        for ratio in ratios {
            self.add(name, ratio);
        }
        Ok(())
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

/// What a metric is called at a level: the weakest has the bare name.
pub(crate) fn at(name: &str, level: Isolation) -> anyhow::Result<&'static str> {
    let wanted = match level {
        Isolation::Namespaces => name.to_owned(),
        other => format!("{name}_{other}"),
    };
    let promised = PROMISES.iter().find(|promise| promise.name == wanted);
    Ok(promised.with_context(|| format!("{wanted} is not promised"))?.name)
}

/// With the clock's whole resolution.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
