//! One method for each request of agentd's API.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use protocol::SandboxId;
use protocol::agentd::{
    AgentStarted, CancelPrompt, CommitAnswer, CommitRequest, DeliverPrompt, ExecRequest, Health,
    Listing, PromptCancelled, PromptDelivered, PtyRequest, PushAnswer, PushRequest, SetEnvironment,
    StartAgent, SyncAnswer, SyncRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::exchange::{Answer, send};
use super::{Error, ExecStream, Output, Pty, Reports};
use crate::Backend;

/// agentd in one sandbox. Cheap to clone; holds no connection between requests.
///
/// No method has a time limit of its own: how long a sync or an agent's start may take is the
/// caller's decision. Dropping a future ends its connection.
#[derive(Debug, Clone)]
pub struct Client {
    backend: Arc<dyn Backend>,
    sandbox: SandboxId,
}

impl Client {
    /// agentd in `sandbox`; nothing is asked yet.
    pub fn new(backend: Arc<dyn Backend>, sandbox: SandboxId) -> Self {
        Self { backend, sandbox }
    }

    /// The sandbox it speaks to.
    pub const fn sandbox(&self) -> SandboxId {
        self.sandbox
    }

    /// That agentd is there, and which version.
    pub async fn health(&self) -> Result<Health, Error> {
        self.get("ask for agentd's health", "/v1/health").await?.json().await
    }

    /// Sets the variables of everything that is started from now on.
    pub async fn set_environment(&self, request: &SetEnvironment) -> Result<(), Error> {
        let (doing, path) = ("set the environment", "/v1/environment");
        let body = serde_json::to_vec(request).map_err(|error| damaged(doing, &error))?;
        let builder = builder(Method::PUT, path).header(header::CONTENT_TYPE, "application/json");
        let request = finish(doing, builder, body.into())?;
        let answer = send(&*self.backend, self.sandbox, doing.to_owned(), request).await?;
        answer.bytes(1024).await.map(drop)
    }

    /// Asks agentd to let go of the host until the host removes [`protocol::layout::ASLEEP`]. The
    /// answer may be lost with its connection.
    pub async fn sleep(&self) -> Result<(), Error> {
        self.post("let agentd sleep", "/v1/sleep", &()).await.map(drop)
    }

    /// Runs a command and gathers what it prints; beyond `limit` bytes in all the rest is read and
    /// dropped, and [`Output::cut`] says so.
    pub async fn exec(&self, request: &ExecRequest, limit: usize) -> Result<Output, Error> {
        self.exec_stream(request).await?.collect(limit).await
    }

    /// Runs a command and hands out what it prints as it comes. Dropping the stream ends the
    /// connection, upon which agentd kills the command.
    pub async fn exec_stream(&self, request: &ExecRequest) -> Result<ExecStream, Error> {
        let doing = format!("run `{}`", request.argv.join(" "));
        self.post(&doing, "/v1/exec", request).await.map(ExecStream::new)
    }

    /// Opens a terminal.
    pub async fn pty(&self, request: &PtyRequest) -> Result<Pty, Error> {
        let doing = "open a terminal".to_owned();
        let text = serde_json::to_string(request).map_err(|error| damaged(&doing, &error))?;
        let path = format!("/v1/pty?request={}", encode(&text));
        let request = builder(Method::POST, &path)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "hangar-frames");
        let request = finish(&doing, request, Bytes::new())?;
        Pty::open(send(&*self.backend, self.sandbox, doing, request).await?).await
    }

    /// A file's bytes, at most `limit`.
    pub async fn read_file(&self, path: &str, limit: usize) -> Result<Bytes, Error> {
        let doing = format!("read {path}");
        let answer = self.get(&doing, &format!("/v1/files?path={}", encode(path))).await?;
        if is_listing(&answer) {
            return Err(Error::Refused { doing, status: 200, error: "it is a directory".into() });
        }
        answer.bytes(limit).await
    }

    /// A directory's entries.
    pub async fn list(&self, path: &str) -> Result<Listing, Error> {
        let doing = format!("list {path}");
        let answer = self.get(&doing, &format!("/v1/files?path={}", encode(path))).await?;
        if !is_listing(&answer) {
            return Err(Error::Refused { doing, status: 200, error: "it is no directory".into() });
        }
        answer.json().await
    }

    /// Writes a file whole, with the agent's rights.
    pub async fn write_file(&self, path: &str, content: Bytes) -> Result<(), Error> {
        let doing = format!("write {path}");
        let path = format!("/v1/files?path={}", encode(path));
        let request = finish(&doing, builder(Method::PUT, &path), content)?;
        send(&*self.backend, self.sandbox, doing, request).await?.bytes(1024).await.map(drop)
    }

    /// Brings the workspace to a commit and opens the write gate.
    pub async fn sync(&self, request: &SyncRequest) -> Result<SyncAnswer, Error> {
        self.call("bring the workspace to its commit", "/v1/workspace/sync", request).await
    }

    /// Makes one commit for a prompt.
    pub async fn commit(&self, request: &CommitRequest) -> Result<CommitAnswer, Error> {
        self.call("commit the changes", "/v1/workspace/commit", request).await
    }

    /// Pushes the session's branch.
    pub async fn push(&self, request: &PushRequest) -> Result<PushAnswer, Error> {
        self.call(&format!("push {}", request.branch), "/v1/workspace/push", request).await
    }

    /// The patch from `base` to the files as they are, at most `limit` bytes.
    pub async fn diff(&self, base: &str, limit: usize) -> Result<Bytes, Error> {
        let path = format!("/v1/workspace/diff?base={}", encode(base));
        self.get("read the changes", &path).await?.bytes(limit).await
    }

    /// Starts the agent's process and waits until it answers.
    pub async fn start_agent(&self, request: &StartAgent) -> Result<AgentStarted, Error> {
        self.call(&format!("start the agent {}", request.agent), "/v1/agent/start", request).await
    }

    /// Gives the agent a prompt; the answer comes at once, the work is told by reports.
    pub async fn prompt(&self, request: &DeliverPrompt) -> Result<PromptDelivered, Error> {
        self.call("deliver the prompt", "/v1/agent/prompt", request).await
    }

    /// Ends a prompt, the agent willing or not.
    pub async fn cancel(&self, request: &CancelPrompt) -> Result<PromptCancelled, Error> {
        self.call("stop the prompt", "/v1/agent/cancel", request).await
    }

    /// Every report after number `after`, as it comes, with live text in between. Naming `after`
    /// tells agentd that everything up to it is recorded and need not be kept.
    pub async fn reports(&self, after: u64) -> Result<Reports, Error> {
        let path = format!("/v1/reports?after={after}");
        self.get("read the agent's reports", &path).await.map(Reports::new)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        doing: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.post(doing, path, body).await?.json().await
    }

    async fn get(&self, doing: &str, path: &str) -> Result<Answer, Error> {
        let request = finish(doing, builder(Method::GET, path), Bytes::new())?;
        send(&*self.backend, self.sandbox, doing.to_owned(), request).await
    }

    async fn post(&self, doing: &str, path: &str, body: &impl Serialize) -> Result<Answer, Error> {
        let body = serde_json::to_vec(body).map_err(|error| damaged(doing, &error))?;
        let request = builder(Method::POST, path).header(header::CONTENT_TYPE, "application/json");
        let request = finish(doing, request, body.into())?;
        send(&*self.backend, self.sandbox, doing.to_owned(), request).await
    }
}

fn builder(method: Method, path: &str) -> http::request::Builder {
    // HTTP/1.1 wants a host; there is only one at the other end of the socket.
    Request::builder().method(method).uri(path).header(header::HOST, "agentd")
}

fn finish(
    doing: &str,
    request: http::request::Builder,
    body: Bytes,
) -> Result<Request<Full<Bytes>>, Error> {
    request.body(Full::new(body)).map_err(|error| damaged(doing, &error))
}

fn damaged(doing: &str, error: &dyn std::error::Error) -> Error {
    Error::Damaged { doing: doing.to_owned(), why: error.to_string() }
}

fn is_listing(answer: &Answer) -> bool {
    answer
        .response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"))
}

/// Percent-encodes everything but unreserved characters and slashes.
fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _infallible = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn odd_paths_are_encoded() {
        assert_eq!(encode("/workspace/a b\n?&é"), "/workspace/a%20b%0A%3F%26%C3%A9");
    }
}
