//! Base images: what sandboxes stand on besides the host's own `/usr`.
//!
//! ```text
//! <data>/base/blobs/sha256/<hex>           manifests and configurations; layers until unpacked
//! <data>/base/blobs/partial-<hex>          a download, to be gone on with
//! <data>/base/unpacked/<chain>             one layer on those beneath it, never half done
//! <data>/base/images/<hex>.json            one image: its configuration and its layers
//! <data>/base/references/<hex>.json        which image a reference meant when it was last pulled
//! ```
//!
//! Everything fetched is untrusted. Digests are compared before anything is read, and archives are
//! decompressed and unpacked by `hangar-launch unpack`, which can reach nothing else.

mod archive;
mod blobs;
mod credentials;
mod error;
pub mod handover;
mod image;
mod layout;
mod reference;
mod registry;
mod store;
mod unpack;

pub use error::Error;
pub use reference::Reference;
pub use registry::Registries;
pub use store::{Listed, Progress, Resolved, Settings, Step, Store};
