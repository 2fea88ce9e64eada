//! What an agent does during one prompt, turned into reports. Pure: time is an argument.
//!
//! Text comes in small pieces. They are shown at most twenty times a second, and become a report
//! when the kind of text changes, a tool is called, the piece is full, or the prompt ends.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent_client_protocol::v1::schema::{
    ContentBlock, PlanEntry, PlanEntryStatus, SessionUpdate, ToolCallContent, ToolCallStatus,
    ToolCallUpdateFields, ToolKind as AcpKind,
};
use protocol::agentd::Report;
use protocol::client::DeltaKind;
use protocol::event::{PlanStep, ToolKind, ToolStatus};
use protocol::limits::{RECORDED_TEXT_BYTES, TITLE_BYTES};
use protocol::{PromptId, ToolCallId};
use serde_json::Value;

use crate::text;

/// The shortest time between two pieces shown.
const PACE: Duration = Duration::from_millis(50);
/// Bytes of text one prompt may report; what comes after is left out, with a notice.
const TEXT_BYTES: usize = 16 * 1024 * 1024;
/// Calls of tools one prompt may report.
const CALLS: usize = 10_000;
/// Files one call may name.
const PATHS: usize = 1000;

/// Something for the host.
#[derive(Debug, PartialEq)]
pub(super) enum Output {
    /// To be kept.
    Report(Report),
    /// To be shown.
    Delta(DeltaKind, String),
}

/// The transcript of one prompt.
#[derive(Debug)]
pub(super) struct Transcript {
    prompt: PromptId,
    workspace: PathBuf,
    /// The text that is being written.
    open: Option<(DeltaKind, String)>,
    /// What of it was not shown yet.
    unshown: String,
    /// When a piece may be shown again.
    show_from: Instant,
    written: usize,
    told: bool,
    calls: HashMap<String, Call>,
    output: Vec<Output>,
}

#[derive(Debug)]
struct Call {
    id: ToolCallId,
    started: bool,
    finished: bool,
    /// The newest of each field; those of the content are the output.
    fields: ToolCallUpdateFields,
}

impl Transcript {
    /// An empty one.
    pub(super) fn new(prompt: PromptId, workspace: &Path, now: Instant) -> Self {
        Self {
            prompt,
            workspace: workspace.to_owned(),
            open: None,
            unshown: String::new(),
            show_from: now,
            written: 0,
            told: false,
            calls: HashMap::new(),
            output: Vec::new(),
        }
    }

    /// The prompt it is of.
    pub(super) fn prompt(&self) -> PromptId {
        self.prompt
    }

