//! Why something a person asked for did not happen.

use protocol::Refusal;

/// Any error at all.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer other than success, in words for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing, or the person may not know of it.
    #[error("there is no {what}")]
    NotFound {
        /// `session ses_…`, `repository local/hangar`.
        what: String,
    },
    /// The session's state does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The request itself cannot be carried out.
    #[error("{what}")]
    Invalid {
        /// What is wrong with it.
        what: String,
        /// What to try.
        hint: String,
    },
    /// Something Hangar needs is missing or in the way.
    #[error("{what}")]
    Unavailable {
        /// What is missing.
        what: String,
        /// What to try.
        hint: String,
    },
    /// The machine lacks what sandboxes need; no weaker isolation takes its place.
    #[error("this machine cannot run sandboxes: {what}")]
    MachineLacks {
        /// What is missing.
        what: String,
        /// What would change it.
        hint: String,
    },
    /// Something that should have worked did not.
    #[error("{doing}")]
    Failed {
        /// What was being done, to what.
        doing: String,
        /// Why it did not work.
        #[source]
        source: BoxError,
    },
}

impl Error {
    /// An [`Error::Failed`] about `doing`.
    pub fn failed(doing: impl Into<String>, source: impl Into<BoxError>) -> Self {
        Self::Failed { doing: doing.into(), source: source.into() }
    }

    /// The whole chain of causes in one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// An error and everything that caused it, joined by colons.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
