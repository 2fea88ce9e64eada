//! An agent for tests: speaks ACP over its standard streams and does what the prompt's lines say.

use std::error::Error;
use std::io::{BufRead as _, StdinLock, Stdout, Write as _};
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Agent {
    input: StdinLock<'static>,
    output: Stdout,
}

fn main() -> Result<ExitCode> {
    if std::env::var("HANGAR_MODEL_NAME").as_deref() == Ok("mute") {
        std::io::stdin().lines().for_each(drop);
        return Ok(ExitCode::SUCCESS);
    }
    if std::env::var("HANGAR_MODEL_NAME").as_deref() == Ok("stillborn") {
        writeln!(std::io::stderr(), "no model here")?;
        return Ok(ExitCode::from(3));
    }
    let mut agent = Agent { input: std::io::stdin().lock(), output: std::io::stdout() };
    while let Some(message) = agent.read()? {
        let id = message["id"].clone();
        match message["method"].as_str().unwrap_or_default() {
            "initialize" => agent.answer(
                &id,
                &json!({
                    "protocolVersion": 1,
                    "agentInfo": {"name": "scripted", "version": "1"},
                }),
            )?,
            "session/new" => agent.answer(&id, &json!({"sessionId": "one"}))?,
            "session/prompt" => {
                let text = message["params"]["prompt"][0]["text"].as_str().unwrap_or_default();
                let mut reason = "end_turn";
                for line in text.to_owned().lines() {
                    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
                    if let Some(stop) = agent.perform(verb, rest)? {
                        reason = stop;
                        break;
                    }
                }
                agent.answer(&id, &json!({"stopReason": reason}))?;
            }
            _ => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Agent {
    fn read(&mut self) -> Result<Option<Value>> {
        let mut line = String::new();
        if self.input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }

    fn write(&mut self, message: &Value) -> Result<()> {
        writeln!(self.output, "{message}")?;
        Ok(self.output.flush()?)
    }

    fn answer(&mut self, id: &Value, result: &Value) -> Result<()> {
        self.write(&json!({"jsonrpc": "2.0", "id": id, "result": result}))
    }

    fn update(&mut self, update: &Value) -> Result<()> {
        self.write(&json!({
            "jsonrpc": "2.0",
            "method": "session/update",
            "params": {"sessionId": "one", "update": update},
        }))
    }

    fn chunk(&mut self, kind: &str, text: &str) -> Result<()> {
        self.update(&json!({"sessionUpdate": kind, "content": {"type": "text", "text": text}}))
    }

    fn perform(&mut self, verb: &str, rest: &str) -> Result<Option<&'static str>> {
        match verb {
            "say" => self.chunk("agent_message_chunk", rest)?,
            "think" => self.chunk("agent_thought_chunk", rest)?,
            "plan" => self.update(&json!({"sessionUpdate": "plan", "entries": [
                {"content": rest, "priority": "high", "status": "in_progress"},
            ]}))?,
            "write" => self.write_file(rest)?,
            "shell" => {
                Command::new("sh").args(["-c", rest]).status()?;
            }
            "background" => {
                Command::new("setsid").args(["sh", "-c", rest]).spawn()?;
            }
            "ask" => self.ask()?,
            "environment" => {
                let value = std::env::var(rest).unwrap_or_else(|_| "unset".to_owned());
                self.chunk("agent_message_chunk", &value)?;
            }
            "crash" => {
                writeln!(std::io::stderr(), "panicked at {rest}")?;
                std::process::exit(7);
            }
            "hang" => loop {
                std::thread::sleep(Duration::from_mins(1));
            },
            "wait" => return self.wait(),
            "garbage" => {
                for _ in 0..rest.parse::<usize>()? {
                    writeln!(self.output, "{}", "this is no message ".repeat(50))?;
                }
            }
            "endless" => {
                let piece = vec![b'x'; 1024 * 1024];
                for _ in 0..rest.parse::<usize>()? {
                    self.output.write_all(&piece)?;
                }
                writeln!(self.output)?;
            }
            "calls" => {
                let body = "y".repeat(60 * 1024);
                for number in 0..rest.parse::<usize>()? {
                    self.update(&json!({"sessionUpdate": "tool_call", "toolCallId": number.to_string(),
                        "title": "flood", "kind": "other", "status": "completed",
                        "content": [{"type": "content", "content": {"type": "text", "text": body}}]}))?;
                }
            }
            "refuse" => return Ok(Some("refusal")),
            _ => self.chunk("agent_message_chunk", &format!("unknown verb {verb}"))?,
        }
        Ok(None)
    }

    fn write_file(&mut self, rest: &str) -> Result<()> {
        let (path, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let path = std::env::current_dir()?.join(path);
        self.update(&json!({"sessionUpdate": "tool_call", "toolCallId": "w", "title": "Write",
            "kind": "edit", "status": "in_progress", "rawInput": {"path": path}}))?;
        std::fs::write(&path, format!("{text}\n"))?;
        self.update(&json!({"sessionUpdate": "tool_call_update", "toolCallId": "w",
            "status": "completed", "locations": [{"path": path}],
            "content": [{"type": "content", "content": {"type": "text", "text": "written"}}]}))
    }

    fn ask(&mut self) -> Result<()> {
        self.write(&json!({"jsonrpc": "2.0", "id": "q1", "method": "session/request_permission",
        "params": {"sessionId": "one", "toolCall": {"toolCallId": "a"}, "options": [
            {"optionId": "no", "name": "No", "kind": "reject_once"},
            {"optionId": "yes", "name": "Yes", "kind": "allow_once"},
        ]}}))?;
        let answer = self.read()?.ok_or("an answer was expected")?;
        let option = answer["result"]["outcome"]["optionId"].as_str().unwrap_or("none").to_owned();
        self.chunk("agent_message_chunk", &option)
    }

    /// Works until it is cancelled, as a willing agent does.
    fn wait(&mut self) -> Result<Option<&'static str>> {
        while let Some(message) = self.read()? {
            if message["method"] == "session/cancel" {
                return Ok(Some("cancelled"));
            }
        }
        Err("the client went away".into())
    }
}
