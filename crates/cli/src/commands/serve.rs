//! `hangar serve`: run the server until Ctrl-C.

use serde_json::json;

use crate::arguments::Serve;
use crate::context::Context;
use crate::follow::interruption;
use crate::server::{Options, Sandboxes, Server};

/// Carries out `hangar serve`.
pub(crate) async fn serve(context: &Context, arguments: Serve) -> anyhow::Result<()> {
    let here = std::env::current_dir()?;
    let sandboxes =
        Sandboxes::new(arguments.walls.isolation, &arguments.limits, &arguments.maximum.maximum)?;
    let options = Options {
        listen: arguments.listen,
        model: arguments.model,
        whereabouts: &here,
        trust: arguments.outside.trust,
        sandboxes,
        runtimes: arguments.walls.runtimes.runtimes,
    };
    let server = Server::start(&context.data, options).await?;
    // Before anybody is told the address: whoever reads it may end the server at once.
    let interrupted = interruption();
    if context.output.is_json() {
        let document = json!({"address": server.address(), "link": server.link()?});
        context.output.record(&document)?;
    } else {
        context.output.lines(&[server.link()?])?;
        context.output.talk(&[
            "the link above signs one browser in, once",
            "Ctrl-C ends the server; sandboxes with work go on and are taken up again",
        ])?;
    }
    interrupted.await;
    context.output.talk(&["ending"])?;
    server.stop().await
}
