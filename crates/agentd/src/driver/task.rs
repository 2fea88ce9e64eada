//! The one task that changes the driver's state.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, Implementation, InitializeRequest, InitializeResponse,
    NewSessionRequest, NewSessionResponse, PermissionOptionKind, PromptRequest, PromptResponse,
    RequestPermissionOutcome, RequestPermissionRequest, RequestPermissionResponse,
    SelectedPermissionOutcome, SessionId, SessionNotification, StopReason, TextContent,
};
use protocol::PromptId;
use protocol::agentd::{
    AgentStarted, CancelPrompt, DeliverPrompt, Ending, PromptCancelled, PromptDelivered, Report,
    StartAgent,
};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::connection::{Connection, Incoming};
use super::transcript::{Output, Transcript};
use super::{Error, Order, Reply, Surroundings};
use crate::agent::{self, Agent};
use crate::children::What;
use crate::processes::Process;
use crate::text;

/// How long an agent may take to answer `initialize` and `session/new` each: a large JavaScript
/// program on a busy machine.
const START_PATIENCE: Duration = Duration::from_mins(1);

pub(super) struct Task {
    around: Surroundings,
    gate: watch::Receiver<bool>,
    wanted: Option<Wanted>,
    life: Life,
    /// Who waits for the agent's first answer.
    waiting: Vec<Reply<AgentStarted>>,
    started: Option<AgentStarted>,
    /// Every prompt ever delivered.
    delivered: HashSet<PromptId>,
    queue: VecDeque<DeliverPrompt>,
    turn: Option<Turn>,
}

struct Wanted {
    order: StartAgent,
    agent: &'static dyn Agent,
}

enum Life {
    Absent,
    Starting { connection: Connection, request: u64, since: Instant },
    Initialized { connection: Connection },
    Opening { connection: Connection, request: u64, since: Instant },
    Ready { connection: Connection, session: SessionId },
}

/// A prompt the agent works on.
struct Turn {
    request: u64,
    transcript: Transcript,
    /// What ran before it, which a willing cancel leaves alone.
    before: Vec<Process>,
    cancel: Option<Cancel>,
}

struct Cancel {
    deadline: Instant,
    replies: Vec<Reply<PromptCancelled>>,
}

impl Life {
    fn connection(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Absent => None,
            Self::Starting { connection, .. }
            | Self::Initialized { connection }
            | Self::Opening { connection, .. }
            | Self::Ready { connection, .. } => Some(connection),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Starting { since, .. } | Self::Opening { since, .. } => {
                Some(*since + START_PATIENCE)
            }
            _ => None,
        }
    }
}

enum Event {
    Order(Option<Order>),
    Incoming(Incoming),
    Gate,
    Time,
}

impl Task {
    pub(super) fn new(around: Surroundings) -> Self {
        Self {
            gate: around.gate.watch(),
            around,
            wanted: None,
            life: Life::Absent,
            waiting: Vec::new(),
            started: None,
            delivered: HashSet::new(),
            queue: VecDeque::new(),
            turn: None,
        }
    }

