//! `hangar secret …`: names go in and out, values only in.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::Path;

use anyhow::Context as _;
use protocol::limits::SECRET_BYTES;
use protocol::network::HostPattern;
use protocol::secret::{PutSecret, SecretDelivery, SecretDescription, SecretName, SecretValue};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use crate::arguments::secret::{SecretCommand, scope};
use crate::context::Context;
use crate::failure::{Exit, Failure};
use crate::{escape, format};

/// Carries out `hangar secret …`.
pub(crate) async fn secret(context: &Context, command: SecretCommand) -> anyhow::Result<()> {
    let client = context.client()?;
    match command {
        SecretCommand::Set { name, place, hosts, plain, from_file } => {
            let scope = place.scope().map_err(|error| usage(&error))?;
            let value = value(context, &name, from_file.as_deref())?;
            let delivery = if plain { SecretDelivery::Plain } else { SecretDelivery::Placeholder };
            let request = PutSecret { value, delivery, hosts };
            let stored = client.put_secret(&scope, place.phase, &name, &request).await?;
            let warn = |text: &String| format!("! {}", escape::line(text));
            context.output.talk(&stored.warnings.iter().map(warn).collect::<Vec<_>>())?;
            if context.output.is_json() {
                return Ok(context.output.document(&stored)?);
            }
            Ok(context.output.lines(&list_lines(&[stored.secret]))?)
        }
        SecretCommand::List { repository, team } => {
            let scope =
                scope(repository.as_ref(), team.as_deref()).map_err(|error| usage(&error))?;
            let secrets = client.secrets(scope.as_ref()).await?;
            if context.output.is_json() {
                return Ok(context.output.document(&secrets)?);
            }
            if secrets.is_empty() {
                let lines = ["no secret yet", "hint: hangar secret set NAME --host HOST"];
                return Ok(context.output.talk(&lines)?);
            }
            Ok(context.output.lines(&list_lines(&secrets))?)
        }
        SecretCommand::Remove { name, place } => {
            let scope = place.scope().map_err(|error| usage(&error))?;
            client.remove_secret(&scope, place.phase, &name).await?;
            if context.output.is_json() {
                return Ok(context.output.document(&json!({"secret": name, "done": "removed"}))?);
            }
            Ok(context.output.talk(&["removed"])?)
        }
        SecretCommand::Rotate => {
            let rotated = client.rotate_secrets().await?;
            if context.output.is_json() {
                return Ok(context.output.document(&rotated)?);
            }
            let left = rotated.unreadable.iter().map(|secret| {
                let (name, key) = (&secret.name, escape::line(&secret.key));
                format!("! {name} of {} needs the key {key}, which is missing", secret.scope)
            });
            context.output.talk(&left.collect::<Vec<_>>())?;
            let (count, key) = (rotated.secrets, escape::line(&rotated.key));
            Ok(context.output.lines(&[format!("{count} encrypted again, with the key {key}")])?)
        }
    }
}

fn usage(error: &protocol::secret::ParseSecretScopeError) -> anyhow::Error {
    Failure::new(Exit::Usage, error.to_string()).into()
}

/// The value, from a file, from a terminal that does not show it, or from standard input.
fn value(context: &Context, name: &SecretName, file: Option<&Path>) -> anyhow::Result<SecretValue> {
    let text = match file {
        Some(path) => {
            let opened = File::open(path).and_then(read);
            opened
                .with_context(|| format!("reading the value of {name} from {}", path.display()))?
        }
        None if io::stdin().is_terminal() => {
            context.output.talk(&[format!("value of {name}, which is not shown:")])?;
            hidden_line().with_context(|| format!("reading the value of {name}"))?
        }
        None => read(io::stdin())
            .with_context(|| format!("reading the value of {name} from standard input"))?,
    };
    Ok(SecretValue::new(without_line_end(text)))
}

fn read(source: impl Read) -> io::Result<String> {
    let mut text = String::new();
    // One more than fits and a line's end, so that the server says what is wrong with more.
    source.take(SECRET_BYTES as u64 + 3).read_to_string(&mut text)?;
    Ok(text)
}

/// One line as typed, while the terminal shows nothing.
fn hidden_line() -> io::Result<String> {
    let stdin = io::stdin();
    let before = tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes -= LocalModes::ECHO;
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    tcsetattr(&stdin, OptionalActions::Flush, &before)?;
    read.map(|_| line)
}

/// A single line without its end, which editors and `echo` add; more lines stay as they are.
fn without_line_end(mut text: String) -> String {
    let line = text.trim_end_matches(['\r', '\n']).len();
    let end = &text[line..];
    if (end == "\n" || end == "\r\n") && !text[..line].contains('\n') {
        text.truncate(line);
    }
    text
}

/// One line for each secret.
fn list_lines(secrets: &[SecretDescription]) -> Vec<String> {
    let row = |secret: &SecretDescription| {
        let delivery = match secret.delivery {
            SecretDelivery::Plain => "PLAIN: sandboxes hold the value".to_owned(),
            SecretDelivery::Placeholder => {
                let hosts: Vec<&str> = secret.hosts.iter().map(HostPattern::as_str).collect();
                format!("for {}", hosts.join(", "))
            }
        };
        vec![
            secret.name.to_string(),
            secret.scope.to_string(),
            secret.phase.to_string(),
            delivery,
            format!("key {}", escape::line(&secret.key)),
        ]
    };
    format::table(&secrets.iter().map(row).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_single_line_is_dropped() {
        for (written, meant) in [
            ("token\n", "token"),
            ("token\r\n", "token"),
            ("token", "token"),
            ("token\n\n", "token\n\n"),
            ("-----BEGIN\nkey\n-----END\n", "-----BEGIN\nkey\n-----END\n"),
        ] {
            assert_eq!(without_line_end(written.to_owned()), meant, "{written:?}");
        }
    }
}