    /// What came of it since the last time, in order.
    pub(super) fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.output)
    }

    /// When [`Transcript::tick`] has something to show.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.unshown.is_empty()).then_some(self.show_from)
    }

    /// Shows what waits, if it is time.
    pub(super) fn tick(&mut self, now: Instant) {
        if now >= self.show_from {
            self.show(now);
        }
    }

    /// Takes in an update.
    pub(super) fn update(&mut self, update: SessionUpdate, now: Instant) {
        match update {
            SessionUpdate::AgentMessageChunk(chunk) => {
                self.text(DeltaKind::Message, &chunk.content, now);
            }
            SessionUpdate::AgentThoughtChunk(chunk) => {
                self.text(DeltaKind::Thought, &chunk.content, now);
            }
            SessionUpdate::ToolCall(call) => {
                let fields = ToolCallUpdateFields::new()
                    .title(call.title)
                    .kind(call.kind)
                    .status(call.status)
                    .content(call.content)
                    .locations(call.locations)
                    .raw_input(call.raw_input)
                    .raw_output(call.raw_output);
                self.call(&call.tool_call_id.0, fields, now);
            }
            SessionUpdate::ToolCallUpdate(update) => {
                self.call(&update.tool_call_id.0, update.fields, now);
            }
            SessionUpdate::Plan(plan) => self.plan(plan.entries.into_iter().map(step), now),
            // Modes, commands, usage, the person's own words: nothing the session records.
            _ => {}
        }
    }

    /// Ends it: open text becomes a report, calls without an answer failed.
    pub(super) fn end(&mut self, now: Instant) {
        self.close_text(now);
        let open: Vec<String> = self
            .calls
            .iter()
            .filter(|(_, call)| call.started && !call.finished)
            .map(|(key, _)| key.clone())
            .collect();
        for key in open {
            self.finish_call(&key, ToolStatus::Failed, "the prompt ended before the tool answered");
        }
    }

    fn text(&mut self, kind: DeltaKind, content: &ContentBlock, now: Instant) {
        let ContentBlock::Text(content) = content else { return };
        if self.open.as_ref().is_some_and(|(open, _)| *open != kind) {
            self.close_text(now);
        }
        self.written = self.written.saturating_add(content.text.len());
        if self.written > TEXT_BYTES {
            self.leave_out();
            return;
        }
        let mut rest = content.text.as_str();
        while !rest.is_empty() {
            let (_, open) = self.open.get_or_insert((kind, String::new()));
            let room = RECORDED_TEXT_BYTES.saturating_sub(open.len());
            let part = text::beginning(rest, room);
            if part.is_empty() {
                self.close_text(now);
                continue;
            }
            open.push_str(part);
            self.unshown.push_str(part);
            rest = &rest[part.len()..];
        }
        self.tick(now);
    }

    fn leave_out(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            let text = "The agent wrote more in one prompt than is recorded; the rest is left out."
                .to_owned();
            self.report(Report::Notice { prompt: Some(self.prompt), text });
        }
    }

    fn show(&mut self, now: Instant) {
        if let Some((kind, _)) = &self.open
            && !self.unshown.is_empty()
        {
            self.output.push(Output::Delta(*kind, std::mem::take(&mut self.unshown)));
            self.show_from = now + PACE;
        }
    }

    fn close_text(&mut self, now: Instant) {
        self.show(now);
        let Some((kind, text)) = self.open.take() else { return };
        if text.trim().is_empty() {
            return;
        }
        let prompt = self.prompt;
        self.report(match kind {
            DeltaKind::Thought => Report::Thought { prompt, text },
            _ => Report::Message { prompt, text },
        });
    }

    fn plan(&mut self, steps: impl IntoIterator<Item = PlanStep>, now: Instant) {
        self.close_text(now);
        let steps = steps.into_iter().take(PATHS).collect();
        self.report(Report::Plan { prompt: self.prompt, steps });
    }

    fn call(&mut self, key: &str, fields: ToolCallUpdateFields, now: Instant) {
        if !self.calls.contains_key(key) && self.calls.len() >= CALLS {
            self.leave_out();
            return;
        }
        let call = self.calls.entry(key.to_owned()).or_insert_with(|| Call {
            id: ToolCallId::new(),
            started: false,
            finished: false,
            fields: ToolCallUpdateFields::new(),
        });
        if call.finished {
            return;
        }
        let shown = merge(&mut call.fields, fields);
        let status = call.fields.status.unwrap_or_default();
        if let Some(entries) = to_do_list(&call.fields)
            && status != ToolCallStatus::Failed
        {
            if status == ToolCallStatus::Completed {
                call.finished = true;
                self.plan(entries, now);
            }
            return;
        }
        // Pending means announced: its title and its input may still be half known.
        if !call.started && status != ToolCallStatus::Pending {
            self.close_text(now);
            self.start_call(key);
        }
        if let Some(text) = shown {
            self.output.push(Output::Delta(DeltaKind::ToolOutput, text));
        }
        match status {
            ToolCallStatus::Completed => self.finish_call(key, ToolStatus::Completed, ""),
            ToolCallStatus::Failed => self.finish_call(key, ToolStatus::Failed, ""),
            _ => {}
        }
    }

    fn start_call(&mut self, key: &str) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.started = true;
        let title = title(&call.fields, &self.workspace);
        let report = Report::ToolCallStarted {
            prompt: self.prompt,
            call: call.id,
            title: text::beginning(title.trim(), TITLE_BYTES).to_owned(),
            tool: kind(call.fields.kind.unwrap_or_default()),
            input: bounded(call.fields.raw_input.clone().unwrap_or(Value::Null)),
        };
        self.report(report);
    }

    fn finish_call(&mut self, key: &str, status: ToolStatus, otherwise: &str) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.finished = true;
        // A finished call's fields are not needed again; its key is, to tell late updates.
        let fields = std::mem::take(&mut call.fields);
        let output = tool_output(&fields);
        let output = if output.is_empty() { otherwise.to_owned() } else { output };
        let report = Report::ToolCallFinished {
            prompt: self.prompt,
            call: call.id,
            status,
            output: text::cut(output, RECORDED_TEXT_BYTES),
            paths: changed_paths(&fields, &self.workspace),
        };
        self.report(report);
    }

    fn report(&mut self, report: Report) {
        self.output.push(Output::Report(report));
    }
}

