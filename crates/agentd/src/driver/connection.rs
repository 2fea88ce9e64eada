//! The line to an agent's process: JSON-RPC over its standard streams, bounded in every direction.
//!
//! The protocol's crate gives the messages' types but not this connection: its own reads ahead
//! without bound, and here an agent that writes faster than the host records must be made to wait.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{ChildStdin, ChildStdout};
use tokio::sync::mpsc;

use crate::children::{Children, Error, Program, Running};
use crate::text;

/// Bytes of one message at most.
const LINE_BYTES: usize = 8 * 1024 * 1024;
/// Messages read ahead of being handled.
const AHEAD: usize = 2;
/// Messages on their way to an agent that does not read.
const BEHIND: usize = 32;
/// Bytes of an agent's last words.
const LAST_WORDS: usize = 2 * 1024;
/// How long what an agent wrote may take to arrive after its end.
const TRAILING: Duration = Duration::from_millis(200);

/// What comes from an agent.
#[derive(Debug)]
pub(super) enum Incoming {
    /// The answer to a request of ours.
    Response { id: u64, result: Result<Value, String> },
    /// A request to us.
    Request { id: Value, method: String, params: Value },
    /// News.
    Notification { method: String, params: Value },
    /// The first line that is no message, with its beginning.
    Garbage { beginning: String },
    /// The first line that is too long to be read.
    TooLong,
    /// The agent is gone, with what is known of its end.
    Ended { how: String },
}

#[derive(Deserialize)]
struct Message {
    id: Option<Value>,
    method: Option<String>,
    #[serde(default)]
    params: Value,
    result: Option<Value>,
    error: Option<Value>,
}

/// A running agent.
#[derive(Debug)]
pub(super) struct Connection {
    /// Its process and all it started.
    pub(super) running: Running,
    outgoing: mpsc::Sender<Vec<u8>>,
    incoming: mpsc::Receiver<Incoming>,
    last_words: Arc<Mutex<Vec<u8>>>,
    last_id: u64,
    ended: Option<String>,
}

impl Connection {
    /// Starts the agent's process.
    pub(super) async fn open(children: &Arc<Children>, program: &Program) -> Result<Self, Error> {
        let mut prepared = children.prepare(program)?;
        prepared.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = children.start(prepared)?;
        running.started().await?;
        let (outgoing, to_write) = mpsc::channel(BEHIND);
        let (read, incoming) = mpsc::channel(AHEAD);
        let last_words = Arc::default();
        if let Some(stdin) = running.child.stdin.take() {
            tokio::spawn(write(stdin, to_write));
        }
        if let Some(stdout) = running.child.stdout.take() {
            tokio::spawn(
                Reader { stdout: BufReader::new(stdout), read, told: Told::default() }.run(),
            );
        }
        if let Some(stderr) = running.child.stderr.take() {
            tokio::spawn(listen(stderr, Arc::clone(&last_words)));
        }
        Ok(Self { running, outgoing, incoming, last_words, last_id: 0, ended: None })
    }

    /// Sends a request; its answer comes as [`Incoming::Response`] with the number returned.
    pub(super) fn request(&mut self, method: &str, params: &impl Serialize) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        id
    }

    /// Tells the agent something.
    pub(super) fn notify(&mut self, method: &str, params: &impl Serialize) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Answers a request of the agent.
    pub(super) fn answer(&mut self, id: &Value, result: &impl Serialize) {
        self.send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    /// Refuses a request of the agent.
    pub(super) fn refuse(&mut self, id: &Value, method: &str) {
        let message = format!("the client has no method `{method}`");
        self.send(
            &json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": message}}),
        );
    }

    /// An agent that asks and asks without reading an answer loses answers; it broke the protocol,
    /// and cancelling it still works by its end.
    fn send(&mut self, message: &Value) {
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        let _ = self.outgoing.try_send(line);
    }

    /// The next thing from the agent; after its end, the end. Safe to abandon and call again.
    pub(super) async fn next(&mut self) -> Incoming {
        if self.ended.is_none() {
            tokio::select! {
                biased;
                message = self.incoming.recv() => {
                    if let Some(message) = message {
                        return message;
                    }
                    // It closed its output; alive or not, it can say nothing any more.
                    let status = tokio::time::timeout(TRAILING, self.running.wait()).await;
                    self.ended = Some(describe(status.ok()));
                }
                status = self.running.wait() => self.ended = Some(describe(Some(status))),
            }
        }
        // What it started may hold its output open for long.
        if let Ok(Some(message)) = tokio::time::timeout(TRAILING, self.incoming.recv()).await {
            return message;
        }
        let how = self.ended.clone().unwrap_or_default();
        Incoming::Ended { how: format!("{how}{}", self.last_words()) }
    }

    /// The end of what it wrote to its standard error, as half a sentence.
    pub(super) fn last_words(&self) -> String {
        let bytes = self.last_words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = text::escaped(&bytes);
        let words = words.trim();
        if words.is_empty() { String::new() } else { format!("; its last words: {words}") }
    }
}

