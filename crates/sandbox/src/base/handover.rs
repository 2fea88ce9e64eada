//! What the store of base images and `hangar-launch unpack` tell each other.
//!
//! The launcher reads the compressed layer from standard input, gets an [`Order`] as its argument,
//! and prints one [`Answer`] as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::container::handover::Failure;

/// One layer to unpack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// An empty directory that belongs to root inside.
    pub destination: PathBuf,
    /// The unpacked layers beneath, the topmost first: what the archive does not say about a
    /// directory is taken from them.
    pub below: Vec<PathBuf>,
    /// The host's user id of root inside.
    pub uid: u32,
    /// The host's group id of root inside.
    pub gid: u32,
    /// Ids that exist inside; 1 for a server that is an ordinary user.
    pub count: u32,
    /// What the archive may amount to.
    pub bounds: Bounds,
}

/// What an archive may amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Bytes of the unpacked archive.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
}

/// What the launcher says at its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The layer is there.
    Unpacked(Unpacked),
    /// The archive is not one that is unpacked.
    Refused(Refused),
    /// The machine did not do what was needed.
    Failed(Failure),
}

/// An unpacked layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unpacked {
    /// The digest of the uncompressed archive: `sha256:…`.
    pub diff_id: String,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
    /// Entries whose owner does not exist inside; they belong to root.
    pub owners_changed: u64,
    /// Extended attributes that were left out because only `user.` ones can be kept.
    pub attributes_dropped: u64,
    /// Device nodes beneath `/dev`, which no sandbox sees: each has its own `/dev`.
    pub devices_skipped: u64,
}

/// An archive that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("its entry {path:?} {reason}")]
pub struct Refused {
    /// The entry, shortened, as the archive names it.
    pub path: String,
    /// What is wrong with it.
    pub reason: Refusal,
}

/// Why an archive is refused. Closed: whatever is not named here is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// `/etc/passwd`.
    #[error("has an absolute path")]
    AbsolutePath,
    /// `../../etc/passwd`.
    #[error("climbs with `..`")]
    Climbs,
    /// A name of more than 255 bytes, a path or link of more than 4095, or one with a NUL.
    #[error("has a name that is too long or not a name")]
    BadName,
    /// An extended header of megabytes.
    #[error("has a header that is too large")]
    HugeHeader,
    /// `link/file` where `link` is a symbolic link, of this archive or of a layer beneath.
    #[error("lies beneath a symbolic link")]
    BeneathLink,
    /// `file/more`.
    #[error("lies beneath something that is not a directory")]
    BeneathFile,
    /// A second entry of this path is a directory where the first was none, or the other way round.
    #[error("is a directory in one place of the archive and none in another")]
    KindChanged,
    /// A block or character device outside `/dev`.
    #[error("is a device node")]
    DeviceNode,
    /// A hard link whose target is not among the earlier entries of this archive.
    #[error("is a hard link to nothing in this archive")]
    LinkToNothing,
    /// A hard link to a symbolic link, a directory or another special file.
    #[error("is a hard link to something that is no regular file")]
    LinkToSpecial,
    /// `.wh.`, `.wh...` or a mark in the form that only the unpacker writes.
    #[error("is a malformed mark of a deletion")]
    BadWhiteout,
    /// An extended attribute that would speak to the overlay file system.
    #[error("carries an attribute of the overlay file system")]
    OverlayAttribute,
    /// A kind of entry that no image needs.
    #[error("is of an unknown kind")]
    UnknownKind,
    /// A checksum, a number or a length that cannot be.
    #[error("has a damaged header, or the archive ends within it")]
    Damaged,
    /// More bytes than allowed.
    #[error("makes the layer larger than is allowed")]
    TooManyBytes,
    /// More entries than allowed.
    #[error("makes the layer's entries more than are allowed")]
    TooManyEntries,
}
