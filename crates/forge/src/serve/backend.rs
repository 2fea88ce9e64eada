//! One `git http-backend`: its environment, its two pipes, and its certain end.

use std::io;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use protocol::repository::RepositoryName;
use rustix::process::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::head::{self, Head};
use super::inspect::Watch;
use super::{Body, Endpoint, Service};
use crate::Local;
use crate::git::{Group, complaint};

/// How long one request may occupy a place.
const LONGEST: Duration = Duration::from_hours(1);
/// How long a client may neither send nor take anything. Git itself speaks every few seconds even
/// while it computes, so this much silence is a client that holds a place for nothing.
const SILENCE: Duration = Duration::from_mins(5);
/// How long git may take to begin its answer: it does so before any work.
const BEGINNING: Duration = Duration::from_mins(1);
/// How long git may take to clean up after itself when told to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Whether anything went in or out since somebody last asked.
#[derive(Debug, Clone, Default)]
struct Movement(Arc<AtomicBool>);

impl Movement {
    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Resolves when nothing has moved for at least [`SILENCE`].
    async fn ceased(&self) {
        loop {
            tokio::time::sleep(SILENCE).await;
            if !self.0.swap(false, Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// Ends the processes of a request when dropped, unless they were let finish.
#[derive(Debug)]
pub(super) struct Keeper {
    over: Option<CancellationToken>,
    movement: Movement,
}

impl Keeper {
    /// The client took something.
    pub(super) fn moved(&self) {
        self.movement.note();
    }

    /// The answer is complete: the processes end by themselves.
    pub(super) fn let_finish(mut self) {
        self.over = None;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(over) = self.over.take() {
            over.cancel();
        }
    }
}

impl Local {
    pub(super) async fn start_backend<B>(
        &self,
        name: &RepositoryName,
        endpoint: Endpoint,
        request: http::Request<B>,
        place: OwnedSemaphorePermit,
    ) -> io::Result<http::Response<Body>>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Send,
    {
        let (parts, body) = request.into_parts();
        let mut command = self.backend_command(name, endpoint, &parts.headers);
        let inspection = self.inspection(endpoint);
        let own = self.inner.directory.join(".hangar");
        let watch = inspection.is_some().then(|| Watch::prepare(&own)).transpose()?;
        if let Some(watch) = &watch {
            // Of several the last counts.
            let hooks = format!("core.hooksPath={}", watch.hooks.display());
            command.args(["-c", &hooks]).env("HANGAR_PUSH", &watch.pipes);
        }
        command.arg("http-backend");
        let mut child = command.spawn()?;
        let over = CancellationToken::new();
        if let (Some(watch), Some(inspection)) = (watch, inspection) {
            let (git, repository) = (self.inner.git.clone(), self.place(name));
            tokio::spawn(watch.answer(git, repository, inspection, over.clone()));
        }
        let movement = Movement::default();
        let keeper = Keeper { over: Some(over.clone()), movement: movement.clone() };
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        tokio::spawn(attend(child, over.clone(), movement.clone(), place, name.clone()));
        if let Some(stdin) = stdin {
            tokio::spawn(feed(body, stdin, over, movement));
        }
        let mut stdout = stdout.ok_or_else(|| io::Error::other("no pipe from git"))?;
        let reading = tokio::time::timeout(BEGINNING, head::read(&mut stdout)).await;
        let (Head { status, headers }, first) =
            reading.map_err(|_| io::Error::other("git did not begin its answer in time"))??;
        let mut response = http::Response::new(Body::stream(first, stdout, keeper));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }

    fn inspection(&self, endpoint: Endpoint) -> Option<Box<dyn super::Inspection>> {
        if endpoint != Endpoint::Call(Service::ReceivePack) {
            return None;
        }
        let inspector = self.inner.inspector.read().unwrap_or_else(PoisonError::into_inner);
        inspector.as_ref()?.begin()
    }

    fn backend_command(
        &self,
        name: &RepositoryName,
        endpoint: Endpoint,
        headers: &http::HeaderMap,
    ) -> Command {
        let mut command = self.inner.git.command();
        let receive = endpoint.service() == Service::ReceivePack;
        let path = format!("/{}/{}.git/{}", name.owner(), name.name(), endpoint.path());
        let method = if matches!(endpoint, Endpoint::Advertise(_)) { "GET" } else { "POST" };
        command
            .arg("-c")
            .arg(format!("http.receivepack={receive}"))
            .stdin(Stdio::piped())
            .env("GIT_PROJECT_ROOT", &self.inner.directory)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("PATH_INFO", path)
            .env("REQUEST_METHOD", method)
            .env("QUERY_STRING", endpoint.query())
            .env("REMOTE_USER", "hangar")
            .env("REMOTE_ADDR", "localhost");
        for (variable, header, allowed) in [
            ("CONTENT_TYPE", "content-type", is_plain as fn(&str) -> bool),
            ("CONTENT_LENGTH", "content-length", is_number),
            ("HTTP_CONTENT_ENCODING", "content-encoding", is_plain),
            ("GIT_PROTOCOL", "git-protocol", is_plain),
        ] {
            let value = headers.get(header).and_then(|value| value.to_str().ok());
            if let Some(value) = value.filter(|value| allowed(value)) {
                command.env(variable, value);
            }
        }
        command
    }
}

fn is_plain(value: &str) -> bool {
    value.len() <= 200 && value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

fn is_number(value: &str) -> bool {
    value.len() <= 19 && value.bytes().all(|byte| byte.is_ascii_digit())
}

/// Waits for a backend, and ends it when it is no longer wanted or has had its time.
async fn attend(
    mut child: Child,
    over: CancellationToken,
    movement: Movement,
    place: OwnedSemaphorePermit,
    name: RepositoryName,
) {
    let group = Group::of(&child);
    let said = tokio::spawn(complaint(child.stderr.take()));
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = over.cancelled() => None,
        () = movement.ceased() => None,
        () = tokio::time::sleep(LONGEST) => None,
    };
    let Some(status) = ended else {
        end(group, child).await;
        over.cancel();
        drop(place);
        return;
    };
    group.disarm();
    over.cancel();
    drop(place);
    if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
        let said = said.await.unwrap_or_default();
        // Often the client's doing: a wanted object that is not there, a broken pack.
        tracing::info!(%name, ?status, said, "git http-backend failed");
    }
}

/// Asks first, because git removes its temporary packs when asked.
async fn end(group: Group, mut child: Child) {
    group.signal(Signal::TERM);
    if let Ok(Ok(_)) = tokio::time::timeout(FAREWELL, child.wait()).await {
        group.disarm();
        return;
    }
    group.signal(Signal::KILL);
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "could not wait for git http-backend");
    }
    group.disarm();
}

/// Carries the request's body to git. A body that breaks off ends the processes: half a push must
/// not be taken for a whole one.
async fn feed<B>(body: B, mut stdin: ChildStdin, over: CancellationToken, movement: Movement)
where
    B: http_body::Body,
    B::Error: Send,
{
    let mut body = std::pin::pin!(body);
    let carry = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            let Ok(mut data) = frame.into_data() else { continue };
            let bytes: Bytes = data.copy_to_bytes(data.remaining());
            if stdin.write_all(&bytes).await.is_err() {
                // Git has heard enough; what it answers decides.
                return true;
            }
            movement.note();
        }
        true
    };
    let whole = tokio::select! {
        whole = carry => whole,
        () = over.cancelled() => return,
    };
    if !whole {
        over.cancel();
    }
}
