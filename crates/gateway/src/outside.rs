//! What the host knows about the world outside: whom to trust, and which proxy leads there.

pub(crate) mod proxy;
pub(crate) mod trust;

pub use proxy::{InvalidProxy, Proxy};
pub use trust::UnreadableTrust;
