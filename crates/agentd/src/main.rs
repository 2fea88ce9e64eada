//! `hangar-agentd`: the sandbox's first process, and the shim that confines each of its children.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use agentd::settings::Settings;
use agentd::{run, shim};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.next_if(|first| first == shim::VERB).is_some() {
        return shim::run(arguments);
    }
    let result: Result<(), Box<dyn Error>> =
        Settings::parse(arguments).map_err(Into::into).and_then(|settings| Ok(run(settings)?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The launcher keeps what its first process says; there is no other place to say it.
            let mut output = std::io::stderr().lock();
            let _ = write!(output, "hangar-agentd: {error}");
            let mut source = error.source();
            while let Some(error) = source {
                let _ = write!(output, ": {error}");
                source = error.source();
            }
            let _ = writeln!(output);
            ExitCode::FAILURE
        }
    }
}
