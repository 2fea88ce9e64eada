//! Makes text from agents, models and people harmless for a terminal.

use std::fmt::Write as _;

/// `text` with control characters and invisible direction marks written out.
///
/// Line ends and tabs stay, a carriage return before a line end is dropped. Everything else that
/// could move the cursor, change colours, or make a line read differently from what it is (escape
/// sequences, C1 controls, bidirectional overrides) becomes `\x1b` or `\u{202e}`.
pub fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\n' | '\t' => safe.push(character),
            '\r' if characters.peek() == Some(&'\n') => {}
            _ => push(&mut safe, character),
        }
    }
    safe
}

/// Like [`text`], on one line: line ends and tabs are written out too.
pub fn line(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => safe.push_str("\\n"),
            '\t' => safe.push_str("\\t"),
            '\r' => safe.push_str("\\r"),
            _ => push(&mut safe, character),
        }
    }
    safe
}

fn push(safe: &mut String, character: char) {
    // Writing to a String cannot fail.
    let _ = match character {
        control if control.is_ascii_control() => write!(safe, "\\x{:02x}", u32::from(control)),
        hidden if is_hidden(hidden) => write!(safe, "\\u{{{:x}}}", u32::from(hidden)),
        plain => write!(safe, "{plain}"),
    };
}

fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
        // Tags: invisible letters, used to hide instructions in text.
        || matches!(character, '\u{e0000}'..='\u{e007f}')
}

/// `text` cut to so many characters, with an ellipsis where something is missing.
pub fn cut(text: &str, characters: usize) -> String {
    if text.chars().count() <= characters {
        return text.to_owned();
    }
    let kept: String = text.chars().take(characters.saturating_sub(1)).collect();
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_cannot_be_driven() {
        assert_eq!(text("a\x1b[2Jb\x07"), "a\\x1b[2Jb\\x07");
        assert_eq!(text("c1 \u{9b}31m"), "c1 \\u{9b}31m");
        assert_eq!(text("delete\x7f"), "delete\\x7f");
    }

    #[test]
    fn a_line_cannot_overwrite_itself() {
        assert_eq!(text("harmless\rrm -rf"), "harmless\\x0drm -rf");
        assert_eq!(text("one\r\ntwo"), "one\ntwo");
        assert_eq!(line("one\ntwo\tthree\r"), "one\\ntwo\\tthree\\r");
    }

    #[test]
    fn text_cannot_read_differently_from_what_it_is() {
        assert_eq!(text("a\u{202e}b\u{2066}c"), "a\\u{202e}b\\u{2066}c");
        assert_eq!(text("x\u{200b}y\u{e0041}"), "x\\u{200b}y\\u{e0041}");
    }

    #[test]
    fn ordinary_text_stays() {
        assert_eq!(text("Grüße, 世界 👋\n\tfn"), "Grüße, 世界 👋\n\tfn");
    }

    #[test]
    fn a_cut_says_so() {
        assert_eq!(cut("äöüß", 4), "äöüß");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
