//! An attempt is a value: what it is called, what it tries, what must happen, and how to try it.

use protocol::sandbox::Isolation;
use serde::Serialize;

use super::sandbox::Said;
use super::world::World;

/// For [`Attempt::levels`]: what holds behind every wall.
pub(crate) const EVERY_LEVEL: &[Isolation] = &Isolation::LEVELS;

/// One attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attempt {
    /// Unique, kebab-case.
    pub(crate) name: &'static str,
    pub(crate) group: Group,
    /// What it tries, as the end of "It …": `mounts a tmpfs over /etc`.
    pub(crate) tries: &'static str,
    /// What must happen.
    pub(crate) expected: &'static str,
    /// Where it means anything; [`EVERY_LEVEL`] unless there is a reason.
    pub(crate) levels: &'static [Isolation],
    pub(crate) run: fn(&World) -> Outcome,
}

/// What an attempt is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Group {
    /// Getting out of the sandbox, or more rights inside.
    Escape,
    /// Reaching what the gateway does not allow.
    Egress,
    /// Taking more than the limits give.
    Exhaustion,
    /// Lying to the host.
    Abuse,
}

impl Group {
    pub(crate) const ALL: [Self; 4] = [Self::Escape, Self::Egress, Self::Exhaustion, Self::Abuse];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Escape => "escape",
            Self::Egress => "egress",
            Self::Exhaustion => "exhaustion",
            Self::Abuse => "abuse",
        }
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub(crate) enum Outcome {
    /// What must happen happened.
    Held {
        /// What was seen.
        seen: String,
    },
    /// It did not.
    Breach {
        /// What was seen instead.
        seen: String,
    },
    /// This machine or user lacks what the attempt is about; said aloud and recorded.
    NotTried {
        /// What is missing.
        because: String,
    },
}

impl Outcome {
    pub(crate) fn held(seen: impl Into<String>) -> Self {
        Self::Held { seen: shorten(&seen.into()) }
    }

    pub(crate) fn breach(seen: impl Into<String>) -> Self {
        Self::Breach { seen: shorten(&seen.into()) }
    }

    pub(crate) fn not_tried(because: impl Into<String>) -> Self {
        Self::NotTried { because: shorten(&because.into()) }
    }

    /// Held if so, else a breach.
    pub(crate) fn check(held: bool, seen: impl Into<String>) -> Self {
        if held { Self::held(seen) } else { Self::breach(seen) }
    }

    /// Held if the command ended by itself, failed, and said one of these words.
    ///
    /// The words keep a misspelled command from passing for a wall: "not found" is none of them.
    pub(crate) fn refused(said: &Said, words: &[&str]) -> Self {
        let told = words.iter().any(|word| said.text().contains(word));
        Self::check(said.code.is_some_and(|code| code != 0) && told, said.to_string())
    }
}

fn shorten(text: &str) -> String {
    let line = text.trim().replace('\n', " / ");
    match line.char_indices().nth(400) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