fn describe(status: Option<std::io::Result<ExitStatus>>) -> String {
    match status {
        Some(Ok(status)) => format!("ended with {status}"),
        Some(Err(error)) => format!("ended, and its exit status is unknown ({error})"),
        None => "closed its output".to_owned(),
    }
}

async fn write(mut stdin: ChildStdin, mut messages: mpsc::Receiver<Vec<u8>>) {
    while let Some(line) = messages.recv().await {
        if stdin.write_all(&line).await.is_err() {
            // It is gone, which its output tells.
            return;
        }
    }
}

async fn listen(mut stderr: impl AsyncRead + Unpin, words: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 8 * 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&buffer[..count]);
        let surplus = words.len().saturating_sub(LAST_WORDS);
        words.drain(..surplus);
    }
}

#[derive(Debug, Default)]
struct Told {
    garbage: bool,
    too_long: bool,
}

struct Reader {
    stdout: BufReader<ChildStdout>,
    read: mpsc::Sender<Incoming>,
    told: Told,
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

impl Reader {
    /// Reads until the end, no faster than what it read is handled.
    async fn run(mut self) {
        loop {
            let message = match self.line().await {
                Line::End => return,
                Line::TooLong => {
                    if std::mem::replace(&mut self.told.too_long, true) {
                        continue;
                    }
                    Incoming::TooLong
                }
                Line::Whole(line) if line.iter().all(u8::is_ascii_whitespace) => continue,
                Line::Whole(line) => match parse(&line) {
                    Some(message) => message,
                    None if std::mem::replace(&mut self.told.garbage, true) => continue,
                    None => {
                        let text = text::escaped(&line);
                        Incoming::Garbage { beginning: text::beginning(&text, 200).to_owned() }
                    }
                },
            };
            if self.read.send(message).await.is_err() {
                return;
            }
        }
    }

    /// One line without its end; of one that is too long nothing is kept.
    async fn line(&mut self) -> Line {
        let mut line = Vec::new();
        let mut too_long = false;
        loop {
            let Ok(available) = self.stdout.fill_buf().await else { return Line::End };
            if available.is_empty() {
                // An unfinished last line is no message.
                return Line::End;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let part = &available[..end.unwrap_or(available.len())];
            too_long |= line.len() + part.len() > LINE_BYTES;
            if too_long {
                line = Vec::new();
            } else {
                line.extend_from_slice(part);
            }
            let used = part.len() + usize::from(end.is_some());
            self.stdout.consume(used);
            if end.is_some() {
                return if too_long { Line::TooLong } else { Line::Whole(line) };
            }
        }
    }
}

fn parse(line: &[u8]) -> Option<Incoming> {
    let message: Message = serde_json::from_slice(line).ok()?;
    match (message.method, message.id) {
        (Some(method), Some(id)) => Some(Incoming::Request { id, method, params: message.params }),
        (Some(method), None) => Some(Incoming::Notification { method, params: message.params }),
        (None, Some(id)) => {
            let result = match (message.result, message.error) {
                (_, Some(error)) => Err(describe_error(&error)),
                (result, None) => Ok(result.unwrap_or(Value::Null)),
            };
            Some(Incoming::Response { id: id.as_u64()?, result })
        }
        (None, None) => None,
    }
}

fn describe_error(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str).unwrap_or("an error without text");
    let text = match error.get("data") {
        None | Some(Value::Null) => message.to_owned(),
        Some(Value::String(data)) => format!("{message}: {data}"),
        Some(data) => format!("{message}: {data}"),
    };
    text::cut(text, LAST_WORDS)
}
