//! Why a base image cannot be used.

use std::path::{Path, PathBuf};

use super::handover::Refused;

/// Why a base image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that names no image.
    #[error(
        "`{text}` names no base image: {why}; use `host`, `registry/name:tag`, `oci:/directory:tag` or `archive:/file.tar`"
    )]
    Reference {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The registry did not give what was asked for.
    #[error("cannot fetch {what} of {reference}: {why}; {hint}")]
    Registry {
        /// `the manifest`, `layer sha256:…`.
        what: String,
        /// Of which image.
        reference: String,
        /// The registry's answer.
        why: String,
        /// What to try.
        hint: &'static str,
    },
    /// The credentials for a registry cannot be used.
    #[error("cannot use the credentials for {registry}: {why}; log in again with `docker login`")]
    Credentials {
        /// The registry.
        registry: String,
        /// Why, without the credentials.
        why: String,
    },
    /// The image is for other machines only.
    #[error("{reference} has no image for linux/{architecture}: it has {offered}")]
    Platform {
        /// Of which image.
        reference: String,
        /// This machine's.
        architecture: &'static str,
        /// What there is.
        offered: String,
    },
    /// The image's parts cannot be understood.
    #[error("{reference} is not an image that can be used: {why}")]
    Malformed {
        /// Which image.
        reference: String,
        /// What is wrong with it.
        why: String,
    },
    /// Content that is not what its digest says.
    #[error("{what} is not what was promised: its digest is {actual}, not {expected}; pull again")]
    Digest {
        /// Which content.
        what: String,
        /// What was promised.
        expected: String,
        /// What came.
        actual: String,
    },
    /// More bytes than are taken.
    #[error("{what} has {bytes} bytes; at most {maximum} are taken")]
    TooLarge {
        /// Which content.
        what: String,
        /// How many it has, as far as was counted.
        bytes: u64,
        /// The limit.
        maximum: u64,
    },
    /// A layer's archive is refused.
    #[error("layer {layer} is refused: {refused}")]
    Refused {
        /// Its digest.
        layer: String,
        /// What is wrong with it.
        #[source]
        refused: Refused,
    },
    /// The unpacker could not do its work.
    #[error("cannot unpack layer {layer}: {step}: {source}; run `hangar doctor`")]
    Unpacker {
        /// Its digest.
        layer: String,
        /// What was being done.
        step: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file could not be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    Files {
        /// `read`, `write` …
        doing: &'static str,
        /// Which one.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Turns the system's error into one that says what was done to which path.
pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Files { doing, path, source }
}

impl From<crate::Error> for Error {
    fn from(error: crate::Error) -> Self {
        match error {
            crate::Error::Files { doing, path, source } => Self::Files { doing, path, source },
            error => Self::Files {
                doing: "use",
                path: PathBuf::new(),
                source: std::io::Error::other(error),
            },
        }
    }
}
