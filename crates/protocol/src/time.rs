//! A moment, as a number that every language reads alike.

use serde::{Deserialize, Serialize};

/// Milliseconds since the start of 1970, UTC.
///
/// Nothing in this crate or in `session` reads a clock: whoever acts names the moment.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The moment of a system clock's reading; before 1970 counts as 1970.
    pub fn from_system(time: std::time::SystemTime) -> Self {
        let milliseconds =
            time.duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis());
        Self(i64::try_from(milliseconds).unwrap_or(i64::MAX))
    }

    /// The moment so many milliseconds later.
    #[must_use]
    pub const fn plus_milliseconds(self, milliseconds: i64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }

    /// Milliseconds from `earlier` to this moment; negative if it is not earlier.
    pub const fn milliseconds_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}
