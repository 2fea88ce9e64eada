//! Performs what `session` decides: one task for each live session, and the work it asks for.
//!
//! ```text
//!   api, slack ──► Hangar ──► Directory ──► session task ──► journal
//!                                             │     ▲
//!                                     perform │     │ commands
//!                                             ▼     │
//!                              sandbox · gateway · forge
//! ```
//!
//! Authorization lives here, so that no door can forget it: every method names the acting person.
//! There is one local user so far; roles come with sign-in.

mod bases;
mod clock;
mod directory;
pub mod effective;
mod error;
mod follow;
mod hangar;
mod images;
mod levels;
mod limits;
mod observe;
mod open_sessions;
mod perform;
mod recover;
mod redaction;
mod repositories;
mod repository_settings;
mod secrets;
mod sessions;
pub mod settings;
mod shared;
mod subscription;
mod task;
mod upstream;
mod way_out;
mod wording;

pub use error::{Error, chain};
pub use hangar::{Hangar, Parts};
pub use redaction::Redaction;
pub use repositories::Registered;
pub use secrets::KeySource;
pub use shared::{ServerSettings, installed_agents};
pub use subscription::{Subscription, Update};
