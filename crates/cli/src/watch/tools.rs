//! Calls of tools: one line when they end, with the end of what a command printed.

use protocol::event::{ToolKind, ToolStatus};
use protocol::{Timestamp, ToolCallId};

use super::Waiting;
use crate::style::{Style, Tone};
use crate::{escape, format};

/// Lines of a command's output that are shown; the end says most.
const OUTPUT_LINES: usize = 12;
/// Characters of one such line.
const OUTPUT_WIDTH: usize = 160;
/// Characters of a command that is shown even if the agent says what it is for.
const COMMAND_WIDTH: usize = 80;
/// Characters of a tool call's title.
const TITLE_WIDTH: usize = 120;

/// The calls that have begun and not ended, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tools {
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    call: ToolCallId,
    /// What it does, beginning with a word for that.
    title: String,
    kind: ToolKind,
    since: Timestamp,
    /// The last line it printed.
    printed: String,
}

impl Tools {
    pub(super) fn start(&mut self, call: ToolCallId, title: &str, kind: ToolKind, at: Timestamp) {
        let title = escape::cut(&with_word(kind, &escape::line(title.trim())), TITLE_WIDTH);
        self.running.push(Running { call, title, kind, since: at, printed: String::new() });
    }

    /// Takes in what a running tool prints; deltas do not say which, the newest is most likely.
    pub(super) fn print(&mut self, text: &str) {
        let Some(tool) = self.running.last_mut() else { return };
        if let Some(line) = text.lines().rev().find(|line| !line.trim().is_empty()) {
            tool.printed = escape::cut(&escape::line(line.trim()), OUTPUT_WIDTH);
        }
    }

    /// What the newest running tool does.
    pub(super) fn current(&self) -> Option<Waiting> {
        let tool = self.running.last()?;
        let printed = if tool.printed.is_empty() { "" } else { " │ " };
        let what = format!("{}{printed}{}", tool.title, tool.printed);
        Some(Waiting { what, since: tool.since })
    }

    /// Lines for the end of a call.
    pub(super) fn finish(&mut self, style: Style, end: &End<'_>) -> Vec<String> {
        let place = self.running.iter().position(|tool| tool.call == end.call);
        // A reader that came late has not seen the beginning.
        let tool = place.map(|place| self.running.remove(place));
        let kind = tool.as_ref().map_or(ToolKind::Other, |tool| tool.kind);
        let title = tool.as_ref().map_or("tool (began earlier)", |tool| tool.title.as_str());
        let time = tool.as_ref().map(|tool| format::between(tool.since, end.at));
        let time = time.map(|time| format!(" ({})", format::duration(time))).unwrap_or_default();
        let (tone, mark) = match end.status {
            ToolStatus::Completed => (Tone::Good, "✓"),
            ToolStatus::Failed => (Tone::Bad, "✗"),
        };
        let mark = style.paint(tone, mark);
        let time = style.paint(Tone::Faint, &time);
        let mut lines = vec![format!("{mark} {title}{time}")];
        lines.extend(changed(end.paths, title));
        if kind == ToolKind::Execute || end.status == ToolStatus::Failed {
            lines.extend(output(end.output).iter().map(|line| style.paint(Tone::Faint, line)));
        }
        lines
    }

    /// Forgets calls that can no longer end.
    pub(super) fn clear(&mut self) {
        self.running.clear();
    }
}

/// The end of one call.
#[derive(Debug)]
pub(super) struct End<'a> {
    pub(super) call: ToolCallId,
    pub(super) at: Timestamp,
    pub(super) status: ToolStatus,
    pub(super) output: &'a str,
    pub(super) paths: &'a [String],
}

/// What a call is about: its title, or where that is a bare word like `bash`, its main argument, or
/// what the agent says a long command is for.
pub(super) fn title<'a>(title: &'a str, input: &'a serde_json::Value) -> &'a str {
    let long = title.contains('\n') || title.chars().count() > COMMAND_WIDTH;
    if let (true, Some(purpose)) = (long, input.get("description").and_then(|text| text.as_str())) {
        return purpose;
    }
    if title.trim().contains(char::is_whitespace) {
        return title;
    }
    let names = ["command", "file_path", "filePath", "path", "pattern"];
    names.iter().find_map(|name| input.get(name)?.as_str()).unwrap_or(title)
}

/// A title that says itself what is done, `Read a.rs`, needs no word before it.
fn with_word(kind: ToolKind, title: &str) -> String {
    let (first, rest) = title.split_once(' ').unwrap_or((title, ""));
    let verb = first.to_lowercase();
    let said = ["read", "edit", "write", "search", "list", "grep", "glob", "fetch", "patch"];
    if kind != ToolKind::Execute && !rest.is_empty() && said.contains(&verb.as_str()) {
        return format!("{verb} {rest}");
    }
    format!("{} {title}", word(kind))
}

fn word(kind: ToolKind) -> &'static str {
    match kind {
        ToolKind::Read => "read",
        ToolKind::Edit => "edit",
        ToolKind::Search => "search",
        ToolKind::Execute => "run",
        ToolKind::Fetch => "fetch",
        ToolKind::Think => "think",
        ToolKind::Other => "tool",
    }
}

/// The files a tool says it changed, unless its title says so already.
fn changed(paths: &[String], title: &str) -> Vec<String> {
    let news = paths.iter().map(|path| escape::line(path)).filter(|path| !title.contains(path));
    news.map(|path| format!("    changed {path}")).collect()
}

/// The end of what was printed, indented and bounded.
fn output(text: &str) -> Vec<String> {
    let escaped = escape::text(text.trim_end());
    let lines: Vec<&str> = escaped.lines().collect();
    let hidden = lines.len().saturating_sub(OUTPUT_LINES);
    let shown = lines[hidden..].iter();
    let mut bounded = Vec::new();
    if hidden > 0 {
        let plural = if hidden == 1 { "" } else { "s" };
        bounded.push(format!("    │ … {hidden} line{plural} before"));
    }
    let indented = |line: &&str| format!("    │ {}", escape::cut(line, OUTPUT_WIDTH));
    bounded.extend(shown.map(indented).map(|line| line.trim_end().to_owned()));
    bounded
}
