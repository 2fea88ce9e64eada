//! `hangar toolkit`: install agents that sandboxes get.

use serde_json::json;

use crate::arguments::ToolkitCommand;
use crate::context::Context;
use crate::{programs, toolkit as agents};

/// Carries out `hangar toolkit …`.
pub(crate) async fn toolkit(context: &Context, command: ToolkitCommand) -> anyhow::Result<()> {
    let data = context.data.root();
    match command {
        ToolkitCommand::Install { agent } if agent == "gvisor" => {
            context.data.prepare()?;
            context.output.wait("fetching gVisor");
            let installed = sandbox::container::gvisor::install(&agents::runtimes(data)).await;
            context.output.wait_for(None);
            let program = installed?;
            if context.output.is_json() {
                return Ok(context
                    .output
                    .document(&json!({"agent": agent, "program": program}))?);
            }
            context.output.lines(&[program.display().to_string()])?;
            Ok(context.output.talk(&["see whether it works here with `hangar doctor`"])?)
        }
        ToolkitCommand::Install { agent } => {
            context.data.prepare()?;
            context.output.wait("fetching OpenCode and checking that it starts");
            let installed = agents::install_opencode(data).await;
            context.output.wait_for(None);
            let program = installed?;
            if context.output.is_json() {
                let version = agents::OPENCODE_VERSION;
                let document = json!({"agent": agent, "version": version, "program": program});
                return Ok(context.output.document(&document)?);
            }
            context.output.lines(&[program.display().to_string()])?;
            let hints = [
                "try it with `hangar try --agent opencode`",
                "a running server offers it after its next start",
            ];
            Ok(context.output.talk(&hints)?)
        }
        ToolkitCommand::List => {
            let all = agents::agents(data, programs::beside_us("hangar-agent"));
            if context.output.is_json() {
                return Ok(context.output.document(&all)?);
            }
            Ok(context.output.lines(&agents::lines(&all))?)
        }
    }
}
