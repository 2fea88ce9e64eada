//! Strikes known values out of what is recorded, shown or logged: `[secret NAME]` takes their place.
//!
//! This catches accidents. Code that holds a value can write it in a form nobody expects; what keeps
//! a value safe is that it is not in the sandbox.

mod event;
mod forms;
mod stream;

use std::borrow::Cow;
use std::sync::{Arc, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use secrecy::{ExposeSecret as _, SecretString};

pub(crate) use event::redact as redact_event;
pub(crate) use forms::hex;
pub(crate) use stream::Streams;

/// A value and what people call it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) value: SecretString,
}

/// The values known now. A clone follows the same changes.
#[derive(Debug, Clone, Default)]
pub struct Redaction(Arc<RwLock<Arc<Redactor>>>);

impl Redaction {
    /// A text without the values known now.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.current().text(text)
    }

    pub(crate) fn current(&self) -> Arc<Redactor> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn replace(&self, values: &[Named]) {
        let redactor = Arc::new(Redactor::new(values));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = redactor;
    }
}

/// A set of values, made ready to be looked for all at once.
#[derive(Default)]
pub(crate) struct Redactor {
    finder: Option<AhoCorasick>,
    /// What each pattern belongs to.
    names: Vec<Arc<str>>,
    /// The patterns in order, to tell whether a text's end may be the beginning of one.
    sorted: Vec<Box<str>>,
    longest: usize,
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Redactor({} patterns)", self.names.len())
    }
}

impl Redactor {
    pub(crate) fn new(values: &[Named]) -> Self {
        let mut patterns: Vec<(Box<str>, Arc<str>)> = Vec::new();
        for one in values {
            let name: Arc<str> = one.name.as_str().into();
            let forms = forms::of(one.value.expose_secret());
            patterns.extend(forms.into_iter().map(|form| (form.into(), Arc::clone(&name))));
        }
        patterns.sort();
        patterns.dedup_by(|one, other| one.0 == other.0);
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(patterns.iter().map(|(pattern, _)| pattern.as_bytes()));
        let finder = match finder {
            Ok(_) if patterns.is_empty() => None,
            Ok(finder) => Some(finder),
            // More than four thousand million states: the limits on secrets are far below.
            Err(error) => {
                tracing::error!(%error, "known secrets cannot be looked for");
                None
            }
        };
        let longest = patterns.iter().map(|(pattern, _)| pattern.len()).max().unwrap_or(0);
        let (sorted, names) = patterns.into_iter().unzip();
        Self { finder, names, sorted, longest }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.finder.is_none()
    }

    /// The name of the first value in some bytes.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<&str> {
        let found = self.finder.as_ref()?.find(bytes)?;
        Some(&self.names[found.pattern().as_usize()])
    }

    /// A text without values.
    pub(crate) fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.find(text.as_bytes()).is_none() {
            return Cow::Borrowed(text);
        }
        let mut kept = String::with_capacity(text.len());
        let end = self.strike(text, text.len(), &mut kept);
        kept.push_str(&text[end..]);
        Cow::Owned(kept)
    }

    /// Replaces in place, where there is something to replace.
    pub(crate) fn amend(&self, text: &mut String) {
        if let Cow::Owned(other) = self.text(text) {
            *text = other;
        }
    }

    /// The same for a text that may have been cut in the middle of a value: what is left of it
    /// before the note that says so goes as well.
    pub(crate) fn amend_cut(&self, text: &mut String) {
        self.amend(text);
        let notes = [("… [cut, ", " bytes in all]"), ("\n[", " more bytes are not shown]")];
        let cut = notes.into_iter().find(|(_, end)| text.ends_with(end));
        if let Some(at) = cut.and_then(|(beginning, _)| text.rfind(beginning)) {
            let open = self.open_end(&text[..at]);
            if open < at {
                text.replace_range(open..at, "");
            }
        }
    }

    /// Appends `text` up to the last match that begins before `until`, without values; gives where
    /// that match ends.
    fn strike(&self, text: &str, until: usize, kept: &mut String) -> usize {
        let mut done = 0;
        let Some(finder) = &self.finder else { return done };
        for found in finder.find_iter(text) {
            if found.start() >= until {
                break;
            }
            kept.push_str(&text[done..found.start()]);
            kept.push_str("[secret ");
            kept.push_str(&self.names[found.pattern().as_usize()]);
            kept.push(']');
            done = found.end();
        }
        done
    }

    /// Where the part of `text` begins that may be the beginning of a value, if more follows.
    fn open_end(&self, text: &str) -> usize {
        let from =
            text.ceil_char_boundary(text.len().saturating_sub(self.longest.saturating_sub(1)));
        let is_beginning = |end: &str| {
            let at = self.sorted.partition_point(|pattern| &**pattern <= end);
            self.sorted.get(at).is_some_and(|pattern| pattern.starts_with(end))
        };
        let mut places = text[from..].char_indices().map(|(at, _)| from + at);
        places.find(|at| is_beginning(&text[*at..])).unwrap_or(text.len())
    }
}

