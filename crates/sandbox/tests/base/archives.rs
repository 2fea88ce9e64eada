//! Making layers, honest ones and others, and OCI layouts around them.

use std::io::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

/// A layer's archive in the making.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// An entry with a name that no library would write.
    pub(crate) fn entry(mut self, kind: EntryType, name: &str, link: &str, content: &[u8]) -> Self {
        let mut header = header(kind, name, link, content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).expect("in memory");
        self
    }

    pub(crate) fn owned(
        mut self,
        kind: EntryType,
        name: &str,
        (mode, uid, seconds): (u32, u64, u64),
        content: &[u8],
    ) -> Self {
        let mut header = header(kind, name, "", content.len() as u64);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(uid);
        header.set_mtime(seconds);
        header.set_cksum();
        self.0.append(&header, content).expect("in memory");
        self
    }

    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        self.entry(EntryType::Regular, name, "", content.as_bytes())
    }

    pub(crate) fn directory(self, name: &str) -> Self {
        self.owned(EntryType::Directory, name, (0o755, 0, 0), b"")
    }

    pub(crate) fn link(self, name: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, name, to, b"")
    }

    pub(crate) fn hard_link(self, name: &str, to: &str) -> Self {
        self.entry(EntryType::Link, name, to, b"")
    }

    /// An extended header for the next entry.
    pub(crate) fn extended(self, records: &[(&str, &str)]) -> Self {
        let record = |(key, value): &(&str, &str)| {
            let rest = format!(" {key}={value}\n");
            let mut length = rest.len() + 1;
            while length != rest.len() + length.to_string().len() {
                length = rest.len() + length.to_string().len();
            }
            format!("{length}{rest}")
        };
        let text: String = records.iter().map(record).collect();
        self.entry(EntryType::XHeader, "extended", "", text.as_bytes())
    }

    /// Blocks as they are.
    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.get_mut().write_all(bytes).expect("in memory");
        self
    }

    pub(crate) fn build(self) -> Vec<u8> {
        self.0.into_inner().expect("in memory")
    }
}

pub(crate) fn header(kind: EntryType, name: &str, link: &str, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header
}

/// How a layer's archive is compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Packing {
    Plain,
    Gzip,
    Zstandard,
}

impl Packing {
    pub(crate) fn pack(self, archive: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => archive.to_vec(),
            Self::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(archive).expect("in memory");
                encoder.finish().expect("in memory")
            }
            Self::Zstandard => zstd::encode_all(archive, 1).expect("in memory"),
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => "+gzip",
            Self::Zstandard => "+zstd",
        }
    }
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Writes a layout with one image, the lowest layer first.
pub(crate) fn layout(directory: &Path, layers: &[(Packing, Vec<u8>)]) {
    let claimed: Vec<String> = layers.iter().map(|(_, archive)| digest(archive)).collect();
    layout_claiming(directory, layers, &claimed);
}

/// The same, with a configuration that claims these digests for the uncompressed layers.
pub(crate) fn layout_claiming(
    directory: &Path,
    layers: &[(Packing, Vec<u8>)],
    diff_ids: &[String],
) {
    let blobs = directory.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).expect("a directory");
    let put = |kind: &str, bytes: &[u8]| -> Value {
        let digest = digest(bytes);
        std::fs::write(blobs.join(&digest[7..]), bytes).expect("written");
        json!({"mediaType": kind, "digest": digest, "size": bytes.len()})
    };
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let configuration = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Env": ["PATH=/image/bin:/usr/bin:/bin", "FROM_IMAGE=yes", "broken"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let described: Vec<Value> = layers
        .iter()
        .map(|(packing, archive)| {
            let kind = format!("application/vnd.oci.image.layer.v1.tar{}", packing.suffix());
            put(&kind, &packing.pack(archive))
        })
        .collect();
    let configuration = configuration.to_string();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": put("application/vnd.oci.image.config.v1+json", configuration.as_bytes()),
        "layers": described,
    });
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let mut entry = put(kind, manifest.to_string().as_bytes());
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": "latest"});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    std::fs::write(directory.join("index.json"), index.to_string()).expect("written");
    std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
        .expect("written");
}
