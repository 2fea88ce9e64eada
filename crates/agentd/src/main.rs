//! `hangar-agentd`: the sandbox's first process, the shim that confines each of its children, and
//! git where the image has none.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use agentd::settings::Settings;
use agentd::{run, shim, spare_git};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if let Some(name) = spare_git::called_as(arguments.next()) {
        return spare_git::run(&name, arguments);
    }
    let mut arguments = arguments.peekable();
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
