//! A small agent with real tools in real repositories, against the scripted model.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gateway::{Observed, Outcome};
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::{NoForge, World, request, soon, text};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Dialect {
    Anthropic,
    Chat,
}

/// An agent: a dialect, tool names, and whether it has tools for files or only a shell.
struct Agent<'a> {
    world: &'a World,
    workspace: PathBuf,
    dialect: Dialect,
    stream: bool,
    files: bool,
    messages: Vec<Value>,
    said: String,
    called: Vec<String>,
}

#[derive(Debug, Default)]
struct Said {
    text: String,
    calls: Vec<(String, String, Value)>,
    output_tokens: u64,
}

impl<'a> Agent<'a> {
    fn new(world: &'a World, workspace: &Path, dialect: Dialect) -> Self {
        Self {
            world,
            workspace: workspace.to_owned(),
            dialect,
            stream: true,
            files: true,
            messages: Vec::new(),
            said: String::new(),
            called: Vec::new(),
        }
    }

    fn tools(&self) -> Vec<Value> {
        // Named as two real agents name them.
        let (path, old, new, names) = match self.dialect {
            Dialect::Anthropic => {
                ("file_path", "old_string", "new_string", ["Bash", "Read", "Write", "Edit"])
            }
            Dialect::Chat => {
                ("filePath", "oldString", "newString", ["bash", "read", "write", "edit"])
            }
        };
        let arguments: [&[&str]; 4] =
            [&["command", "description"], &[path], &[path, "content"], &[path, old, new]];
        let offered = names.iter().zip(arguments).take(if self.files { 4 } else { 1 });
        offered
            .map(|(name, arguments)| {
                let properties: serde_json::Map<_, _> = arguments
                    .iter()
                    .map(|name| ((*name).to_owned(), json!({ "type": "string" })))
                    .collect();
                let schema =
                    json!({ "type": "object", "properties": properties, "required": arguments });
                match self.dialect {
                    Dialect::Anthropic => json!({ "name": name, "input_schema": schema }),
                    Dialect::Chat => json!({ "type": "function",
                        "function": { "name": name, "parameters": schema } }),
                }
            })
            .collect()
    }

