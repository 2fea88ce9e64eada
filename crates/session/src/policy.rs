//! The numbers a session's decisions depend on.

/// How patient a session is and how much it records.
///
/// Only deciding looks at it, never replaying, so a changed policy leaves recorded sessions alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Milliseconds without anything to do after which the sandbox is stopped.
    pub idle_milliseconds: i64,
    /// Starts of a sandbox that may fail before the prompt that needs it fails.
    pub start_attempts: u32,
    /// Milliseconds to wait after the first failed start, and after each later one.
    pub start_pauses: [i64; 2],
    /// Sandboxes that may be lost under one prompt before it fails.
    pub losses: u32,
    /// Milliseconds before people are told again that a sandbox hits the same limit; twice as long
    /// each time, up to 64 times.
    pub limit_milliseconds: i64,
    /// Events recorded of one prompt's agent, or of one sandbox while no prompt runs.
    pub recorded_events: u32,
    /// Bytes of text in these events.
    pub recorded_bytes: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            idle_milliseconds: 10 * 60 * 1000,
            start_attempts: 3,
            start_pauses: [1000, 5000],
            losses: 3,
            limit_milliseconds: 60 * 1000,
            recorded_events: 20_000,
            recorded_bytes: 64 << 20,
        }
    }
}

impl Policy {
    /// Milliseconds to wait after so many failed starts in a row.
    pub(crate) const fn pause_after(&self, failures: u32) -> i64 {
        if failures <= 1 { self.start_pauses[0] } else { self.start_pauses[1] }
    }
}
