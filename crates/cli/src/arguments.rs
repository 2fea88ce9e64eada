//! What can be written after `hangar`, and the help that teaches it.

mod sandboxes;
pub mod secret;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use protocol::repository::RepositoryName;
use protocol::sandbox::Isolation;
use protocol::session::{Dialect, ModelChoice};
use protocol::{PromptId, SessionId};
use secrecy::SecretString;

pub use sandboxes::{
    LimitOptions, Maximum, MaximumOptions, RepositorySettingsOptions, Setting, parse_rule,
};

/// What `try` asks for when nothing is asked: something every repository has room for.
pub const DEFAULT_PROMPT: &str = "Make one small, useful improvement to this repository. \
    Check it with the repository's own tests or build, and say what you changed and why.";

/// Where `serve` listens unless told otherwise.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7171";

const OVERVIEW: &str = "\
Examples:
  hangar try                                  one whole job on this repository, then its diff
  hangar try --prompt 'Fix the failing test'  the same with your own words
  hangar serve                                the server, until Ctrl-C
  hangar run 'Explain the build' --watch      a session on the running server
  hangar doctor                               what this machine can do

Data goes to standard output and talk to standard error; with --json the data is JSON.
Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 no server to talk to, 4 this machine lacks
something, 130 interrupted.";

/// Background coding agents in sandboxes on your own machine
#[derive(Debug, Parser)]
#[command(name = "hangar", version, after_help = OVERVIEW, max_term_width = 100)]
#[command(propagate_version = true, disable_help_subcommand = true)]
pub struct Arguments {
    /// Settings every command takes
    #[command(flatten)]
    pub common: Common,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// Settings every command takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Everywhere")]
pub struct Common {
    /// Print JSON on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Directory in which Hangar keeps everything [default: ~/.local/share/hangar]
    #[arg(long, global = true, env = "HANGAR_DATA", value_name = "DIRECTORY")]
    pub data: Option<PathBuf>,
    /// Address of the server to talk to [default: the one running on the data directory]
    #[arg(long, global = true, env = "HANGAR_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// Token for that server [default: the data directory's]
    #[arg(long, global = true, env = "HANGAR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    #[arg(value_parser = parse_secret)]
    pub token: Option<SecretString>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server until Ctrl-C
    Serve(Serve),
    /// Do one whole job: sandbox, agent, commit, push, pull request
    Try(Try),
    /// Start a session on the running server
    Run(Run),
    /// Look at sessions and take part in them
    #[command(subcommand, visible_alias = "sessions")]
    Session(SessionCommand),
    /// Tell the server which repositories to work on
    #[command(subcommand, visible_alias = "repositories")]
    Repository(RepositoryCommand),
    /// Keep credentials that sandboxes use without seeing them
    #[command(subcommand, visible_alias = "secrets")]
    Secret(secret::SecretCommand),
    /// Fetch images that sandboxes stand on instead of this machine's own system
    #[command(subcommand)]
    Base(BaseCommand),
    /// Install agents that sandboxes get
    #[command(subcommand)]
    Toolkit(ToolkitCommand),
    /// Show what this machine can do, and what to do about the rest
    Doctor(Doctor),
}

/// `hangar serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hangar serve
  hangar serve --listen 127.0.0.1:0     any free port; the address is printed
  hangar serve --memory 8GiB --maximum memory=32GiB,run_time=2d

The server prints a one-time link that signs a browser in. Sessions go on after a restart.
With ANTHROPIC_API_KEY or OPENAI_API_KEY set, that model is the default; without, a rehearsal.")]
pub struct Serve {
    /// Address and port to listen on; port 0 takes any free one
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_ADDRESS)]
    pub listen: std::net::SocketAddr,
    /// Model that answers when none is named [default: by the keys that are set]
    #[arg(long, env = "HANGAR_MODEL", value_parser = parse_model)]
    pub model: Option<ModelChoice>,
    /// What a sandbox may use when nobody asks for anything else
    #[command(flatten)]
    pub limits: LimitOptions,
    /// What anybody may ask for
    #[command(flatten)]
    pub maximum: MaximumOptions,
    /// Whom the server trusts outside
    #[command(flatten)]
    pub outside: Outside,
    /// The wall around sandboxes
    #[command(flatten)]
    pub walls: Walls,
}