/// Looks for values in bytes that come piece by piece.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    values: &'a Redactor,
    kept: Vec<u8>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(values: &'a Redactor) -> Self {
        Self { values, kept: Vec::new() }
    }

    /// Goes on where [`Self::into_kept`] ended.
    pub(crate) fn resume(values: &'a Redactor, kept: Vec<u8>) -> Self {
        Self { values, kept }
    }

    /// The end of what came, in which a value may have begun.
    pub(crate) fn into_kept(self) -> Vec<u8> {
        self.kept
    }

    /// The name of a value that is in this piece, or began in the ones before.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Option<&'a str> {
        let overlap = self.values.longest.saturating_sub(1);
        self.kept.extend_from_slice(piece);
        let found = self.values.find(&self.kept);
        let surplus = self.kept.len().saturating_sub(overlap);
        self.kept.drain(..surplus);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn knowing(values: &[(&str, &str)]) -> Redactor {
        let values = values.iter().map(|(name, value)| Named {
            name: (*name).to_owned(),
            value: SecretString::from(*value),
        });
        Redactor::new(&values.collect::<Vec<_>>())
    }

    #[test]
    fn values_and_their_usual_forms_are_struck_out() {
        let known = knowing(&[("A", "s3cr3t/val ue\"x"), ("B", "hunter2")]);
        for (text, expected) in [
            ("a hunter2 b", "a [secret B] b"),
            ("s3cr3t/val ue\"x", "[secret A]"),
            ("?k=s3cr3t%2Fval%20ue%22x&", "?k=[secret A]&"),
            ("s3cr3t%2fval%20ue%22x", "[secret A]"),
            ("s3cr3t%2Fval+ue%22x", "[secret A]"),
            (r#"{"a":"s3cr3t/val ue\"x"}"#, r#"{"a":"[secret A]"}"#),
            ("7333637233742f76616c20756522 78", "7333637233742f76616c20756522 78"),
            ("7333637233742f76616c2075652278", "[secret A]"),
            ("nothing here", "nothing here"),
        ] {
            assert_eq!(known.text(text), expected, "{text}");
        }
        assert!(!format!("{known:?}").contains("hunter2"));
    }

    #[test]
    fn base64_is_found_whatever_stands_before_it() {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        let value = "pässwörd-with-ÿÿÿ-inside";
        let known = knowing(&[("A", value)]);
        for before in ["", "u", "us", "use", "user:"] {
            for after in ["", "x", "xy", ":more"] {
                let text = format!("{before}{value}{after}");
                for encoded in [STANDARD.encode(&text), URL_SAFE_NO_PAD.encode(&text)] {
                    assert!(known.text(&encoded).contains("[secret A]"), "{before} {after}");
                }
            }
        }
    }

    #[test]
    fn of_overlapping_values_the_longest_counts() {
        let known = knowing(&[("SHORT", "abcdef"), ("LONG", "abcdefghijkl")]);
        assert_eq!(known.text("abcdefghijkl abcdefgh"), "[secret LONG] [secret SHORT]gh");
    }

    #[test]
    fn a_value_cut_in_the_middle_leaves_nothing() {
        let known = knowing(&[("A", "s3cr3t-value")]);
        for note in ["… [cut, 99 bytes in all]", "\n[9 more bytes are not shown]"] {
            let mut text = format!("so s3cr3t-value is s3cr3t-va{note}");
            known.amend_cut(&mut text);
            assert_eq!(text, format!("so [secret A] is {note}"));
        }
    }

    #[test]
    fn what_is_too_short_is_left_alone() {
        assert!(knowing(&[("A", "five5")]).is_empty());
    }

    #[test]
    fn a_scanner_finds_what_any_cut_divides() {
        let known = knowing(&[("A", "abcdefgh")]);
        let text = b"xxabcdefghxx";
        for cut in 0..text.len() {
            let mut scanner = Scanner::new(&known);
            let found = [&text[..cut], &text[cut..]].iter().find_map(|piece| scanner.feed(piece));
            assert_eq!(found, Some("A"), "cut at {cut}");
        }
    }
}
