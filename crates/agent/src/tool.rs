//! What the model can have done: look into files, change them, search them, run commands.

mod edit;
mod error;
mod gate;
mod list;
mod place;
mod read;
mod search;
mod shell;
mod write;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::conversation::{Call, Input};
use crate::dialect::Definition;
use crate::report::{Change, Kind};
use crate::text::title;

pub use error::Error;
pub use gate::Gate;
pub use place::Place;

/// A call that makes sense: a known tool with readable arguments.
#[derive(Debug)]
pub enum Request {
    /// Look into a file.
    Read(read::Arguments),
    /// Write a whole file.
    Write(write::Arguments),
    /// Replace text in a file.
    Edit(edit::Arguments),
    /// Find text in files.
    Search(search::Arguments),
    /// Find files.
    List(list::Arguments),
    /// Run a command.
    Shell(shell::Arguments),
}

/// What a tool did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Done {
    /// The answer for the model.
    pub text: String,
    /// Whether it is bad news, such as a command's exit code other than 0.
    pub failed: bool,
    /// The change it made to a file.
    pub change: Option<Change>,
}

impl Done {
    fn saying(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// A call that makes no sense, in words for the model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Senseless {
    /// There is no such tool.
    #[error("there is no tool {name:?}; the tools are read, write, edit, search, list and shell")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The arguments are no JSON object.
    #[error(
        "the arguments of {name} are not a JSON object; call it again with complete JSON. (If they \
         were cut off, write less at once.)"
    )]
    Unreadable {
        /// The tool.
        name: String,
    },
    /// The arguments are not the tool's.
    #[error("the arguments of {name} are wrong: {problem}. It takes {schema}")]
    Arguments {
        /// The tool.
        name: String,
        /// What is wrong.
        problem: String,
        /// What it takes.
        schema: Value,
    },
}

/// The tools, as the model is told of them.
pub fn definitions() -> Vec<Definition> {
    vec![
        read::definition(),
        write::definition(),
        edit::definition(),
        search::definition(),
        list::definition(),
        shell::definition(),
    ]
}

impl Request {
    /// Makes sense of a call, if that can be done.
    pub fn read(call: &Call) -> Result<Self, Senseless> {
        match call.name.as_str() {
            "read" => arguments(call, &read::definition()).map(Self::Read),
            "write" => arguments(call, &write::definition()).map(Self::Write),
            "edit" => arguments(call, &edit::definition()).map(Self::Edit),
            "search" => arguments(call, &search::definition()).map(Self::Search),
            "list" => arguments(call, &list::definition()).map(Self::List),
            "shell" => arguments(call, &shell::definition()).map(Self::Shell),
            _ => Err(Senseless::Unknown { name: title(&call.name, 80) }),
        }
    }

    /// What it will do, in one line for people.
    pub fn title(&self) -> String {
        match self {
            Self::Read(arguments) => format!("Read {}", title(&arguments.path, 200)),
            Self::Write(arguments) => format!("Write {}", title(&arguments.path, 200)),
            Self::Edit(arguments) => format!("Edit {}", title(&arguments.path, 200)),
            Self::Search(arguments) => format!("Search for {}", title(&arguments.pattern, 200)),
            Self::List(arguments) => format!("List {}", title(&arguments.title(), 200)),
            Self::Shell(arguments) => title(&arguments.command, 200),
        }
    }

