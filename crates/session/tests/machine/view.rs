//! What clients see of it.

use protocol::session::{PromptOutcome, PromptState, SessionStatus, SessionView};
use session::{Command, Policy, State};

use super::support::{
    BASE, BRANCH, Story, bob, cancelled, committed, delivered, description, edit, ended, insert,
    lost, model, not_committed, prm, pull_request, pushed, send, session, started, stop, stopped,
    synced, withdraw,
};

fn view(story: &Story) -> SessionView {
    story.state.view().expect("the session was created")
}

fn states(story: &Story) -> Vec<(u8, PromptState)> {
    let prompts = view(story).prompts;
    prompts.into_iter().map(|prompt| (prompt.id.as_bytes()[0], prompt.state)).collect()
}

#[test]
fn what_was_not_created_is_not_seen() {
    let state = State::new(session(), Policy::default());
    assert_eq!(state.view(), None);
    assert_eq!(state.summary(), None);
    assert_eq!(state.status(), SessionStatus::Idle);
}

#[test]
fn a_new_session_shows_what_it_began_with() {
    let story = Story::created();
    let view = view(&story);
    assert_eq!(view.summary.id, session());
    assert_eq!(view.summary.title, "Try it");
    assert_eq!(view.summary.agent, "built-in");
    assert_eq!(view.summary.repository.to_string(), "local/hangar");
    assert_eq!(view.summary.created_at, story.now);
    assert_eq!(view.summary.last_sequence, 1);
    assert_eq!(view.model, model());
    assert_eq!((view.base_branch.as_str(), view.base_commit.as_str()), ("main", BASE));
    assert_eq!(view.branch, BRANCH);
    assert_eq!((view.sandbox, view.pull_request), (None, None));
}

#[test]
fn the_status_follows_the_prompt() {
    let mut story = Story::created();
    assert_eq!(story.state.status(), SessionStatus::Idle);
    let steps = [
        (send(1), SessionStatus::Preparing),
        (started(1), SessionStatus::Preparing),
        (synced(1), SessionStatus::Preparing),
        (delivered(1, 1), SessionStatus::Running),
        (insert(2), SessionStatus::Running),
        (stop(), SessionStatus::Stopping),
        (cancelled(1, 1), SessionStatus::Publishing),
        (committed(1, 1, "aaa"), SessionStatus::Publishing),
        (pushed(1, 1, "aaa"), SessionStatus::Preparing),
        (delivered(1, 2), SessionStatus::Running),
        (lost(1), SessionStatus::Preparing),
        (started(2), SessionStatus::Preparing),
        (delivered(2, 2), SessionStatus::Running),
        (ended(2, 2), SessionStatus::Publishing),
        (synced(2), SessionStatus::Publishing),
        (not_committed(2, 2), SessionStatus::Failed),
        (send(3), SessionStatus::Preparing),
        (stop(), SessionStatus::Stopping),
    ];
    for (command, status) in steps {
        let shown = format!("{command:?}");
        story.say(command);
        assert_eq!(story.state.status(), status, "after {shown}");
        assert_eq!(view(&story).summary.status, status);
    }
}

#[test]
fn prompts_are_shown_with_their_states() {
    let story = Story::running().then([send(2), send(3), withdraw(2), edit(3, "that"), insert(4)]);
    assert_eq!(
        states(&story),
        [
            (1, PromptState::Running),
            (2, PromptState::Withdrawn),
            (4, PromptState::Queued),
            (3, PromptState::Queued),
        ]
    );
    let view = view(&story);
    assert_eq!(view.prompts[3].text, "that");
    let story = story.then([cancelled(1, 1)]);
    assert_eq!(states(&story)[0], (1, PromptState::Publishing));
    let story = story.then([not_committed(1, 1)]);
    let outcome = PromptOutcome::Superseded;
    assert_eq!(states(&story)[0], (1, PromptState::Finished { outcome }));
}

#[test]
fn a_prompt_between_two_sandboxes_still_runs() {
    let story = Story::created().then([send(1), started(1)]);
    assert_eq!(states(&story), [(1, PromptState::Queued)]);
    let story = story.then([delivered(1, 1), lost(1)]);
    assert_eq!(states(&story), [(1, PromptState::Running)]);
}

#[test]
fn a_stopped_prompt_names_who_stopped_it() {
    let story = Story::created().then([send(1), stop()]);
    let outcome = PromptOutcome::Stopped { by: bob() };
    assert_eq!(states(&story), [(1, PromptState::Finished { outcome })]);
}

#[test]
fn the_sandbox_is_shown_while_there_is_one() {
    let story = Story::created().then([send(1)]);
    assert_eq!(view(&story).sandbox, None, "it is only asked for");
    let story = Story::published();
    assert_eq!(view(&story).sandbox, Some(description(1)));
    let story = story.then([Command::Park]);
    assert_eq!(view(&story).sandbox, Some(description(1)), "it is not gone yet");
    let story = story.then([stopped(1)]);
    assert_eq!(view(&story).sandbox, None);
}

#[test]
fn the_pull_request_is_shown() {
    let story = Story::published();
    assert_eq!(view(&story).pull_request, Some(pull_request("aaa")));
    let changed = super::support::changed(1, protocol::session::PullRequestState::Merged);
    let story = story.then([changed]);
    let merged = view(&story).pull_request.expect("it stays");
    assert_eq!(merged.state, protocol::session::PullRequestState::Merged);
}

#[test]
fn every_event_moves_the_time_of_change_and_the_sequence() {
    let story = Story::created().wait(500).then([send(1)]);
    let summary = story.state.summary().expect("the session was created");
    assert_eq!(summary.updated_at, story.now);
    assert_eq!(summary.created_at.plus_milliseconds(500), summary.updated_at);
    assert_eq!(summary.last_sequence, 3);
    assert_eq!(story.state.sequence(), 3);
    assert_eq!(story.state.session(), session());
    assert_eq!(story.state.prompt(prm(1)).map(|prompt| prompt.text), Some("do it"));
}
