//! A model server that answers from a script, in both dialects, and can misbehave.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Anthropic,
    OpenAi,
}

pub(crate) const BOTH: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAi];

/// A part of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Say {
    Text(&'static str),
    Thought(&'static str),
    Call(&'static str, Value),
    /// A call whose arguments are sent as they stand.
    RawCall(&'static str, &'static str),
    /// Waits for the test before the stream goes on.
    Wait(Arc<Notify>),
}

/// One reply of the script.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Answer(Vec<Say>),
    /// The beginning of an answer, then the connection is closed.
    Cut(Vec<Say>),
    /// The beginning of an answer, then nothing.
    Hang(Vec<Say>),
    /// The connection is closed without a byte.
    Nothing,
    Status(u16, &'static str, &'static str),
}

#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) body: Value,
    pub(crate) at: std::time::Instant,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) url: String,
    pub(crate) dialect: Dialect,
    asked: Arc<Mutex<Vec<Asked>>>,
    arrived: mpsc::UnboundedReceiver<()>,
    left: mpsc::UnboundedReceiver<()>,
}

impl Model {
    pub(crate) async fn start(dialect: Dialect, script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/model/test", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (arrival, arrived) = mpsc::unbounded_channel();
        let (leaving, left) = mpsc::unbounded_channel();
        let log = Arc::clone(&asked);
        tokio::spawn(async move {
            let script = Arc::new(Mutex::new(script.into_iter()));
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("set");
                let (log, script) = (Arc::clone(&log), Arc::clone(&script));
                let (arrival, leaving) = (arrival.clone(), leaving.clone());
                tokio::spawn(async move {
                    let mut stream = stream;
                    let asked = read(&mut stream).await;
                    log.lock().expect("unpoisoned").push(asked);
                    let _ = arrival.send(());
                    let reply = script.lock().expect("unpoisoned").next();
                    let reply = reply.unwrap_or(Reply::Status(418, "", "the script has ended"));
                    if serve(&mut stream, dialect, reply).await {
                        // Until the agent goes away.
                        let _ = stream.read(&mut [0]).await;
                        let _ = leaving.send(());
                    }
                });
            }
        });
        Self { url, dialect, asked, arrived, left }
    }

    /// Waits for the next request.
    pub(crate) async fn arrival(&mut self) {
        self.arrived.recv().await.expect("a request");
    }

    /// Waits until the agent has closed a hanging connection.
    pub(crate) async fn leaving(&mut self) {
        self.left.recv().await.expect("a connection");
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("unpoisoned").clone()
    }

    /// The results of tools in the last request, oldest first.
    pub(crate) fn results(&self) -> Vec<String> {
        let body = self.asked().last().expect("a request").body.clone();
        let messages = body["messages"].as_array().expect("messages").clone();
        let text = |value: &Value| value["content"].as_str().expect("text").to_owned();
        match self.dialect {
            Dialect::OpenAi => messages.iter().filter(|m| m["role"] == "tool").map(text).collect(),
            Dialect::Anthropic => messages
                .iter()
                .filter_map(|message| message["content"].as_array())
                .flatten()
                .filter(|block| block["type"] == "tool_result")
                .map(text)
                .collect(),
        }
    }
}

async fn read(stream: &mut TcpStream) -> Asked {
    let mut bytes = Vec::new();
    let head = loop {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).await.expect("readable");
        assert!(count > 0, "the request broke off");
        bytes.extend_from_slice(&buffer[..count]);
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let at = std::time::Instant::now();
    let text = String::from_utf8(bytes[..head].to_vec()).expect("text").to_lowercase();
    let length: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .expect("a length")
        .parse()
        .expect("a number");
    while bytes.len() < head + length {
        let mut buffer = vec![0; 65536];
        let count = stream.read(&mut buffer).await.expect("readable");
        bytes.extend_from_slice(&buffer[..count]);
    }
    let path = text.split(' ').nth(1).expect("a path").to_owned();
    Asked { path, body: serde_json::from_slice(&bytes[head..]).expect("JSON"), at }
}