    /// What kind of thing it does.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read(_) => Kind::Read,
            Self::Write(_) | Self::Edit(_) => Kind::Edit,
            Self::Search(_) | Self::List(_) => Kind::Search,
            Self::Shell(_) => Kind::Execute,
        }
    }

    /// The file it is about.
    pub fn path(&self, place: &Place) -> Option<PathBuf> {
        match self {
            Self::Read(arguments) => Some(place.resolve(&arguments.path)),
            Self::Write(arguments) => Some(place.resolve(&arguments.path)),
            Self::Edit(arguments) => Some(place.resolve(&arguments.path)),
            Self::Search(_) | Self::List(_) | Self::Shell(_) => None,
        }
    }

    /// Does it. `progress` is shown while it runs, each text in place of the one before; cancelling
    /// ends it at once, and everything it started.
    pub async fn run(
        self,
        place: &Place,
        cancel: &CancellationToken,
        progress: &(dyn Fn(String) + Send + Sync),
    ) -> Result<Done, Error> {
        let work = async {
            match self {
                Self::Read(arguments) => {
                    blocking(place, move |place| read::run(&arguments, place)).await
                }
                Self::Search(arguments) => search::run(arguments, place, cancel).await,
                Self::List(arguments) => list::run(arguments, place, cancel).await,
                Self::Write(arguments) => {
                    place.writable(&place.resolve(&arguments.path), progress).await?;
                    blocking(place, move |place| write::run(arguments, place)).await
                }
                Self::Edit(arguments) => {
                    // Before the file is read: the sync may be about to change it.
                    place.writable(&place.resolve(&arguments.path), progress).await?;
                    blocking(place, move |place| edit::run(&arguments, place)).await
                }
                Self::Shell(arguments) => {
                    // Any command may write.
                    place.writable(place.directory(), progress).await?;
                    shell::run(arguments, place, progress).await
                }
            }
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(Error::Cancelled),
            done = work => done,
        }
    }
}

fn arguments<T: DeserializeOwned>(call: &Call, definition: &Definition) -> Result<T, Senseless> {
    let name = || definition.name.to_owned();
    match &call.input {
        Input::Unreadable(_) => Err(Senseless::Unreadable { name: name() }),
        Input::Object(object) => {
            serde_json::from_value(Value::Object(object.clone())).map_err(|error| {
                Senseless::Arguments {
                    name: name(),
                    problem: error.to_string(),
                    schema: definition.schema["properties"].clone(),
                }
            })
        }
    }
}

/// Runs work on files away from the loop: a file can be on a slow or hanging file system.
async fn blocking<T: Send + 'static>(
    place: &Place,
    work: impl FnOnce(&Place) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let place = place.clone();
    match tokio::task::spawn_blocking(move || work(&place)).await {
        Ok(done) => done,
        Err(source) => Err(Error::Broken { source }),
    }
}

/// The schema of an object with these properties.
fn schema(properties: &Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": properties, "required": required })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, input: &str) -> Call {
        Call { id: "1".into(), name: name.into(), input: Input::parse(input) }
    }

    #[test]
    fn what_makes_no_sense_is_explained() {
        let unknown = Request::read(&call("fly", "{}")).expect_err("no such tool");
        assert!(unknown.to_string().contains("read, write, edit"), "{unknown}");
        let cut = Request::read(&call("write", "{\"path\": \"a\", \"con")).expect_err("cut off");
        assert!(matches!(cut, Senseless::Unreadable { .. }));
        let missing = Request::read(&call("write", "{\"path\": \"a\"}")).expect_err("no content");
        let text = missing.to_string();
        assert!(text.contains("missing field `content`") && text.contains("\"path\""), "{text}");
    }

    #[test]
    fn every_tool_has_a_schema_whose_required_arguments_suffice() {
        for definition in definitions() {
            let input: serde_json::Map<_, _> = definition.schema["required"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|name| (name.as_str().expect("a name").to_owned(), json!("x")))
                .collect();
            let call =
                Call { id: "1".into(), name: definition.name.into(), input: Input::Object(input) };
            Request::read(&call).unwrap_or_else(|error| panic!("{}: {error}", definition.name));
        }
    }

    #[test]
    fn names_that_other_agents_use_for_arguments_are_understood() {
        for input in [
            r#"{"file_path":"a","old_string":"b","new_string":"c"}"#,
            r#"{"filePath":"a","oldString":"b","newString":"c","replaceAll":true}"#,
        ] {
            assert!(matches!(Request::read(&call("edit", input)), Ok(Request::Edit(_))), "{input}");
        }
    }
}
