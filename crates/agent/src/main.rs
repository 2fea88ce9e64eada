//! `hangar-agent`: the built-in coding agent as a program that speaks ACP on its standard streams.

use std::io::Write as _;
use std::process::ExitCode;

use agent::settings::Settings;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

const HELP: &str = "\
Hangar's built-in coding agent. Speaks the Agent Client Protocol, version 1, on standard input and
output; it is started by a client, not by hand.

Usage: hangar-agent [--help | --version]

Environment:
  HANGAR_MODEL_URL      Base address of the model, plain http to an IP address
  HANGAR_MODEL_NAME     Name of the model there
  HANGAR_MODEL_DIALECT  anthropic (posts to /v1/messages) or openai_chat (/v1/chat/completions)
  HANGAR_INSTRUCTIONS   Text to add to the system prompt
  HANGAR_MODEL_RETRY_MILLISECONDS  Pause before the first retry of a failed request (500)
  HANGAR_MODEL_IDLE_MILLISECONDS   Silence after which a request counts as dropped (120000)
  HOME                  Sessions are kept in $HOME/.hangar-agent/sessions
";

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => serve(),
        Some("--help" | "-h") => say(HELP),
        Some("--version" | "-V") => say(concat!("hangar-agent ", env!("CARGO_PKG_VERSION"), "\n")),
        Some(other) => {
            let _ = writeln!(std::io::stderr(), "hangar-agent: unknown argument {other}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn serve() -> ExitCode {
    let words = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time();
    // The protocol's crate warns of each error answer, which the client is told anyway.
    let levels =
        Targets::new().with_default(Level::WARN).with_target("agent_client_protocol", Level::ERROR);
    tracing_subscriber::registry().with(words).with(levels).init();
    // One thread: nothing here computes, and it starts soonest.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("could not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let settings = Settings::read(|name| std::env::var(name).ok());
    let ended = runtime.block_on(agent::acp::serve(
        settings,
        tokio::io::stdin().compat(),
        tokio::io::stdout().compat_write(),
    ));
    // Without waiting: a read of a hanging file system must not keep the program alive.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the connection to the client failed: {}", error.message);
            ExitCode::FAILURE
        }
    }
}
