//! One simulated sandbox: its files, its reports and its agent.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use protocol::PromptId;
use protocol::agentd::{
    AgentStarted, CancelPrompt, CommitAnswer, CommitDescription, CommitRequest, DeliverPrompt,
    Ending, PromptCancelled, PromptDelivered, PushAnswer, PushRequest, Report, SetEnvironment,
    StartAgent, SyncAnswer, SyncRequest,
};
use protocol::session::{FileChange, FileChangeKind};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::reports::Reports;
use super::script::{Script, Turn};

/// What a simulated sandbox holds and was asked to do.
#[derive(Debug)]
pub struct World {
    pub(super) reports: Reports,
    script: Arc<dyn Script>,
    inner: Mutex<Inner>,
    life: CancellationToken,
}

#[derive(Debug, Default)]
struct Inner {
    files: BTreeMap<String, Bytes>,
    committed: BTreeMap<String, Bytes>,
    head: Option<String>,
    commits: HashMap<PromptId, CommitDescription>,
    environment: SetEnvironment,
    delivered: Vec<DeliverPrompt>,
    pushed: Vec<PushRequest>,
    running: HashMap<PromptId, Running>,
    connections: CancellationToken,
}

#[derive(Debug, Clone)]
struct Running {
    cancelled: CancellationToken,
    killed: CancellationToken,
    done: watch::Receiver<bool>,
}

impl World {
    pub(super) fn new(files: BTreeMap<String, Bytes>, script: Arc<dyn Script>) -> Self {
        let committed = files.clone();
        Self {
            reports: Reports::new(),
            script,
            inner: Mutex::new(Inner { files, committed, ..Inner::default() }),
            life: CancellationToken::new(),
        }
    }

    /// The variables set last.
    pub fn environment(&self) -> SetEnvironment {
        self.lock().environment.clone()
    }

    pub(super) fn set_environment(&self, environment: SetEnvironment) {
        self.lock().environment = environment;
    }

    /// The prompts delivered so far, each once.
    pub fn delivered(&self) -> Vec<DeliverPrompt> {
        self.lock().delivered.clone()
    }

