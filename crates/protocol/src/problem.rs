//! Errors of the API, as problem documents (RFC 9457).

use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success; media type `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// A reference that identifies the kind of problem: `/errors/<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What was being done, to what, and what went wrong, for people.
    pub detail: String,
    /// A stable word for programs.
    pub code: String,
    /// What to try, where something can be tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
