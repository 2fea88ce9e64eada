//! A model on loopback that answers by its name, and numbers what it makes the agent run.
//!
//! It is reached as a real provider is: through the agent, the sandbox's relay and the gateway.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// The name of the model that says one sentence.
pub(crate) const ANSWERS: &str = "answers";
/// The name of the model that runs a command that does not end.
pub(crate) const WAITS: &str = "waits";

/// Unlike any other number on a command line of this machine.
static MARKS: AtomicU32 = AtomicU32::new(1_770_000_001);

/// A request that reached the model.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// A number that stands in the command line of what the agent is told to run.
    pub(crate) mark: u32,
}

/// The running model.
#[derive(Debug)]
pub(crate) struct Model {
    /// Its address for the gateway.
    pub(crate) base_url: String,
    /// Every request, in the order in which they arrived.
    pub(crate) arrivals: mpsc::UnboundedReceiver<Arrival>,
}

impl Model {
    /// Listens on a free port.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening as a model")?;
        let base_url = format!("http://{}", listener.local_addr()?);
        let (sender, arrivals) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                // A connection that breaks is the gateway's to report.
                tokio::spawn(async move { drop(serve(stream, &sender).await) });
            }
        });
        Ok(Self { base_url, arrivals })
    }

    /// The next request; those that arrived before are forgotten first by [`Model::forget`].
    pub(crate) async fn next(&mut self) -> anyhow::Result<Arrival> {
        self.arrivals.recv().await.context("the model has ended")
    }

    /// Forgets the requests that arrived until now.
    pub(crate) fn forget(&mut self) {
        while self.arrivals.try_recv().is_ok() {}
    }
}

async fn serve(stream: TcpStream, seen: &mpsc::UnboundedSender<Arrival>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(length) = head(&mut stream).await? {
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let request: Value = serde_json::from_slice(&body)?;
        let mark = MARKS.fetch_add(1, Ordering::Relaxed);
        seen.send(Arrival { mark })?;
        let events = if request["model"] == WAITS { call(mark) } else { sentence() };
        let body: String = events.iter().map(event).collect();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length";
        stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await?;
    }
    Ok(())
}

/// Reads a request's head and gives the length of its body; none when there is no further request.
async fn head(stream: &mut BufReader<TcpStream>) -> anyhow::Result<Option<usize>> {
    let mut length = 0;
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse()?;
            }
            None if line.trim_end().is_empty() => return Ok(Some(length)),
            _ => {}
        }
    }
}

fn event(data: &Value) -> String {
    format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default())
}

fn sentence() -> Vec<Value> {
    let delta = json!({ "type": "text_delta", "text": "There is nothing to change." });
    message(&json!({ "type": "text", "text": "" }), &delta, "end_turn")
}

fn call(mark: u32) -> Vec<Value> {
    let block = json!({ "type": "tool_use", "id": format!("call_{mark}"), "name": "shell",
        "input": {} });
    let command = json!({ "command": format!("sleep {mark} & wait") }).to_string();
    let delta = json!({ "type": "input_json_delta", "partial_json": command });
    message(&block, &delta, "tool_use")
}

fn message(block: &Value, delta: &Value, stop: &str) -> Vec<Value> {
    let usage = json!({ "input_tokens": 1, "output_tokens": 1 });
    vec![
        json!({ "type": "message_start", "message": { "id": "msg_1", "type": "message",
            "role": "assistant", "model": "bench", "content": [], "stop_reason": null,
            "stop_sequence": null, "usage": usage } }),
        json!({ "type": "content_block_start", "index": 0, "content_block": block }),
        json!({ "type": "content_block_delta", "index": 0, "delta": delta }),
        json!({ "type": "content_block_stop", "index": 0 }),
        json!({ "type": "message_delta",
            "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": usage }),
        json!({ "type": "message_stop" }),
    ]
}