/// What a server needs to know about the network it stands in. Proxies are taken from the usual
/// variables; an option would show their passwords to everybody on the machine.
#[derive(Debug, Clone, Args)]
pub struct Outside {
    /// Certificates in PEM to trust besides the system's, in sandboxes too: a company's own
    #[arg(long, env = "HANGAR_TRUST", value_name = "FILE")]
    pub trust: Option<PathBuf>,
}

/// The wall around sandboxes, for those who start a server.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sandboxes")]
pub struct Walls {
    /// Isolation when nobody asks for another: namespaces, gvisor or microvm
    #[arg(long, env = "HANGAR_ISOLATION", value_name = "LEVEL", default_value = "namespaces")]
    pub isolation: Isolation,
    /// Programs that make it
    #[command(flatten)]
    pub runtimes: Runtimes,
}

/// The programs that make walls.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Sandboxes")]
pub struct Runtimes {
    /// OCI runtime of a level: launcher, crun, runc or a path for namespaces, gvisor=PATH for gVisor
    #[arg(long = "runtime", env = "HANGAR_RUNTIME", value_name = "[LEVEL=]PROGRAM")]
    #[arg(value_delimiter = ',')]
    pub runtimes: Vec<RuntimeChoice>,
}

/// Which program makes the wall of a level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeChoice {
    /// The level.
    pub isolation: Isolation,
    /// `launcher`, a name to search for, or a path.
    pub program: String,
}

impl std::str::FromStr for RuntimeChoice {
    type Err = protocol::sandbox::ParseIsolationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (level, program) = match text.split_once('=') {
            Some((level, program)) => (level.parse()?, program),
            None => (Isolation::Namespaces, text),
        };
        Ok(Self { isolation: level, program: program.to_owned() })
    }
}

/// How a session is set up, for `try` and `run`.
#[derive(Debug, Clone, Args)]
pub struct Setup {
    /// Agent that works: built-in or opencode [default: the server's]
    #[arg(long)]
    pub agent: Option<String>,
    /// Model that answers: rehearsal, anthropic/NAME or openai/NAME [default: the server's]
    #[arg(long, env = "HANGAR_MODEL", value_parser = parse_model)]
    pub model: Option<ModelChoice>,
    /// Branch to start from [default: the repository's]
    #[arg(long)]
    pub branch: Option<String>,
    /// Isolation at least as strong as the repository's: namespaces, gvisor or microvm
    #[arg(long, value_name = "LEVEL")]
    pub isolation: Option<Isolation>,
    /// What its sandboxes may use
    #[command(flatten)]
    pub limits: LimitOptions,
}

/// `hangar try`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hangar try
  hangar try --repository ~/src/site --prompt 'Add a test for the login page'
  hangar try --agent opencode --json
  hangar try --keep                     leave the server running to look around

The repository is imported, so your checkout and its uncommitted work are never touched. Without a
model key the built-in rehearsal model answers: scripted, offline, and it says so.")]
pub struct Try {
    /// Repository to work on: a path on this machine
    #[arg(long, short, value_name = "PATH", default_value = ".")]
    pub repository: PathBuf,
    /// What the agent should do; `-` reads standard input [default: one small improvement]
    #[arg(long, short, value_name = "TEXT", default_value = DEFAULT_PROMPT)]
    #[arg(hide_default_value = true)]
    pub prompt: String,
    /// How the session is set up
    #[command(flatten)]
    pub setup: Setup,
    /// Leave the server running afterwards, until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// What anybody may ask for, where no server runs yet
    #[command(flatten)]
    pub maximum: MaximumOptions,
    /// Whom the server trusts outside
    #[command(flatten)]
    pub outside: Outside,
    /// Programs that make the wall around sandboxes, where no server runs yet
    #[command(flatten)]
    pub runtimes: Runtimes,
}

/// `hangar run`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hangar run 'Fix the failing test'
  hangar run 'Fix the failing test' --watch
  git log -1 | hangar run - --repository local/site
  hangar run 'Build it all' --memory 8GiB --run-time 8h

Without --watch the command returns as soon as the prompt is recorded; it will be carried out even
if the server is restarted.")]
pub struct Run {
    /// What the agent should do; `-` reads standard input
    #[arg(value_name = "PROMPT")]
    pub prompt: String,
    /// Repository to work on: a name the server knows, or a path, which is registered if new
    #[arg(long, short, value_name = "NAME|PATH", default_value = ".")]
    pub repository: String,
    /// How the session is set up
    #[command(flatten)]
    pub setup: Setup,
    /// Stay and show what happens until the prompt is finished
    #[arg(long, short)]
    pub watch: bool,
}

