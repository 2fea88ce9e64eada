//! What a session is: a state machine without I/O, clock or async.
//!
//! A [`Command`] and a moment go in; recorded [events](protocol::Event) and [`Effect`]s, or a named
//! [refusal](protocol::Refusal), come out. Whoever calls [`decide`] records the events, applies them
//! to the [`State`], performs the effects and reports how they went by further commands. One
//! caller per session, always.
//!
//! # A prompt
//!
//! ```text
//!              SendPrompt
//!                  │ PromptAccepted            WithdrawPrompt
//!                  ▼                                 │
//!            ┌─ waiting ─────────────────────────────┴──► withdrawn
//!            │     │ taken by a sandbox that is up
//!            │     ▼
//!            │ delivering ◄──────── SandboxLost ────────┐
//!            │     │ PromptStarted                      │
//!            │     ▼                                    │
//!            │  running ────────────────────────────────┤
//!            │     │    │ StopRequested, or an insert   │
//!            │     │    ▼                               │
//!       Stop │     │ cancelling                         │
//!            │     │    │ the agent ended, or CancelFinished, or the sandbox is gone
//!            │     ▼    ▼ AgentEnded
//!            │ committing ─ Committed ─► pushing ─ Pushed ─► offering
//!            │     │                       │                    │
//!            │     │ NothingToCommit, or PublishFailed anywhere │ PullRequestOffered
//!            ▼     ▼                       ▼                    ▼
//!          ─────────────────────── PromptFinished ──────────────────
//! ```
//!
//! At most one prompt is between *waiting* and its end: the *turn*. What holds:
//!
//! - The turn is taken from the front of the queue the moment a sandbox is up, because from then on
//!   its delivery is under way: it can no longer be edited or withdrawn, only stopped.
//! - A report about the turn proves its delivery; so `PromptStarted` comes from whichever of the two
//!   is seen first.
//! - *Committing* and *pushing* wait for a sandbox that is up and in sync, and outlive its loss.
//!   Offering needs no sandbox.
//! - Work is never thrown away: what a stopped, superseded or failed prompt changed is committed
//!   and pushed too. A pull request is opened only for a completed prompt; one that is open already
//!   is kept up to date by every push. What could not be published goes out with the next prompt.
//! - An insert goes before the queue and behind other inserts. The running prompt is cancelled for
//!   it, its outcome *superseded*, but never before the agent has it: the agent is to know both.
//!   Agents that take in a second text by themselves are not used in that way yet.
//! - A prompt whose sandbox is lost is delivered again in one that continues the lost one's files;
//!   after [`Policy::losses`] losses it fails.
//!
//! # The sandbox
//!
//! ```text
//!        SandboxRequested          SandboxStarted          SandboxStopRequested
//!  none ─────────────────► asked ─────────────────► up ─────────────────► stopping
//!   ▲                        │ SandboxFailed        │ SandboxLost            │ SandboxStopped
//!   └────────────────────────┴──────────────────────┴────────────────────────┘
//! ```
//!
//! It is asked for as soon as something needs it, after a failed start only after a pause. When it
//! is up, the agent is started and the workspace synced at the same time, and the prompt is
//! delivered as soon as the agent answers: agentd holds back what must not happen before the sync.
//! It is stopped when nothing was to do for [`Policy::idle_milliseconds`], when asked
//! ([`Command::Park`]), and when its agent or its sync failed; the next prompt's sandbox continues
//! its files.
//!
//! # Effects are derived
//!
//! [`outstanding`] says what a state wants done; a decision's effects are what its events added to
//! that. So what is to be done after a crash is what [`outstanding`] says of the replayed state, by
//! the same code. Every effect must be performed so that doing it twice does nothing twice.

mod bounds;
mod command;
mod decide;
mod draft;
mod effect;
mod follow;
mod phase;
mod policy;
mod state;
mod title;

pub use command::{Command, Create, LimitHit, ModelAnswer};
pub use decide::{Decision, decide, limit_reason};
pub use effect::{Effect, outstanding};
pub use policy::Policy;
pub use state::{PromptText, State, sandbox_id};
pub use title::title;
