//! `write`: a whole file at once.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::{Done, Error, Place, schema};
use crate::dialect::Definition;
use crate::report::Change;

/// A longer text is not shown as a change: people cannot read it and it would be sent twice.
const SHOWN_BYTES: u64 = 256 * 1024;

/// Arguments of `write`.
#[derive(Debug, Deserialize)]
pub struct Arguments {
    #[serde(alias = "file_path", alias = "filePath")]
    pub(super) path: String,
    content: String,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "write",
        description: "Write a file, replacing it if it exists; missing directories are made. To change \
                      part of a file use edit.",
        schema: schema(
            &json!({
                "path": { "type": "string", "description": "The file, relative to the workspace or absolute" },
                "content": { "type": "string", "description": "The whole content" },
            }),
            &["path", "content"],
        ),
    }
}

pub(super) fn run(arguments: Arguments, place: &Place) -> Result<Done, Error> {
    let path = place.resolve(&arguments.path);
    if path.is_dir() {
        return Err(Error::Directory { path: arguments.path });
    }
    let existed = path.exists();
    let before = shown_before(&path);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|source| Error::Io {
            doing: "make the directory",
            path: parent.to_owned(),
            source,
        })?;
    }
    save(&path, &arguments.content)?;
    let verb = if existed { "Replaced" } else { "Made" };
    let text = format!(
        "{verb} {} ({} lines, {} bytes).",
        place.show(&path),
        arguments.content.lines().count(),
        arguments.content.len()
    );
    let change = change(path, before, arguments.content, existed);
    Ok(Done { text, failed: false, change })
}

/// Writes in place, so that links and permissions stay as they are.
pub(super) fn save(path: &Path, content: &str) -> Result<(), Error> {
    std::fs::write(path, content).map_err(|source| Error::Io {
        doing: "write",
        path: path.to_owned(),
        source,
    })
}

/// What to show of a change, unless it is too long or the old content no text.
pub(super) fn change(
    path: std::path::PathBuf,
    before: Option<String>,
    after: String,
    existed: bool,
) -> Option<Change> {
    let fits = after.len() as u64 <= SHOWN_BYTES && (before.is_some() || !existed);
    fits.then_some(Change { path, before, after })
}

fn shown_before(path: &Path) -> Option<String> {
    let metadata = path.metadata().ok()?;
    if !metadata.is_file() || metadata.len() > SHOWN_BYTES {
        return None;
    }
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::tool::Gate;

    fn write(place: &Place, path: &str, content: &str) -> Result<Done, Error> {
        run(Arguments { path: path.into(), content: content.into() }, place)
    }

    #[test]
    fn files_are_made_with_their_directories_and_replaced_in_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Place::new(directory.path().to_owned(), Gate::default());
        let made = write(&place, "a/b/run.sh", "one\ntwo\n").expect("made");
        assert_eq!(made.text, "Made a/b/run.sh (2 lines, 8 bytes).");
        assert_eq!(made.change.expect("shown").before, None);

        let path = directory.path().join("a/b/run.sh");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("permissions");
        let replaced = write(&place, "./a/b/run.sh", "three").expect("replaced");
        assert!(replaced.text.starts_with("Replaced"), "{}", replaced.text);
        let change = replaced.change.expect("shown");
        assert_eq!(change.before.as_deref(), Some("one\ntwo\n"));
        assert_eq!((change.path.as_path(), change.after.as_str()), (path.as_path(), "three"));
        let mode = path.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "permissions stay");
    }

    #[test]
    fn what_cannot_be_written_is_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Place::new(directory.path().to_owned(), Gate::default());
        assert!(matches!(write(&place, ".", "x"), Err(Error::Directory { .. })));
        write(&place, "file", "x").expect("made");
        let error = write(&place, "file/below", "x").expect_err("below a file");
        assert!(error.to_string().contains("file"), "{error}");
        let long = write(&place, "long", &"x".repeat(300 * 1024)).expect("made");
        assert_eq!(long.change, None, "too long to be shown");
    }
}