    /// Works until nobody can give orders any more.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            match self.event(&mut orders).await {
                Event::Order(None) => return,
                Event::Order(Some(order)) => self.order(order).await,
                Event::Incoming(incoming) => self.incoming(incoming).await,
                Event::Time => self.time().await,
                Event::Gate => {}
            }
            self.advance().await;
            self.publish();
        }
    }

    async fn event(&mut self, orders: &mut mpsc::Receiver<Order>) -> Event {
        let due = self.due();
        let reports = &self.around.reports;
        let life = &mut self.life;
        let incoming = async {
            match life.connection() {
                None => std::future::pending().await,
                Some(connection) => {
                    // Not reading is what makes the agent wait for the host.
                    reports.room().await;
                    connection.next().await
                }
            }
        };
        let time = async {
            match due {
                None => std::future::pending().await,
                Some(due) => tokio::time::sleep_until(due.into()).await,
            }
        };
        tokio::select! {
            biased;
            order = orders.recv() => Event::Order(order),
            () = time => Event::Time,
            _ = self.gate.changed() => Event::Gate,
            incoming = incoming => Event::Incoming(incoming),
        }
    }

    fn due(&self) -> Option<Instant> {
        let turn = self.turn.as_ref();
        let cancel = turn.and_then(|turn| turn.cancel.as_ref()).map(|cancel| cancel.deadline);
        let shown = turn.and_then(|turn| turn.transcript.due());
        [cancel, shown, self.life.deadline()].into_iter().flatten().min()
    }

    async fn time(&mut self) {
        let now = Instant::now();
        if self.life.deadline().is_some_and(|deadline| deadline <= now) {
            let words = self.life.connection().map(|connection| connection.last_words());
            let words = words.unwrap_or_default();
            let waited = START_PATIENCE.as_secs();
            self.start_failed(&format!("the agent did not answer within {waited} s{words}")).await;
        }
        let Some(turn) = &mut self.turn else { return };
        turn.transcript.tick(now);
        if turn.cancel.as_ref().is_some_and(|cancel| cancel.deadline <= now) {
            self.kill().await;
            self.end_turn(Ending::Cancelled, true).await;
        }
    }

    // === Orders ===

    async fn order(&mut self, order: Order) {
        match order {
            Order::Start(order, reply) => self.order_start(order, reply).await,
            Order::Deliver(order, reply) => {
                // A caller that is gone asks again.
                let _ = reply.send(self.order_deliver(order));
            }
            Order::Cancel(order, reply) => self.order_cancel(&order, reply),
        }
    }

    async fn order_start(&mut self, order: StartAgent, reply: Reply<AgentStarted>) {
        let Some(agent) = agent::find(&order.agent) else {
            let _ = reply.send(Err(Error::Unknown(order.agent)));
            return;
        };
        let same = self.wanted.as_ref().is_some_and(|wanted| wanted.order == order);
        if !same {
            if self.turn.is_some() {
                let _ = reply.send(Err(Error::Busy));
                return;
            }
            self.kill().await;
            self.started = None;
            self.wanted = Some(Wanted { order, agent });
        }
        match (&self.life, &self.started) {
            (
                Life::Initialized { .. } | Life::Opening { .. } | Life::Ready { .. },
                Some(started),
            ) => {
                let _ = reply.send(Ok(started.clone()));
            }
            _ => self.waiting.push(reply),
        }
    }

    fn order_deliver(&mut self, order: DeliverPrompt) -> Result<PromptDelivered, Error> {
        if self.wanted.is_none() {
            return Err(Error::NotStarted);
        }
        let already = !self.delivered.insert(order.prompt);
        if !already {
            self.queue.push_back(order);
        }
        Ok(PromptDelivered { already })
    }

    /// A prompt that is not here, or not any more, has nothing left to end.
    fn order_cancel(&mut self, order: &CancelPrompt, reply: Reply<PromptCancelled>) {
        if let Some(place) = self.queue.iter().position(|waiting| waiting.prompt == order.prompt) {
            self.queue.remove(place);
            self.report_end(order.prompt, Ending::Cancelled);
        }
        let deadline = Instant::now() + Duration::from_millis(order.grace_milliseconds);
        match (&mut self.turn, &mut self.life) {
            (Some(turn), Life::Ready { connection, session })
                if turn.transcript.prompt() == order.prompt =>
            {
                connection.notify("session/cancel", &CancelNotification::new(session.clone()));
                let cancel = turn.cancel.get_or_insert(Cancel { deadline, replies: Vec::new() });
                cancel.deadline = cancel.deadline.min(deadline);
                cancel.replies.push(reply);
            }
            _ => {
                let _ = reply.send(Ok(PromptCancelled { killed: false }));
            }
        }
    }

    // === The agent's life ===

    /// Does what can be done next: start, open the session, give it the next prompt.
    async fn advance(&mut self) {
        let wanted = !self.waiting.is_empty() || !self.queue.is_empty();
        if matches!(self.life, Life::Absent) && wanted {
            self.start().await;
        }
        let Some(wanted) = &self.wanted else { return };
        let may_work = *self.gate.borrow() || wanted.agent.works_before_sync();
        if !may_work {
            return;
        }
        match std::mem::replace(&mut self.life, Life::Absent) {
            Life::Initialized { mut connection } => {
                let workspace = &self.around.children.settings().workspace;
                let request = connection.request("session/new", &NewSessionRequest::new(workspace));
                self.life = Life::Opening { connection, request, since: Instant::now() };
            }
            other => self.life = other,
        }
        if self.turn.is_none() && matches!(self.life, Life::Ready { .. }) {
            self.give_prompt().await;
        }
    }

    async fn start(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        let children = &self.around.children;
        let settings = children.settings();
        let since = Instant::now();
        for (path, bytes) in wanted.agent.files(settings, &wanted.order) {
            if let Err(error) = write_file(children, path, &bytes).await {
                let reason = format!("preparing the agent's files: {error}");
                self.start_failed(&reason).await;
                return;
            }
        }
        let mut program = wanted.agent.program(settings, &wanted.order);
        program.for_agent = true;
        match Connection::open(children, &program).await {
            Err(error) => {
                let reason = format!("{}; is the agent installed?", text::chain(&error));
                self.start_failed(&reason).await;
            }
            Ok(mut connection) => {
                let us = Implementation::new("hangar", env!("CARGO_PKG_VERSION"));
                // No file system and no terminal: agents use the sandbox's own.
                let request = InitializeRequest::new(ProtocolVersion::V1).client_info(us);
                let request = connection.request("initialize", &request);
                self.life = Life::Starting { connection, request, since };
            }
        }
    }

    fn initialized(&mut self, answer: Value, since: Instant) -> Result<(), String> {
        let answer: InitializeResponse = serde_json::from_value(answer)
            .map_err(|error| format!("the agent's answer to `initialize` is wrong: {error}"))?;
        if answer.protocol_version != ProtocolVersion::V1 {
            let version = answer.protocol_version;
            return Err(format!("the agent speaks version {version} of its protocol, not 1"));
        }
        let agent = match answer.agent_info {
            Some(info) => format!("{} {}", info.name, info.version),
            None => {
                self.wanted.as_ref().map(|wanted| wanted.order.agent.clone()).unwrap_or_default()
            }
        };
        let milliseconds = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let started = self
            .started
            .get_or_insert(AgentStarted { agent: text::cut(agent, 200), milliseconds })
            .clone();
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Ok(started.clone()));
        }
        Ok(())
    }

    /// Tells whoever waits, and fails the prompt that wanted the agent: the next one tries again.
    async fn start_failed(&mut self, reason: &str) {
        self.kill().await;
        let reason = format!("starting the agent: {reason}");
        for reply in self.waiting.drain(..) {
            let _ = reply.send(Err(Error::Start(reason.clone())));
        }
        if let Some(order) = self.queue.pop_front() {
            self.report_end(order.prompt, Ending::Failed { reason });
        }
    }

    async fn kill(&mut self) {
        if let Some(connection) = self.life.connection() {
            connection.running.kill_with_strays().await;
        }
        self.life = Life::Absent;
    }

    // === Prompts ===

    async fn give_prompt(&mut self) {
        let Some(order) = self.queue.pop_front() else { return };
        if let Err(error) = self.around.git.set_identity(&order.author).await {
            // The platform's own commit carries the author in any case.
            let text = format!("The agent's own commits may carry another author: {error}");
            self.around.reports.add(Report::Notice { prompt: Some(order.prompt), text });
        }
        let Life::Ready { connection, session } = &mut self.life else { return };
        let workspace = &self.around.children.settings().workspace;
        let before = connection.running.members();
        let content = ContentBlock::Text(TextContent::new(order.text));
        let request = connection
            .request("session/prompt", &PromptRequest::new(session.clone(), vec![content]));
        let transcript = Transcript::new(order.prompt, workspace, Instant::now());
        self.turn = Some(Turn { request, transcript, before, cancel: None });
    }

    async fn end_turn(&mut self, ending: Ending, killed: bool) {
        self.publish();
        let Some(mut turn) = self.turn.take() else { return };
        turn.transcript.end(Instant::now());
        publish(&self.around, &mut turn.transcript);
        if let Some(cancel) = turn.cancel {
            if let (false, Some(connection)) = (killed, self.life.connection()) {
                connection.running.kill_newer_than(&turn.before).await;
            }
            self.report_end(turn.transcript.prompt(), ending);
            for reply in cancel.replies {
                let _ = reply.send(Ok(PromptCancelled { killed }));
            }
        } else {
            self.report_end(turn.transcript.prompt(), ending);
        }
    }

    fn report_end(&self, prompt: PromptId, ending: Ending) {
        self.around.reports.add(Report::PromptEnded { prompt, ending });
    }

    fn publish(&mut self) {
        if let Some(turn) = &mut self.turn {
            publish(&self.around, &mut turn.transcript);
        }
    }

    fn notice(&self, text: &str) {
        let prompt = self.turn.as_ref().map(|turn| turn.transcript.prompt());
        self.around.reports.add(Report::Notice { prompt, text: text.to_owned() });
    }

    // === What the agent says ===

    async fn incoming(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Response { id, result } => self.response(id, result).await,
            Incoming::Request { id, method, params } => self.request(&id, &method, params),
            Incoming::Notification { method, params } => self.notification(&method, params),
            Incoming::Garbage { beginning } => self.notice(&format!(
                "The agent wrote something that is no message; this and all like it is left out. \
                 It begins: {beginning}"
            )),
            Incoming::TooLong => self.notice(
                "The agent wrote a message longer than 8 MiB; this and all like it is left out.",
            ),
            Incoming::Ended { how } => self.agent_ended(&how).await,
        }
    }

    async fn agent_ended(&mut self, how: &str) {
        match self.life {
            Life::Starting { .. } | Life::Opening { .. } => {
                self.start_failed(&format!("the agent {how}")).await;
                return;
            }
            _ => self.kill().await,
        }
        let Some(turn) = &self.turn else { return };
        // An agent that ends itself when it is asked to stop has stopped.
        let (ending, killed) = if turn.cancel.is_some() {
            (Ending::Cancelled, true)
        } else {
            let reason = format!(
                "the agent {how}. What it changed is still there; the next prompt starts it again"
            );
            (Ending::Failed { reason }, false)
        };
        self.end_turn(ending, killed).await;
    }

    async fn response(&mut self, id: u64, result: Result<Value, String>) {
        if self.turn.as_ref().is_some_and(|turn| turn.request == id) {
            self.prompt_answered(result).await;
            return;
        }
        let refused = |what: &str, error: &str| format!("the agent refused `{what}`: {error}");
        let failure = match std::mem::replace(&mut self.life, Life::Absent) {
            Life::Starting { connection, request, since } if request == id => {
                self.life = Life::Initialized { connection };
                match result {
                    Err(error) => Err(refused("initialize", &error)),
                    Ok(answer) => self.initialized(answer, since),
                }
            }
            Life::Opening { connection, request, .. } if request == id => {
                let opened = result
                    .map_err(|error| refused("session/new", &error))
                    .and_then(|answer| session_of(&answer));
                match opened {
                    Ok(session) => {
                        self.life = Life::Ready { connection, session };
                        Ok(())
                    }
                    Err(reason) => {
                        self.life = Life::Initialized { connection };
                        Err(reason)
                    }
                }
            }
            // An answer to nothing that was asked.
            other => {
                self.life = other;
                Ok(())
            }
        };
        if let Err(reason) = failure {
            self.start_failed(&reason).await;
        }
    }

    async fn prompt_answered(&mut self, result: Result<Value, String>) {
        let cancelled = self.turn.as_ref().is_some_and(|turn| turn.cancel.is_some());
        let ending = match result.map(serde_json::from_value::<PromptResponse>) {
            Ok(Ok(answer)) => match answer.stop_reason {
                StopReason::Cancelled => Ending::Cancelled,
                StopReason::Refusal => Ending::Failed {
                    reason: "the agent refused the prompt; put it in other words".to_owned(),
                },
                StopReason::MaxTokens => {
                    self.notice("The agent stopped at its limit of tokens; it may not be done.");
                    Ending::Completed
                }
                StopReason::MaxTurnRequests => {
                    self.notice("The agent stopped at its limit of steps; it may not be done.");
                    Ending::Completed
                }
                _ => Ending::Completed,
            },
            // A cancelled request may be answered with an error, against the protocol.
            _ if cancelled => Ending::Cancelled,
            Ok(Err(error)) => {
                Ending::Failed { reason: format!("the agent's answer makes no sense: {error}") }
            }
            Err(error) => Ending::Failed { reason: format!("the agent failed: {error}") },
        };
        self.end_turn(ending, false).await;
    }

    fn notification(&mut self, method: &str, params: Value) {
        let Some(turn) = &mut self.turn else { return };
        if method != "session/update" {
            return;
        }
        // Agents send kinds of updates that are in no version of the protocol.
        if let Ok(news) = serde_json::from_value::<SessionNotification>(params) {
            turn.transcript.update(news.update, Instant::now());
        }
    }

    fn request(&mut self, id: &Value, method: &str, params: Value) {
        let cancelled = self.turn.as_ref().is_none_or(|turn| turn.cancel.is_some());
        let Some(connection) = self.life.connection() else { return };
        if method != "session/request_permission" {
            connection.refuse(id, method);
            return;
        }
        let allowed =
            serde_json::from_value::<RequestPermissionRequest>(params).ok().and_then(|request| {
                let wanted = [PermissionOptionKind::AllowOnce, PermissionOptionKind::AllowAlways];
                wanted.iter().find_map(|kind| {
                    request.options.iter().find(|option| option.kind == *kind).cloned()
                })
            });
        let outcome = match allowed {
            Some(option) if !cancelled => {
                RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option.option_id))
            }
            _ => RequestPermissionOutcome::Cancelled,
        };
        connection.answer(id, &RequestPermissionResponse::new(outcome));
    }
}

