//! One entry after the other: what it is, whether it is refused, and where it goes.

use std::io::Read;

use sandbox::base::handover::{Answer, Bounds, Refusal, Refused, Unpacked};
use sandbox::container::handover::{Area, Failure};
use tar::{Archive, Entry, EntryType};

use super::guard::Guard;
use super::tree::{Done, Path, Stop, Traits, Tree};
use crate::failure::{Doing, Outcome};

/// Beginning of the marks of deletions.
const WHITEOUT: &[u8] = b".wh.";
/// The mark that hides everything beneath its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Beginning of what only old storage drivers wrote, and means nothing.
const DRIVERS_OWN: &[u8] = b".wh..wh.";
/// Beginning of attributes in extended headers.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

/// Unpacks a layer, compressed or not.
pub(super) fn unpack(input: impl Read, tree: Tree, bounds: Bounds) -> Outcome<Answer> {
    let reader = decompress(input).doing(Area::Other, || "read the layer".into())?;
    let mut work = Work { tree, unpacked: Unpacked::default(), path: Vec::new(), bounds };
    let mut archive = Archive::new(Guard::new(reader, bounds));
    let walked = work.walk(&mut archive);
    let mut guard = archive.into_inner();
    let finished = walked.and_then(|()| {
        work.unpacked.diff_id = guard.finish().map_err(|_| Stop::Reading)?;
        work.tree.finish()
    });
    let refused = |reason| {
        let path: String = String::from_utf8_lossy(&work.path).chars().take(200).collect();
        Ok(Answer::Refused(Refused { path, reason }))
    };
    match (guard.refusal, finished) {
        (Some(reason), _) | (None, Err(Stop::Refused(reason))) => refused(reason),
        // Whatever the reader or the decompressor cannot make sense of.
        (None, Err(Stop::Reading)) => refused(Refusal::Damaged),
        (None, Err(Stop::Machine(errno))) => Err(Failure {
            step: format!("unpack {:?}", String::from_utf8_lossy(&work.path)),
            errno: errno.raw_os_error(),
            area: Area::Other,
        }),
        (None, Ok(())) => {
            work.unpacked.bytes = guard.bytes;
            work.unpacked.owners_changed = work.tree.owners_changed;
            Ok(Answer::Unpacked(work.unpacked))
        }
    }
}

/// By the first bytes: what archives say of themselves elsewhere is often wrong.
fn decompress<'a>(mut input: impl Read + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::new();
    input.by_ref().take(4).read_to_end(&mut magic)?;
    let gzip = magic.starts_with(&[0x1f, 0x8b]);
    let zstd = magic == [0x28, 0xb5, 0x2f, 0xfd];
    let whole = std::io::Cursor::new(magic).chain(input);
    Ok(if gzip {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else if zstd {
        Box::new(zstd::stream::read::Decoder::new(whole)?)
    } else {
        Box::new(whole)
    })
}

#[derive(Debug)]
struct Work {
    tree: Tree,
    unpacked: Unpacked,
    /// The entry at hand, for whoever is told of a failure.
    path: Vec<u8>,
    bounds: Bounds,
}

impl Work {
    fn walk<R: Read>(&mut self, archive: &mut Archive<R>) -> Done<()> {
        for entry in archive.entries().map_err(|_| Stop::Reading)? {
            let mut entry = entry.map_err(|_| Stop::Reading)?;
            self.unpacked.entries += 1;
            self.path = entry.path_bytes().into_owned();
            if self.unpacked.entries > self.bounds.entries {
                return Err(Refusal::TooManyEntries.into());
            }
            self.put(&mut entry)?;
        }
        Ok(())
    }

