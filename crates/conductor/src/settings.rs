//! What a repository says about itself in `hangar.toml`.

use protocol::amount::{self, ParseAmountError};
use protocol::sandbox::{Isolation, LimitRequest};
use serde::{Deserialize, Deserializer};

/// The file's name, at the root of the repository.
pub const FILE: &str = "hangar.toml";
/// Commands one repository can ask its agents not to run.
pub(crate) const BLOCKED_COMMANDS: usize = 100;
/// Bytes of one of them.
pub(crate) const BLOCKED_COMMAND_BYTES: usize = 200;

/// The contents of `hangar.toml`; every part may be missing.
///
/// The file comes from the repository and is untrusted: it can say what runs inside a sandbox, ask
/// for limits within the server's and for a stronger wall, and nothing about what the sandbox may
/// reach.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Commands people and agents use.
    #[serde(default)]
    pub commands: Commands,
    /// What its sandboxes should be like.
    #[serde(default)]
    pub sandbox: Sandbox,
    /// What its agents should know.
    #[serde(default)]
    pub agent: Agent,
}

/// Commands of the repository, each run by a shell in the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Commands {
    /// Shows whether the repository is in order, in a minute or less.
    pub test: Option<String>,
}

/// What a repository wishes for its sandboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sandbox {
    /// What images stand on: `host`, or an image in a registry. Never a path of the server's.
    #[serde(default, deserialize_with = "base")]
    pub base: Option<String>,
    /// At least this wall.
    #[serde(default, deserialize_with = "isolation")]
    pub isolation: Option<Isolation>,
    #[serde(default, deserialize_with = "bytes")]
    memory: Option<u64>,
    #[serde(default, deserialize_with = "millicores")]
    cpus: Option<u32>,
    #[serde(default)]
    pids: Option<u32>,
    #[serde(default, deserialize_with = "bytes")]
    disk: Option<u64>,
    #[serde(default, deserialize_with = "seconds")]
    run_time: Option<u64>,
}

impl Sandbox {
    /// The limits it wishes.
    pub fn limits(&self) -> LimitRequest {
        LimitRequest {
            memory_bytes: self.memory,
            cpu_millicores: self.cpus,
            pids: self.pids,
            disk_bytes: self.disk,
            run_seconds: self.run_time,
            egress_bits_per_second: None,
        }
    }
}

/// What a repository wishes of its agents.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// Commands they are asked not to run. A hint to the model and no wall.
    #[serde(default, deserialize_with = "blocked_commands")]
    pub blocked_commands: Vec<String>,
}

/// `hangar.toml` that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("reading {FILE} of the repository: {0}; see docs/guide/configuration.md")]
pub struct Error(String);

impl Settings {
    /// The settings in the text of a `hangar.toml`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| Error(error.message().to_owned()))
    }
}

/// Why a text cannot be a base image, if it cannot; `local` says whether paths of the server may be
/// named.
pub(crate) fn base_problem(text: &str, local: bool) -> Option<String> {
    let path = text.strip_prefix("oci:").or_else(|| text.strip_prefix("archive:"));
    if let Some(path) = path {
        return match (local, path.starts_with('/')) {
            (false, _) => Some(format!(
                "the base `{text}` is a path on the server: only the server's own settings of the repository can name one"
            )),
            (true, false) => Some(format!("the base `{text}` needs an absolute path")),
            (true, true) => None,
        };
    }
    let good = |byte: u8| byte.is_ascii_alphanumeric() || b"./:@_-".contains(&byte);
    let reference = text.bytes().all(good)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.len() <= 512;
    (!reference).then(|| {
        format!(
            "the base `{text}` is no image: write `host` or one as in `registry.example.com/debian:12`"
        )
    })
}

/// Why a text cannot be a command that agents are asked not to run.
pub(crate) fn blocked_command_problem(command: &str) -> Option<String> {
    if command.trim().is_empty() {
        Some("a blocked command is empty".to_owned())
    } else if command.len() > BLOCKED_COMMAND_BYTES || command.contains(char::is_control) {
        Some(format!(
            "a blocked command is one line of at most {BLOCKED_COMMAND_BYTES} bytes; this one is not: {}",
            command.chars().filter(|c| !c.is_control()).take(40).collect::<String>()
        ))
    } else {
        None
    }
}

