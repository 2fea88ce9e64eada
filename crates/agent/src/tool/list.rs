//! `list`: what is in a directory, or which files match a glob.

use ignore::WalkBuilder;
use ignore::overrides::{Override, OverrideBuilder};
use serde::Deserialize;
use serde_json::json;
use std::path::Path;
use tokio_util::sync::CancellationToken;

use super::{Done, Error, Place, blocking, schema};
use crate::dialect::Definition;

const ENTRIES: usize = 500;

/// Arguments of `list`.
#[derive(Debug, Deserialize)]
pub struct Arguments {
    #[serde(default, alias = "directory")]
    path: Option<String>,
    #[serde(default, alias = "pattern")]
    glob: Option<String>,
}

impl Arguments {
    pub(super) fn title(&self) -> String {
        let path = self.path.as_deref().unwrap_or(".");
        match &self.glob {
            Some(glob) => format!("{glob} in {path}"),
            None => path.to_owned(),
        }
    }
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "list",
        description: "List a directory, or with glob find files in it and everything below. Files that \
                      git ignores are left out when a glob is given. At most 500 entries.",
        schema: schema(
            &json!({
                "path": { "type": "string", "description": "The directory; the workspace if missing" },
                "glob": { "type": "string", "description": "Such as *.rs or src/**/*.ts" },
            }),
            &[],
        ),
    }
}

pub(super) async fn run(
    arguments: Arguments,
    place: &Place,
    cancel: &CancellationToken,
) -> Result<Done, Error> {
    let cancel = cancel.clone();
    blocking(place, move |place| {
        let shown = arguments.path.as_deref().unwrap_or(".");
        let path = place.resolve(shown);
        let metadata = path.metadata().map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => {
                Error::NotFound { path: shown.to_owned(), hint: String::new() }
            }
            _ => Error::Io { doing: "list", path: path.clone(), source },
        })?;
        if !metadata.is_dir() {
            return Ok(Done::saying(format!("{shown} is a file of {} bytes.", metadata.len())));
        }
        match &arguments.glob {
            Some(glob) => find(place, &path, glob, &cancel),
            None => entries(&path),
        }
    })
    .await
}

fn entries(path: &Path) -> Result<Done, Error> {
    let io = |source| Error::Io { doing: "list", path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in path.read_dir().map_err(io)? {
        let entry = entry.map_err(io)?;
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push(format!("{}{slash}", entry.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(answer(&names, "(the directory is empty)"))
}

fn find(place: &Place, path: &Path, glob: &str, cancel: &CancellationToken) -> Result<Done, Error> {
    let mut names = Vec::new();
    let filter = Filter::new(path, Some(glob))?;
    for entry in walk(path).build() {
        if cancel.is_cancelled() {
            return Err(Error::Cancelled);
        }
        // What cannot be looked into is left out, as by every such tool.
        let Ok(entry) = entry else { continue };
        if entry.file_type().is_some_and(|kind| !kind.is_dir()) && filter.takes(entry.path()) {
            names.push(place.show(entry.path()));
        }
        if names.len() > ENTRIES {
            break;
        }
    }
    Ok(answer(&names, "(no file matches)"))
}

fn answer(names: &[String], nothing: &str) -> Done {
    if names.is_empty() {
        return Done::saying(nothing);
    }
    let mut text = names[..names.len().min(ENTRIES)].join("\n");
    if names.len() > ENTRIES {
        text.push_str("\n[more than 500 entries; narrow it down]");
    }
    Done::saying(text)
}

/// A walk in order of names over everything git does not ignore, dot files included.
pub(super) fn walk(path: &Path) -> WalkBuilder {
    let mut builder = WalkBuilder::new(path);
    builder
        .hidden(false)
        .require_git(false)
        .sort_by_file_name(std::cmp::Ord::cmp)
        .filter_entry(|entry| entry.file_name() != ".git");
    builder
}

/// Which files a glob means. Asked after the walk, because a glob within it would bring back what
/// git ignores.
pub(super) struct Filter(Option<Override>);

impl Filter {
    pub(super) fn new(path: &Path, glob: Option<&str>) -> Result<Self, Error> {
        let Some(glob) = glob.filter(|glob| !glob.is_empty()) else { return Ok(Self(None)) };
        let wrong = |source| Error::Glob { glob: glob.to_owned(), source };
        let mut builder = OverrideBuilder::new(path);
        builder.add(glob.trim_start_matches("./")).map_err(wrong)?;
        Ok(Self(Some(builder.build().map_err(wrong)?)))
    }

    pub(super) fn takes(&self, file: &Path) -> bool {
        self.0.as_ref().is_none_or(|glob| !glob.matched(file, false).is_ignore())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Gate;

    async fn list(place: &Place, path: Option<&str>, glob: Option<&str>) -> Result<String, Error> {
        let arguments = Arguments { path: path.map(str::to_owned), glob: glob.map(str::to_owned) };
        run(arguments, place, &CancellationToken::new()).await.map(|done| done.text)
    }

    #[tokio::test]
    async fn directories_and_globs_are_listed_in_order() {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |path: &str| directory.path().join(path);
        std::fs::create_dir_all(at("src/deep")).expect("made");
        std::fs::create_dir_all(at(".git")).expect("made");
        for (path, content) in [
            ("b.txt", ""),
            ("src/a.rs", ""),
            ("src/deep/b.rs", ""),
            ("ignored.rs", ""),
            (".git/x.rs", ""),
            (".gitignore", "ignored.rs\n"),
        ] {
            std::fs::write(at(path), content).expect("written");
        }
        let place = Place::new(directory.path().to_owned(), Gate::default());
        assert_eq!(
            list(&place, None, None).await.expect("listed"),
            ".git/\n.gitignore\nb.txt\nignored.rs\nsrc/"
        );
        let found = list(&place, None, Some("*.rs")).await.expect("listed");
        assert_eq!(found, "src/a.rs\nsrc/deep/b.rs");
        let found = list(&place, Some("src"), Some("deep/*")).await.expect("listed");
        assert_eq!(found, "src/deep/b.rs");
        assert_eq!(
            list(&place, Some("src"), Some("*.py")).await.expect("listed"),
            "(no file matches)"
        );
        assert!(list(&place, Some("b.txt"), None).await.expect("told").contains("is a file"));
        assert!(matches!(list(&place, Some("no"), None).await, Err(Error::NotFound { .. })));
        assert!(matches!(list(&place, None, Some("a{b")).await, Err(Error::Glob { .. })));
    }
}
