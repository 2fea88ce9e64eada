//! Base images: hostile archives, what a layer becomes, and a real registry.
//!
//! Everything goes through the real unpacker. The tests of archives run again as an ordinary user
//! where they are started by root.

mod archives;
mod hostile;
mod layers;
mod ordinary_user;
#[path = "../../../../tests/real_part.rs"]
mod real_part;
mod registry;
mod support;
