//! `search`: lines of files that match a regular expression.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::list::{Filter, walk};
use super::{Done, Error, Place, blocking, schema};
use crate::dialect::Definition;
use crate::text::prefix;

const MATCHES: usize = 200;
const LINE_BYTES: usize = 300;
/// Bigger files are hardly written by people.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
const TIME: Duration = Duration::from_secs(30);

/// Arguments of `search`.
#[derive(Debug, Deserialize)]
pub struct Arguments {
    #[serde(alias = "regex", alias = "query")]
    pub(super) pattern: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default, alias = "include")]
    glob: Option<String>,
    #[serde(default)]
    ignore_case: bool,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "search",
        description: "Find lines that match a regular expression in the files of a directory and below. \
                      Files that git ignores, binary files and files over 8 MB are left out. At most \
                      200 lines.",
        schema: schema(
            &json!({
                "pattern": { "type": "string", "description": "Regular expression, matched within lines" },
                "path": { "type": "string", "description": "Directory or file; the workspace if missing" },
                "glob": { "type": "string", "description": "Only files like this, such as *.rs" },
                "ignore_case": { "type": "boolean", "description": "Do not tell A from a" },
            }),
            &["pattern"],
        ),
    }
}

pub(super) async fn run(
    arguments: Arguments,
    place: &Place,
    cancel: &CancellationToken,
) -> Result<Done, Error> {
    let cancel = cancel.clone();
    blocking(place, move |place| search(&arguments, place, &cancel)).await
}

fn search(arguments: &Arguments, place: &Place, cancel: &CancellationToken) -> Result<Done, Error> {
    let pattern = RegexBuilder::new(&arguments.pattern)
        .case_insensitive(arguments.ignore_case)
        .multi_line(true)
        .crlf(true)
        .build()
        .map_err(|source| Error::Pattern { source })?;
    let shown = arguments.path.as_deref().unwrap_or(".");
    let path = place.resolve(shown);
    if !path.exists() {
        return Err(Error::NotFound { path: shown.to_owned(), hint: String::new() });
    }
    let deadline = Instant::now() + TIME;
    let mut found = Vec::new();
    let filter = Filter::new(&path, arguments.glob.as_deref())?;
    for entry in walk(&path).build() {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        if found.len() > MATCHES || Instant::now() > deadline {
            break;
        }
        // What cannot be looked into is left out, as by every such tool.
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_some_and(|kind| kind.is_file())
            && filter.takes(entry.path())
            && let Some(content) = content(entry.path())
        {
            matches(&place.show(entry.path()), &content, &pattern, &mut found);
        }
    }
    Ok(answer(found, Instant::now() > deadline))
}

fn answer(mut found: Vec<String>, late: bool) -> Done {
    let more = found.len() > MATCHES;
    found.truncate(MATCHES);
    let mut text = if found.is_empty() { "(no line matches)".to_owned() } else { found.join("\n") };
    if more {
        text.push_str("\n[more than 200 lines match; narrow the search down]");
    } else if late {
        text.push_str("\n[stopped after 30 seconds; narrow the search down]");
    }
    Done::saying(text)
}

fn content(path: &Path) -> Option<Vec<u8>> {
    let mut file = std::fs::File::open(path).ok()?;
    if file.metadata().ok()?.len() > FILE_BYTES || super::read::is_binary(&mut file).ok()? {
        return None;
    }
    let mut content = Vec::new();
    file.take(FILE_BYTES).read_to_end(&mut content).ok()?;
    Some(content)
}

/// Each matching line once, counted from 1. The pattern runs over the whole file, which is much
/// faster than line by line when there are few matches.
fn matches(name: &str, content: &[u8], pattern: &Regex, found: &mut Vec<String>) {
    let (mut number, mut counted, mut next) = (1, 0, 0);
    while found.len() <= MATCHES && next <= content.len() {
        let Some(hit) = pattern.find_at(content, next) else { return };
        // An empty match after the last line end is on no line.
        if hit.start() == content.len() && content.last().is_none_or(|byte| *byte == b'\n') {
            return;
        }
        let newline = |byte: &u8| *byte == b'\n';
        let start = content[..hit.start()].iter().rposition(newline).map_or(0, |p| p + 1);
        let end = content[hit.start()..]
            .iter()
            .position(newline)
            .map_or(content.len(), |position| hit.start() + position);
        number += content[counted..start].split(newline).count() - 1;
        counted = start;
        let line = String::from_utf8_lossy(&content[start..end]);
        found.push(format!("{name}:{number}: {}", prefix(line.trim_end(), LINE_BYTES)));
        next = end + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Gate;

    fn place() -> (tempfile::TempDir, Place) {
        let directory = tempfile::tempdir().expect("a directory");
        let place = Place::new(directory.path().to_owned(), Gate::default());
        for (path, content) in [
            ("a.rs", &b"fn one() {}\r\n\nfn two() {}\n"[..]),
            ("sub/b.txt", b"nothing\nfn three\n"),
            ("binary", b"fn \0"),
            (".hidden", b"fn hidden"),
            (".git/config", b"fn git"),
        ] {
            let path = directory.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        (directory, place)
    }

    fn find(place: &Place, arguments: &str) -> Result<String, Error> {
        let arguments = serde_json::from_str(arguments).expect("arguments");
        search(&arguments, place, &CancellationToken::new()).map(|done| done.text)
    }

    #[test]
    fn matching_lines_are_found() {
        let (_directory, place) = place();
        for (arguments, expected) in [
            (
                r#"{"pattern":"^fn \\w+"}"#,
                ".hidden:1: fn hidden\na.rs:1: fn one() {}\na.rs:3: fn two() {}\nsub/b.txt:2: fn three",
            ),
            (r#"{"pattern":"FN T","ignore_case":true,"glob":"*.rs"}"#, "a.rs:3: fn two() {}"),
            (r#"{"pattern":"fn","path":"sub"}"#, "sub/b.txt:2: fn three"),
            (r#"{"pattern":"\\}$","path":"a.rs"}"#, "a.rs:1: fn one() {}\na.rs:3: fn two() {}"),
            (
                r#"{"pattern":"n","path":"sub/b.txt"}"#,
                "sub/b.txt:1: nothing\nsub/b.txt:2: fn three",
            ),
            (r#"{"pattern":"^$","path":"a.rs"}"#, "a.rs:2: "),
            (r#"{"pattern":"zzz"}"#, "(no line matches)"),
        ] {
            assert_eq!(find(&place, arguments).expect("found"), expected, "{arguments}");
        }
    }

    #[test]
    fn too_many_matches_are_cut_and_wrong_patterns_explained() {
        let (directory, place) = place();
        std::fs::write(directory.path().join("many"), "x\n".repeat(1000)).expect("written");
        let text = find(&place, r#"{"pattern":"x"}"#).expect("found");
        assert_eq!(text.lines().count(), MATCHES + 1);
        assert!(text.ends_with("narrow the search down]"));
        assert!(matches!(find(&place, r#"{"pattern":"("}"#), Err(Error::Pattern { .. })));
        assert!(matches!(
            find(&place, r#"{"pattern":"x","path":"no"}"#),
            Err(Error::NotFound { .. })
        ));
    }
}