    fn target(&self) -> &'static str {
        match self.dialect {
            Dialect::Anthropic => "/model/rehearsal/v1/messages",
            Dialect::Chat => "/model/rehearsal/v1/chat/completions",
        }
    }

    fn body(&self) -> String {
        json!({ "model": "rehearsal", "stream": self.stream, "tools": self.tools(),
            "stream_options": { "include_usage": true }, "messages": self.messages })
        .to_string()
    }

    async fn ask(&self) -> Said {
        let response = self.world.send(request("POST", self.target(), &self.body())).await;
        assert_eq!(response.status(), 200);
        let body = text(response).await;
        let whole = |text: &str| serde_json::from_str::<Value>(text).expect("is JSON");
        match (self.dialect, self.stream) {
            (Dialect::Anthropic, true) => read_anthropic(&body),
            (Dialect::Chat, true) => read_chat(&body),
            (Dialect::Anthropic, false) => {
                let message = whole(&body);
                let mut said = Said::default();
                for block in message["content"].as_array().expect("has content") {
                    match block["type"].as_str() {
                        Some("text") => said.text.push_str(block["text"].as_str().expect("text")),
                        _ => said.calls.push((
                            string(&block["id"]),
                            string(&block["name"]),
                            block["input"].clone(),
                        )),
                    }
                }
                said.output_tokens = message["usage"]["output_tokens"].as_u64().expect("counts");
                said
            }
            (Dialect::Chat, false) => {
                let answer = whole(&body);
                let message = &answer["choices"][0]["message"];
                let calls = message["tool_calls"].as_array().cloned().unwrap_or_default();
                Said {
                    text: string(&message["content"]),
                    calls: calls
                        .iter()
                        .map(|call| {
                            let function = &call["function"];
                            let arguments = whole(function["arguments"].as_str().expect("text"));
                            (string(&call["id"]), string(&function["name"]), arguments)
                        })
                        .collect(),
                    output_tokens: answer["usage"]["completion_tokens"].as_u64().expect("counts"),
                }
            }
        }
    }

    /// Runs one prompt to its end and gives back the last text.
    async fn prompt(&mut self, prompt: &str) -> String {
        self.messages.push(json!({ "role": "user", "content": prompt }));
        for _ in 0..12 {
            let said = self.ask().await;
            assert!(said.output_tokens > 0, "usage is told");
            self.said.push_str(&said.text);
            self.said.push('\n');
            self.remember(&said);
            if said.calls.is_empty() {
                return said.text;
            }
            for (id, name, arguments) in &said.calls {
                self.called.push(name.to_lowercase());
                let (output, failed) = self.run(&name.to_lowercase(), arguments).await;
                self.messages.push(match self.dialect {
                    Dialect::Anthropic => json!({ "role": "user", "content": [{
                        "type": "tool_result", "tool_use_id": id, "content": output,
                        "is_error": failed }] }),
                    Dialect::Chat => {
                        json!({ "role": "tool", "tool_call_id": id, "content": output })
                    }
                });
            }
        }
        panic!("the rehearsal does not end: {}", self.said);
    }

    fn remember(&mut self, said: &Said) {
        let message = match self.dialect {
            Dialect::Anthropic => {
                let calls = said.calls.iter().map(|(id, name, input)| {
                    json!({ "type": "tool_use", "id": id, "name": name, "input": input })
                });
                json!({ "role": "assistant", "content": calls.collect::<Vec<_>>() })
            }
            Dialect::Chat => {
                let calls = said.calls.iter().map(|(id, name, arguments)| {
                    json!({ "id": id, "type": "function", "function": {
                        "name": name, "arguments": arguments.to_string() } })
                });
                json!({ "role": "assistant", "content": said.text,
                    "tool_calls": calls.collect::<Vec<_>>() })
            }
        };
        self.messages.push(message);
    }

    async fn run(&self, name: &str, arguments: &Value) -> (String, bool) {
        let first = |names: [&str; 2]| -> String {
            names.iter().find_map(|name| arguments[*name].as_str()).expect("given").to_owned()
        };
        let path = || PathBuf::from(first(["filePath", "file_path"]));
        match name {
            "bash" => {
                assert!(arguments["description"].is_string(), "required arguments are filled");
                let command = arguments["command"].as_str().expect("a command");
                let output = tokio::process::Command::new("bash")
                    .args(["-c", &format!("{{ {command}; }} 2>&1")])
                    .current_dir(&self.workspace)
                    .output()
                    .await
                    .expect("there is a shell");
                (String::from_utf8_lossy(&output.stdout).into_owned(), !output.status.success())
            }
            "read" => match std::fs::read(path()) {
                Ok(bytes) => (String::from_utf8_lossy(&bytes).into_owned(), false),
                Err(error) => (format!("Error: {error}"), true),
            },
            "write" => {
                std::fs::write(path(), first(["content", "content"])).expect("can be written");
                ("Wrote the file.".to_owned(), false)
            }
            "edit" => {
                let old = first(["oldString", "old_string"]);
                let before = std::fs::read_to_string(path()).unwrap_or_default();
                if before.matches(&old).count() != 1 {
                    return ("Error: old text not found once".to_owned(), true);
                }
                let new = first(["newString", "new_string"]);
                std::fs::write(path(), before.replacen(&old, &new, 1)).expect("can be written");
                ("Edited the file.".to_owned(), false)
            }
            other => (format!("unknown tool {other}"), true),
        }
    }
}

fn string(value: &Value) -> String {
    value.as_str().expect("is text").to_owned()
}

fn data(body: &str) -> impl Iterator<Item = Value> + '_ {
    body.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).expect("each event is JSON"))
}

fn read_anthropic(body: &str) -> Said {
    let mut said = Said::default();
    let mut arguments = Vec::new();
    for event in data(body) {
        let delta = &event["delta"];
        match event["type"].as_str().expect("has a type") {
            "content_block_start" if event["content_block"]["type"] == "tool_use" => {
                let block = &event["content_block"];
                said.calls.push((string(&block["id"]), string(&block["name"]), Value::Null));
                arguments.push(String::new());
            }
            "content_block_delta" if delta["type"] == "text_delta" => {
                said.text.push_str(delta["text"].as_str().expect("text"));
            }
            "content_block_delta" => {
                let part = delta["partial_json"].as_str().expect("text");
                arguments.last_mut().expect("a call began").push_str(part);
            }
            "message_delta" => {
                let wanted = if said.calls.is_empty() { "end_turn" } else { "tool_use" };
                assert_eq!(delta["stop_reason"], wanted);
                said.output_tokens = event["usage"]["output_tokens"].as_u64().expect("counts");
            }
            _ => {}
        }
    }
    assert!(body.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), "{body}");
    for (call, arguments) in said.calls.iter_mut().zip(arguments) {
        call.2 = serde_json::from_str(&arguments).expect("arguments are JSON");
    }
    said
}

