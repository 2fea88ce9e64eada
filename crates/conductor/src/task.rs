//! The one task that changes a session: decides, records, then shows and performs.
//!
//! ```text
//!  people, effects, agentd, gateway
//!            │ Message
//!            ▼
//!   decide ──► append to the journal ──► apply ──► publish to readers
//!            │                                └──► perform what is outstanding
//!            └─ refusal: answered, nothing recorded
//! ```
//!
//! Nothing is shown or done before it is recorded. Effects are not remembered: after every change
//! the task asks the state what is outstanding and starts what is not under way, so a task that
//! begins after a crash does the same as one that never stopped.

use std::collections::HashMap;
use std::sync::Arc;

use protocol::client::{Delta, DeltaKind};
use protocol::session::SessionView;
use protocol::{Envelope, Event, PromptId, SandboxId, SessionId};
use session::{Command, Effect, Policy, State};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::follow::RunLimit;
use crate::perform::{self, Order};
use crate::redaction::{Streams, redact_event};
use crate::shared::Shared;
use crate::subscription::{BUFFERED_UPDATES, Live, Subscription};
use crate::{Error, clock};

/// Commands waiting for one session at most; more make their senders wait.
const MAILBOX: usize = 256;

/// What a person is told when a command was carried out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    /// The number of the first event it recorded, or of the session's last if it recorded none.
    pub(crate) sequence: u64,
    /// The prompt it was about, where the same request had been carried out before.
    pub(crate) already: Option<PromptId>,
}

/// What reaches a session's task.
pub(crate) enum Message {
    /// Decide this.
    Command {
        command: Command,
        report: Option<u64>,
        reply: Option<oneshot::Sender<Result<Done, Error>>>,
    },
    /// Performing an effect has ended, with this to decide.
    Performed { effect: Effect, outcome: Option<Command> },
    /// Show this; it is not recorded.
    Delta { prompt: PromptId, kind: DeltaKind, text: String },
    /// Open a subscription.
    Subscribe { after: u64, reply: oneshot::Sender<Subscription> },
    /// Show the state.
    View { reply: oneshot::Sender<Option<SessionView>> },
}

/// A way to reach a session's task.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    sender: mpsc::Sender<Message>,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Command { .. } => "Command",
            Self::Performed { .. } => "Performed",
            Self::Delta { .. } => "Delta",
            Self::Subscribe { .. } => "Subscribe",
            Self::View { .. } => "View",
        })
    }
}

impl Handle {
    /// Hands over a message; waits while the mailbox is full. False if the task has ended.
    pub(crate) async fn send(&self, message: Message) -> bool {
        self.sender.send(message).await.is_ok()
    }

    /// Decides a command and waits until what follows from it is recorded.
    pub(crate) async fn decide(&self, command: Command) -> Result<Done, Error> {
        let (reply, answer) = oneshot::channel();
        self.ask(Message::Command { command, report: None, reply: Some(reply) }, answer).await?
    }

    /// Sends a message with a place for the answer and waits for the answer.
    pub(crate) async fn ask<T>(
        &self,
        message: Message,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, Error> {
        let ended = || Error::Unavailable {
            what: "the session's task has ended".to_owned(),
            hint: "the server is stopping, or the session's file cannot be written: see its log"
                .to_owned(),
        };
        if !self.send(message).await {
            return Err(ended());
        }
        answer.await.map_err(|_| ended())
    }
}

/// A session as its recorded events make it.
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(crate) state: State,
    /// The number of the last report recorded of the newest sandbox.
    pub(crate) last_report: u64,
    /// Until when the newest sandbox may run.
    run_limit: RunLimit,
}

impl Replayed {
    /// A session of which nothing is recorded.
    pub(crate) fn new(session: SessionId) -> Self {
        Self {
            state: State::new(session, Policy::default()),
            last_report: 0,
            run_limit: RunLimit::default(),
        }
    }

    /// Takes in the next recorded event.
    pub(crate) fn apply(&mut self, envelope: &Envelope) {
        if matches!(envelope.event, Event::SandboxRequested { .. }) {
            self.last_report = 0;
        }
        if let Event::SandboxStarted { description, .. } = &envelope.event {
            self.run_limit = RunLimit::new(envelope.at, description.limits.run_seconds);
        }
        if let Some(number) = envelope.report {
            self.last_report = number;
        }
        self.state.apply(envelope);
    }

    /// Whether there is neither work nor a sandbox, so that a restarted server need not look.
    fn is_quiet(&self) -> bool {
        self.state.current_sandbox().is_none() && session::outstanding(&self.state).is_empty()
    }
}