fn session_of(answer: &Value) -> Result<SessionId, String> {
    serde_json::from_value::<NewSessionResponse>(answer.clone())
        .map(|answer| answer.session_id)
        .map_err(|error| format!("the agent's answer to `session/new` is wrong: {error}"))
}

fn publish(around: &Surroundings, transcript: &mut Transcript) {
    let prompt = transcript.prompt();
    for output in transcript.take() {
        match output {
            Output::Report(report) => around.reports.add(report),
            Output::Delta(kind, text) => around.reports.show(prompt, kind, text),
        }
    }
}

async fn write_file(
    children: &std::sync::Arc<crate::children::Children>,
    path: std::path::PathBuf,
    bytes: &[u8],
) -> Result<(), String> {
    use tokio::io::AsyncWriteExt as _;

    let program = crate::children::Program {
        what: What::Files { verb: "put", path },
        directory: Some("/".into()),
        ..Default::default()
    };
    let started = async {
        let mut prepared = children.prepare(&program)?;
        prepared.command.stdin(std::process::Stdio::piped());
        let mut running = children.start(prepared)?;
        if let Some(mut stdin) = running.child.stdin.take() {
            // What went wrong is told below.
            let _ = stdin.write_all(bytes).await;
        }
        running.started().await?;
        let _ = running.wait().await;
        running.finish();
        Ok::<_, crate::children::Error>(())
    };
    started.await.map_err(|error| text::chain(&error))
}
