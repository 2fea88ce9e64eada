//! What the model is told before anything else.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Where Hangar's own documentation lies in every sandbox.
const DOCUMENTATION: &str = "/opt/hangar/docs";
/// Files in which a repository speaks to agents; the first one found counts.
const FILES: [&str; 2] = ["AGENTS.md", "CLAUDE.md"];
/// So much of it is read.
const BYTES: usize = 32 * 1024;

/// What the repository says to agents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guidance {
    /// The file's name.
    pub file: &'static str,
    /// Its text, or the beginning of it.
    pub text: String,
}

/// Reads the repository's guidance. It is read anew for each prompt, because the first one may
/// arrive before the repository is in sync.
pub fn guidance(directory: &Path) -> Option<Guidance> {
    FILES.into_iter().find_map(|file| {
        let path = directory.join(file);
        if !path.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        let limit = BYTES as u64 + 1;
        File::open(path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
        let whole = String::from_utf8_lossy(&bytes);
        let mut text = crate::text::prefix(&whole, BYTES).to_owned();
        if whole.len() > BYTES {
            text.push_str("\n[cut here; read the file for the rest]");
        }
        Some(Guidance { file, text })
    })
}

/// The system prompt.
pub fn system_prompt(directory: &Path, guidance: Option<&Guidance>, extra: &str) -> String {
    let mut prompt = format!(
        "You are a coding agent working in the background for a team, in a sandbox of the platform \
         Hangar. Nobody watches every step, and nobody can answer a question before you stop: work on \
         until the task is done, make sensible decisions, and name them at the end.\n\
         \n\
         The repository is in {directory}; relative paths start there. You run as root in a sandbox of \
         your own, so nothing you do can harm anything outside, and there is no network except through \
         the configured proxy, which may refuse and says why.\n\
         \n\
         How to work:\n\
         - Look before you change: search and read the code around the task, and follow its style and \
           conventions.\n\
         - Make the smallest change that does the whole task. Do not reformat or rename what is not part \
           of it.\n\
         - Prefer edit to write for files that exist. Use search and list rather than shell commands for \
           looking around. Several independent calls can go into one answer.\n\
         - Run the tests, the build or the linter if the repository has them, and repair what you broke.\n\
         - When a tool fails, read its message and try something else; do not repeat the same call.\n\
         - Do not commit, push or open pull requests unless asked: the platform commits your changes in \
           the name of the person who asked, pushes them and opens the pull request.\n\
         - Write no secrets into files, and do not look for any.\n\
         - At the end say in a few plain sentences what you changed, how you checked it, and what is left \
           open.\n\
         \n\
         Questions about Hangar itself are answered by its documentation in {DOCUMENTATION}; read it \
         there instead of guessing.",
        directory = directory.display(),
    );
    if !extra.trim().is_empty() {
        prompt.push_str("\n\n");
        prompt.push_str(extra.trim());
    }
    if let Some(Guidance { file, text }) = guidance {
        prompt.push_str("\n\nThe repository's own instructions, from its ");
        prompt.push_str(file);
        prompt.push_str(":\n\n");
        prompt.push_str(text);
    }
    prompt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_heard_within_bounds() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(guidance(directory.path()), None);
        std::fs::write(directory.path().join("CLAUDE.md"), "ä".repeat(BYTES)).expect("written");
        let long = guidance(directory.path()).expect("found");
        assert!(long.text.len() < BYTES + 100 && long.text.ends_with("for the rest]"));
        std::fs::write(directory.path().join("AGENTS.md"), "Use tabs.").expect("written");
        let found = guidance(directory.path()).expect("found");
        assert_eq!((found.file, found.text.as_str()), ("AGENTS.md", "Use tabs."));
    }

    #[test]
    fn everything_there_is_to_say_is_in_the_prompt() {
        let guidance = Guidance { file: "AGENTS.md", text: "Use tabs.".into() };
        let prompt = system_prompt(Path::new("/workspace"), Some(&guidance), "Be brief.");
        for part in ["/workspace", DOCUMENTATION, "Be brief.", "from its AGENTS.md:\n\nUse tabs."] {
            assert!(prompt.contains(part), "{part}");
        }
    }
}
