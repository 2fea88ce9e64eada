//! What a client may send at most; larger input is a named refusal, never a cut.

/// Bytes of one prompt's text.
pub const PROMPT_BYTES: usize = 1024 * 1024;
/// Prompts waiting in one session's queue.
pub const QUEUE_LENGTH: usize = 50;
/// Bytes of one recorded piece of agent text or tool output; longer ones are cut with a note.
pub const RECORDED_TEXT_BYTES: usize = 64 * 1024;
/// Bytes of one title.
pub const TITLE_BYTES: usize = 200;
/// Events in one page of history.
pub const PAGE_EVENTS: usize = 1000;
/// Bytes of a secret's value.
pub const SECRET_BYTES: usize = 64 * 1024;
/// Secrets of one server.
pub const SECRETS: usize = 2000;
/// Bytes a secret must have to be found again in texts; shorter ones would be found everywhere.
pub const REDACTED_BYTES: usize = 6;
