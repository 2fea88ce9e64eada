//! Typed identifiers: every kind of thing has its own type and its own prefix.
//!
//! An id is a prefix and a version 7 UUID in 32 hexadecimal digits: `ses_0193…`. The digits begin
//! with the time, so ids sort by creation; the prefix makes a wrong id visible to people.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// A text that is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}: expected `{prefix}_` and 32 hexadecimal digits")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
    prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$documentation:meta])* $name:ident = $prefix:literal, $what:literal;)*) => {$(
        $(#[$documentation])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// The letters before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, unique everywhere, sorting after those made before it.
            #[expect(clippy::new_without_default, reason = "two defaults would not be equal")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }

            /// An id from sixteen given bytes, for tests and for ids derived from other ids.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The sixteen bytes behind the digits.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The last eight digits: random, short enough for branch names and tables.
            pub fn short(&self) -> String {
                let digits = self.0.simple().to_string();
                digits[24..].to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}_{}", $prefix, self.0.simple())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let error = || ParseIdError { text: text.to_owned(), what: $what, prefix: $prefix };
                let digits = text
                    .strip_prefix($prefix)
                    .and_then(|rest| rest.strip_prefix('_'))
                    .filter(|digits| digits.len() == 32)
                    .ok_or_else(error)?;
                Uuid::try_parse(digits).map(Self).map_err(|_| error())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// One piece of work on one repository.
    SessionId = "ses", "a session id";
    /// One message from one author to the agent.
    PromptId = "prm", "a prompt id";
    /// One running environment.
    SandboxId = "sbx", "a sandbox id";
    /// One built environment of a repository.
    ImageId = "img", "an image id";
    /// One person.
    UserId = "usr", "a user id";
    /// One pull request of the local forge, or our record of a remote one.
    PullRequestId = "pul", "a pull request id";
    /// One call of a tool by an agent, as numbered by us; agents' own numbers are not unique.
    ToolCallId = "tcl", "a tool call id";
    /// One command run by agentd for the host.
    ExecId = "exe", "an exec id";
    /// One request of a client, chosen by the client; the same id twice does nothing twice.
    RequestId = "req", "a request id";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_itself() {
        let id = SessionId::new();
        assert_eq!(id.to_string().parse::<SessionId>(), Ok(id));
        let json = serde_json::to_string(&id).expect("an id is a string");
        assert_eq!(serde_json::from_str::<SessionId>(&json).expect("reads back"), id);
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let prompt = PromptId::new().to_string();
        let error = prompt.parse::<SessionId>().expect_err("a prompt is no session");
        assert!(error.to_string().contains("is not a session id"), "{error}");
    }

    #[test]
    fn damaged_ids_are_refused() {
        for text in [
            "",
            "ses_",
            "ses_12",
            "ses-0193a5c2f0c87d3a9c4d2f1e0b6a7c88",
            "ses_zz93a5c2f0c87d3a9c4d2f1e0b6a7c88",
            "ses_0193a5c2-f0c8-7d3a-9c4d-2f1e0b6a7c88",
        ] {
            assert!(text.parse::<SessionId>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_sort_by_creation() {
        let first = PromptId::new();
        let second = PromptId::new();
        assert!(first < second);
    }
}
