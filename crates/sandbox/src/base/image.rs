//! The documents of an image: index, manifest and configuration, as far as they are used.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Error;

/// Bytes of one document at most; real ones have some kilobytes.
pub(super) const DOCUMENT_BYTES: u64 = 4 << 20;
/// Layers of one image at most: an overlay holds no more than 500.
const LAYERS: usize = 128;
/// Kinds of manifests that are understood.
pub(super) const MANIFESTS: [&str; 4] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A pointer to content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// For which machines something is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Platform {
    pub(super) architecture: String,
    pub(super) os: String,
}

/// An index or a manifest; registries do not always say which beforehand.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    #[serde(default)]
    pub(super) schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) manifests: Option<Vec<Descriptor>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) config: Option<Descriptor>,
    #[serde(default)]
    pub(super) layers: Vec<Descriptor>,
}

/// An image's configuration.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Configuration {
    #[serde(default)]
    pub(super) config: Option<Run>,
    pub(super) rootfs: RootFs,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Run {
    pub(super) env: Option<Vec<String>>,
    pub(super) user: Option<String>,
    pub(super) working_dir: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct RootFs {
    #[serde(default)]
    pub(super) diff_ids: Vec<String>,
}

/// This machine, as images call it.
pub(super) const fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") {
        "amd64"
    } else if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        std::env::consts::ARCH
    }
}

pub(super) fn parse<'a, T: Deserialize<'a>>(
    reference: &str,
    what: &str,
    text: &'a [u8],
) -> Result<T, Error> {
    serde_json::from_slice(text).map_err(|error| malformed(reference, format!("{what}: {error}")))
}

pub(super) fn malformed(reference: &str, why: impl Into<String>) -> Error {
    Error::Malformed { reference: reference.to_owned(), why: why.into() }
}

/// The entry of an index that is for this machine.
pub(super) fn select<'a>(
    reference: &str,
    entries: &'a [Descriptor],
) -> Result<&'a Descriptor, Error> {
    let fits = |entry: &&Descriptor| {
        let known = entry.platform.as_ref();
        known.is_some_and(|it| it.os == "linux" && it.architecture == architecture())
    };
    if let Some(entry) = entries.iter().find(fits) {
        return Ok(entry);
    }
    if let [only] = entries
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let offered: Vec<String> = entries
        .iter()
        .take(20)
        .filter_map(|entry| entry.platform.as_ref())
        .map(|it| format!("{}/{}", it.os, it.architecture))
        .collect();
    let offered = if offered.is_empty() { "none".to_owned() } else { offered.join(", ") };
    let (reference, architecture) = (reference.to_owned(), architecture());
    Err(Error::Platform { reference, architecture, offered })
}

/// The configuration and the layers of a manifest, if they fit together.
pub(super) fn require_image(
    reference: &str,
    manifest: Manifest,
) -> Result<(Descriptor, Vec<Descriptor>), Error> {
    let Some(config) = manifest.config else {
        return Err(malformed(reference, "its manifest has no configuration"));
    };
    if manifest.layers.is_empty() || manifest.layers.len() > LAYERS {
        let why = format!("it has {} layers; 1 to {LAYERS} can be used", manifest.layers.len());
        return Err(malformed(reference, why));
    }
    for layer in manifest.layers.iter().chain([&config]) {
        hexadecimal(&layer.digest).ok_or_else(|| {
            malformed(reference, format!("{:?} is no sha256 digest", layer.digest))
        })?;
    }
    let odd = manifest.layers.iter().find(|layer| {
        layer.media_type.contains("encrypted") || layer.media_type.contains("foreign")
    });
    if let Some(odd) = odd {
        return Err(malformed(reference, format!("a layer is {}", odd.media_type)));
    }
    Ok((config, manifest.layers))
}

/// The digits of a digest; nothing else may become a file's name.
pub(super) fn hexadecimal(digest: &str) -> Option<&str> {
    let digits = digest.strip_prefix("sha256:")?;
    let plain = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (digits.len() == 64 && plain).then_some(digits)
}

/// A digest as text.
pub(super) fn digest(hash: Sha256) -> String {
    use std::fmt::Write as _;
    hash.finalize().iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _never_fails = write!(text, "{byte:02x}");
        text
    })
}

/// The digest of some bytes.
pub(super) fn digest_of(bytes: &[u8]) -> String {
    digest(Sha256::new_with_prefix(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_digests_become_names() {
        let good = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(hexadecimal(&good).map(str::len), Some(64));
        let bad = ["sha256:../../etc/passwd", "sha256:", "sha512:00", "", &good.to_uppercase()];
        assert!(bad.iter().all(|text| hexadecimal(text).is_none()));
        assert_eq!(
            digest_of(b""),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn the_machine_s_own_image_is_chosen() {
        let entry = |architecture: &str, os: &str| Descriptor {
            media_type: String::new(),
            digest: architecture.to_owned(),
            size: 0,
            platform: Some(Platform { architecture: architecture.into(), os: os.into() }),
            annotations: None,
        };
        let own = architecture();
        let all = [entry("unknown", "unknown"), entry(own, "windows"), entry(own, "linux")];
        assert_eq!(select("x", &all).expect("there").platform.as_ref().expect("set").os, "linux");
        let error = select("x", &all[..2]).expect_err("none fits").to_string();
        assert!(error.contains("unknown/unknown"), "{error}");
    }
}
