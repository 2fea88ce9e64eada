//! Chooses the repository's own check from the files it has.

use super::look::Seen;
use super::tools::quoted;

/// What stands before the exit code in the check's output.
const MARK: &str = "check exit code: ";

/// The command that checks this repository, and why it was chosen.
pub(crate) fn choose(seen: &Seen) -> (String, &'static str) {
    if let Some(command) = from_settings(&seen.settings) {
        return (command, "hangar.toml names it");
    }
    let has_script = seen.scripts.iter().any(|line| {
        line.trim_start().starts_with("\"test\"") && !line.contains("no test specified")
    });
    let has_target = |name: &str| {
        seen.scripts.iter().any(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(':'))
        })
    };
    let python = seen.has("pyproject.toml") || seen.has("setup.py") || seen.has("setup.cfg");
    let python_tests = seen.has("tests/")
        && seen.tracked.iter().any(|name| {
            std::path::Path::new(name).extension().is_some_and(|extension| extension == "py")
        });
    let (command, why) = if seen.has("package.json") && has_script {
        ("npm test --silent", "package.json has a test script")
    } else if seen.has("Cargo.toml") {
        ("cargo test --offline --quiet", "there is a Cargo.toml")
    } else if seen.has("go.mod") {
        ("go test ./...", "there is a go.mod")
    } else if python || python_tests {
        (
            "if python3 -c 'import pytest' 2>/dev/null; then python3 -m pytest -q; \
             else python3 -m unittest; fi",
            "it is a Python project",
        )
    } else if has_target("test") {
        ("make test", "the Makefile has a test target")
    } else if has_target("check") {
        ("make check", "the Makefile has a check target")
    } else {
        ("git diff --stat", "the repository has no test command that I know")
    };
    (command.to_owned(), why)
}

/// `[commands] test` of a `hangar.toml`; text that is none names nothing.
fn from_settings(text: &str) -> Option<String> {
    let settings: toml::Table = text.parse().ok()?;
    let command = settings.get("commands")?.get("test")?.as_str()?.trim();
    (!command.is_empty()).then(|| command.to_owned())
}

/// The command in a minute's limit, followed by its exit code and what git sees as changed.
pub(crate) fn wrapped(command: &str) -> String {
    format!(
        "{{ timeout -k 5 60 sh -c {} 2>&1; echo \"{MARK}$?\"; }} | tail -n 60; \
         git status --short | head -n 20",
        quoted(command)
    )
}

/// The exit code in the check's output.
pub(crate) fn exit_code(output: &str) -> Option<i32> {
    let line = output.lines().rev().find_map(|line| line.trim().strip_prefix(MARK))?;
    line.trim().parse().ok()
}

/// The files git listed as changed, after the exit code.
pub(crate) fn changed(output: &str) -> impl Iterator<Item = &str> {
    let listed = output.rsplit_once(MARK).map_or("", |(_, listed)| listed);
    listed
        .lines()
        .skip(1)
        .filter_map(|line| line.trim().split_once(' ').map(|(_, name)| name.trim()))
}

/// An exit code in words.
pub(crate) fn meaning(code: Option<i32>) -> String {
    match code {
        Some(0) => "exit code 0 (passed)".to_owned(),
        Some(124 | 137) => "stopped after 60 seconds, unfinished".to_owned(),
        Some(127) => "exit code 127 (a program is missing in this sandbox)".to_owned(),
        Some(code) => format!("exit code {code} (failed)"),
        None => "its exit code could not be seen".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(entries: &str, scripts: &str, settings: &str) -> Seen {
        Seen {
            entries: entries.split_whitespace().map(str::to_owned).collect(),
            tracked: vec!["tests/a.py".to_owned()],
            scripts: scripts.lines().map(str::to_owned).collect(),
            settings: settings.to_owned(),
            ..Seen::default()
        }
    }

    #[test]
    fn the_check_fits_the_repository() {
        let settings = "[commands]\ntest = \"just t\"\n";
        for (entries, scripts, settings, expected) in [
            ("Cargo.toml hangar.toml", "", settings, "just t"),
            ("Cargo.toml hangar.toml", "", "[commands\n", "cargo test --offline --quiet"),
            ("Cargo.toml", "", "commands = 3", "cargo test --offline --quiet"),
            ("package.json", "  \"test\": \"vitest\",", "", "npm test --silent"),
            (
                "package.json",
                "  \"test\": \"echo \\\"Error: no test specified\\\" && exit 1\"",
                "",
                "git diff --stat",
            ),
            ("go.mod Makefile", "test: build", "", "go test ./..."),
            ("Makefile", "test: build", "", "make test"),
            ("Makefile", "check:", "", "make check"),
            ("README.md", "", "", "git diff --stat"),
        ] {
            assert_eq!(choose(&seen(entries, scripts, settings)).0, expected, "{entries}");
        }
        for entries in ["pyproject.toml", "setup.py Makefile", "tests/"] {
            let command = choose(&seen(entries, "", "")).0;
            assert!(command.contains("python3 -m pytest -q"), "{entries}: {command}");
        }
    }

    #[test]
    fn the_exit_code_is_the_commands_own() {
        for (command, expected) in
            [("true", 0), ("echo 'it'\"'\"'s'; exit 3", 3), ("no-such-program-here", 127)]
        {
            let output = std::process::Command::new("sh")
                .args(["-c", &wrapped(command)])
                .output()
                .expect("there is a shell");
            let text = String::from_utf8_lossy(&output.stdout);
            assert_eq!(exit_code(&text), Some(expected), "{text}");
        }
        assert_eq!(exit_code("nothing"), None);
    }
}