/// `hangar session …`.
#[derive(Debug, Subcommand)]
pub enum SessionCommand {
    /// List sessions, newest first
    List {
        /// How many
        #[arg(long, default_value_t = 20)]
        limit: usize,
        /// Continue a list: the `next` of the page before
        #[arg(long)]
        after: Option<String>,
    },
    /// Show a session: its prompts, sandbox, branch and pull request
    Show {
        /// Session id, or the last digits of one
        session: SessionReference,
        /// Show the changes as well
        #[arg(long)]
        diff: bool,
    },
    /// Show everything that happened and happens in a session
    #[command(after_help = "\
Examples:
  hangar session watch 8f2c41aa
  hangar session watch 8f2c41aa --until-idle
  hangar session watch 8f2c41aa --json --after 120    one event on a line, from number 121")]
    Watch {
        /// Session id, or the last digits of one
        session: SessionReference,
        /// Number of the last event to leave out
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// End when no prompt waits or runs any more
        #[arg(long)]
        until_idle: bool,
    },
    /// Send a follow-up
    #[command(after_help = "\
Examples:
  hangar session prompt 8f2c41aa 'Now add a test'
  hangar session prompt 8f2c41aa 'Stop, use the other file' --insert --watch")]
    Prompt {
        /// Session id, or the last digits of one
        session: SessionReference,
        /// What the agent should do; `-` reads standard input
        prompt: String,
        /// Insert it at the agent's next step instead of after the prompts that wait
        #[arg(long)]
        insert: bool,
        /// Stay and show what happens until the prompt is finished
        #[arg(long, short)]
        watch: bool,
    },
    /// Rewrite a prompt of yours that still waits
    Edit {
        /// Session id, or the last digits of one
        session: SessionReference,
        /// Prompt id
        prompt: PromptId,
        /// What it should say; `-` reads standard input
        text: String,
    },
    /// Take back a prompt of yours that still waits
    Withdraw {
        /// Session id, or the last digits of one
        session: SessionReference,
        /// Prompt id
        prompt: PromptId,
    },
    /// Stop the prompt that runs; its changes stay in the workspace
    Stop {
        /// Session id, or the last digits of one
        session: SessionReference,
    },
}

/// `hangar repository …`.
#[derive(Debug, Subcommand)]
pub enum RepositoryCommand {
    /// Register a repository and build its image
    #[command(after_help = "\
Examples:
  hangar repository add .
  hangar repository add ~/src/site --name shop

The repository is imported into the server's own Git host: your checkout is only read, and its
uncommitted work stays where it is.")]
    Add {
        /// Path of the repository, on the server's machine
        path: PathBuf,
        /// Name it gets [default: the directory's]
        #[arg(long)]
        name: Option<String>,
    },
    /// List registered repositories and their images
    List,
    /// Show or change what sandboxes of a repository get: isolation, limits, base, hosts
    Settings(Box<RepositorySettingsOptions>),
}

/// `hangar base …`.
#[derive(Debug, Subcommand)]
pub enum BaseCommand {
    /// Fetch an image and unpack it; again: fetch what its name means now
    #[command(after_help = "\
Examples:
  hangar base pull registry.example/team/tools:1
  hangar base pull oci:/srv/images/tools:1        an OCI layout on the server
  hangar base pull archive:/srv/tools.tar         what `docker save` wrote
  hangar repository settings local/project --base registry.example/team/tools:1

Credentials are those of the server's Docker configuration. A repository's image is built again at its
next use when its base has changed.")]
    Pull {
        /// `registry/name:tag`, `oci:/directory:tag` or `archive:/file.tar`
        reference: String,
    },
    /// List the images that were fetched
    List,
    /// Forget an image; its files stay as long as a repository's image stands on them
    Remove {
        /// As it is listed
        reference: String,
    },
}

/// `hangar toolkit …`.
#[derive(Debug, Subcommand)]
pub enum ToolkitCommand {
    /// Install an agent through npm, or gVisor through apt, into the data directory
    #[command(after_help = "\
Examples:
  hangar toolkit install opencode
  hangar try --agent opencode
  hangar toolkit install gvisor
  hangar try --isolation gvisor

Of an agent only the program itself is fetched, in one pinned version; it needs neither Node nor the
network when it runs. gVisor comes from the Debian mirrors this machine's apt knows, checked by apt;
nothing of the system changes. What is installed already is left alone.")]
    Install {
        /// What to install
        #[arg(value_parser = ["opencode", "gvisor"])]
        agent: String,
    },
    /// List agents and whether they are installed
    List,
}

