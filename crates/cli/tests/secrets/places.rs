//! Where secrets are looked for from outside: memory and environment of processes, files.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::known::Finder;

/// Something that was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) secret: String,
    pub(crate) found_at: String,
    pub(crate) in_process: bool,
}

/// Bytes read at once.
const PIECE: usize = 1 << 20;
/// A mapping larger than this is address space that was set aside.
const MAPPING: u64 = 1 << 30;

fn note(hits: &mut Vec<Place>, known: &Finder, bytes: &[u8], place: &str, in_process: bool) {
    for secret in known.find(bytes) {
        let hit = Place { secret: secret.to_owned(), found_at: place.to_owned(), in_process };
        if !hits.contains(&hit) {
            hits.push(hit);
        }
    }
}

/// Looks through a process: how many bytes of memory were read.
pub(crate) fn process(pid: i32, command: &str, known: &Finder, hits: &mut Vec<Place>) -> u64 {
    let root = format!("/proc/{pid}");
    let place = format!("{root} ({command})");
    for name in ["environ", "cmdline"] {
        let bytes = std::fs::read(format!("{root}/{name}")).expect("readable from outside");
        note(hits, known, &bytes, &format!("{place} {name}"), true);
    }
    let memory = File::open(format!("{root}/mem")).expect("readable from outside");
    let maps = std::fs::read_to_string(format!("{root}/maps")).expect("readable from outside");
    let mut total = 0;
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let range = words.next().and_then(|range| range.split_once('-')).expect("a range");
        let end = |text| u64::from_str_radix(text, 16).expect("a number");
        let (start, end) = (end(range.0), end(range.1));
        let readable = words.next().is_some_and(|rights| rights.starts_with('r'));
        if !readable || line.ends_with("[vvar]") || line.ends_with("[vvar_vclock]") {
            continue;
        }
        assert!(end - start < MAPPING, "{line}");
        let mut at = start;
        let mut kept: Vec<u8> = Vec::new();
        while at < end {
            let length = PIECE.min(usize::try_from(end - at).expect("small"));
            let mut piece = vec![0; length];
            let Ok(count @ 1..) = memory.read_at(&mut piece, at) else { break };
            kept.extend_from_slice(&piece[..count]);
            note(hits, known, &kept, &format!("{place} memory"), true);
            kept.drain(..kept.len().saturating_sub(known.longest));
            at += count as u64;
            total += count as u64;
        }
    }
    total
}

/// Looks through every file, name and link below a directory.
pub(crate) fn files(directory: &Path, known: &Finder, hits: &mut Vec<Place>) {
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let place = path.to_string_lossy().into_owned();
            note(hits, known, entry.file_name().as_encoded_bytes(), &place, false);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(path),
                Ok(kind) if kind.is_symlink() => {
                    let target = std::fs::read_link(&path).expect("a link");
                    note(hits, known, target.as_os_str().as_encoded_bytes(), &place, false);
                }
                Ok(kind) if kind.is_file() => file(&path, &place, known, hits),
                _ => {}
            }
        }
    }
}

fn file(path: &Path, place: &str, known: &Finder, hits: &mut Vec<Place>) {
    // What goes while the server works was not there to stay.
    let Ok(mut file) = File::open(path) else { return };
    let mut kept: Vec<u8> = Vec::new();
    let mut piece = vec![0; PIECE];
    while let Ok(count @ 1..) = file.read(&mut piece) {
        kept.extend_from_slice(&piece[..count]);
        note(hits, known, &kept, place, false);
        kept.drain(..kept.len().saturating_sub(known.longest));
    }
}