/// A number or a text, as both read well in TOML.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Whole(u64),
    Fraction(f64),
}

impl Written {
    fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Whole(number) => number.to_string(),
            Self::Fraction(number) => number.to_string(),
        }
    }
}

fn amount<'de, D: Deserializer<'de>, T>(
    deserializer: D,
    parse: fn(&str) -> Result<T, ParseAmountError>,
) -> Result<Option<T>, D::Error> {
    let text = Written::deserialize(deserializer)?.text();
    parse(&text).map(Some).map_err(serde::de::Error::custom)
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    amount(deserializer, amount::parse_bytes)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    amount(deserializer, amount::parse_seconds)
}

fn millicores<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    amount(deserializer, amount::parse_millicores)
}

fn isolation<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Isolation>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

fn base<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    match base_problem(&text, false) {
        None => Ok(Some(text)),
        Some(problem) => Err(serde::de::Error::custom(problem)),
    }
}

fn blocked_commands<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let commands = Vec::<String>::deserialize(deserializer)?;
    let problem = commands.iter().find_map(|command| blocked_command_problem(command));
    let many = (commands.len() > BLOCKED_COMMANDS)
        .then(|| format!("more than {BLOCKED_COMMANDS} blocked commands"));
    match problem.or(many) {
        None => Ok(commands),
        Some(problem) => Err(serde::de::Error::custom(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_part_is_empty() {
        assert_eq!(Settings::parse("").expect("an empty file is fine"), Settings::default());
        assert!(Settings::default().sandbox.limits().is_empty());
    }

    #[test]
    fn the_test_command_is_read() {
        let settings = Settings::parse("[commands]\ntest = \"make check\"\n").expect("well formed");
        assert_eq!(settings.commands.test.as_deref(), Some("make check"));
    }

    #[test]
    fn a_misspelt_key_is_named() {
        let error = Settings::parse("[commands]\ntset = \"x\"\n").expect_err("no such key");
        assert!(error.to_string().contains("tset"), "{error}");
    }

    #[test]
    fn wishes_for_sandboxes_are_read() {
        let text = "[sandbox]\nbase = \"registry.example.com/debian:12\"\nisolation = \"gvisor\"\n\
                    memory = \"2GiB\"\ncpus = 1.5\npids = 100\ndisk = \"5GiB\"\nrun_time = \"30min\"\n\
                    [agent]\nblocked_commands = [\"git push\"]\n";
        let settings = Settings::parse(text).expect("well formed");
        assert_eq!(settings.sandbox.base.as_deref(), Some("registry.example.com/debian:12"));
        assert_eq!(settings.sandbox.isolation, Some(Isolation::Gvisor));
        let limits = LimitRequest {
            memory_bytes: Some(2 << 30),
            cpu_millicores: Some(1500),
            pids: Some(100),
            disk_bytes: Some(5 << 30),
            run_seconds: Some(1800),
            egress_bits_per_second: None,
        };
        assert_eq!(settings.sandbox.limits(), limits);
        assert_eq!(settings.agent.blocked_commands, ["git push"]);
    }

    #[test]
    fn what_a_repository_must_not_decide_is_refused() {
        for (text, told) in [
            ("[sandbox]\nnetwork = {}\n", "network"),
            ("[sandbox]\negress_rate = \"1Gbit\"\n", "egress_rate"),
            ("[sandbox]\nbase = \"oci:/etc\"\n", "path on the server"),
            ("[sandbox]\nbase = \"archive:/root/x.tar\"\n", "path on the server"),
            ("[sandbox]\nbase = \"../x y\"\n", "is no image"),
            ("[sandbox]\nisolation = \"none\"\n", "`none` is no isolation"),
            ("[sandbox]\nmemory = \"much\"\n", "`much` is not a size"),
            ("[sandbox]\nrun_time = 4\n", "`4` is not a time"),
            ("[agent]\nblocked_commands = [\"a\\nb\"]\n", "one line"),
        ] {
            let error = Settings::parse(text).expect_err(text).to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
