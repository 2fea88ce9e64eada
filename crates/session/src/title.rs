//! A session's title.

use protocol::limits::TITLE_BYTES;

/// Characters of a title at most; also what fits a commit's first line.
const TITLE_CHARACTERS: usize = 72;

/// A title for a session from its first prompt: the first line that says something, on one line,
/// shortened at a word.
pub fn title(prompt: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("New session");
    let plain: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = plain.split_whitespace().collect();
    let text = words.join(" ");
    if text.chars().count() <= TITLE_CHARACTERS {
        return text;
    }
    let cut: String = text.chars().take(TITLE_CHARACTERS - 1).collect();
    let kept = cut.rsplit_once(' ').map_or(cut.as_str(), |(head, _)| head);
    format!("{}…", kept.trim_end_matches([',', '.', ':', ';', ' ']))
}

/// The text with at most [`TITLE_BYTES`], an ellipsis where it was cut.
pub(crate) fn shorten(text: &str) -> String {
    if text.len() <= TITLE_BYTES {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(TITLE_BYTES - '…'.len_utf8());
    format!("{}…", text[..end].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_one_short_line() {
        assert_eq!(title("\n  Fix the login.  \nand more"), "Fix the login.");
        assert_eq!(title("a\tb\u{1b}[31m c"), "a b [31m c");
        assert_eq!(title(""), "New session");
        let short = title(&"word ".repeat(40));
        assert!(short.chars().count() <= TITLE_CHARACTERS && short.ends_with('…'), "{short}");
        assert!(title(&"x".repeat(400)).len() <= TITLE_BYTES);
    }
}
