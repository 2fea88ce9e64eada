//! What a session wants done outside, derived from its state.

use protocol::session::Author;
use protocol::{PromptId, SandboxId, Timestamp};

use crate::state::{Publish, Stage, State, Step};

/// Something to be done. The same thing to do is the same value, so a set of them has no doubles.
///
/// Each ends in exactly one of the commands named with it; until then it stays outstanding and may
/// be asked for again, after a crash for instance. One that stops being outstanding without such a
/// command (the sandbox was lost, the prompt stopped) should be given up; if it is not, its command
/// is refused as stale.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Start a sandbox: `SandboxStarted` or `SandboxFailed`.
    StartSandbox {
        /// The id it gets.
        sandbox: SandboxId,
        /// The ended sandbox whose files it continues, if any.
        continues: Option<SandboxId>,
    },
    /// Stop a sandbox and everything in it, keep its files: `SandboxStopped`. There is no failing:
    /// try until it is gone.
    StopSandbox {
        /// Which one.
        sandbox: SandboxId,
        /// Why, for people.
        reason: String,
    },
    /// Start the agent's process: `AgentReady` or `AgentFailed`.
    StartAgent {
        /// Where.
        sandbox: SandboxId,
    },
    /// Bring the workspace to the session's branch without losing what is changed in it, and make it
    /// writable: `WorkspaceSynced` or `SyncFailed`.
    SyncWorkspace {
        /// Where.
        sandbox: SandboxId,
        /// The session's branch, created or continued.
        branch: String,
        /// The commit to start from when the branch does not exist yet.
        commit: String,
    },
    /// Give the agent a prompt, see [`State::prompt`]: `Delivered` or `DeliveryFailed`.
    DeliverPrompt {
        /// Where.
        sandbox: SandboxId,
        /// Which one.
        prompt: PromptId,
    },
    /// End a prompt, the agent willing or not: `CancelFinished`. Its delivery may still be under
    /// way: a prompt that was cancelled must not begin later.
    CancelPrompt {
        /// Where.
        sandbox: SandboxId,
        /// Which one.
        prompt: PromptId,
    },
    /// Commit everything that changed: `Committed`, `NothingToCommit` or `CommitFailed`.
    Commit {
        /// Where.
        sandbox: SandboxId,
        /// For which prompt, by its author.
        prompt: PromptId,
    },
    /// Push the session's branch: `Pushed` or `PushFailed`.
    Push {
        /// Where from.
        sandbox: SandboxId,
        /// For which prompt.
        prompt: PromptId,
        /// The tip to push; possibly an earlier prompt's that could not be pushed then.
        commit: String,
    },
    /// Open a pull request or bring it up to date: `PullRequestOffered` or `PullRequestFailed`.
    OfferPullRequest {
        /// For which prompt.
        prompt: PromptId,
        /// The pushed commit.
        commit: String,
        /// In whose name.
        as_user: Author,
    },
    /// Say `Wake` at this moment. At most one is outstanding; a new one replaces it.
    WakeAt(Timestamp),
}

/// Everything a state wants done: what to perform after a crash.
pub fn outstanding(state: &State) -> Vec<Effect> {
    let mut effects = Vec::new();
    sandbox_effects(state, &mut effects);
    turn_effects(state, &mut effects);
    effects.extend(state.deadline().map(Effect::WakeAt));
    effects
}

fn sandbox_effects(state: &State, effects: &mut Vec<Effect>) {
    let (Some(sandbox), Some(facts)) = (&state.sandbox, &state.facts) else { return };
    let id = sandbox.id;
    match &sandbox.stage {
        Stage::Asked => {
            effects.push(Effect::StartSandbox { sandbox: id, continues: sandbox.continues });
        }
        Stage::Up => {
            if !sandbox.agent_ready {
                effects.push(Effect::StartAgent { sandbox: id });
            }
            if !sandbox.synced {
                effects.push(Effect::SyncWorkspace {
                    sandbox: id,
                    branch: facts.branch.clone(),
                    commit: facts.base_commit.clone(),
                });
            }
        }
        Stage::Stopping { reason } => {
            effects.push(Effect::StopSandbox { sandbox: id, reason: reason.clone() });
        }
    }
}

fn turn_effects(state: &State, effects: &mut Vec<Effect>) {
    let Some(turn) = &state.turn else { return };
    let prompt = turn.prompt;
    let up = state.sandbox.as_ref().filter(|sandbox| sandbox.stage == Stage::Up);
    let synced = up.filter(|sandbox| sandbox.synced);
    let effect = match &turn.step {
        Step::Delivering => up
            .filter(|up| up.agent_ready)
            .map(|up| Effect::DeliverPrompt { sandbox: up.id, prompt }),
        Step::Running | Step::Publishing { publish: Publish::Done, .. } => None,
        Step::Cancelling { .. } => up.map(|up| Effect::CancelPrompt { sandbox: up.id, prompt }),
        Step::Publishing { publish: Publish::Commit, .. } => {
            synced.map(|up| Effect::Commit { sandbox: up.id, prompt })
        }
        Step::Publishing { publish: Publish::Push { commit }, .. } => {
            synced.map(|up| Effect::Push { sandbox: up.id, prompt, commit: commit.clone() })
        }
        Step::Publishing { publish: Publish::Offer { commit }, .. } => {
            state.record_of(prompt).map(|record| Effect::OfferPullRequest {
                prompt,
                commit: commit.clone(),
                as_user: record.author.clone(),
            })
        }
    };
    effects.extend(effect);
}
