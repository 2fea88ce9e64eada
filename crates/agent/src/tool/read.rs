//! `read`: numbered lines of a text file, within bounds whatever the file's size.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use super::{Done, Error, Place, schema};
use crate::dialect::Definition;
use crate::text::prefix;

const LINES: u64 = 2000;
const LINE_BYTES: usize = 2000;
const BYTES: usize = 64 * 1024;
/// Bytes that are looked at to tell text from other things.
const SAMPLE: u64 = 8 * 1024;
/// The end of a bigger file is not looked for.
const COUNTED_BYTES: u64 = 64 * 1024 * 1024;

/// Arguments of `read`.
#[derive(Debug, Deserialize)]
pub struct Arguments {
    #[serde(alias = "file_path", alias = "filePath")]
    pub(super) path: String,
    #[serde(default)]
    offset: Option<u64>,
    #[serde(default)]
    limit: Option<u64>,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "read",
        description: "Read a text file. Lines come numbered; the number and the tab after it are not \
                      part of the file. At most 2000 lines at once: use offset and limit for more.",
        schema: schema(
            &json!({
                "path": { "type": "string", "description": "The file, relative to the workspace or absolute" },
                "offset": { "type": "integer", "description": "First line, counted from 1" },
                "limit": { "type": "integer", "description": "Number of lines" },
            }),
            &["path"],
        ),
    }
}

pub(super) fn run(arguments: &Arguments, place: &Place) -> Result<Done, Error> {
    let path = place.resolve(&arguments.path);
    let (mut file, metadata) = open(&arguments.path, &path, place)?;
    let io = |source| Error::Io { doing: "read", path: path.clone(), source };
    if is_binary(&mut file).map_err(io)? {
        return Err(Error::Binary { path: arguments.path.clone(), bytes: metadata.len() });
    }
    let first = arguments.offset.unwrap_or(1).max(1);
    let limit = arguments.limit.unwrap_or(LINES).clamp(1, LINES);
    let page = page(BufReader::with_capacity(64 * 1024, file), first, limit).map_err(io)?;
    if page.shown == 0 && first > 1 {
        let (path, lines) = (arguments.path.clone(), page.seen);
        return Err(Error::PastTheEnd { path, lines, wanted: first });
    }
    if page.seen == 0 {
        return Ok(Done::saying("(the file is empty)"));
    }
    let mut text = page.text;
    if page.more {
        let next = first + page.shown;
        let of = if page.counted { format!(" of {}", page.seen) } else { String::new() };
        let _ = write!(text, "\n[lines {first} to {}{of}; go on with offset {next}]", next - 1);
    }
    Ok(Done::saying(text))
}

/// Opens a regular file; everything else gets an error that says what is there.
pub(super) fn open(shown: &str, path: &Path, place: &Place) -> Result<(File, Metadata), Error> {
    let io = |source| Error::Io { doing: "read", path: path.to_owned(), source };
    // Looked at before it is opened: opening a pipe would wait for its other end.
    let metadata = match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NotFound { path: shown.to_owned(), hint: neighbours(path, place) });
        }
        other => other.map_err(io)?,
    };
    if metadata.is_dir() {
        return Err(Error::Directory { path: shown.to_owned() });
    }
    if !metadata.is_file() {
        return Err(Error::Special { path: shown.to_owned() });
    }
    Ok((File::open(path).map_err(io)?, metadata))
}

/// Names near a missing file: the same name in another case or with another ending, else nothing.
fn neighbours(path: &Path, place: &Place) -> String {
    let Some(parent) = path.parent() else { return String::new() };
    let Ok(entries) = parent.read_dir() else {
        return format!(", and neither does the directory {}", place.show(parent));
    };
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase());
    let wanted = stem(path);
    let mut near: Vec<_> = entries
        .take(10_000)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|entry| stem(entry) == wanted)
        .map(|entry| place.show(&entry))
        .take(5)
        .collect();
    near.sort();
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

/// Text has no zero bytes near its beginning.
pub(super) fn is_binary(file: &mut File) -> std::io::Result<bool> {
    let mut sample = Vec::new();
    file.by_ref().take(SAMPLE).read_to_end(&mut sample)?;
    file.rewind()?;
    Ok(sample.contains(&0))
}

#[derive(Debug, Default)]
struct Page {
    text: String,
    /// Lines in `text`.
    shown: u64,
    /// Lines passed, up to the end if `counted`.
    seen: u64,
    more: bool,
    counted: bool,
}

/// Reads lines without ever holding a whole one: a line can be as long as the file.
fn page(mut reader: impl BufRead, first: u64, limit: u64) -> std::io::Result<Page> {
    let mut page = Page::default();
    let mut read = 0;
    let mut full = false;
    loop {
        let wanted = page.seen + 1 >= first && page.shown < limit && !full;
        let Some(line) = line(&mut reader, if wanted { LINE_BYTES } else { 0 }, &mut read)? else {
            page.counted = true;
            break;
        };
        page.seen += 1;
        if wanted {
            let text = String::from_utf8_lossy(&line.kept);
            let text = prefix(&text, LINE_BYTES).trim_end_matches('\r');
            if page.text.len() + text.len() > BYTES && page.shown > 0 {
                full = true;
                page.more = true;
                continue;
            }
            let cut = if line.length > LINE_BYTES as u64 {
                format!(" [… {} bytes of this line left out]", line.length - LINE_BYTES as u64)
            } else {
                String::new()
            };
            if page.shown > 0 {
                page.text.push('\n');
            }
            let _ = write!(page.text, "{:>6}\t{text}{cut}", page.seen);
            page.shown += 1;
        } else if page.seen >= first {
            page.more = true;
            if read > COUNTED_BYTES {
                break;
            }
        }
    }
    Ok(page)
}

struct Line {
    kept: Vec<u8>,
    length: u64,
}

/// The next line, of which the first `keep` bytes are kept.
fn line(reader: &mut impl BufRead, keep: usize, read: &mut u64) -> std::io::Result<Option<Line>> {
    let mut line = Line { kept: Vec::new(), length: 0 };
    let mut any = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any.then_some(line));
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        let room = keep - line.kept.len();
        line.kept.extend_from_slice(&piece[..room.min(piece.len())]);
        line.length += piece.len() as u64;
        let used = end.map_or(buffer.len(), |end| end + 1);
        reader.consume(used);
        *read += used as u64;
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests;
