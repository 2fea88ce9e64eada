//! Keeping a conversation within a budget by leaving out old tool results.

use super::{Entry, Input, Part, ToolResult};

/// How much of the conversation the model may see.
///
/// The line moves rarely and in big steps: every move changes the beginning of the request and
/// costs the model server's cache of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    bytes: usize,
    elided_before: usize,
}

/// Bytes of text a conversation may have: about 100,000 tokens.
const BYTES: usize = 400_000;
/// The newest tool results, which the model is still working with, are always shown.
const KEPT_ENTRIES: usize = 6;
/// A result this short says no less than the note that would replace it.
const SHORT: usize = 200;

impl Default for Budget {
    fn default() -> Self {
        Self::new(BYTES)
    }
}

impl Budget {
    /// A budget of so many bytes of text.
    pub fn new(bytes: usize) -> Self {
        Self { bytes, elided_before: 0 }
    }

    /// Tool results of entries before this one are elided.
    pub fn elided_before(self) -> usize {
        self.elided_before
    }

    /// Moves the line, oldest results first, until three quarters of the budget are used; does
    /// nothing while the conversation is within it.
    pub fn fit(&mut self, entries: &[Entry]) {
        let mut size = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| size_of(entry, index < self.elided_before))
            .sum::<usize>();
        if size <= self.bytes {
            return;
        }
        let target = self.bytes / 4 * 3;
        let last = entries.len().saturating_sub(KEPT_ENTRIES);
        while size > target && self.elided_before < last {
            let entry = &entries[self.elided_before];
            size = size - size_of(entry, false) + size_of(entry, true);
            self.elided_before += 1;
        }
    }
}

fn size_of(entry: &Entry, elided: bool) -> usize {
    match entry {
        Entry::User { text } | Entry::Reminder { text } => text.len(),
        Entry::Assistant { parts } => parts.iter().map(size_of_part).sum(),
        Entry::Results { results } if elided => results
            .iter()
            .map(|result| elided_text(result).map_or(result.text.len(), |n| n.len()))
            .sum(),
        Entry::Results { results } => results.iter().map(|result| result.text.len()).sum(),
    }
}

fn size_of_part(part: &Part) -> usize {
    match part {
        Part::Text { text } => text.len(),
        Part::Thinking { text, signature } => text.len() + signature.len(),
        Part::SealedThinking { data } => data.len(),
        Part::Call(call) => match &call.input {
            Input::Object(object) => object
                .iter()
                .map(|(key, value)| key.len() + value.as_str().map_or(16, str::len))
                .sum(),
            Input::Unreadable(text) => text.len(),
        },
    }
}

/// The note in place of an old result, or nothing if the result is short enough to stay.
pub fn elided_text(result: &ToolResult) -> Option<String> {
    (result.text.len() > SHORT).then(|| {
        format!(
            "[{} bytes of an earlier answer of {} left out to save room; call the tool again if you \
             need them.]",
            result.text.len(),
            result.tool
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(bytes: usize) -> Entry {
        Entry::Results {
            results: vec![ToolResult {
                call: "c".into(),
                tool: "read".into(),
                text: "x".repeat(bytes),
                failed: false,
            }],
        }
    }

    fn shown(entries: &[Entry], budget: Budget) -> usize {
        entries
            .iter()
            .enumerate()
            .map(|(index, entry)| size_of(entry, index < budget.elided_before()))
            .sum()
    }

    #[test]
    fn a_short_conversation_is_left_alone() {
        let entries: Vec<_> = (0..20).map(|_| result(1000)).collect();
        let mut budget = Budget::new(20_000);
        budget.fit(&entries);
        assert_eq!(budget.elided_before(), 0);
    }

    #[test]
    fn the_oldest_results_go_first_and_in_one_step() {
        let entries: Vec<_> = (0..20).map(|_| result(1000)).collect();
        let mut budget = Budget::new(19_000);
        budget.fit(&entries);
        let line = budget.elided_before();
        assert!(line > 0 && line < 14, "{line}");
        assert!(shown(&entries, budget) <= 19_000 / 4 * 3);
        budget.fit(&entries);
        assert_eq!(budget.elided_before(), line, "the line moves only when it must");
    }

    #[test]
    fn the_newest_results_stay_whatever_their_size() {
        let entries: Vec<_> = (0..8).map(|_| result(50_000)).collect();
        let mut budget = Budget::new(1000);
        budget.fit(&entries);
        assert_eq!(budget.elided_before(), 2);
    }

    #[test]
    fn prompts_and_answers_are_never_elided() {
        let mut entries = vec![Entry::User { text: "x".repeat(5000) }];
        entries.extend((0..10).map(|_| result(100)));
        let mut budget = Budget::new(1000);
        budget.fit(&entries);
        assert_eq!(shown(&entries, budget), 6000, "short results are not worth a note");
    }
}
