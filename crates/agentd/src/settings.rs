//! Where agentd finds things: the sandbox's fixed layout, or what a test puts in its place.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use protocol::layout;

/// How agentd confines what it starts for the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    /// As in a sandbox: no capability, no new privileges, system calls filtered, workspace gated.
    Sandbox,
    /// For tests outside a sandbox: children have this process's rights and nothing is mounted.
    /// Chosen only by the flag `--unconfined-for-tests`.
    UnconfinedForTests,
}

/// Where agentd listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// The listening socket inherited as file descriptor [`layout::AGENTD_LISTENER_FD`].
    Inherited,
    /// A Unix socket bound at this path. A confined agentd does so in a kernel of its own, as its
    /// first process, and hides the directory from everyone else.
    Path(PathBuf),
}

/// Everything that differs between a sandbox and a test.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the API is served.
    pub listen: Listen,
    /// The repository's working tree.
    pub workspace: PathBuf,
    /// HOME of everything that runs for the agent.
    pub home: PathBuf,
    /// The toolkit's directory, with `bin/` in it.
    pub toolkit: PathBuf,
    /// Objects to clone from without copying, used when the directory exists.
    pub mirror: PathBuf,
    /// The gateway's Unix socket; none when [`Settings::gateway_url`] is reached directly.
    pub gateway_socket: Option<PathBuf>,
    /// Where the relay listens for programs in the sandbox.
    pub relay_address: String,
    /// What git remotes and model paths are appended to; a `file://` address in tests of git.
    pub gateway_url: String,
    /// Certificates that programs trust; none where there is no gateway that writes them.
    pub trust: Option<PathBuf>,
    /// How children are confined.
    pub confinement: Confinement,
}

/// A command line agentd does not understand.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an option.
    #[error("agentd does not know the option `{0}`; options: {OPTIONS}")]
    Unknown(String),
    /// An option without its value.
    #[error("the option `{0}` of agentd needs a value")]
    MissingValue(String),
}

const OPTIONS: &str = "--listen PATH, --workspace DIR, --home DIR, --toolkit DIR, --mirror DIR, \
     --gateway SOCKET|URL, --relay ADDRESS, --unconfined-for-tests";

impl Settings {
    /// The fixed layout of every sandbox.
    pub fn sandbox() -> Self {
        Self {
            listen: Listen::Inherited,
            workspace: layout::WORKSPACE.into(),
            home: layout::HOME.into(),
            toolkit: layout::TOOLKIT.into(),
            mirror: layout::MIRROR.into(),
            gateway_socket: Some(layout::GATEWAY_SOCKET.into()),
            relay_address: layout::GATEWAY_ADDRESS.into(),
            gateway_url: layout::GATEWAY_URL.into(),
            trust: Some(layout::TRUST_BUNDLE.into()),
            confinement: Confinement::Sandbox,
        }
    }

    /// The layout with what a command line changes.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, Error> {
        let mut settings = Self::sandbox();
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            let option = option.to_string_lossy().into_owned();
            if option == "--unconfined-for-tests" {
                settings.confinement = Confinement::UnconfinedForTests;
                settings.trust = None;
                continue;
            }
            let mut value = || arguments.next().ok_or_else(|| Error::MissingValue(option.clone()));
            match option.as_str() {
                "--listen" => settings.listen = Listen::Path(value()?.into()),
                "--workspace" => settings.workspace = value()?.into(),
                "--home" => settings.home = value()?.into(),
                "--toolkit" => settings.toolkit = value()?.into(),
                "--mirror" => settings.mirror = value()?.into(),
                "--relay" => settings.relay_address = value()?.to_string_lossy().into_owned(),
                "--gateway" => settings.set_gateway(&value()?.to_string_lossy()),
                _ => return Err(Error::Unknown(option)),
            }
        }
        Ok(settings)
    }

    /// A URL is used as it is; a socket is reached through the relay.
    fn set_gateway(&mut self, text: &str) {
        if text.contains("://") {
            self.gateway_socket = None;
            text.trim_end_matches('/').clone_into(&mut self.gateway_url);
        } else {
            self.gateway_socket = Some(text.into());
        }
    }

    /// Whether children are really confined.
    pub fn confined(&self) -> bool {
        self.confinement == Confinement::Sandbox
    }

    /// A program of the toolkit.
    pub fn tool(&self, name: &str) -> PathBuf {
        self.toolkit.join("bin").join(name)
    }

    /// A path relative to the workspace, if it is inside.
    pub fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        path.strip_prefix(&self.workspace).unwrap_or(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settings, Error> {
        Settings::parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn without_options_the_layout_is_the_sandboxs() {
        let settings = parse(&[]).expect("nothing to misunderstand");
        assert_eq!(settings.listen, Listen::Inherited);
        assert_eq!(settings.workspace, Path::new("/workspace"));
        assert!(settings.confined());
    }

    #[test]
    fn confinement_is_never_dropped_silently() {
        assert!(parse(&["--listen", "/tmp/x"]).expect("a kernel of its own").confined());
        let settings = parse(&["--listen", "/tmp/x", "--unconfined-for-tests"]).expect("a test");
        assert!(!settings.confined());
    }

    #[test]
    fn a_url_needs_no_relay() {
        let settings = parse(&["--gateway", "file:///srv/"]).expect("a gateway");
        assert_eq!(settings.gateway_socket, None);
        assert_eq!(settings.gateway_url, "file:///srv");
    }

    #[test]
    fn odd_command_lines_are_refused() {
        assert!(matches!(parse(&["--color"]), Err(Error::Unknown(_))));
        assert!(matches!(parse(&["--home"]), Err(Error::MissingValue(_))));
    }
}
