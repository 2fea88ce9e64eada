//! The confined start of every child: this program again, which gives up its rights and becomes another.
//!
//! A child is confined by a program that has one thread and runs nothing of the agent's yet,
//! rather than between fork and exec, where almost nothing is safe to do.
//!
//! `confined [--status-fd N] [--directory DIR] [--new-session] [--writable DIR]
//! [--unconfined-for-tests] (-- PROGRAM ARGUMENT… | --files VERB PATH)`

use std::ffi::OsString;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::{confine, files};

/// The first argument that makes this program the shim.
pub const VERB: &str = "confined";

/// The exit code when nothing could be started.
const FAILED: u8 = 126;

#[derive(Debug, Default)]
struct Order {
    status: Option<i32>,
    directory: Option<PathBuf>,
    new_session: bool,
    writable: Option<PathBuf>,
    unconfined: bool,
    what: What,
}

#[derive(Debug, Default)]
enum What {
    #[default]
    Nothing,
    Program(Vec<OsString>),
    Files {
        verb: OsString,
        path: PathBuf,
    },
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Option<Order> {
    let mut order = Order::default();
    while let Some(argument) = arguments.next() {
        match argument.to_str()? {
            "--status-fd" => order.status = Some(arguments.next()?.to_str()?.parse().ok()?),
            "--directory" => order.directory = Some(arguments.next()?.into()),
            "--new-session" => order.new_session = true,
            "--writable" => order.writable = Some(arguments.next()?.into()),
            "--unconfined-for-tests" => order.unconfined = true,
            "--files" => {
                let verb = arguments.next()?;
                order.what = What::Files { verb, path: arguments.next()?.into() };
            }
            "--" => {
                order.what = What::Program(arguments.collect());
                break;
            }
            _ => return None,
        }
    }
    Some(order)
}

/// Carries out the shim's command line; returns only if the other program could not be started.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(order) = parse(arguments) else {
        return ExitCode::from(FAILED);
    };
    let Ok(status) = order.status.map(confine::adopt).transpose() else {
        return ExitCode::from(FAILED);
    };
    match perform(&order) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => tell(status, &text),
    }
}

fn tell(status: Option<OwnedFd>, text: &str) -> ExitCode {
    if let Some(status) = status {
        // Nobody is left to tell when even this fails; the exit code says the rest.
        let _ = std::fs::File::from(status).write_all(text.as_bytes());
    }
    ExitCode::from(FAILED)
}

fn perform(order: &Order) -> Result<(), String> {
    if order.new_session {
        rustix::process::setsid().map_err(|error| format!("starting a new session: {error}"))?;
    }
    if !order.unconfined {
        confine_myself(order.writable.as_deref())?;
    }
    if let Some(directory) = &order.directory {
        #[expect(clippy::disallowed_methods, reason = "this process has one thread")]
        std::env::set_current_dir(directory)
            .map_err(|error| format!("entering {}: {error}", directory.display()))?;
    }
    match &order.what {
        What::Program(argv) => Err(become_program(argv)),
        What::Files { verb, path } => files::perform(verb, path),
        What::Nothing => Err("there is no program to start".to_owned()),
    }
}

fn confine_myself(writable: Option<&Path>) -> Result<(), String> {
    if let Some(path) = writable {
        confine::private_writable_view(path)
            .map_err(|error| format!("opening {} for git alone: {error}", path.display()))?;
    }
    confine::drop_rights(writable.is_some())
        .map_err(|error| format!("giving up capabilities: {error}"))?;
    confine::filter_system_calls().map_err(|error| format!("filtering system calls: {error}"))
}

fn become_program(argv: &[OsString]) -> String {
    let Some((program, arguments)) = argv.split_first() else {
        return "there is no program to start".to_owned();
    };
    let error = Command::new(program).args(arguments).exec();
    format!("starting {}: {error}", program.to_string_lossy())
}
