//! Finds, among the tools an agent offers, those to read, write, edit and run with, by their names.

use serde_json::{Map, Value, json};

use super::Call;
use super::conversation::{Conversation, Tool};

/// What a tool is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Shell,
    Read,
    Write,
    Edit,
}

/// Names are compared in lower case without `_` and `-`, most usual first.
impl Role {
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Shell => &[
                "bash",
                "shell",
                "runshellcommand",
                "execcommand",
                "executecommand",
                "runcommand",
                "execute",
                "terminal",
                "run",
            ],
            Self::Read => &["read", "readfile", "view", "viewfile", "openfile", "cat"],
            Self::Write => &["write", "writefile", "createfile", "create"],
            Self::Edit => &["edit", "editfile", "replace", "strreplace", "searchreplace"],
        }
    }
}

const COMMAND: &[&str] = &["command", "cmd", "script", "input"];
const PATH: &[&str] = &["filepath", "path", "absolutepath", "file", "filename"];
const CONTENT: &[&str] = &["content", "contents", "text", "filetext"];
const OLD: &[&str] = &["oldstring", "oldtext", "oldstr", "old", "search"];
const NEW: &[&str] = &["newstring", "newtext", "newstr", "new", "replace"];

fn plain(name: &str) -> String {
    name.chars().filter(|letter| !matches!(letter, '_' | '-')).collect::<String>().to_lowercase()
}

fn find(conversation: &Conversation, role: Role) -> Option<&Tool> {
    role.names()
        .iter()
        .find_map(|wanted| conversation.tools.iter().find(|tool| plain(&tool.name) == *wanted))
}

/// A call of the tool with this role, or `None` if the agent offers none that can be understood.
fn call(
    conversation: &Conversation,
    role: Role,
    values: &[(&[&str], &str)],
    what: &str,
) -> Option<Call> {
    let tool = find(conversation, role)?;
    let mut arguments = Map::new();
    for (names, value) in values {
        let name = names
            .iter()
            .find_map(|wanted| tool.arguments.keys().find(|name| plain(name) == *wanted))?;
        // One agent wants its shell commands as a list.
        let list = tool.arguments[name]["type"] == "array";
        let value = if list { json!(["bash", "-c", value]) } else { json!(value) };
        arguments.insert(name.clone(), value);
    }
    for name in &tool.required {
        if !arguments.contains_key(name) {
            arguments.insert(name.clone(), filler(&tool.arguments, name, what));
        }
    }
    Some(Call { name: tool.name.clone(), arguments: Value::Object(arguments) })
}

/// A value for an argument that is required and means nothing here, such as a description.
fn filler(schemas: &Map<String, Value>, name: &str, what: &str) -> Value {
    match schemas.get(name).and_then(|schema| schema["type"].as_str()) {
        Some("boolean") => json!(false),
        Some("integer" | "number") => json!(1),
        Some("array") => json!([]),
        Some("object") => json!({}),
        _ => json!(what),
    }
}

pub(crate) fn shell(conversation: &Conversation, command: &str, what: &str) -> Option<Call> {
    call(conversation, Role::Shell, &[(COMMAND, command)], what)
}

pub(crate) fn read(conversation: &Conversation, path: &str) -> Option<Call> {
    call(conversation, Role::Read, &[(PATH, path)], "Read a file")
}

pub(crate) fn write(conversation: &Conversation, path: &str, content: &str) -> Option<Call> {
    call(conversation, Role::Write, &[(PATH, path), (CONTENT, content)], "Write a file")
}

pub(crate) fn edit(conversation: &Conversation, path: &str, old: &str, new: &str) -> Option<Call> {
    call(conversation, Role::Edit, &[(PATH, path), (OLD, old), (NEW, new)], "Edit a file")
}

/// A word as the shell takes it literally.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tools as real agents offer them: name, then arguments, required ones marked.
    fn offering(tools: &[(&str, &[&str])]) -> Conversation {
        let tools = tools.iter().map(|(name, arguments)| Tool {
            name: (*name).to_owned(),
            arguments: arguments
                .iter()
                .map(|name| (name.trim_end_matches('!').to_owned(), json!({ "type": "string" })))
                .collect(),
            required: arguments
                .iter()
                .filter_map(|name| name.strip_suffix('!').map(str::to_owned))
                .collect(),
        });
        Conversation { tools: tools.collect(), turns: Vec::new() }
    }

    #[test]
    fn the_tools_of_known_agents_are_understood() {
        for (tools, shell_name, path_name) in [
            (
                offering(&[
                    ("bash", &["command!", "timeout", "description!"]),
                    ("read", &["filePath!", "offset", "limit"]),
                    ("write", &["content!", "filePath!"]),
                    ("edit", &["filePath!", "oldString!", "newString!", "replaceAll"]),
                ]),
                "bash",
                "filePath",
            ),
            (
                offering(&[
                    ("Task", &["description!", "prompt!"]),
                    ("Bash", &["command!", "description"]),
                    ("Read", &["file_path!"]),
                    ("Write", &["file_path!", "content!"]),
                    ("Edit", &["file_path!", "old_string!", "new_string!"]),
                ]),
                "Bash",
                "file_path",
            ),
            (
                offering(&[
                    ("run_shell_command", &["command!"]),
                    ("read_file", &["absolute_path!"]),
                    ("write_file", &["absolute_path!", "content!"]),
                    ("replace", &["absolute_path!", "old_string!", "new_string!"]),
                ]),
                "run_shell_command",
                "absolute_path",
            ),
            (
                offering(&[
                    ("exec_command", &["cmd!"]),
                    ("read_file", &["path!"]),
                    ("write_file", &["path!", "contents!"]),
                    ("str_replace", &["path!", "old_str!", "new_str!"]),
                ]),
                "exec_command",
                "path",
            ),
        ] {
            let shell = shell(&tools, "ls", "List").expect("has a shell");
            assert_eq!(shell.name, shell_name);
            assert!(shell.arguments.to_string().contains("\"ls\""), "{shell:?}");
            assert_eq!(read(&tools, "/w/a").expect("reads").arguments[path_name], "/w/a");
            assert_eq!(write(&tools, "/w/a", "x").expect("writes").arguments[path_name], "/w/a");
            let edit = edit(&tools, "/w/a", "x", "y").expect("edits");
            assert_eq!(edit.arguments.as_object().map(Map::len), Some(3), "{edit:?}");
        }
    }

    #[test]
    fn required_arguments_are_filled_and_unknown_tools_left_alone() {
        let tools = offering(&[("bash", &["command!", "description!"]), ("edit", &["diff!"])]);
        let call = shell(&tools, "ls", "List files").expect("has a shell");
        assert_eq!(call.arguments["description"], "List files");
        assert_eq!(edit(&tools, "a", "b", "c"), None);
        assert_eq!(write(&tools, "a", "b"), None);
    }

    #[test]
    fn quoting_survives_quotes() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
