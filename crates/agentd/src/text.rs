//! Text that leaves the sandbox: error chains in one line, bytes that are no UTF-8, cut lengths.

use std::fmt::Write as _;

/// An error with its sources, `: ` between them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}

/// Text in which bytes that are no UTF-8 are written as `\xNN`.
pub(crate) fn escaped(mut bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    while !bytes.is_empty() {
        match std::str::from_utf8(bytes) {
            Ok(rest) => {
                text.push_str(rest);
                break;
            }
            Err(error) => {
                let (good, bad) = bytes.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(good));
                let count = error.error_len().unwrap_or(bad.len());
                for byte in &bad[..count] {
                    let _ = write!(text, "\\x{byte:02X}");
                }
                bytes = &bad[count..];
            }
        }
    }
    text
}

/// The longest beginning of a text with at most so many bytes.
pub(crate) fn beginning(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// A text of at most about `limit` bytes; a longer one is cut and says so.
pub(crate) fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let missing = text.len() - limit;
        text.truncate(text.floor_char_boundary(limit));
        let _ = write!(text, "\n[{missing} more bytes are not shown]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_escaped() {
        assert_eq!(escaped(b"a\xFFb\n"), "a\\xFFb\n");
        assert_eq!(escaped("naïve".as_bytes()), "naïve");
        assert_eq!(escaped(b"\xE2\x82"), "\\xE2\\x82");
    }

    #[test]
    fn a_cut_text_says_so_and_stays_text() {
        assert_eq!(cut("ab".to_owned(), 2), "ab");
        assert_eq!(cut("aé".to_owned(), 2), "a\n[1 more bytes are not shown]");
    }
}
