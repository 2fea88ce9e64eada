//! The hangar command: serve, try, run, session, repository, base, toolkit, doctor.
//!
//! Standard output carries data, standard error talk. What is shown is made by pure functions
//! ([`watch`], [`summary`], [`doctor`]), so that it is tested without a terminal or a server.

pub mod arguments;
pub mod client;
mod commands;
mod context;
pub mod data;
pub mod doctor;
pub mod escape;
pub mod failure;
mod follow;
pub mod format;
mod log;
mod models;
pub mod output;
mod person;
pub mod programs;
mod proxy;
mod server;
pub mod style;
pub mod summary;
pub mod toolkit;
pub mod watch;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use arguments::{Arguments, Command};
use context::Context;
use style::Style;
use tracing_subscriber::EnvFilter;

/// The whole program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let error = match perform(arguments) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(error) => error,
    };
    // A reader that has seen enough, as in `hangar session list | head`, is no failure.
    let causes = || error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    if causes().any(|cause| cause.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    let (lines, exit) = failure::explain(&error);
    // With standard error gone there is nobody left to tell.
    let _ = writeln!(io::stderr(), "{}", lines.join("\n"));
    ExitCode::from(exit as u8)
}

fn perform(arguments: Arguments) -> anyhow::Result<()> {
    // Fails only when a provider was installed before, which is as good.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let context = Context::new(&arguments.common)?;
    let filter = EnvFilter::try_from_env("HANGAR_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| log::Log);
    // Fails only when another log was set up in this process, which is as good.
    let _ = log.with_ansi(context.output.style() == Style::Coloured).try_init();
    let runtime = tokio::runtime::Runtime::new().context("starting the program's threads")?;
    let result = runtime.block_on(carry_out(&context, arguments.command));
    context.output.finish();
    // Reading standard input cannot be cancelled, so it is not waited for.
    runtime.shutdown_background();
    result
}

async fn carry_out(context: &Context, command: Command) -> anyhow::Result<()> {
    match command {
        Command::Serve(serve) => commands::serve::serve(context, serve).await,
        Command::Try(job) => commands::try_job::try_job(context, job).await,
        Command::Run(run) => commands::run::run(context, run).await,
        Command::Session(command) => commands::session::session(context, command).await,
        Command::Repository(command) => commands::repository::repository(context, command).await,
        Command::Secret(command) => commands::secret::secret(context, command).await,
        Command::Base(command) => commands::base::base(context, command).await,
        Command::Toolkit(command) => commands::toolkit::toolkit(context, command).await,
        Command::Doctor(arguments) => commands::doctor::doctor(context, &arguments).await,
    }
}
