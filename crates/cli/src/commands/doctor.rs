//! `hangar doctor`: show what this machine can do, and what to do about the rest.

use crate::arguments::Doctor;
use crate::context::Context;
use crate::doctor::{Report, facts};
use crate::failure::{Exit, Failure};
use crate::server;

/// Carries out `hangar doctor`.
pub(crate) async fn doctor(context: &Context, arguments: &Doctor) -> anyhow::Result<()> {
    context.output.wait("looking at this machine");
    let facts = facts::gather(&context.data).await;
    let probes = match server::backend(context.data.root(), &arguments.walls.runtimes.runtimes) {
        Ok(backend) if facts.data_trouble.is_none() => backend.probes().await,
        _ => Vec::new(),
    };
    let report = Report::new(&facts, arguments.walls.isolation, &probes);
    context.output.wait_for(None);
    if context.output.is_json() {
        context.output.document(&report)?;
    } else {
        context.output.lines(&report.lines(context.output.style()))?;
    }
    if report.ready {
        return Ok(());
    }
    Err(Failure::new(Exit::Machine, "something that is needed is missing").into())
}
