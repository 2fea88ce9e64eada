//! Decides what follows an answer of the model: the pure heart of the loop.
//!
//! ```text
//!            ┌───────────────────────── tools_ran ─────────────────────────┐
//!            ▼                                                             │
//!  begin ─▶ asking ── answered ──┬── calls ───────────────▶ running tools ─┘
//!            ▲                   ├── nothing said ─▶ remind, ask again (at most NONSENSE times)
//!            │                   └── text only ────▶ finished ── steered (a prompt arrived) ─┐
//!            └───────────────────────────────────────────────────────────────────────────────┘
//! ```

use crate::conversation::{Answer, Call, Stop};

/// Requests to the model for one prompt.
const STEPS: u32 = 200;
/// Senseless answers in a row before the agent gives up on the model.
const NONSENSE: u32 = 4;

/// How far the work on a prompt is.
#[derive(Debug, Default)]
pub struct Turn {
    steps: u32,
    nonsense: u32,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// Ask the model with the conversation as it is.
    Ask,
    /// Say this to the model, then ask it.
    Remind(&'static str),
    /// Run these tools, in order.
    Run(Vec<Call>),
    /// The prompt is worked off.
    Finish(Finish),
    /// The prompt cannot be worked off.
    Fail(Failure),
}

/// How a prompt ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The model says that it is done.
    Done,
    /// Its last answer was cut at the length limit.
    Length,
    /// It asked for more steps than one prompt may take.
    Steps,
    /// It will not do it.
    Refusal,
    /// A person stopped it.
    Cancelled,
}

/// Why a prompt cannot be worked off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The model keeps making no sense.
    #[error(
        "the model made no sense {NONSENSE} times in a row (empty answers, unknown tools or unreadable \
         arguments); send the prompt again or choose another model"
    )]
    Nonsense,
}

impl Turn {
    /// Whether the model may be asked once more.
    pub fn ask(&mut self) -> Next {
        if self.steps >= STEPS {
            return Next::Finish(Finish::Steps);
        }
        self.steps += 1;
        Next::Ask
    }

    /// The model answered.
    pub fn answered(&mut self, answer: &Answer) -> Next {
        let calls = answer.calls();
        if !calls.is_empty() {
            return Next::Run(calls);
        }
        if answer.stop == Stop::Refusal {
            return Next::Finish(Finish::Refusal);
        }
        if answer.is_empty() {
            return self.senseless(Next::Remind(
                "Your last answer was empty. Go on with the work, or say in a sentence that you are \
                 done and what you did.",
            ));
        }
        self.nonsense = 0;
        Next::Finish(if answer.stop == Stop::Length { Finish::Length } else { Finish::Done })
    }

    /// The tools of the last answer ran; `sensible` tells whether any of the calls could be read.
    pub fn tools_ran(&mut self, sensible: bool) -> Next {
        if !sensible {
            return match self.senseless(Next::Ask) {
                Next::Ask => self.ask(),
                other => other,
            };
        }
        self.nonsense = 0;
        self.ask()
    }

    /// A person said more: the count of steps begins again.
    pub fn steered(&mut self) {
        self.steps = 0;
        self.nonsense = 0;
    }

    fn senseless(&mut self, otherwise: Next) -> Next {
        self.nonsense += 1;
        if self.nonsense >= NONSENSE { Next::Fail(Failure::Nonsense) } else { otherwise }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::{Input, Part};

    fn text(text: &str, stop: Stop) -> Answer {
        Answer { parts: vec![Part::Text { text: text.into() }], stop }
    }

    fn call() -> Answer {
        let call = Call { id: "1".into(), name: "read".into(), input: Input::parse("") };
        Answer { parts: vec![Part::Call(call)], stop: Stop::Done }
    }

    #[test]
    fn answers_lead_where_they_should() {
        let table = [
            (text("done", Stop::Done), Next::Finish(Finish::Done)),
            (text("do", Stop::Length), Next::Finish(Finish::Length)),
            (text("", Stop::Refusal), Next::Finish(Finish::Refusal)),
            (call(), Next::Run(call().calls())),
        ];
        for (answer, expected) in table {
            assert_eq!(Turn::default().answered(&answer), expected, "{answer:?}");
        }
        assert!(matches!(Turn::default().answered(&text(" ", Stop::Done)), Next::Remind(_)));
    }

    #[test]
    fn nonsense_is_borne_a_few_times_in_a_row_only() {
        let mut turn = Turn::default();
        for _ in 0..NONSENSE - 1 {
            assert_eq!(turn.tools_ran(false), Next::Ask);
        }
        assert_eq!(turn.tools_ran(true), Next::Ask, "sense in between starts the count again");
        for _ in 0..NONSENSE - 1 {
            assert!(matches!(turn.answered(&text("", Stop::Done)), Next::Remind(_)));
        }
        assert_eq!(turn.answered(&text("", Stop::Done)), Next::Fail(Failure::Nonsense));
    }

    #[test]
    fn steps_end_and_a_further_prompt_gives_new_ones() {
        let mut turn = Turn::default();
        for _ in 0..STEPS {
            assert_eq!(turn.ask(), Next::Ask);
        }
        assert_eq!(turn.ask(), Next::Finish(Finish::Steps));
        turn.steered();
        assert_eq!(turn.ask(), Next::Ask);
    }
}
