//! How a whole job ends: the JSON document, or the diff, the times and what to do next.

use protocol::client::PullRequest;
use protocol::session::{DiffStat, ModelChoice, Phase};
use protocol::{PromptId, PullRequestId, SessionId};
use serde::Serialize;

use crate::style::{Style, Tone};
use crate::watch::Facts;
use crate::{escape, format};

/// Lines of a diff that are shown at the end of a job.
pub const DIFF_LINES: usize = 120;
/// Characters of one of them.
const DIFF_WIDTH: usize = 200;

/// What `try --json` prints. Fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Document {
    /// `owner/name`.
    pub repository: String,
    /// Which session.
    pub session: Option<SessionId>,
    /// The agent that worked.
    pub agent: String,
    /// The model that answered, as `provider/name`.
    pub model: String,
    /// The wall around the sandbox.
    pub isolation: Option<&'static str>,
    /// The branch that was pushed.
    pub branch: String,
    /// The commit; `null` when the agent changed nothing.
    pub commit: Option<String>,
    /// The pull request; `null` when there is none.
    pub pull_request: Option<DocumentPullRequest>,
    /// The times, in the order of the way.
    pub phases: Vec<DocumentPhase>,
}

/// A pull request in a [`Document`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentPullRequest {
    /// Which one.
    pub id: PullRequestId,
    /// Its title.
    pub title: String,
    /// How much it touches.
    pub diff_stat: DiffStat,
}

/// One time in a [`Document`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DocumentPhase {
    /// As in [`Phase::as_str`].
    pub name: &'static str,
    /// How long.
    pub milliseconds: u64,
}

impl Document {
    /// The document of one prompt's job.
    pub fn new(facts: &Facts, prompt: PromptId) -> Self {
        let times = facts.times(prompt).into_iter();
        let phase = |(phase, milliseconds): (Phase, u64)| DocumentPhase {
            name: phase.as_str(),
            milliseconds,
        };
        let request = facts.pull_request.as_ref().map(|request| DocumentPullRequest {
            id: request.id,
            title: request.title.clone(),
            diff_stat: request.diff_stat,
        });
        Self {
            repository: facts.repository.as_ref().map(ToString::to_string).unwrap_or_default(),
            session: facts.session,
            agent: facts.agent.clone().unwrap_or_default(),
            model: facts.model.as_ref().map(model_name).unwrap_or_default(),
            isolation: facts.isolation.map(protocol::sandbox::Isolation::as_str),
            branch: facts.branch.clone().unwrap_or_default(),
            commit: facts.commit.clone(),
            pull_request: request,
            phases: times.map(phase).collect(),
        }
    }
}

/// `provider/name`, or the one word where both are the same.
pub fn model_name(model: &ModelChoice) -> String {
    let (provider, name) = (escape::line(&model.provider), escape::line(&model.name));
    if provider == name { provider } else { format!("{provider}/{name}") }
}

/// `+3 -1 in 2 files`.
pub fn diff_stat(stat: DiffStat) -> String {
    let plural = if stat.files == 1 { "" } else { "s" };
    format!("+{} -{} in {} file{plural}", stat.added, stat.removed, stat.files)
}

/// The table of times, each with what it measures.
pub fn phase_table(style: Style, times: &[(Phase, u64)]) -> Vec<String> {
    let row = |(phase, milliseconds): &(Phase, u64)| {
        let meaning = meaning(*phase).to_owned();
        vec![phase.as_str().to_owned(), format!("{:>10}", format::duration(*milliseconds)), meaning]
    };
    let mut rows = vec![vec!["phase".to_owned(), "      time".to_owned(), String::new()]];
    rows.extend(times.iter().map(row));
    let mut lines = format::table(&rows);
    if let Some(heading) = lines.first_mut() {
        *heading = style.paint(Tone::Strong, heading);
    }
    lines
}

fn meaning(phase: Phase) -> &'static str {
    match phase {
        Phase::Image => "building the repository's image",
        Phase::Sandbox => "asking for a sandbox until it answers",
        Phase::Sync => "bringing the repository to the wanted commit",
        Phase::FirstModelRequest => "prompt accepted until the first request reaches the model",
        Phase::FirstToken => "that request until its first token",
        Phase::FirstEdit => "prompt accepted until the first file was changed",
        Phase::Agent => "the agent's work, from delivery to its end",
        Phase::Commit => "committing as the author of the prompt",
        Phase::Push => "pushing through the gateway",
        Phase::PullRequest => "opening the pull request",
    }
}

/// A diff, coloured and bounded; says how much is hidden and where the rest is.
pub fn diff(style: Style, text: &str, lines: usize, whole: &str) -> Vec<String> {
    let escaped = escape::text(text.trim_end());
    let total = escaped.lines().count();
    let mut shown: Vec<String> =
        escaped.lines().take(lines).map(|line| diff_line(style, line)).collect();
    if total > lines {
        shown.push(style.paint(Tone::Faint, &format!("… {} more lines: {whole}", total - lines)));
    }
    shown
}

fn diff_line(style: Style, line: &str) -> String {
    let tone = match line {
        _ if line.starts_with("diff ") || line.starts_with("+++ ") || line.starts_with("--- ") => {
            Tone::Strong
        }
        _ if line.starts_with("@@") => Tone::Faint,
        _ if line.starts_with('+') => Tone::Good,
        _ if line.starts_with('-') => Tone::Bad,
        _ => return escape::cut(line, DIFF_WIDTH),
    };
    style.paint(tone, &escape::cut(line, DIFF_WIDTH))
}

/// A pull request for people.
pub fn pull_request(request: &PullRequest) -> String {
    let (title, branch) = (escape::line(&request.title), escape::line(&request.branch));
    format!("#{} {title} ({branch}, {})", request.number, diff_stat(request.diff_stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_diff_is_bounded_and_says_where_the_rest_is() {
        let text = "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-old\n+new\x1b[2J\n same\n";
        let shown = diff(Style::Plain, text, 6, "hangar session show --diff 1234");
        assert_eq!(shown[5], "+new\\x1b[2J");
        assert_eq!(shown[6], "… 1 more lines: hangar session show --diff 1234");
        assert_eq!(shown.len(), 7);
    }

    #[test]
    fn times_are_a_table() {
        let times = [(Phase::Sandbox, 12), (Phase::FirstModelRequest, 1234)];
        let expected = "\
phase                      time
sandbox                   12 ms  asking for a sandbox until it answers
first_model_request       1.2 s  prompt accepted until the first request reaches the model";
        assert_eq!(phase_table(Style::Plain, &times).join("\n"), expected);
    }
}