fn read_chat(body: &str) -> Said {
    let mut said = Said::default();
    let mut arguments = Vec::new();
    for chunk in data(body) {
        if let Some(tokens) = chunk["usage"]["completion_tokens"].as_u64() {
            said.output_tokens = tokens;
        }
        let delta = &chunk["choices"][0]["delta"];
        said.text.push_str(delta["content"].as_str().unwrap_or_default());
        for call in delta["tool_calls"].as_array().into_iter().flatten() {
            if call["id"].is_string() {
                let name = string(&call["function"]["name"]);
                said.calls.push((string(&call["id"]), name, Value::Null));
                arguments.push(String::new());
            }
            let part = call["function"]["arguments"].as_str().unwrap_or_default();
            arguments.last_mut().expect("a call began").push_str(part);
        }
    }
    assert!(body.ends_with("data: [DONE]\n\n"), "{body}");
    for (call, arguments) in said.calls.iter_mut().zip(arguments) {
        call.2 = serde_json::from_str(&arguments).expect("arguments are JSON");
    }
    said
}

/// A repository with these files, all committed.
fn repository(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, content) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("has one")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }
    commit(directory.path());
    directory
}

fn commit(directory: &Path) {
    let script = "git init -q 2>/dev/null; git add -A; \
        git -c user.name=a -c user.email=a@example.com commit -q --allow-empty -m x";
    let status = std::process::Command::new("sh")
        .args(["-c", script])
        .current_dir(directory)
        .status()
        .expect("there is a shell");
    assert!(status.success());
}

fn read(repository: &tempfile::TempDir, name: &str) -> String {
    std::fs::read_to_string(repository.path().join(name)).expect("exists")
}

#[tokio::test]
async fn every_repository_gets_a_note_and_its_own_check() {
    let toml = "[commands]\ntest = \"echo it\\\\'s me; exit 3\"\n";
    let makefile = "test:\n\t@echo fine\n";
    let world = World::start(|_| {}, Arc::new(NoForge));
    for (files, notes, check, result) in [
        (
            vec![("README.md", "# Title\n\nThe last line.\n"), ("hangar.toml", toml)],
            "README.md",
            "echo it",
            "exit code 3 (failed)",
        ),
        (vec![("Makefile", makefile), ("src/a.c", "int x;\n")], "NOTES.md", "make test", "passed"),
        (vec![("README.md", "no line end"), ("Makefile", makefile)], "README.md", "make", "passed"),
        // The last line occurs twice, so that no edit can hold on to it.
        (
            vec![("README.md", "same\nsame\n"), ("Makefile", makefile)],
            "README.md",
            "make",
            "passed",
        ),
        (vec![("README.md", "dos\r\nlines\r\n")], "README.md", "git diff --stat", "passed"),
        (vec![("README.md", "")], "README.md", "git diff --stat", "passed"),
        (vec![("odd name $(x) `y`.txt", "x")], "NOTES.md", "git diff --stat", "passed"),
        (vec![], "NOTES.md", "git diff --stat", "passed"),
    ] {
        for dialect in [Dialect::Anthropic, Dialect::Chat] {
            for (stream, tools) in [(true, true), (false, true), (true, false)] {
                let repository = repository(&files);
                let before = std::fs::read_to_string(repository.path().join(notes));
                let before = before.unwrap_or_default();
                let mut agent = Agent::new(&world, repository.path(), dialect);
                (agent.stream, agent.files) = (stream, tools);
                let end =
                    agent.prompt("Add a `health` route\u{1b}[2J; $(touch pwned) it's\nmore").await;
                let told = || format!("{dialect:?} {files:?}\n{}", agent.said);
                assert!(agent.said.starts_with("This is a rehearsal"), "{}", told());
                assert!(end.starts_with("Rehearsal finished."), "{}", told());
                assert!(end.contains(&format!("added a note to `{notes}`")), "{}", told());
                assert!(end.contains(check) && end.contains(result), "{}", told());
                let after = read(&repository, notes);
                assert!(after.starts_with(&before), "{}: {after:?}", told());
                assert_eq!(after.matches("## Rehearsal notes").count(), 1, "{after:?}");
                let entry = "- Add a health route [2J; $(touch pwned) it's (rehearsal: ";
                let entry = entry.replace('[', "");
                assert_eq!(after.matches(&entry).count(), 1, "{after:?}");
                assert!(after.ends_with('\n') || before == "no line end", "{after:?}");
                assert!(!repository.path().join("pwned").exists());
            }
        }
    }
}

