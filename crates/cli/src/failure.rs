//! What the program says when something did not work, and the number it ends with.

use std::fmt;

/// The exit codes, as `hangar --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for did not happen.
    Failed = 1,
    /// The command line asks for something that makes no sense.
    Usage = 2,
    /// There is no server to talk to, or it does not let us in.
    NoServer = 3,
    /// This machine lacks something that is needed.
    Machine = 4,
    /// Ctrl-C.
    Interrupted = 130,
}

/// A failure with its exit code and what to try; other errors count as [`Exit::Failed`].
#[derive(Debug)]
pub struct Failure {
    /// The number the program ends with.
    pub exit: Exit,
    /// What was being done, to what, and what went wrong.
    pub text: String,
    /// What to try.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), hint: None }
    }

    /// The same with advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// The lines for an error, and the exit code it asks for.
pub fn explain(error: &anyhow::Error) -> (Vec<String>, Exit) {
    let mut text = crate::escape::text(&error.to_string());
    for cause in error.chain().skip(1) {
        let cause = crate::escape::text(&cause.to_string());
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    let failure = error.chain().find_map(|cause| cause.downcast_ref::<Failure>());
    let mut lines = vec![format!("error: {text}")];
    if let Some(hint) = failure.and_then(|failure| failure.hint.as_ref()) {
        lines.push(format!("hint: {}", crate::escape::text(hint)));
    }
    (lines, failure.map_or(Exit::Failed, |failure| failure.exit))
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn an_error_is_one_line_and_a_hint() {
        let failure = Failure::new(Exit::NoServer, "no server runs").hint("hangar serve");
        let error = Err::<(), _>(failure).context("listing sessions").expect_err("an error");
        let (lines, exit) = explain(&error);
        assert_eq!(lines, ["error: listing sessions: no server runs", "hint: hangar serve"]);
        assert_eq!(exit, Exit::NoServer);
    }

    #[test]
    fn an_error_without_a_code_failed() {
        let (lines, exit) = explain(&anyhow::anyhow!("reading \x1b[31m"));
        assert_eq!(lines, ["error: reading \\x1b[31m"]);
        assert_eq!(exit, Exit::Failed);
    }
}
