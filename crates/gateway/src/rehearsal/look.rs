//! The rehearsal's first step: one command that shows what a repository holds, and its reading.

/// Shows entries, tracked files, settings, test scripts and the end of the notes file.
///
/// The notes file is `README.md`, or `NOTES.md` where there is none; its last line and how often
/// that occurs tell whether an edit can hold on to it. A line that ends in a carriage return is
/// made to occur nowhere, because its end is not shown. No `$(…)`: one agent refuses it.
pub(crate) const COMMAND: &str = concat!(
    "echo '--- directory'; pwd; ",
    "echo '--- entries'; ls -AF | head -n 200; ",
    "echo '--- tracked'; git ls-files | head -n 60; ",
    "echo '--- hangar.toml'; cat hangar.toml 2>/dev/null | head -c 4000; echo; ",
    "echo '--- scripts'; grep -s '\"test\" *:' package.json; grep -sE '^(test|check) *:' Makefile; ",
    "f=README.md; test -e $f || f=NOTES.md; ",
    "echo '--- last line'; tail -n 1 $f 2>/dev/null | head -c 300; echo; ",
    "echo '--- occurrences'; tail -n 1 $f 2>/dev/null | tr '\\r' '\\a' | grep -sacF -f - $f; ",
    "echo '--- end'"
);

/// What the command showed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) directory: String,
    pub(crate) entries: Vec<String>,
    pub(crate) tracked: Vec<String>,
    pub(crate) settings: String,
    pub(crate) scripts: Vec<String>,
    pub(crate) last_line: String,
    pub(crate) occurrences: u32,
}

impl Seen {
    /// Reads the output, whatever an agent put around it.
    pub(crate) fn read(output: &str) -> Self {
        let section = |name: &str| -> Vec<String> {
            output
                .lines()
                .skip_while(|line| line.strip_prefix("--- ") != Some(name))
                .skip(1)
                .take_while(|line| !line.starts_with("--- "))
                .map(str::to_owned)
                .collect()
        };
        let first = |name: &str| section(name).into_iter().next().unwrap_or_default();
        Self {
            directory: first("directory").trim().to_owned(),
            entries: section("entries"),
            tracked: section("tracked"),
            settings: section("hangar.toml").join("\n"),
            scripts: section("scripts"),
            last_line: first("last line"),
            occurrences: first("occurrences").trim().parse().unwrap_or(0),
        }
    }

    /// Whether the repository's root holds this entry; directories end with `/`.
    pub(crate) fn has(&self, name: &str) -> bool {
        // An executable file is marked with a star. A link, marked with `@`, may lead anywhere
        // and does not count.
        self.entries.iter().any(|entry| entry.strip_suffix('*').unwrap_or(entry) == name)
    }

    /// The path for agents that want absolute ones.
    pub(crate) fn path(&self, name: &str) -> String {
        if self.directory.starts_with('/') {
            format!("{}/{name}", self.directory.trim_end_matches('/'))
        } else {
            name.to_owned()
        }
    }

    /// The file to write to, and whether it exists.
    pub(crate) fn notes(&self) -> (&'static str, bool) {
        if self.has("README.md") { ("README.md", true) } else { ("NOTES.md", self.has("NOTES.md")) }
    }

    /// The notes file's last line, if an edit can find it there and nowhere else.
    pub(crate) fn anchor(&self) -> Option<&str> {
        let line = self.last_line.as_str();
        // A longer line may have been cut.
        let usable = self.occurrences == 1
            && (1..250).contains(&line.len())
            && !line.trim().is_empty()
            && !line.chars().any(|letter| letter.is_control() || letter == '\u{fffd}');
        usable.then_some(line)
    }

    /// A file worth reading first: the README, else source, else anything with a plain name.
    pub(crate) fn interesting(&self) -> Option<String> {
        let files: Vec<&String> = self.tracked.iter().filter(|name| is_plain(name)).collect();
        let readme = |name: &&&String| {
            name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("readme"))
                && !name.contains('/')
        };
        let source = |name: &&&String| {
            let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
            matches!(
                extension,
                "rs" | "py"
                    | "js"
                    | "ts"
                    | "tsx"
                    | "go"
                    | "java"
                    | "c"
                    | "cc"
                    | "cpp"
                    | "h"
                    | "rb"
                    | "php"
                    | "sh"
                    | "swift"
                    | "kt"
                    | "md"
            )
        };
        let found = files.iter().find(readme).or_else(|| files.iter().find(source));
        found.or_else(|| files.first()).map(|name| (*name).clone())
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte))
}
