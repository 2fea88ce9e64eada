//! Cutting text to size without losing what matters in it.

/// The longest prefix of at most `bytes` bytes that ends between characters.
pub fn prefix(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes.min(text.len()))]
}

/// The longest suffix of at most `bytes` bytes that begins between characters.
pub fn suffix(text: &str, bytes: usize) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(bytes))..]
}

/// At most `bytes` bytes and an ellipsis, on one line: for titles and hints.
pub fn title(text: &str, bytes: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let cut = prefix(line, bytes);
    if cut.len() < text.trim().len() { format!("{cut}…") } else { cut.to_owned() }
}

/// Keeps the beginning and the end of a stream of bytes, whatever its length.
///
/// Memory is bounded by `head` plus twice `tail`.
#[derive(Debug)]
pub struct HeadAndTail {
    head_limit: usize,
    tail_limit: usize,
    head: Vec<u8>,
    tail: Vec<u8>,
    total: u64,
}

impl HeadAndTail {
    /// Keeps so many bytes of the beginning and of the end.
    pub fn new(head_limit: usize, tail_limit: usize) -> Self {
        Self { head_limit, tail_limit, head: Vec::new(), tail: Vec::new(), total: 0 }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = self.head_limit - self.head.len();
        if room > 0 {
            let (first, rest) = bytes.split_at(room.min(bytes.len()));
            self.head.extend_from_slice(first);
            bytes = rest;
        }
        let skip = bytes.len().saturating_sub(self.tail_limit);
        self.tail.extend_from_slice(&bytes[skip..]);
        if self.tail.len() > 2 * self.tail_limit {
            self.tail.drain(..self.tail.len() - self.tail_limit);
        }
    }

    /// Bytes taken so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What was kept; a note stands where something is missing.
    pub fn text(&self) -> String {
        let tail = &self.tail[self.tail.len().saturating_sub(self.tail_limit)..];
        let missing = self.total - self.head.len() as u64 - tail.len() as u64;
        if missing == 0 {
            let whole = [self.head.as_slice(), tail].concat();
            return String::from_utf8_lossy(&whole).into_owned();
        }
        format!(
            "{}\n\n[… {missing} bytes left out …]\n\n{}",
            String::from_utf8_lossy(&self.head),
            String::from_utf8_lossy(tail)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_fall_between_characters() {
        assert_eq!(prefix("aäb", 2), "a");
        assert_eq!(suffix("aäb", 2), "b");
        assert_eq!(title("one\ntwo", 80), "one…");
        assert_eq!(title(" one ", 80), "one");
    }

    #[test]
    fn a_short_stream_is_kept_whole_even_across_a_character() {
        let mut kept = HeadAndTail::new(2, 10);
        kept.push("aä".as_bytes());
        kept.push(b"bc");
        assert_eq!(kept.text(), "aäbc");
    }

    #[test]
    fn a_long_stream_keeps_both_ends() {
        let mut kept = HeadAndTail::new(4, 4);
        for _ in 0..1000 {
            kept.push(b"0123456789");
        }
        assert_eq!(kept.total(), 10_000);
        assert_eq!(kept.text(), "0123\n\n[… 9992 bytes left out …]\n\n6789");
        assert!(kept.tail.len() <= 8);
    }
}
