//! What the rehearsal does with an ordinary prompt: look, read, edit, check, report.

use super::look::{self, Seen};
use super::{Answer, Call, Conversation, check, tools};

/// Ends every entry, so that a later one is put into the same list.
const ENTRY_END: &str = " (rehearsal: no model was asked)";
const HEADING: &str = "## Rehearsal notes";
/// Characters of the prompt that are quoted.
const QUOTED: usize = 120;

pub(crate) fn next(conversation: &Conversation) -> Answer {
    let mut results = conversation.results().into_iter();
    let Some(look) = tools::shell(conversation, look::COMMAND, "Look at the repository") else {
        let names: Vec<&str> = conversation.tools.iter().map(|tool| tool.name.as_str()).collect();
        return Answer::say(format!(
            "This is a rehearsal: no model was asked. The script needs a shell tool and knows none \
             of these: {}. Nothing was changed.",
            names.join(", ")
        ));
    };
    let Some((output, _)) = results.next() else {
        return step(
            "This is a rehearsal: a script answers, no model is asked. It looks at the repository, \
             makes one small change and runs the repository's own check.",
            look,
        );
    };
    let seen = Seen::read(output);
    if let Some(name) = seen.interesting()
        && let Some(call) = tools::read(conversation, &seen.path(&name))
        && results.next().is_none()
    {
        return step(&format!("I read {name} first."), call);
    }
    let change = Change::plan(conversation, &seen);
    let Some(edit) = change.call(conversation, &seen) else {
        return finish(conversation, &seen, &change, &mut results);
    };
    let Some((output, failed)) = results.next() else {
        return step(&change.announcement(), edit);
    };
    if change.by_tool(conversation, &seen)
        && (failed || sounds_refused(output))
        && let Some(append) = change.append(conversation)
        && results.next().is_none()
    {
        return step("The edit was not taken; I append through the shell instead.", append);
    }
    finish(conversation, &seen, &change, &mut results)
}

fn finish<'a>(
    conversation: &Conversation,
    seen: &Seen,
    change: &Change,
    results: &mut impl Iterator<Item = (&'a str, bool)>,
) -> Answer {
    let (command, why) = check::choose(seen);
    let call = tools::shell(conversation, &check::wrapped(&command), "Run the check");
    match (results.next(), call) {
        (None, Some(call)) => step(&format!("Now the check: `{command}`, because {why}."), call),
        (output, _) => Answer::say(summary(change, &command, output.map_or("", |(text, _)| text))),
    }
}

fn step(text: &str, call: Call) -> Answer {
    Answer { text: text.to_owned(), calls: vec![call], ..Answer::default() }
}

fn summary(change: &Change, command: &str, output: &str) -> String {
    let code = check::exit_code(output);
    let listed = check::changed(output).any(|name| name == change.name);
    let changed = if listed {
        format!("added a note to `{}`", change.name)
    } else {
        format!("tried to add a note to `{}`, but git lists no change of it", change.name)
    };
    format!(
        "Rehearsal finished.\n\n- Change: {changed}.\n- Check: `{command}`: {}.\n- This was a \
         rehearsal: a script answered, no model was asked. Give the server a model key for real \
         work.",
        check::meaning(code)
    )
}

/// Whether a result reads like a refusal; one dialect does not mark errors.
fn sounds_refused(output: &str) -> bool {
    // Only the first line: what follows may be the file's own words.
    let start = output.trim_start().lines().next().unwrap_or_default().to_lowercase();
    ["error", "fail", "not found", "denied", "refused", "could not", "cannot", "no match"]
        .iter()
        .any(|word| start.contains(word))
}

/// The note to add.
struct Change {
    name: &'static str,
    exists: bool,
    anchor: Option<String>,
    lines: Vec<String>,
}

impl Change {
    fn plan(conversation: &Conversation, seen: &Seen) -> Self {
        let (name, exists) = seen.notes();
        let anchor = seen.anchor().filter(|_| exists).map(str::to_owned);
        let entry = format!("- {}{ENTRY_END}", quote(conversation.prompt()));
        let continues = anchor.as_ref().is_some_and(|line| line.ends_with(ENTRY_END));
        let lines = match (continues, exists) {
            (true, _) => vec![entry],
            (false, true) => vec![String::new(), HEADING.to_owned(), String::new(), entry],
            (false, false) => vec![HEADING.to_owned(), String::new(), entry],
        };
        Self { name, exists, anchor, lines }
    }

    fn announcement(&self) -> String {
        let verb = if self.exists { "add a note to" } else { "create" };
        format!("I {verb} {}, quoting the prompt's first line.", self.name)
    }

    fn with_tool(&self, conversation: &Conversation, seen: &Seen) -> Option<Call> {
        let (path, text) = (seen.path(self.name), self.lines.join("\n"));
        if !self.exists {
            return tools::write(conversation, &path, &format!("{text}\n"));
        }
        let anchor = self.anchor.as_deref()?;
        tools::edit(conversation, &path, anchor, &format!("{anchor}\n{text}"))
    }

    fn by_tool(&self, conversation: &Conversation, seen: &Seen) -> bool {
        self.with_tool(conversation, seen).is_some()
    }

    fn call(&self, conversation: &Conversation, seen: &Seen) -> Option<Call> {
        self.with_tool(conversation, seen).or_else(|| self.append(conversation))
    }

    /// Appends with the shell, after ending an unfinished last line.
    fn append(&self, conversation: &Conversation) -> Option<Call> {
        let file = tools::quoted(self.name);
        let lines: Vec<String> = self.lines.iter().map(|line| tools::quoted(line)).collect();
        let command = format!(
            "tail -c 1 {file} 2>/dev/null | LC_ALL=C grep -qa . && echo >> {file}; \
             printf '%s\\n' {} >> {file} && tail -n 5 {file}",
            lines.join(" ")
        );
        tools::shell(conversation, &command, "Append a note")
    }
}

/// The prompt's first line as harmless text: bounded, one line, without markup or control
/// characters.
fn quote(prompt: &str) -> String {
    let line = prompt.lines().find(|line| !line.trim().is_empty()).unwrap_or("(an empty prompt)");
    let clean: String = line
        .chars()
        .map(|letter| if letter.is_control() || is_invisible(letter) { ' ' } else { letter })
        .filter(|letter| !matches!(letter, '`' | '<' | '>' | '[' | ']' | '\\' | '*' | '_' | '|'))
        .collect();
    let words = clean.split_whitespace().collect::<Vec<_>>().join(" ");
    // One agent's command line puts the prompt in quotes.
    let words = words.trim_matches('"');
    let short: String = words.chars().take(QUOTED).collect();
    if short.len() < words.len() { format!("{short}…") } else { short }
}

/// Characters that turn text around or hide it.
fn is_invisible(letter: char) -> bool {
    matches!(letter, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
