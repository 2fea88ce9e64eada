//! The archive's bytes on their way to the tar reader: counted, hashed, and bounded where that
//! reader is not.
//!
//! The reader takes a long name or an extended header into memory whole, however large it says it
//! is. So the headers are looked at here first, and their claims are checked before they are met.

use std::fmt::Write as _;
use std::io::{Error, Read, Result};

use sandbox::base::handover::{Bounds, Refusal};
use sha2::{Digest as _, Sha256};

const BLOCK: usize = 512;
/// A long name with room to spare; a path may have 4095 bytes.
const NAME_BYTES: u64 = 16 << 10;
/// Extended headers carry attributes as well, of up to 64 KiB each.
const EXTENDED_BYTES: u64 = 1 << 20;

/// What follows in the stream.
#[derive(Debug)]
enum Next {
    /// A header, or the continuation of a sparse one; of which so much is there.
    Header { sparse: bool },
    /// So many bytes of content, padding included.
    Content(u64),
    /// An extended header's content, of which the length is kept, and its padding.
    Extended { remaining: u64, padded: u64 },
    /// Two empty blocks were seen.
    End,
}

/// A reader that refuses.
#[derive(Debug)]
pub(super) struct Guard<R> {
    inner: R,
    bounds: Bounds,
    pub(super) bytes: u64,
    hash: Sha256,
    next: Next,
    block: Vec<u8>,
    extended: Vec<u8>,
    /// The size an extended header gives the next entry.
    size: Option<u64>,
    /// The content after a sparse header's continuations.
    after_sparse: u64,
    was_empty: bool,
    pub(super) refusal: Option<Refusal>,
}

impl<R: Read> Guard<R> {
    pub(super) fn new(inner: R, bounds: Bounds) -> Self {
        Self {
            inner,
            bounds,
            bytes: 0,
            hash: Sha256::new(),
            next: Next::Header { sparse: false },
            block: Vec::with_capacity(BLOCK),
            extended: Vec::new(),
            size: None,
            after_sparse: 0,
            was_empty: false,
            refusal: None,
        }
    }

    /// Reads to the end, so that the digest is of all of it.
    pub(super) fn finish(&mut self) -> Result<String> {
        let mut rest = vec![0; 64 << 10];
        while self.read(&mut rest)? > 0 {}
        let mut text = "sha256:".to_owned();
        for byte in self.hash.clone().finalize() {
            let _never_fails = write!(text, "{byte:02x}");
        }
        Ok(text)
    }

    fn look(&mut self, mut bytes: &[u8]) -> std::result::Result<(), Refusal> {
        while !bytes.is_empty() {
            match &mut self.next {
                Next::End => return Ok(()),
                Next::Header { .. } => {
                    let length = bytes.len().min(BLOCK - self.block.len());
                    self.block.extend_from_slice(&bytes[..length]);
                    bytes = &bytes[length..];
                    if self.block.len() == BLOCK {
                        self.header()?;
                        self.block.clear();
                    }
                }
                Next::Content(remaining) => {
                    let length = part(bytes, *remaining);
                    *remaining -= length as u64;
                    if *remaining == 0 {
                        self.next = Next::Header { sparse: false };
                    }
                    bytes = &bytes[length..];
                }
                Next::Extended { remaining, padded } => {
                    let length = part(bytes, *padded);
                    let kept = part(&bytes[..length], *remaining);
                    self.extended.extend_from_slice(&bytes[..kept]);
                    *remaining -= kept as u64;
                    *padded -= length as u64;
                    if *padded == 0 {
                        self.size = size_in(&self.extended);
                        self.next = Next::Header { sparse: false };
                    }
                    bytes = &bytes[length..];
                }
            }
        }
        Ok(())
    }

    fn header(&mut self) -> std::result::Result<(), Refusal> {
        if matches!(self.next, Next::Header { sparse: true }) {
            // The last-but-seven byte of a continuation says whether another follows.
            let more = self.block[504] != 0;
            self.next =
                if more { Next::Header { sparse: true } } else { content(self.after_sparse) };
            return Ok(());
        }
        if self.block.iter().all(|byte| *byte == 0) {
            self.next = if self.was_empty { Next::End } else { Next::Header { sparse: false } };
            self.was_empty = true;
            return Ok(());
        }
        self.was_empty = false;
        let header = tar::Header::from_byte_slice(&self.block);
        let size = header.entry_size().map_err(|_| Refusal::Damaged)?;
        let padded =
            |size: u64| size.checked_next_multiple_of(BLOCK as u64).ok_or(Refusal::Damaged);
        let kind = header.entry_type();
        if kind.is_gnu_longname() || kind.is_gnu_longlink() {
            if size > NAME_BYTES {
                return Err(Refusal::HugeHeader);
            }
            self.next = content(padded(size)?);
        } else if kind.is_pax_local_extensions() || kind.is_pax_global_extensions() {
            if size > EXTENDED_BYTES {
                return Err(Refusal::HugeHeader);
            }
            self.extended.clear();
            self.next = match padded(size)? {
                0 => Next::Header { sparse: false },
                padded => Next::Extended { remaining: size, padded },
            };
        } else {
            let size = padded(self.size.take().unwrap_or(size))?;
            let sparse = header.as_gnu().filter(|_| kind.is_gnu_sparse());
            self.next = if sparse.is_some_and(tar::GnuHeader::is_extended) {
                self.after_sparse = size;
                Next::Header { sparse: true }
            } else {
                content(size)
            };
        }
        Ok(())
    }
}

fn content(size: u64) -> Next {
    if size == 0 { Next::Header { sparse: false } } else { Next::Content(size) }
}

fn part(bytes: &[u8], at_most: u64) -> usize {
    bytes.len().min(usize::try_from(at_most).unwrap_or(usize::MAX))
}

/// The last one counts.
fn size_in(extended: &[u8]) -> Option<u64> {
    let records = tar::PaxExtensions::new(extended).flatten();
    let size = records.filter(|record| record.key_bytes() == b"size").last()?;
    size.value().ok()?.parse().ok()
}

impl<R: Read> Read for Guard<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        let refused = || Error::other("the archive is refused");
        if self.refusal.is_some() {
            return Err(refused());
        }
        let length = self.inner.read(into)?;
        let bytes = &into[..length];
        self.bytes += length as u64;
        self.hash.update(bytes);
        let looked = if self.bytes > self.bounds.bytes {
            Err(Refusal::TooManyBytes)
        } else {
            self.look(bytes)
        };
        match looked {
            Ok(()) => Ok(length),
            Err(refusal) => {
                self.refusal = Some(refusal);
                Err(refused())
            }
        }
    }
}