/// Whether the connection is to be held open.
async fn serve(stream: &mut TcpStream, dialect: Dialect, reply: Reply) -> bool {
    let (says, end) = match reply {
        Reply::Nothing => return false,
        Reply::Status(code, header, body) => {
            let text = format!(
                "HTTP/1.1 {code} X\r\ncontent-length: {}\r\n{header}\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(text.as_bytes()).await;
            return false;
        }
        Reply::Answer(says) => (says, 0),
        Reply::Cut(says) => (says, 1),
        Reply::Hang(says) => (says, 2),
    };
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let _ = stream.write_all(head.as_bytes()).await;
    let called = says.iter().any(|say| matches!(say, Say::Call(..) | Say::RawCall(..)));
    for (number, say) in says.into_iter().enumerate() {
        if let Say::Wait(notify) = &say {
            notify.notified().await;
        }
        for event in events(dialect, number, &say) {
            chunk(stream, &event).await;
        }
    }
    match end {
        0 => {
            for event in ending(dialect, called) {
                chunk(stream, &event).await;
            }
            let _ = stream.write_all(b"0\r\n\r\n").await;
            false
        }
        1 => false,
        _ => true,
    }
}

async fn chunk(stream: &mut TcpStream, data: &str) {
    let event = format!("data: {data}\n\n");
    let _ = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await;
}

fn events(dialect: Dialect, number: usize, say: &Say) -> Vec<String> {
    let (name, arguments) = match say {
        Say::Call(name, arguments) => (*name, arguments.to_string()),
        Say::RawCall(name, arguments) => (*name, (*arguments).to_owned()),
        _ => ("", String::new()),
    };
    // Fragments, as real servers send them.
    let (first, rest) = arguments.split_at(arguments.len() / 2);
    let values = match dialect {
        Dialect::Anthropic => {
            let begin = |block: Value| json!({ "type": "content_block_start", "index": number, "content_block": block });
            let delta = |delta: Value| json!({ "type": "content_block_delta", "index": number, "delta": delta });
            match say {
                Say::Text(text) => vec![
                    begin(json!({ "type": "text", "text": "" })),
                    delta(json!({ "type": "text_delta", "text": text })),
                ],
                Say::Thought(text) => vec![
                    begin(json!({ "type": "thinking", "thinking": "", "signature": "" })),
                    delta(json!({ "type": "thinking_delta", "thinking": text })),
                    delta(json!({ "type": "signature_delta", "signature": "seal" })),
                ],
                Say::Call(..) | Say::RawCall(..) => vec![
                    begin(
                        json!({ "type": "tool_use", "id": format!("id{number}"), "name": name, "input": {} }),
                    ),
                    delta(json!({ "type": "input_json_delta", "partial_json": first })),
                    delta(json!({ "type": "input_json_delta", "partial_json": rest })),
                ],
                Say::Wait(_) => vec![],
            }
        }
        Dialect::OpenAi => {
            let delta = |delta: Value| json!({ "choices": [{ "index": 0, "delta": delta }] });
            let call = |id: Value, name: Value, arguments: &str| {
                delta(json!({ "tool_calls": [{ "index": number, "id": id,
                    "function": { "name": name, "arguments": arguments } }] }))
            };
            match say {
                Say::Text(text) => vec![delta(json!({ "content": text }))],
                Say::Thought(text) => vec![delta(json!({ "reasoning_content": text }))],
                Say::Call(..) | Say::RawCall(..) => vec![
                    call(json!(format!("id{number}")), json!(name), first),
                    call(Value::Null, Value::Null, rest),
                ],
                Say::Wait(_) => vec![],
            }
        }
    };
    values.iter().map(Value::to_string).collect()
}

fn ending(dialect: Dialect, called: bool) -> Vec<String> {
    match dialect {
        Dialect::Anthropic => {
            let reason = if called { "tool_use" } else { "end_turn" };
            vec![
                json!({ "type": "message_delta", "delta": { "stop_reason": reason } }).to_string(),
                json!({ "type": "message_stop" }).to_string(),
            ]
        }
        Dialect::OpenAi => {
            let reason = if called { "tool_calls" } else { "stop" };
            vec![
                json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": reason }] })
                    .to_string(),
                "[DONE]".to_owned(),
            ]
        }
    }
}
