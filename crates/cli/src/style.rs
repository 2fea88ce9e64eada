//! Colours and marks: meaning first, colour only where it is wanted.

/// What a piece of text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// It worked.
    Good,
    /// It did not.
    Bad,
    /// Worth a look.
    Warning,
    /// A name, a heading.
    Strong,
    /// Less important.
    Faint,
}

/// Whether to colour. Everything is readable without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Plain text.
    Plain,
    /// With the terminal's own sixteen colours, so that they fit any theme.
    Coloured,
}

impl Style {
    /// Colour only on a terminal that shows it, and not against `NO_COLOR` (no-color.org).
    pub fn choose(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        let refused = no_color.is_some_and(|value| !value.is_empty()) || term == Some("dumb");
        if is_terminal && !refused { Self::Coloured } else { Self::Plain }
    }

    /// `text` in the colour of its meaning.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if self == Self::Plain || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Warning => "33",
            Tone::Strong => "1",
            Tone::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colour_is_for_terminals_that_want_it() {
        assert_eq!(Style::choose(true, None, Some("xterm")), Style::Coloured);
        assert_eq!(Style::choose(true, Some(""), None), Style::Coloured);
        assert_eq!(Style::choose(true, Some("1"), None), Style::Plain);
        assert_eq!(Style::choose(true, None, Some("dumb")), Style::Plain);
        assert_eq!(Style::choose(false, None, Some("xterm")), Style::Plain);
    }

    #[test]
    fn plain_text_stays_plain() {
        assert_eq!(Style::Plain.paint(Tone::Bad, "no"), "no");
        assert_eq!(Style::Coloured.paint(Tone::Bad, "no"), "\x1b[31mno\x1b[0m");
    }
}
