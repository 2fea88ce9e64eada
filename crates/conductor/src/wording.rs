//! The texts Hangar writes in people's names: titles, branches, commit messages, pull requests.

use protocol::{PromptId, SessionId};

/// Characters of the readable part of a branch at most.
const SLUG_CHARACTERS: usize = 32;

/// The branch of a session: `hangar/<short id>-<words of the title>`.
pub(crate) fn branch(session: SessionId, title: &str) -> String {
    let mut slug = String::new();
    for character in title.chars() {
        if slug.len() >= SLUG_CHARACTERS {
            break;
        }
        if character.is_ascii_alphanumeric() {
            slug.push(character.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() {
        branch_prefix(session)
    } else {
        format!("{}-{slug}", branch_prefix(session))
    }
}

/// What every branch of a session begins with; the gateway refuses to push any other.
pub(crate) fn branch_prefix(session: SessionId) -> String {
    format!("hangar/{}", session.short())
}

/// The first line of the commit for a prompt.
pub(crate) fn commit_subject(prompt: &str) -> String {
    session::title(prompt)
}

/// The body of the commit for a prompt: the prompt itself, wrapped only where its author broke it.
pub(crate) fn commit_body(prompt: &str) -> String {
    let text = printable(prompt);
    let limit = 4000;
    if text.chars().count() <= limit {
        text
    } else {
        let cut: String = text.chars().take(limit).collect();
        format!("{cut}\n[…]")
    }
}

/// The body of a session's pull request.
pub(crate) fn pull_request_body(
    session: SessionId,
    asked: &[(PromptId, &str)],
    answer: Option<&str>,
) -> String {
    let mut body = String::new();
    for (_, text) in asked {
        for line in printable(text).lines().take(40) {
            body.push_str("> ");
            body.push_str(line);
            body.push('\n');
        }
        body.push('\n');
    }
    if let Some(answer) = answer {
        body.push_str(printable(answer).trim());
        body.push_str("\n\n");
    }
    body.push_str("---\n");
    body + &format!("Made with Hangar in session `{session}`.\n")
}

/// The text without control characters other than line ends and tabs.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

/// What an agent is told about where it is.
///
/// `blocked_commands` are a hint: a model may overlook them, and a program that it starts never
/// hears of them.
pub(crate) fn instructions(
    repository: &str,
    branch: &str,
    test: Option<&str>,
    blocked_commands: &[String],
) -> String {
    let mut text = format!(
        "You work in a Hangar sandbox on the repository {repository}, checked out at /workspace on \
         the branch {branch}. Change the files there. When you are done, Hangar commits everything \
         that changed in the name of the person who asked, pushes the branch and opens a pull \
         request: do not commit, push or open one yourself. There is no network but the gateway; \
         a refused request says why. Hangar's own documentation is in /opt/hangar/docs.\n"
    );
    if let Some(test) = test {
        text = text + "To check your work, run: " + test + "\n";
    }
    if !blocked_commands.is_empty() {
        text.push_str("blocked_commands: do not run these, in any spelling:\n");
        for command in blocked_commands {
            text = text + "- " + &printable(command) + "\n";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branches_are_valid_for_git_whatever_the_title() {
        let session = SessionId::from_bytes([7; 16]);
        assert_eq!(branch(session, "Fix: the  login!"), "hangar/07070707-fix-the-login");
        assert_eq!(branch(session, "修复"), "hangar/07070707");
        assert_eq!(branch(session, "..//~^:?*[\\"), "hangar/07070707");
        assert!(branch(session, &"x".repeat(500)).len() < 60);
    }

    #[test]
    fn an_agent_is_told_what_not_to_run() {
        let blocked = ["git push".to_owned(), "terraform apply".to_owned()];
        let text = instructions("local/x", "hangar/1", Some("make check"), &blocked);
        let end = "To check your work, run: make check\n\
                   blocked_commands: do not run these, in any spelling:\n\
                   - git push\n- terraform apply\n";
        assert!(text.ends_with(end), "{text}");
        assert!(!instructions("local/x", "hangar/1", None, &[]).contains("blocked_commands"));
    }

    #[test]
    fn a_pull_request_quotes_what_was_asked() {
        let body = pull_request_body(
            SessionId::from_bytes([1; 16]),
            &[(PromptId::from_bytes([2; 16]), "Do this\nand \u{7}that")],
            Some("Done."),
        );
        assert!(body.starts_with("> Do this\n> and that\n\nDone.\n"), "{body}");
    }
}
