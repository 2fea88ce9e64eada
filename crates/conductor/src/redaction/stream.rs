//! Strikes values out of text that comes piece by piece, also where a value lies across a border.

use protocol::client::DeltaKind;
use protocol::{Event, PromptId};

use super::Redactor;

/// The ends of one session's streams that are held back: what may be the beginning of a value.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    prompt: Option<PromptId>,
    held: [String; 3],
}

const fn place(kind: DeltaKind) -> usize {
    match kind {
        DeltaKind::Message => 0,
        DeltaKind::Thought => 1,
        DeltaKind::ToolOutput => 2,
    }
}

impl Streams {
    /// What may be shown now of all that came; the rest waits for what follows.
    pub(crate) fn pass(
        &mut self,
        values: &Redactor,
        prompt: PromptId,
        kind: DeltaKind,
        text: String,
    ) -> String {
        if self.prompt != Some(prompt) {
            *self = Self { prompt: Some(prompt), ..Self::default() };
        }
        let held = &mut self.held[place(kind)];
        if values.is_empty() && held.is_empty() {
            return text;
        }
        let whole = std::mem::take(held) + &text;
        let open = values.open_end(&whole);
        let mut shown = String::with_capacity(whole.len());
        let done = values.strike(&whole, open, &mut shown);
        let rest = done.max(open);
        shown.push_str(&whole[done..rest]);
        whole[rest..].clone_into(held);
        shown
    }

    /// A recorded text replaces the pieces before it, and with them what was held back of them.
    pub(crate) fn recorded(&mut self, event: &Event) {
        match event {
            Event::AgentMessage { .. } => self.held[place(DeltaKind::Message)].clear(),
            Event::AgentThought { .. } => self.held[place(DeltaKind::Thought)].clear(),
            Event::ToolCallStarted { .. } | Event::ToolCallFinished { .. } => {
                self.held[place(DeltaKind::ToolOutput)].clear();
            }
            Event::AgentEnded { .. } | Event::PromptFinished { .. } => *self = Self::default(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::knowing;
    use super::*;

    fn passed(values: &Redactor, pieces: &[&str]) -> String {
        let mut streams = Streams::default();
        let prompt = PromptId::from_bytes([1; 16]);
        pieces
            .iter()
            .map(|piece| streams.pass(values, prompt, DeltaKind::Message, (*piece).to_owned()))
            .collect()
    }

    #[test]
    fn a_value_is_struck_out_wherever_it_is_cut() {
        let values = knowing(&[("A", "s3cr3t-välue"), ("B", "ue-and-more")]);
        let text = "say s3cr3t-välue twice: s3cr3t-välue. s3cr3t-välue-and-more";
        let expected = "say [secret A] twice: [secret A]. [secret A]-and-more".to_owned();
        let cuts: Vec<usize> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
        for first in &cuts {
            for second in cuts.iter().filter(|second| *second >= first) {
                let pieces = [&text[..*first], &text[*first..*second], &text[*second..]];
                assert_eq!(passed(&values, &pieces), expected, "{pieces:?}");
            }
        }
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        assert_eq!(passed(&values, &letters), expected);
    }

    #[test]
    fn only_what_may_be_a_beginning_waits() {
        let values = knowing(&[("A", "s3cr3t-value")]);
        assert_eq!(passed(&values, &["hello s3c"]), "hello ");
        assert_eq!(passed(&values, &["hello s3c", "ond"]), "hello s3cond");
        assert_eq!(passed(&values, &["hello"]), "hello");
    }

    #[test]
    fn a_recorded_text_ends_the_wait() {
        let values = knowing(&[("A", "s3cr3t-value")]);
        let (mut streams, prompt) = (Streams::default(), PromptId::from_bytes([1; 16]));
        let pass = |streams: &mut Streams, text: &str| {
            streams.pass(&values, prompt, DeltaKind::Message, text.to_owned())
        };
        assert_eq!(pass(&mut streams, "s3cr"), "");
        streams.recorded(&Event::AgentMessage { prompt, text: "s3cr".to_owned() });
        assert_eq!(pass(&mut streams, "3t-value"), "3t-value");
    }
}
