//! Text that arrives in pieces and is replaced by a recorded whole.

use crate::escape;

/// Pieces since the last recorded text, and how much of them was shown.
#[derive(Debug)]
pub(super) struct Speech {
    width: usize,
    pieces: String,
    shown: usize,
}

impl Speech {
    pub(super) fn new(width: usize) -> Self {
        Self { width, pieces: String::new(), shown: 0 }
    }

    /// What has arrived and is not on a complete line yet.
    pub(super) fn unfinished(&self) -> &str {
        &self.pieces[self.shown..]
    }

    /// Takes in a piece; gives the lines it completes.
    pub(super) fn add(&mut self, piece: &str) -> Vec<String> {
        self.pieces.push_str(piece);
        let mut lines = Vec::new();
        while let Some(length) = complete(self.unfinished(), self.width) {
            lines.push(escape::text(self.unfinished()[..length].trim_end()));
            self.shown += length;
        }
        lines
    }

    /// The recorded text is here: gives what of it was not shown yet.
    ///
    /// Somebody who came late saw only the end of the pieces, and long text is recorded shortened.
    /// So what was shown counts as far as it agrees; if it does not, the whole text is shown.
    pub(super) fn finish(&mut self, recorded: &str) -> Vec<String> {
        let shown = &self.pieces[..self.shown];
        let agreed = agreement(shown, recorded);
        let rest = if agreed * 2 > shown.len() { &recorded[agreed..] } else { recorded };
        let mut tail = Self::new(self.width);
        let mut lines = tail.add(rest);
        let last = tail.unfinished().trim_end();
        if !last.is_empty() {
            lines.push(escape::text(last));
        }
        *self = Self::new(self.width);
        lines
    }
}

/// Bytes of the first complete line: up to a line end, or to the last blank before `width`.
fn complete(text: &str, width: usize) -> Option<usize> {
    let limit = text.char_indices().nth(width).map_or(text.len(), |(index, _)| index);
    if let Some(end) = text[..limit].find('\n') {
        return Some(end + 1);
    }
    if limit == text.len() {
        return None;
    }
    let blank = text[..limit].rfind(' ').filter(|blank| *blank > 0).map(|blank| blank + 1);
    Some(blank.unwrap_or(limit))
}

/// Bytes at the beginning that are the same in both.
fn agreement(one: &str, other: &str) -> usize {
    let same = one.chars().zip(other.chars()).take_while(|(one, other)| one == other);
    same.map(|(character, _)| character.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_appear_when_they_are_complete() {
        let mut speech = Speech::new(40);
        assert!(speech.add("I look ").is_empty());
        assert_eq!(speech.add("at it.\nThen"), ["I look at it."]);
        assert_eq!(speech.unfinished(), "Then");
        assert_eq!(speech.finish("I look at it.\nThen I stop."), ["Then I stop."]);
        assert_eq!(speech.unfinished(), "");
    }

    #[test]
    fn long_lines_are_broken_at_blanks() {
        let mut speech = Speech::new(10);
        assert_eq!(speech.add("one two three four"), ["one two"]);
        assert_eq!(speech.add("teen five"), ["three", "fourteen"]);
        assert_eq!(speech.finish("one two three fourteen five"), ["five"]);
        assert_eq!(Speech::new(4).finish("äöüßxyz"), ["äöüß", "xyz"]);
    }

    #[test]
    fn without_pieces_the_recorded_text_is_shown() {
        assert_eq!(Speech::new(40).finish("All of\nit."), ["All of", "it."]);
        assert!(Speech::new(40).finish("").is_empty());
    }

    #[test]
    fn a_late_reader_gets_the_whole_text() {
        let mut speech = Speech::new(40);
        assert_eq!(speech.add("of a sentence.\n"), ["of a sentence."]);
        let whole = ["The beginning of a sentence.", "End."];
        assert_eq!(speech.finish("The beginning of a sentence.\nEnd."), whole);
    }

    #[test]
    fn text_recorded_shortened_is_not_shown_twice() {
        let mut speech = Speech::new(40);
        assert_eq!(speech.add("one\ntwo\nthree\nfour\n").len(), 4);
        assert_eq!(speech.finish("one\ntwo\nthree\n[cut]"), ["[cut]"]);
    }
}