/// Takes the newer fields; gives what was added to the output, if it only grew.
fn merge(old: &mut ToolCallUpdateFields, new: ToolCallUpdateFields) -> Option<String> {
    let grown = new.content.as_ref().and_then(|content| {
        let (before, after) = (content_text(old.content.as_deref()), content_text(Some(content)));
        let added = after.strip_prefix(&before)?;
        (!added.is_empty()).then(|| text::cut(added.to_owned(), RECORDED_TEXT_BYTES))
    });
    let running = !matches!(new.status, Some(ToolCallStatus::Completed | ToolCallStatus::Failed));
    old.kind = new.kind.or(old.kind);
    old.status = new.status.or(old.status);
    old.title = new.title.or(old.title.take());
    old.content = new.content.or(old.content.take());
    old.locations = new.locations.or(old.locations.take());
    old.raw_input = new.raw_input.or(old.raw_input.take());
    old.raw_output = new.raw_output.or(old.raw_output.take());
    grown.filter(|_| running)
}

fn content_text(content: Option<&[ToolCallContent]>) -> String {
    let mut text = String::new();
    for part in content.unwrap_or_default() {
        if let ToolCallContent::Content(content) = part
            && let ContentBlock::Text(content) = &content.content
        {
            text.push_str(&content.text);
        }
    }
    text
}

fn tool_output(fields: &ToolCallUpdateFields) -> String {
    let text = content_text(fields.content.as_deref());
    if !text.is_empty() {
        return text;
    }
    match &fields.raw_output {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value
            .get("output")
            .and_then(Value::as_str)
            .map_or_else(|| value.to_string(), str::to_owned),
    }
}

/// The files a call says it changed: those of its differences, and for changing tools those it
/// works at.
fn changed_paths(fields: &ToolCallUpdateFields, workspace: &Path) -> Vec<String> {
    let mut paths: Vec<&Path> = Vec::new();
    for part in fields.content.iter().flatten() {
        if let ToolCallContent::Diff(diff) = part {
            paths.push(&diff.path);
        }
    }
    if matches!(fields.kind, Some(AcpKind::Edit | AcpKind::Delete | AcpKind::Move)) {
        paths.extend(fields.locations.iter().flatten().map(|location| location.path.as_path()));
    }
    let mut told: Vec<String> = Vec::new();
    for path in paths.into_iter().take(PATHS) {
        let path = path.strip_prefix(workspace).unwrap_or(path).to_string_lossy().into_owned();
        if !told.contains(&path) {
            told.push(path);
        }
    }
    told
}

/// What a call does, for people. Some agents only name the tool; then its main argument is added,
/// and a command stands for itself.
fn title(fields: &ToolCallUpdateFields, workspace: &Path) -> String {
    let said = fields.title.as_deref().unwrap_or_default().trim();
    let argument = |name: &str| fields.raw_input.as_ref()?.get(name)?.as_str();
    if said.contains(char::is_whitespace) {
        return said.to_owned();
    }
    if let Some(command) = argument("command") {
        return command.to_owned();
    }
    let names = ["filePath", "file_path", "path", "pattern", "url", "description", "name", "tool"];
    // Patterns are tried before the place they are searched in.
    let names = if argument("pattern").is_some() { &names[3..] } else { &names[..] };
    let Some(about) = names.iter().find_map(|name| argument(name)) else {
        return said.to_owned();
    };
    let about = Path::new(about).strip_prefix(workspace).unwrap_or(Path::new(about));
    let mut letters = said.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string());
    format!("{}{} {}", first.unwrap_or_default(), letters.as_str(), about.display())
}

