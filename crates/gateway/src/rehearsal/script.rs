//! Scripts in a prompt, for tests: `@@ write PATH CONTENT ;; bash COMMAND ;; say TEXT @@END`.
//!
//! Which step comes next follows from the number of tool results since the prompt. Steps are
//! `write PATH CONTENT` (`\n` in CONTENT is a line break), `bash COMMAND`, `read PATH`,
//! `tool NAME JSON`, `say TEXT`, `recall WORD` (says whether an earlier prompt holds it), `slow
//! PIECES MILLISECONDS`, and the faults `fail STATUS [TIMES]`, `drop [TIMES]` and `nonsense
//! [TIMES]`, which happen so often (once) and then not again. A step that is no call belongs to
//! the next call, or to the end.

use std::time::Duration;

use super::{Answer, Call, Conversation, Fault, Slow, tools};

/// Faults of one kind at one step at most.
const TIMES: usize = 1000;

/// The script in a prompt, if it holds one; the last of several, because agents send a prompt that
/// was never answered again, before the next one.
pub(crate) fn of(prompt: &str) -> Option<&str> {
    prompt.rsplit("@@END").find_map(|part| part.split_once("@@").map(|(_, script)| script))
}

/// The answer at the step the conversation has reached.
pub(crate) fn next(script: &str, conversation: &Conversation) -> Answer {
    let done = conversation.results().len();
    let mut calls = 0;
    let mut answer = Answer::default();
    for step in script.split(";;").map(str::trim).filter(|step| !step.is_empty()) {
        match read(step, conversation) {
            Err(reason) => {
                return Answer::say(format!("The script cannot go on at `{step}`: {reason}."));
            }
            Ok(Step::Call(call)) if calls == done => {
                answer.calls.push(call);
                return answer;
            }
            Ok(Step::Call(_)) => {
                calls += 1;
                answer = Answer::default();
            }
            Ok(Step::Say(text)) => {
                if !answer.text.is_empty() {
                    answer.text.push('\n');
                }
                answer.text.push_str(&text);
            }
            Ok(Step::Slow(slow)) => answer.slow = Some(slow),
            Ok(Step::Fault(fault, times)) => {
                answer.faults.extend(std::iter::repeat_n(fault, times));
            }
        }
    }
    if answer.text.is_empty() {
        "The script is finished.".clone_into(&mut answer.text);
    }
    answer
}

enum Step {
    Call(Call),
    Say(String),
    Slow(Slow),
    Fault(Fault, usize),
}

fn read(step: &str, conversation: &Conversation) -> Result<Step, String> {
    let (verb, rest) = word(step);
    let offered = |call: Option<Call>| {
        call.map(Step::Call).ok_or_else(|| format!("the agent offers no tool for `{verb}`"))
    };
    match verb {
        "write" => {
            let (path, content) = word(rest);
            offered(tools::write(conversation, path, &content.replace("\\n", "\n")))
        }
        "read" => offered(tools::read(conversation, rest)),
        "bash" => offered(tools::shell(conversation, rest, "Run a scripted command")),
        "tool" => {
            let (name, json) = word(rest);
            let json = if json.is_empty() { "{}" } else { json };
            let arguments = serde_json::from_str(json)
                .map_err(|error| format!("its arguments are no JSON: {error}"))?;
            // Not checked against the offered tools: scripts also call unknown ones.
            Ok(Step::Call(Call { name: name.to_owned(), arguments }))
        }
        "say" => Ok(Step::Say(rest.to_owned())),
        "recall" => {
            let known = conversation.earlier_prompts().any(|prompt| prompt.contains(rest));
            let not = if known { "" } else { " not" };
            Ok(Step::Say(format!("I do{not} recall {rest}.")))
        }
        "slow" => {
            let (pieces, pause) = word(rest);
            let pieces = number(pieces)?;
            let pause = Duration::from_millis(u64::from(number(pause)?));
            Ok(Step::Slow(Slow { pieces, pause }))
        }
        "fail" => {
            let (status, count) = word(rest);
            let status = status
                .parse()
                .ok()
                .filter(|status| (400..600).contains(status))
                .ok_or("it needs a status from 400 to 599")?;
            Ok(Step::Fault(Fault::Status(status), times(count)?))
        }
        "drop" => Ok(Step::Fault(Fault::Cut, times(rest)?)),
        "nonsense" => Ok(Step::Fault(Fault::Nonsense, times(rest)?)),
        _ => Err("there is no such step".to_owned()),
    }
}

fn word(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (first, rest.trim_start())
}

fn number(text: &str) -> Result<u32, String> {
    text.trim().parse().map_err(|_| format!("`{text}` is no number"))
}

fn times(text: &str) -> Result<usize, String> {
    if text.is_empty() { Ok(1) } else { number(text).map(|count| (count as usize).min(TIMES)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_script_counts() {
        assert_eq!(of("no script"), None);
        assert_eq!(of("please @@ say a"), Some(" say a"));
        assert_eq!(of("@@ say a @@END and more"), Some(" say a "));
        assert_eq!(of("@@ fail 400 @@END\n@@ say b @@ c @@END"), Some(" say b @@ c "));
    }
}