#[tokio::test]
async fn files_are_edited_with_the_agents_own_tools_where_they_can() {
    let world = World::start(|_| {}, Arc::new(NoForge));
    for (files, called) in [
        (vec![("README.md", "# T\n\nunique\n")], vec!["bash", "read", "edit", "bash"]),
        (vec![("main.py", "x\n")], vec!["bash", "read", "write", "bash"]),
        (vec![("README.md", "a\na\n")], vec!["bash", "read", "bash", "bash"]),
        (vec![], vec!["bash", "write", "bash"]),
    ] {
        let repository = repository(&files);
        let mut agent = Agent::new(&world, repository.path(), Dialect::Chat);
        agent.prompt("Do it").await;
        assert_eq!(agent.called, called, "{files:?}");
    }
}

#[tokio::test]
async fn further_prompts_add_entries_and_keep_the_old_ones() {
    let world = World::start(|_| {}, Arc::new(NoForge));
    for files in [vec![("README.md", "# T\n")], vec![("a.txt", "x\n")]] {
        let repository = repository(&files);
        let mut agent = Agent::new(&world, repository.path(), Dialect::Anthropic);
        for prompt in ["one", "two", "two", "three"] {
            let end = agent.prompt(prompt).await;
            assert!(end.contains("added a note"), "{end}");
            commit(repository.path());
        }
        let name = if files[0].0 == "README.md" { "README.md" } else { "NOTES.md" };
        let notes = read(&repository, name);
        for (entry, count) in [("- one (", 1), ("- two (", 2), ("- three (", 1)] {
            assert_eq!(notes.matches(entry).count(), count, "{notes}");
        }
        assert!(notes.matches("## Rehearsal notes").count() <= 2, "{notes}");
    }
}

#[tokio::test]
async fn a_link_out_of_the_tree_is_not_written_through() {
    let world = World::start(|_| {}, Arc::new(NoForge));
    let outside = tempfile::NamedTempFile::new().expect("a file");
    let repository = repository(&[]);
    std::os::unix::fs::symlink(outside.path(), repository.path().join("README.md")).expect("links");
    commit(repository.path());
    let mut agent = Agent::new(&world, repository.path(), Dialect::Chat);
    let end = agent.prompt("Do it").await;
    assert!(end.contains("`NOTES.md`"), "{end}");
    assert_eq!(std::fs::read_to_string(outside.path()).expect("exists"), "");
}

#[tokio::test]
async fn a_request_without_tools_gets_a_title() {
    let world = World::start(|_| {}, Arc::new(NoForge));
    let body = json!({ "messages": [{ "role": "user", "content": "Name this" }] }).to_string();
    let answer = world.send(request("POST", "/model/rehearsal/v1/messages", &body)).await;
    let answer = crate::support::json(answer).await;
    assert_eq!(answer["content"][0]["text"], "Rehearsal session");
    let models = world.send(request("GET", "/model/rehearsal/v1/models", "")).await;
    assert_eq!(crate::support::json(models).await["data"][0]["id"], "rehearsal");
    let count =
        world.send(request("POST", "/model/rehearsal/v1/messages/count_tokens", "12345678"));
    assert_eq!(crate::support::json(count.await).await["input_tokens"], 2);
    let bad = world.send(request("POST", "/model/rehearsal/v1/messages", "}{")).await;
    assert_eq!(bad.status(), 400);
    assert_eq!(crate::support::json(bad).await["error"]["type"], "invalid_request_error");
}

