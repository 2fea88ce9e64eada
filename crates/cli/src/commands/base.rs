//! `hangar base`: what sandboxes stand on besides this machine's own system.

use protocol::client::BaseImage;

use crate::arguments::BaseCommand;
use crate::context::Context;
use crate::{escape, format};

/// Carries out `hangar base …`.
pub(crate) async fn base(context: &Context, command: BaseCommand) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        BaseCommand::Pull { reference } => {
            let pulled = client.pull_base(&reference).await?;
            if context.output.is_json() {
                return Ok(context.output.document(&pulled)?);
            }
            let mut lines = lines(std::slice::from_ref(&pulled));
            lines.extend(pulled.notes.iter().map(|note| format!("note: {}", escape::line(note))));
            Ok(context.output.lines(&lines)?)
        }
        BaseCommand::List => {
            let bases = client.bases().await?;
            if context.output.is_json() {
                return Ok(context.output.document(&bases)?);
            }
            if bases.is_empty() {
                let lines = ["no base image yet", "hint: hangar base pull registry/name:tag"];
                return Ok(context.output.talk(&lines)?);
            }
            Ok(context.output.lines(&lines(&bases))?)
        }
        BaseCommand::Remove { reference } => {
            client.remove_base(&reference).await?;
            if context.output.is_json() {
                return Ok(context.output.document(&serde_json::json!({"removed": reference}))?);
            }
            Ok(context.output.lines(&[format!("removed {}", escape::line(&reference))])?)
        }
    }
}

fn lines(bases: &[BaseImage]) -> Vec<String> {
    let row = |base: &BaseImage| {
        vec![
            escape::line(&base.reference),
            escape::line(&base.digest),
            format!("{} layers", base.layers),
            format::bytes(base.bytes),
        ]
    };
    format::table(&bases.iter().map(row).collect::<Vec<_>>())
}