/// The sandbox that a session has and that answers.
pub(crate) fn running_sandbox(state: &State) -> Option<SandboxId> {
    state.view()?.sandbox.map(|sandbox| sandbox.id)
}

/// Starts the task of a session whose state has been replayed.
pub(crate) fn spawn(shared: Arc<Shared>, id: SessionId, replayed: Replayed) -> Handle {
    let (sender, receiver) = mpsc::channel(MAILBOX);
    let handle = Handle { sender };
    let task = Task {
        shared,
        id,
        replayed,
        is_open: false,
        live: broadcast::channel(BUFFERED_UPDATES).0,
        under_way: HashMap::new(),
        attached: None,
        streams: Streams::default(),
        handle: handle.clone(),
    };
    tokio::spawn(task.run(receiver));
    handle
}

/// What whoever gave a command hears when the journal failed.
fn not_recorded(error: &Error) -> Error {
    Error::Unavailable {
        what: error.chain(),
        hint: "what was asked for was not taken on: mend the cause, and ask again".to_owned(),
    }
}

struct Task {
    shared: Arc<Shared>,
    id: SessionId,
    replayed: Replayed,
    /// Whether the session is on the list of those a restarted server looks at.
    is_open: bool,
    live: broadcast::Sender<Live>,
    under_way: HashMap<Effect, tokio::task::AbortHandle>,
    /// The sandbox whose reports are being followed, and what follows them.
    attached: Option<(SandboxId, tokio::task::AbortHandle)>,
    /// Ends of live text that may be the beginning of a secret.
    streams: Streams,
    handle: Handle,
}

impl Task {
    async fn run(mut self, mut mailbox: mpsc::Receiver<Message>) {
        self.perform_outstanding();
        while let Some(message) = mailbox.recv().await {
            if let Err(error) = self.take(message).await {
                // Without its journal the session cannot go on: nothing may be done unrecorded.
                // The next message starts a new task, which reads the journal again.
                tracing::error!(session = %self.id, error = error.chain(), "session task ends");
                self.shared.directory.forget(self.id);
                break;
            }
        }
        for handle in self.under_way.values() {
            handle.abort();
        }
        if let Some((_, handle)) = &self.attached {
            handle.abort();
        }
    }

    /// Takes one message; an error means that the journal failed.
    async fn take(&mut self, message: Message) -> Result<(), Error> {
        match message {
            Message::Command { command, report, reply } => {
                let (answer, failed) = match self.decide(command, report).await {
                    Ok(answer) => (answer, None),
                    Err(error) => (Err(not_recorded(&error)), Some(error)),
                };
                if let Some(reply) = reply {
                    // The person may have gone away; what was recorded stands.
                    let _ = reply.send(answer);
                }
                return failed.map_or(Ok(()), Err);
            }
            Message::Performed { effect, outcome } => {
                self.under_way.remove(&effect);
                if let Some(command) = outcome {
                    self.take_outcome(&effect, command).await?;
                }
                self.perform_outstanding();
            }
            Message::Delta { prompt, kind, text } => {
                let known = self.shared.secrets.redaction().current();
                let text = self.streams.pass(&known, prompt, kind, text);
                if !text.is_empty() {
                    let delta = Delta { session: self.id, prompt, kind, text };
                    let _ = self.live.send(Live::Delta(Arc::new(delta)));
                }
            }
            Message::Subscribe { after, reply } => {
                let journal = Arc::clone(&self.shared.journal);
                let live = self.live.subscribe();
                let _ = reply.send(Subscription::new(self.id, journal, live, after, self.last()));
            }
            Message::View { reply } => {
                let _ = reply.send(self.replayed.state.view());
            }
        }
        Ok(())
    }

    async fn take_outcome(&mut self, effect: &Effect, command: Command) -> Result<(), Error> {
        let has_started = matches!(command, Command::SandboxStarted { .. });
        let decided = self.decide(command, None).await?;
        let Effect::StartSandbox { sandbox, continues } = *effect else { return Ok(()) };
        match decided {
            // Recorded, so nothing will ask for the files under the old name again.
            Ok(_) if has_started => {
                if let Some(emptied) = continues {
                    self.dispose(emptied, true);
                }
            }
            Ok(_) => {}
            Err(refusal) => {
                tracing::debug!(session = %self.id, ?effect, %refusal, "outcome refused");
                if self.replayed.state.current_sandbox() != Some(sandbox) {
                    // The session no longer wants what was being started.
                    self.dispose(sandbox, false);
                }
            }
        }
        Ok(())
    }