    /// The pushes carried out so far.
    pub fn pushed(&self) -> Vec<PushRequest> {
        self.lock().pushed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn shut_down(&self) {
        self.life.cancel();
    }

    pub(super) fn drop_connections(&self) {
        let mut inner = self.lock();
        inner.connections.cancel();
        inner.connections = CancellationToken::new();
    }

    /// Resolves when connections made now must end.
    pub(super) fn connection_end(&self) -> impl Future<Output = ()> + use<> {
        let connections = self.lock().connections.clone();
        let life = self.life.clone();
        async move {
            tokio::select! {
                () = connections.cancelled_owned() => {}
                () = life.cancelled_owned() => {}
            }
        }
    }

    pub(super) fn take_files(&self) -> BTreeMap<String, Bytes> {
        std::mem::take(&mut self.lock().files)
    }

    pub(super) fn read(&self, path: &str) -> Option<Bytes> {
        self.lock().files.get(path).cloned()
    }

    pub(super) fn paths(&self) -> Vec<(String, usize)> {
        self.lock().files.iter().map(|(path, content)| (path.clone(), content.len())).collect()
    }

    pub(super) fn write(&self, path: &str, content: Bytes) -> Result<(), String> {
        let mut inner = self.lock();
        if in_workspace(path) && inner.head.is_none() {
            return Err(format!("{path}: the workspace is read-only until it was synced"));
        }
        inner.files.insert(path.to_owned(), content);
        Ok(())
    }

    pub(super) async fn sync(&self, request: &SyncRequest) -> Result<SyncAnswer, String> {
        self.script.sync(request).await?;
        let mut inner = self.lock();
        let changed = inner.head.is_none();
        let commit = inner.head.get_or_insert_with(|| request.commit.clone()).clone();
        Ok(SyncAnswer { commit, changed })
    }

    pub(super) fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, String> {
        let mut inner = self.lock();
        if inner.head.is_none() {
            return Err("the workspace was not synced".into());
        }
        if let Some(commit) = inner.commits.get(&request.prompt) {
            return Ok(CommitAnswer { commit: Some(commit.clone()) });
        }
        let files = inner.changes();
        if files.is_empty() {
            return Ok(CommitAnswer { commit: None });
        }
        // Forty hexadecimal digits, the same for the same prompt at the same place in the history.
        let id = self.script.commit(request).unwrap_or_else(|| {
            let digits = request.prompt.to_string().replace("prm_", "");
            format!("{digits}{:08x}", inner.commits.len() + 1)
        });
        let commit = CommitDescription { id: id.clone(), subject: request.subject.clone(), files };
        inner.committed = inner.files.clone();
        inner.head = Some(id);
        inner.commits.insert(request.prompt, commit.clone());
        Ok(CommitAnswer { commit: Some(commit) })
    }

    pub(super) async fn push(&self, request: &PushRequest) -> Result<PushAnswer, String> {
        if self.lock().head.as_deref() != Some(&request.commit) {
            return Err(format!("{} is not the tip of {}", request.commit, request.branch));
        }
        self.script.push(request).await?;
        self.lock().pushed.push(request.clone());
        Ok(PushAnswer { commit: request.commit.clone() })
    }

    pub(super) fn diff(&self) -> String {
        let inner = self.lock();
        inner.changes().iter().fold(String::new(), |mut patch, change| {
            use std::fmt::Write as _;
            let path = &change.path;
            let _infallible = writeln!(patch, "diff --git a/{path} b/{path}");
            let content = inner.files.get(&format!("/workspace/{path}"));
            let text = String::from_utf8_lossy(content.map_or(&[][..], |bytes| bytes));
            for line in text.lines() {
                let _infallible = writeln!(patch, "+{line}");
            }
            patch
        })
    }

    pub(super) async fn start_agent(&self, request: &StartAgent) -> Result<AgentStarted, String> {
        self.script.start(request).await?;
        Ok(AgentStarted { agent: format!("simulated {}", request.agent), milliseconds: 0 })
    }

    pub(super) fn prompt(self: &Arc<Self>, request: DeliverPrompt) -> PromptDelivered {
        let prompt = request.prompt;
        let (finished, done) = watch::channel(false);
        let running =
            Running { cancelled: CancellationToken::new(), killed: CancellationToken::new(), done };
        {
            let mut inner = self.lock();
            if inner.delivered.iter().any(|delivered| delivered.prompt == prompt) {
                return PromptDelivered { already: true };
            }
            inner.delivered.push(request.clone());
            inner.running.insert(prompt, running.clone());
        }
        let world = Arc::clone(self);
        tokio::spawn(async move {
            let cancelled = running.cancelled.clone();
            let turn = Turn { request, world: Arc::clone(&world), cancelled };
            let ending = tokio::select! {
                ending = world.script.prompt(&turn) => ending,
                () = running.killed.cancelled() => Ending::Cancelled,
                () = world.life.cancelled() => return,
            };
            world.reports.report(Report::PromptEnded { prompt, ending });
            world.lock().running.remove(&prompt);
            finished.send_replace(true);
        });
        PromptDelivered { already: false }
    }

    pub(super) async fn cancel(&self, request: &CancelPrompt) -> PromptCancelled {
        let Some(mut running) = self.lock().running.get(&request.prompt).cloned() else {
            return PromptCancelled { killed: false };
        };
        running.cancelled.cancel();
        let grace = Duration::from_millis(request.grace_milliseconds);
        let willing =
            tokio::time::timeout(grace, running.done.wait_for(|done| *done)).await.is_ok();
        if willing {
            return PromptCancelled { killed: false };
        }
        running.killed.cancel();
        let _ended_with_its_sandbox = running.done.wait_for(|done| *done).await;
        PromptCancelled { killed: true }
    }
}

impl Inner {
    fn changes(&self) -> Vec<FileChange> {
        let lines = |content: &Bytes| {
            u32::try_from(content.split(|byte| *byte == b'\n').count() - 1).unwrap_or(u32::MAX)
        };
        let changed = self.files.iter().filter(|(path, _)| in_workspace(path)).filter_map(
            |(path, content)| {
                let before = self.committed.get(path);
                (before != Some(content)).then(|| FileChange {
                    path: path["/workspace/".len()..].to_owned(),
                    kind: before.map_or(FileChangeKind::Added, |_| FileChangeKind::Modified),
                    added: lines(content),
                    removed: before.map_or(0, lines),
                })
            },
        );
        changed.collect()
    }
}

fn in_workspace(path: &str) -> bool {
    path.starts_with("/workspace/")
}