fn step(entry: PlanEntry) -> PlanStep {
    let status = match entry.status {
        PlanEntryStatus::Completed => "completed",
        PlanEntryStatus::InProgress => "in_progress",
        _ => "pending",
    };
    plan_step(entry.content, status)
}

fn plan_step(text: String, status: &str) -> PlanStep {
    PlanStep { text: text::cut(text, RECORDED_TEXT_BYTES / 16), status: status.to_owned() }
}

/// The steps of a plan, if the call is one of a to-do tool: OpenCode sends its plan in no other way.
fn to_do_list(fields: &ToolCallUpdateFields) -> Option<Vec<PlanStep>> {
    let entries = fields.raw_input.as_ref()?.get("todos")?.as_array()?;
    let read = |entry: &Value| {
        let status = match entry.get("status")?.as_str()? {
            "completed" => "completed",
            "in_progress" => "in_progress",
            // What is not going to be done is no step any more.
            "cancelled" => return Some(None),
            _ => "pending",
        };
        Some(Some(plan_step(entry.get("content")?.as_str()?.to_owned(), status)))
    };
    entries
        .iter()
        .map(read)
        .collect::<Option<Vec<_>>>()
        .map(|all| all.into_iter().flatten().collect())
}

fn kind(kind: AcpKind) -> ToolKind {
    match kind {
        AcpKind::Read => ToolKind::Read,
        AcpKind::Edit | AcpKind::Delete | AcpKind::Move => ToolKind::Edit,
        AcpKind::Search => ToolKind::Search,
        AcpKind::Execute => ToolKind::Execute,
        AcpKind::Fetch => ToolKind::Fetch,
        AcpKind::Think => ToolKind::Think,
        _ => ToolKind::Other,
    }
}