#[tokio::test]
async fn scripts_are_carried_out_step_by_step() {
    let world = World::start(|_| {}, Arc::new(NoForge));
    for dialect in [Dialect::Anthropic, Dialect::Chat] {
        let repository = repository(&[("a.txt", "x\n")]);
        let mut agent = Agent::new(&world, repository.path(), dialect);
        let path = repository.path().join("b.txt");
        let script = format!(
            "Please:\n@@ say first ;; write {} one\\ntwo\\n ;; bash cat b.txt > c.txt ;; \
             read {} ;; tool nosuch {{\"a\": 1}} ;; slow 2 1 ;; say all done @@END\nnot this ;; bash false",
            path.display(),
            path.display()
        );
        let end = agent.prompt(&script).await;
        assert_eq!(end, "1 2 all done");
        assert!(agent.said.starts_with("first\n"), "{}", agent.said);
        assert_eq!(agent.called, ["write", "bash", "read", "nosuch"]);
        assert_eq!(read(&repository, "c.txt"), "one\ntwo\n");
        assert_eq!(agent.prompt("@@ @@END").await, "The script is finished.");
        let end = agent.prompt("@@ bash true ;; dance @@END").await;
        assert!(end.contains("cannot go on at `dance`"), "{end}");
    }
}

#[tokio::test]
async fn scripted_faults_happen_so_often_and_then_no_more() {
    let mut world = World::start(|_| {}, Arc::new(NoForge));
    let repository = repository(&[]);
    for dialect in [Dialect::Anthropic, Dialect::Chat] {
        let mut agent = Agent::new(&world, repository.path(), dialect);
        // Faults are counted per prompt, so the two dialects need two.
        let faults = "@@ fail 429 2 ;; drop ;; nonsense ;; say at last the whole text @@END";
        let script = format!("{dialect:?}: {faults}");
        agent.messages.push(json!({ "role": "user", "content": script }));
        let ask = || world.send(request("POST", agent.target(), &agent.body()));
        for _ in 0..2 {
            let response = ask().await;
            assert_eq!(
                (response.status().as_u16(), &response.headers()["retry-after"]),
                (429, &"0".parse().expect("a value"))
            );
            let error = crate::support::json(response).await;
            assert_eq!(error["error"]["type"], "rate_limit_error");
        }
        let cut = ask().await;
        assert_eq!(cut.status(), 200);
        let mut body = cut.into_body();
        let mut pieces = 0;
        let end = soon(async {
            loop {
                match body.frame().await {
                    Some(Ok(_)) => pieces += 1,
                    other => return other,
                }
            }
        })
        .await;
        assert!(matches!(end, Some(Err(_))), "the stream breaks: {end:?}");
        assert!(pieces > 0, "after it began");
        let nonsense = soon(ask().await.into_body().collect()).await.expect("arrives").to_bytes();
        assert!(std::str::from_utf8(&nonsense).is_err());
        assert_eq!(agent.ask().await.text, "at last the whole text");
        assert_eq!(agent.ask().await.text, "at last the whole text");
        // The same words sent again are another prompt, with faults of its own.
        agent.messages.push(json!({ "role": "assistant", "content": "done" }));
        agent.messages.push(json!({ "role": "user", "content": script }));
        let again = world.send(request("POST", agent.target(), &agent.body())).await;
        assert_eq!(again.status(), 429);
    }
    let reason = world
        .observed(|what| match what {
            Observed::ModelAnswered { outcome: Outcome::Failed(reason), .. } => Some(reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, "cut off by the script");
}

#[tokio::test]
async fn slow_steps_are_slow_and_arrive_piece_by_piece() {
    let mut world = World::start(|_| {}, Arc::new(NoForge));
    let body = json!({ "stream": true, "messages": [
        { "role": "user", "content": "@@ slow 3 80 ;; say end @@END" }] })
    .to_string();
    let began = std::time::Instant::now();
    let response = world.send(request("POST", "/model/rehearsal/v1/messages", &body)).await;
    let mut body = response.into_body();
    let mut arrivals = Vec::new();
    while let Some(frame) = soon(body.frame()).await {
        frame.expect("arrives");
        arrivals.push(began.elapsed());
    }
    assert!(
        arrivals.last().is_some_and(|last| *last >= Duration::from_millis(240)),
        "{arrivals:?}"
    );
    assert!(
        arrivals[0] < Duration::from_millis(80),
        "the beginning waits for nothing: {arrivals:?}"
    );
    let first_token = world
        .observed(|what| match what {
            Observed::ModelFirstToken { after, .. } => Some(after),
            _ => None,
        })
        .await;
    assert!(first_token >= Duration::from_millis(80), "{first_token:?}");
}