    fn put<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Done<()> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = parts(&self.path)?;
        if let Some(name) = path.last().filter(|name| name.starts_with(WHITEOUT)) {
            return self.delete(&path, name);
        }
        let traits = self.traits(entry)?;
        match kind {
            EntryType::Directory => self.tree.directory(&path, traits),
            // Archives older than the kind `directory` mark one by its slash.
            EntryType::Regular if self.path.ends_with(b"/") => self.tree.directory(&path, traits),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.tree.file(&path, entry, &traits)
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                self.tree.link(&path, &target, &traits)
            }
            EntryType::Link => {
                let target = parts(&entry.link_name_bytes().unwrap_or_default())?;
                self.tree.hard_link(&path, &target)
            }
            EntryType::Fifo => self.tree.fifo(&path, &traits),
            EntryType::Char | EntryType::Block if path.first().is_some_and(|it| it == b"dev") => {
                self.unpacked.devices_skipped += 1;
                Ok(())
            }
            EntryType::Char | EntryType::Block => Err(Refusal::DeviceNode.into()),
            _ => Err(Refusal::UnknownKind.into()),
        }
    }

    fn delete(&mut self, path: &Path, name: &[u8]) -> Done<()> {
        let above = &path[..path.len() - 1];
        if name == OPAQUE {
            return self.tree.opaque(above);
        }
        if name.starts_with(DRIVERS_OWN) {
            return Ok(());
        }
        match &name[WHITEOUT.len()..] {
            b"" | b"." | b".." => Err(Refusal::BadWhiteout.into()),
            hidden => {
                let mut target = above.to_vec();
                target.push(hidden.to_vec());
                self.tree.whiteout(&target)
            }
        }
    }

    fn traits<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> Done<Traits> {
        let number = |read: std::io::Result<u64>| read.map_err(|_| Refusal::Damaged);
        let header = entry.header();
        let mut traits = Traits {
            mode: header.mode().map_err(|_| Refusal::Damaged)?,
            uid: number(header.uid())?,
            gid: number(header.gid())?,
            seconds: i64::try_from(number(header.mtime())?).map_err(|_| Refusal::Damaged)?,
            ..Traits::default()
        };
        let Some(records) = entry.pax_extensions().map_err(|_| Stop::Reading)? else {
            return Ok(traits);
        };
        for record in records {
            let Ok(record) = record else {
                // A binary value with a line's end in it, which the reader takes apart.
                self.unpacked.attributes_dropped += 1;
                continue;
            };
            let text = || record.value().map_err(|_| Refusal::Damaged);
            match record.key_bytes() {
                b"uid" => traits.uid = text()?.parse().map_err(|_| Refusal::Damaged)?,
                b"gid" => traits.gid = text()?.parse().map_err(|_| Refusal::Damaged)?,
                b"mtime" => (traits.seconds, traits.nanoseconds) = time(text()?)?,
                key if key.starts_with(b"GNU.sparse.") => return Err(Refusal::UnknownKind.into()),
                key if key.starts_with(ATTRIBUTE) => {
                    let name = &key[ATTRIBUTE.len()..];
                    if [&b"user.overlay."[..], b"trusted.overlay."]
                        .iter()
                        .any(|start| name.starts_with(start))
                    {
                        return Err(Refusal::OverlayAttribute.into());
                    }
                    if name.starts_with(b"user.") && name.len() <= 255 && !name.contains(&0) {
                        let value = record.value_bytes().to_vec();
                        traits.attributes.push((name.to_vec(), value));
                    } else {
                        self.unpacked.attributes_dropped += 1;
                    }
                }
                _ => {}
            }
        }
        Ok(traits)
    }
}

/// `12.5`, `-1.25`.
fn time(text: &str) -> Result<(i64, i64), Refusal> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().map_err(|_| Refusal::Damaged)?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: i64 = digits.parse().map_err(|_| Refusal::Damaged)?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Ok((seconds - 1, 1_000_000_000 - nanoseconds));
    }
    Ok((seconds, nanoseconds))
}

/// A name of an archive in its parts, if it is one that stays in the root.
fn parts(name: &[u8]) -> Result<Path, Refusal> {
    if name == b"/" {
        return Ok(Path::new());
    }
    if name.starts_with(b"/") {
        return Err(Refusal::AbsolutePath);
    }
    if name.is_empty() || name.len() > 4095 || name.contains(&0) {
        return Err(Refusal::BadName);
    }
    let parts: Path = name
        .split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect();
    if parts.iter().any(|part| part == b"..") {
        return Err(Refusal::Climbs);
    }
    if parts.iter().any(|part| part.len() > 255) {
        return Err(Refusal::BadName);
    }
    Ok(parts)
}