/// An input too long to be recorded becomes its own beginning, as text.
fn bounded(input: Value) -> Value {
    let text = input.to_string();
    if text.len() <= RECORDED_TEXT_BYTES {
        input
    } else {
        text::cut(text, RECORDED_TEXT_BYTES).into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn transcript() -> (Transcript, Instant) {
        let now = Instant::now();
        (Transcript::new(PromptId::from_bytes([1; 16]), Path::new("/workspace"), now), now)
    }

    fn update(value: Value) -> SessionUpdate {
        serde_json::from_value(value).expect("an update")
    }

    fn chunk(kind: &str, text: &str) -> SessionUpdate {
        update(json!({"sessionUpdate": kind, "content": {"type": "text", "text": text}}))
    }

    #[test]
    fn pieces_are_shown_at_a_pace_and_reported_once() {
        let (mut transcript, now) = transcript();
        for text in ["a", "b", "c"] {
            transcript.update(chunk("agent_message_chunk", text), now);
        }
        assert_eq!(transcript.take(), [Output::Delta(DeltaKind::Message, "a".into())]);
        assert_eq!(transcript.due(), Some(now + PACE));
        transcript.tick(now + PACE);
        assert_eq!(transcript.take(), [Output::Delta(DeltaKind::Message, "bc".into())]);
        transcript.update(chunk("agent_thought_chunk", "hm"), now + PACE * 2);
        let output = transcript.take();
        let prompt = transcript.prompt();
        assert_eq!(output[0], Output::Report(Report::Message { prompt, text: "abc".into() }));
        transcript.end(now + PACE * 3);
        let output = transcript.take();
        assert_eq!(
            output.last(),
            Some(&Output::Report(Report::Thought { prompt, text: "hm".into() }))
        );
    }

    #[test]
    fn a_long_text_loses_nothing() {
        let (mut transcript, now) = transcript();
        let long = "é".repeat(RECORDED_TEXT_BYTES);
        transcript.update(chunk("agent_message_chunk", &long), now);
        transcript.end(now);
        let mut reported = String::new();
        for output in transcript.take() {
            if let Output::Report(Report::Message { text, .. }) = output {
                assert!(text.len() <= RECORDED_TEXT_BYTES);
                reported.push_str(&text);
            }
        }
        assert_eq!(reported, long);
    }

    #[test]
    fn a_flood_of_text_is_cut_with_one_notice() {
        let (mut transcript, now) = transcript();
        let piece = "x".repeat(1024 * 1024);
        for _ in 0..20 {
            transcript.update(chunk("agent_message_chunk", &piece), now);
        }
        let notices = transcript
            .take()
            .iter()
            .filter(|output| matches!(output, Output::Report(Report::Notice { .. })))
            .count();
        assert_eq!(notices, 1);
    }

    #[test]
    fn a_call_starts_when_its_input_is_known_and_ends_with_paths() {
        let (mut transcript, now) = transcript();
        transcript.update(
            update(json!({"sessionUpdate": "tool_call", "toolCallId": "1", "title": "edit",
                "kind": "edit", "status": "pending", "rawInput": {"cwd": "/workspace"}})),
            now,
        );
        assert_eq!(transcript.take(), []);
        transcript.update(
            update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "1",
                "status": "in_progress", "rawInput": {"filePath": "/workspace/a"}})),
            now,
        );
        transcript.update(
            update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "1",
                "status": "completed", "locations": [{"path": "/workspace/a"}],
                "content": [{"type": "content", "content": {"type": "text", "text": "done"}},
                    {"type": "diff", "path": "/workspace/b", "newText": "x"}]})),
            now,
        );
        let output = transcript.take();
        let [Output::Report(started), Output::Report(finished)] = &output[..] else {
            panic!("two reports: {output:?}");
        };
        assert!(
            matches!(started, Report::ToolCallStarted { tool: ToolKind::Edit, input, title, .. }
                if input["filePath"] == "/workspace/a" && title == "Edit a"),
            "{started:?}"
        );
        let Report::ToolCallFinished { output, paths, status, .. } = finished else {
            panic!("an end: {finished:?}");
        };
        assert_eq!((output.as_str(), *status), ("done", ToolStatus::Completed));
        assert_eq!(paths, &["b", "a"]);
    }

    #[test]
    fn a_to_do_list_is_the_plan() {
        let (mut transcript, now) = transcript();
        for status in ["in_progress", "completed", "completed"] {
            transcript.update(
                update(json!({"sessionUpdate": "tool_call_update", "toolCallId": "1",
                    "title": "todowrite", "status": status, "rawInput": {"todos": [
                        {"content": "look", "status": "completed", "priority": "high"},
                        {"content": "rest", "status": "cancelled", "priority": "low"},
                        {"content": "write", "status": "pending", "priority": "low"}]}})),
                now,
            );
        }
        let steps = vec![
            PlanStep { text: "look".into(), status: "completed".into() },
            PlanStep { text: "write".into(), status: "pending".into() },
        ];
        let prompt = transcript.prompt();
        assert_eq!(transcript.take(), [Output::Report(Report::Plan { prompt, steps })]);
        transcript.end(now);
        assert_eq!(transcript.take(), []);
    }

    #[test]
    fn a_bare_title_gets_the_main_argument() {
        let titled = |name: &str, input: Value| {
            let fields = ToolCallUpdateFields::new().title(name.to_owned()).raw_input(input);
            title(&fields, Path::new("/workspace"))
        };
        assert_eq!(titled("bash", json!({"command": "make test", "cwd": "/"})), "make test");
        assert_eq!(titled("read", json!({"filePath": "/workspace/src/a.rs"})), "Read src/a.rs");
        assert_eq!(titled("grep", json!({"path": "/workspace", "pattern": "x y"})), "Grep x y");
        assert_eq!(titled("Edit a", json!({"filePath": "/workspace/b"})), "Edit a");
        assert_eq!(titled("think", json!({})), "think");
    }

    #[test]
    fn a_call_without_an_answer_fails_with_the_prompt() {
        let (mut transcript, now) = transcript();
        transcript.update(
            update(json!({"sessionUpdate": "tool_call", "toolCallId": "1", "title": "run",
                "kind": "execute", "status": "in_progress"})),
            now,
        );
        transcript.end(now);
        assert!(matches!(
            transcript.take().last(),
            Some(Output::Report(Report::ToolCallFinished { status: ToolStatus::Failed, .. }))
        ));
    }
}
