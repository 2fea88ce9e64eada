//! `edit`: replace an exact piece of a file.

mod nearest;

use std::io::Read;

use serde::Deserialize;
use serde_json::json;

use super::{Done, Error, Place, read, schema, write};
use crate::dialect::Definition;

/// A bigger file is hardly one that people write.
const BYTES: u64 = 16 * 1024 * 1024;

/// Arguments of `edit`.
#[derive(Debug, Deserialize)]
pub struct Arguments {
    #[serde(alias = "file_path", alias = "filePath")]
    pub(super) path: String,
    #[serde(alias = "oldString", alias = "old_text", alias = "oldText")]
    old_string: String,
    #[serde(alias = "newString", alias = "new_text", alias = "newText")]
    new_string: String,
    #[serde(default, alias = "replaceAll")]
    replace_all: bool,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "edit",
        description: "Replace an exact piece of a text file. old_string must occur exactly once, \
                      indentation included, unless replace_all is set; take it from read without the \
                      line numbers.",
        schema: schema(
            &json!({
                "path": { "type": "string", "description": "The file, relative to the workspace or absolute" },
                "old_string": { "type": "string", "description": "The exact text to replace" },
                "new_string": { "type": "string", "description": "The text in its place" },
                "replace_all": { "type": "boolean", "description": "Replace every occurrence" },
            }),
            &["path", "old_string", "new_string"],
        ),
    }
}

pub(super) fn run(arguments: &Arguments, place: &Place) -> Result<Done, Error> {
    let path = place.resolve(&arguments.path);
    let (mut file, metadata) = read::open(&arguments.path, &path, place)?;
    let shown = || arguments.path.clone();
    if metadata.len() > BYTES {
        return Err(Error::TooBig { path: shown(), bytes: metadata.len() });
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|source| Error::Io {
        doing: "read",
        path: path.clone(),
        source,
    })?;
    // Anything but UTF-8 would be damaged by being written back.
    let before = String::from_utf8(bytes)
        .map_err(|_| Error::Binary { path: shown(), bytes: metadata.len() })?;
    let (after, count, line) = replace(&before, arguments)?;
    write::save(&path, &after)?;
    let name = place.show(&path);
    let text = match count {
        1 => format!("Edited {name} at line {line}."),
        _ => format!("Edited {name} in {count} places, first at line {line}."),
    };
    Ok(Done { text, failed: false, change: write::change(path, Some(before), after, true) })
}

/// The new content, how many pieces were replaced, and the line of the first one.
fn replace(before: &str, arguments: &Arguments) -> Result<(String, usize, usize), Error> {
    let (mut old, mut new) = (arguments.old_string.clone(), arguments.new_string.clone());
    if old.is_empty() {
        let problem = "old_string is empty; use write to make a file or to replace all of it";
        return Err(Error::PointlessEdit { problem });
    }
    if old == new {
        let problem = "old_string and new_string are the same, so nothing would change";
        return Err(Error::PointlessEdit { problem });
    }
    // Models see and write plain line ends; the file keeps its own.
    if !before.contains(&old) && before.contains("\r\n") && !old.contains('\r') {
        old = old.replace('\n', "\r\n");
        new = new.replace('\n', "\r\n");
    }
    let places: Vec<_> = before.match_indices(&old).map(|(position, _)| position).collect();
    let line = |position: usize| before[..position].matches('\n').count() + 1;
    let path = || arguments.path.clone();
    match places.as_slice() {
        [] => {
            Err(Error::NoMatch { path: path(), hint: nearest::hint(before, &arguments.old_string) })
        }
        [first, _, ..] if !arguments.replace_all => {
            let lines: Vec<_> = places.iter().take(10).map(|p| line(*p).to_string()).collect();
            debug_assert!(*first < before.len());
            Err(Error::ManyMatches { path: path(), count: places.len(), lines: lines.join(", ") })
        }
        [first, ..] => Ok((before.replace(&old, &new), places.len(), line(*first))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Gate;

    fn edit(content: &[u8], old: &str, new: &str, all: bool) -> (Result<Done, Error>, Vec<u8>) {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Place::new(directory.path().to_owned(), Gate::default());
        let file = directory.path().join("f");
        std::fs::write(&file, content).expect("a file");
        let arguments = Arguments {
            path: "f".into(),
            old_string: old.into(),
            new_string: new.into(),
            replace_all: all,
        };
        (run(&arguments, &place), std::fs::read(file).expect("still there"))
    }

    #[test]
    fn exact_pieces_are_replaced() {
        for (content, old, new, all, expected, said) in [
            ("a\nb\nc\n", "b", "x\ny", false, "a\nx\ny\nc\n", "Edited f at line 2."),
            ("a b a", "a", "x", true, "x b x", "Edited f in 2 places, first at line 1."),
            ("a\r\nb\r\nc", "a\nb", "x\ny", false, "x\r\ny\r\nc", "Edited f at line 1."),
            ("ab", "b", "", false, "a", "Edited f at line 1."),
            ("price", "price", "$1 ${0} \\n", false, "$1 ${0} \\n", "Edited f at line 1."),
        ] {
            let (done, after) = edit(content.as_bytes(), old, new, all);
            assert_eq!(done.expect("edited").text, said);
            assert_eq!(String::from_utf8(after).expect("text"), expected);
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_explained_and_left_alone() {
        for (content, old, new, said) in [
            (&b"a\na\na"[..], "a", "b", "occurs 3 times in f (at lines 1, 2, 3)"),
            (b"alpha", "beta", "x", "was not found in f"),
            (b"alpha", "", "x", "use write"),
            (b"alpha", "alpha", "alpha", "are the same"),
            (b"\xff\xfe\x00", "a", "b", "binary file of 3 bytes"),
        ] {
            let (done, after) = edit(content, old, new, false);
            let error = done.expect_err("no edit").to_string();
            assert!(error.contains(said), "{error}");
            assert_eq!(after, content);
        }
    }
}
