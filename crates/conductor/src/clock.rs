//! The one place where this crate reads a clock; everything that decides gets the time told.

use protocol::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_system(std::time::SystemTime::now())
}

/// How long until `moment`; nothing if it has passed.
pub(crate) fn until(moment: Timestamp) -> std::time::Duration {
    let milliseconds = moment.milliseconds_since(now()).max(0);
    std::time::Duration::from_millis(milliseconds.unsigned_abs())
}
