//! Opens the session's pull request in the name of the person who asked, or brings it up to date.

use forge::NewPullRequest;
use protocol::PromptId;
use protocol::session::{Author, PromptState, PullRequestSummary, SessionView};
use session::Command;

use crate::error::chain;
use crate::shared::Shared;
use crate::{clock, wording};

pub(super) async fn offer_pull_request(
    shared: &Shared,
    view: &SessionView,
    prompt: PromptId,
    commit: String,
    as_user: Author,
) -> Command {
    let answer = last_message(shared, view, prompt).await;
    let known = shared.secrets.redaction();
    let body = wording::pull_request_body(view.summary.id, &asked(view, prompt), answer.as_deref());
    let new = NewPullRequest {
        repository: view.summary.repository.clone(),
        session: Some(view.summary.id),
        title: known.text(&view.summary.title).into_owned(),
        body: known.text(&body).into_owned(),
        author: as_user,
        base_branch: view.base_branch.clone(),
        branch: view.branch.clone(),
        commit,
        now: clock::now(),
    };
    match shared.forge.open_pull_request(new).await {
        Ok((pull_request, _created)) => Command::PullRequestOffered {
            prompt,
            pull_request: PullRequestSummary {
                id: pull_request.id,
                number: pull_request.number,
                title: pull_request.title,
                branch: pull_request.branch,
                commit: pull_request.commit,
                diff_stat: pull_request.diff_stat,
                state: pull_request.state,
            },
        },
        Err(error) => Command::PullRequestFailed { prompt, reason: chain(&error) },
    }
}

/// The prompts whose work the pull request carries, oldest first.
fn asked(view: &SessionView, prompt: PromptId) -> Vec<(PromptId, &str)> {
    view.prompts
        .iter()
        .filter(|asked| asked.id == prompt || matches!(asked.state, PromptState::Finished { .. }))
        .map(|asked| (asked.id, asked.text.as_str()))
        .collect()
}

/// The last thing the agent said about a prompt.
async fn last_message(shared: &Shared, view: &SessionView, prompt: PromptId) -> Option<String> {
    let mut last = None;
    let mut after = 0;
    loop {
        let page = shared.journal.read(view.summary.id, after, 1000).await.ok()?;
        let Some(newest) = page.last() else { return last };
        after = newest.sequence;
        for envelope in page {
            if let protocol::Event::AgentMessage { prompt: about, text } = envelope.event
                && about == prompt
            {
                last = Some(text);
            }
        }
    }
}
