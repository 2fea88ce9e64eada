//! An ACP client that drives the real executable.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use agent_client_protocol::schema::ProtocolVersion;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::schema::{
    CancelNotification, ContentBlock, InitializeRequest, LoadSessionRequest, NewSessionRequest,
    PromptRequest, PromptResponse, SessionId, SessionNotification, SessionUpdate, StopReason,
    ToolCallContent, ToolCallStatus,
};
use agent_client_protocol::{ByteStreams, Client, Error};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::model::{Dialect, Model};

/// No step of a test takes longer, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

pub(crate) type Prompted = JoinHandle<Result<PromptResponse, Error>>;

pub(crate) struct Process {
    pub(crate) connection: ConnectionTo<agent_client_protocol::Agent>,
    pub(crate) session: SessionId,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) child: Child,
    driver: JoinHandle<()>,
    updates: UnboundedReceiver<SessionUpdate>,
    pub(crate) seen: Vec<SessionUpdate>,
}

/// The environment of an agent that speaks to `model`.
pub(crate) fn environment(model: &Model) -> Vec<(&'static str, String)> {
    let dialect = match model.dialect {
        Dialect::Anthropic => "anthropic",
        Dialect::OpenAi => "openai_chat",
    };
    vec![
        ("HANGAR_MODEL_URL", model.url.clone()),
        ("HANGAR_MODEL_NAME", "scripted".to_owned()),
        ("HANGAR_MODEL_DIALECT", dialect.to_owned()),
        ("HANGAR_MODEL_RETRY_MILLISECONDS", "10".to_owned()),
        ("HANGAR_INSTRUCTIONS", "Extra words.".to_owned()),
    ]
}

impl Process {
    pub(crate) async fn start(model: &Model) -> Self {
        Self::with(environment(model)).await
    }

    pub(crate) async fn with(environment: Vec<(&'static str, String)>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("workspace")).expect("made");
        let program = Command::new(env!("CARGO_BIN_EXE_hangar-agent"));
        Self::run(program, directory, environment).await
    }

    /// Runs `program`, which must end up as the agent, and opens a session.
    pub(crate) async fn run(
        program: Command,
        directory: tempfile::TempDir,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        let mut process = Self::connect(program, directory, environment).await;
        let new = NewSessionRequest::new(process.workspace());
        let new = process.connection.send_request(new).block_task();
        process.session = limited(new).await.expect("a session").session_id;
        process
    }

    /// Kills the agent, starts it again and loads the session.
    pub(crate) async fn restart(mut self, environment: Vec<(&'static str, String)>) -> Self {
        self.child.kill().await.expect("killed");
        let program = Command::new(env!("CARGO_BIN_EXE_hangar-agent"));
        let mut process = Self::connect(program, self.directory, environment).await;
        process.session = self.session;
        let load = LoadSessionRequest::new(process.session.clone(), process.workspace());
        let load = process.connection.send_request(load).block_task();
        limited(load).await.expect("loaded");
        process.catch_up();
        process
    }

    /// Closes the agent's streams.
    pub(crate) fn hang_up(&self) {
        self.driver.abort();
    }

    async fn connect(
        mut program: Command,
        directory: tempfile::TempDir,
        environment: Vec<(&'static str, String)>,
    ) -> Self {
        let path = std::env::var_os("PATH").expect("a PATH");
        let mut child = program
            .env_clear()
            .env("PATH", path)
            .env("HOME", directory.path().join("home"))
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("started");
        let output = child.stdout.take().expect("piped").compat();
        let input = child.stdin.take().expect("piped").compat_write();
        let (update, updates) = unbounded_channel();
        let (give, given) = oneshot::channel();
        let driver = tokio::spawn(async move {
            let _ = Client
                .v1()
                .on_receive_notification(
                    async move |notification: SessionNotification, _| {
                        let _ = update.send(notification.update);
                        Ok(())
                    },
                    agent_client_protocol::on_receive_notification!(),
                )
                .connect_with(ByteStreams::new(input, output), async move |connection| {
                    let _ = give.send(connection);
                    std::future::pending::<Result<(), Error>>().await
                })
                .await;
        });
        let connection = given.await.expect("a connection");
        let initialize = InitializeRequest::new(ProtocolVersion::V1);
        let answer = limited(connection.send_request(initialize).block_task()).await;
        assert!(answer.expect("initialized").agent_capabilities.load_session);
        let session = SessionId::new("none yet");
        Self { connection, session, directory, child, driver, updates, seen: Vec::new() }
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.directory.path().join("workspace")
    }

    pub(crate) fn prompt(&self, text: &str) -> Prompted {
        let request = PromptRequest::new(self.session.clone(), vec![text.into()]);
        tokio::spawn(self.connection.send_request(request).block_task())
    }

    pub(crate) fn cancel(&self) {
        self.connection
            .send_notification(CancelNotification::new(self.session.clone()))
            .expect("sent");
    }

    /// Waits for an update that fulfils `wanted`; everything up to it is in `seen`.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&SessionUpdate) -> bool) {
        loop {
            let update = limited(self.updates.recv()).await.expect("an update");
            self.seen.push(update);
            if self.seen.last().is_some_and(&wanted) {
                return;
            }
        }
    }

    /// Takes in every update that has arrived.
    pub(crate) fn catch_up(&mut self) {
        while let Ok(update) = self.updates.try_recv() {
            self.seen.push(update);
        }
    }

    /// All text of the agent so far.
    pub(crate) fn text(&mut self) -> String {
        self.catch_up();
        self.seen
            .iter()
            .filter_map(|update| match update {
                SessionUpdate::AgentMessageChunk(chunk) => Some(plain(&chunk.content)),
                _ => None,
            })
            .collect()
    }

    /// All thoughts so far.
    pub(crate) fn thoughts(&mut self) -> String {
        self.catch_up();
        self.seen
            .iter()
            .filter_map(|update| match update {
                SessionUpdate::AgentThoughtChunk(chunk) => Some(plain(&chunk.content)),
                _ => None,
            })
            .collect()
    }
}

pub(crate) fn plain(block: &ContentBlock) -> String {
    match block {
        ContentBlock::Text(text) => text.text.clone(),
        other => panic!("not text: {other:?}"),
    }
}

/// The text an update of a tool call shows, and its status.
pub(crate) fn tool_text(update: &SessionUpdate) -> Option<(Option<ToolCallStatus>, String)> {
    let SessionUpdate::ToolCallUpdate(update) = update else { return None };
    let texts = update.fields.content.iter().flatten().filter_map(|content| match content {
        ToolCallContent::Content(content) => Some(plain(&content.content)),
        _ => None,
    });
    Some((update.fields.status, texts.collect()))
}

pub(crate) async fn limited<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("in time")
}

pub(crate) async fn ended(prompted: Prompted) -> StopReason {
    limited(prompted).await.expect("no panic").expect("an answer").stop_reason
}

pub(crate) async fn failed(prompted: Prompted) -> String {
    limited(prompted).await.expect("no panic").expect_err("a failure").message
}

/// Waits until a file holds something.
pub(crate) async fn content(path: &Path) -> String {
    limited(async {
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

/// Waits until a process is gone; a zombie counts as gone.
pub(crate) async fn gone(id: &str) {
    limited(async {
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim()));
            if stat.is_err() || stat.is_ok_and(|text| text.contains(") Z ")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