/// `hangar doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
A level of isolation counts as available only after it has really started a sandbox here. Exit code 4
says that something needed is missing.")]
pub struct Doctor {
    /// The wall around sandboxes
    #[command(flatten)]
    pub walls: Walls,
}

/// A session as people name it: the whole id, or enough of its last digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionReference {
    /// All of it.
    Whole(SessionId),
    /// Its last digits, four at least.
    Ending(String),
}

impl std::str::FromStr for SessionReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("ses_") {
            return text.parse().map(Self::Whole).map_err(|error| format!("{error}"));
        }
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if digits && (4..=32).contains(&text.len()) {
            Ok(Self::Ending(text.to_ascii_lowercase()))
        } else {
            Err("write the session's id, or at least four of its last digits".to_owned())
        }
    }
}

/// A name the server knows, or something on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepositoryReference {
    /// `owner/name`, and no such directory exists here.
    Name(RepositoryName),
    /// A path.
    Path(PathBuf),
}

impl RepositoryReference {
    /// What `text` means: a directory that exists wins over a name.
    pub fn of(text: &str, exists: impl Fn(&std::path::Path) -> bool) -> Self {
        let path = PathBuf::from(text);
        match text.parse() {
            Ok(name) if !exists(&path) => Self::Name(name),
            _ => Self::Path(path),
        }
    }
}

/// Any text, kept where it cannot be printed.
#[expect(clippy::unnecessary_wraps, reason = "clap asks for a fallible function")]
fn parse_secret(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text.to_owned()))
}

/// `rehearsal`, or a provider and the provider's name of a model.
pub fn parse_model(text: &str) -> Result<ModelChoice, String> {
    let (provider, name) = text.split_once('/').unwrap_or((text, ""));
    let dialect = match provider {
        "rehearsal" | "anthropic" => Dialect::Anthropic,
        "openai" => Dialect::OpenaiChat,
        _ => return Err("write rehearsal, anthropic/NAME or openai/NAME".to_owned()),
    };
    let name = if provider == "rehearsal" && name.is_empty() { "rehearsal" } else { name };
    if name.is_empty() {
        return Err(format!("write which of its models, as in {provider}/NAME"));
    }
    Ok(ModelChoice { provider: provider.to_owned(), name: name.to_owned(), dialect })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn help_is_imperative_and_without_full_stops() {
        fn look(command: &clap::Command, broken: &mut Vec<String>) {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let helps = command.get_arguments().filter_map(|argument| argument.get_help());
            for text in helps.map(ToString::to_string).chain([about]) {
                if text.is_empty() || text.ends_with('.') {
                    broken.push(format!("{}: {text:?}", command.get_name()));
                }
            }
            command.get_subcommands().for_each(|child| look(child, broken));
        }
        let mut broken = Vec::new();
        look(&Arguments::command(), &mut broken);
        assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn models_are_named_by_provider() {
        let names = |text: &str| parse_model(text).map(|model| (model.provider, model.name));
        let pair = |a: &str, b: &str| Ok((a.to_owned(), b.to_owned()));
        assert_eq!(names("rehearsal"), pair("rehearsal", "rehearsal"));
        assert_eq!(names("openai/org/model"), pair("openai", "org/model"));
        assert!(names("anthropic").is_err());
        assert!(names("nobody/x").is_err());
    }

    #[test]
    fn sessions_are_named_by_id_or_ending() {
        let id = SessionId::new();
        assert_eq!(id.to_string().parse(), Ok(SessionReference::Whole(id)));
        assert_eq!("8F2c".parse(), Ok(SessionReference::Ending("8f2c".to_owned())));
        for bad in ["8f2", "ses_12", "prm_0193", "hello", ""] {
            assert!(bad.parse::<SessionReference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_directory_wins_over_a_name() {
        let name = RepositoryReference::of("local/site", |_| false);
        assert_eq!(name, RepositoryReference::Name("local/site".parse().expect("a name")));
        let path = RepositoryReference::of("local/site", |_| true);
        assert_eq!(path, RepositoryReference::Path("local/site".into()));
        assert!(matches!(RepositoryReference::of(".", |_| false), RepositoryReference::Path(_)));
    }
}