    /// Ends a sandbox nothing needs any more, with its files or without.
    fn dispose(&self, sandbox: SandboxId, with_files: bool) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let disposed = if with_files {
                shared.backend.discard(sandbox).await
            } else {
                shared.backend.stop(sandbox).await
            };
            if let Err(error) = disposed {
                tracing::error!(%sandbox, error = crate::chain(&error), "an unwanted sandbox stays");
            }
            shared.close_gateway(sandbox);
        });
    }

    /// Decides, records, applies, publishes and performs; the outer error is the journal's.
    async fn decide(
        &mut self,
        command: Command,
        report: Option<u64>,
    ) -> Result<Result<Done, Error>, Error> {
        let now = clock::now();
        let decision = match session::decide(&self.replayed.state, command, now) {
            Ok(decision) => decision,
            Err(refusal) => return Ok(Err(Error::Refused(refusal))),
        };
        let already = decision.already;
        if !decision.events.is_empty() {
            if !self.is_open {
                self.shared.open.add(self.id).await?;
                self.is_open = true;
            }
            let known = self.shared.secrets.redaction().current();
            let events = decision
                .events
                .into_iter()
                .map(|(actor, event)| (actor, redact_event(&known, event)))
                .map(|(actor, event)| journal::NewEvent { at: now, actor, report, event })
                .collect();
            let recorded = self.shared.journal.append(self.id, self.last(), events).await.map_err(
                |error| Error::failed(format!("recording events of {}", self.id), error),
            )?;
            let first = recorded.first().map_or(self.last(), |first| first.sequence);
            self.show(recorded).await;
            self.perform_outstanding();
            return Ok(Ok(Done { sequence: first, already }));
        }
        Ok(Ok(Done { sequence: self.last(), already }))
    }

    async fn show(&mut self, recorded: Vec<Envelope>) {
        for envelope in recorded {
            self.replayed.apply(&envelope);
            self.streams.recorded(&envelope.event);
            // No reader is no error.
            let _ = self.live.send(Live::Event(Arc::new(envelope)));
        }
        if let Some(summary) = self.replayed.state.summary() {
            self.shared.summarize(&summary).await;
        }
        if self.replayed.is_quiet() && self.is_open {
            match self.shared.open.remove(self.id).await {
                Ok(()) => self.is_open = false,
                // The list may name too many.
                Err(error) => {
                    tracing::warn!(session = %self.id, error = error.chain(), "still listed as open");
                }
            }
        }
    }

    fn last(&self) -> u64 {
        self.replayed.state.sequence()
    }

    /// Starts every outstanding effect that is not under way, and follows the sandbox in use.
    fn perform_outstanding(&mut self) {
        let wanted = session::outstanding(&self.replayed.state);
        self.give_up_unwanted(&wanted);
        self.follow_sandbox(&wanted);
        for effect in wanted {
            if self.under_way.contains_key(&effect) {
                continue;
            }
            let Some(order) = Order::new(&self.replayed.state, effect.clone()) else { continue };
            let shared = Arc::clone(&self.shared);
            let handle = self.handle.clone();
            let performed = effect.clone();
            let started = tokio::spawn(async move {
                let outcome = perform::perform(&shared, order).await;
                handle.send(Message::Performed { effect: performed, outcome }).await;
            });
            self.under_way.insert(effect, started.abort_handle());
        }
    }

    /// Gives up what is no longer outstanding: an alarm for a moment that no longer matters, a request
    /// to a sandbox that is gone. Only a start runs to its end, because what it started must be stopped.
    fn give_up_unwanted(&mut self, wanted: &[Effect]) {
        self.under_way.retain(|effect, performing| {
            let keep = matches!(effect, Effect::StartSandbox { .. }) || wanted.contains(effect);
            if !keep {
                performing.abort();
            }
            keep
        });
    }

    /// Keeps exactly one follower on the sandbox the session has, and none when it has none or is
    /// getting rid of it: an end that was asked for is no loss.
    fn follow_sandbox(&mut self, wanted: &[Effect]) {
        let ending = wanted.iter().any(|effect| matches!(effect, Effect::StopSandbox { .. }));
        let wanted = if ending { None } else { running_sandbox(&self.replayed.state) };
        if self.attached.as_ref().map(|(sandbox, _)| *sandbox) == wanted {
            return;
        }
        if let Some((_, follower)) = self.attached.take() {
            follower.abort();
        }
        if let Some(sandbox) = wanted {
            let after = self.replayed.last_report;
            self.shared.workers.of_session(sandbox, self.id);
            let follower = tokio::spawn(crate::follow::follow(
                Arc::clone(&self.shared),
                self.handle.clone(),
                sandbox,
                after,
                self.replayed.run_limit,
            ));
            self.attached = Some((sandbox, follower.abort_handle()));
        }
    }
}
