//! Hosts whose TLS ends here: with the installation's own authority, so that requests can be judged
//! one by one and credentials be added that no sandbox ever holds.

pub(crate) mod authority;
mod inject;
mod placeholder;
mod strip;
mod terminate;
mod upstream;

use std::sync::Arc;

use crate::Target;
use crate::egress::reach::Located;
use crate::server::{Shared, Slot};

/// One connection of a sandbox to a host that was allowed and found, TLS ending here.
#[derive(Debug)]
pub(crate) struct Intercepted {
    pub(crate) target: Target,
    pub(crate) located: Located,
    pub(crate) shared: Arc<Shared>,
    pub(crate) slot: Arc<Slot>,
}
