//! What every session's task and every effect needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use gateway::Gateway;
use journal::{Index, Journal};
use protocol::SandboxId;
use protocol::repository::RepositoryName;
use protocol::sandbox::{Isolation, Limits};
use protocol::session::{Author, ModelChoice, SessionSummary};
use sandbox::Backend;
use sandbox::agentd::Client;

use crate::Error;
use crate::directory::Directory;
use crate::open_sessions::OpenSessions;
use crate::settings::{self, Settings};

/// What the operator decided.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// The person of the single-user mode.
    pub user: Author,
    /// The agent used when none is named.
    pub default_agent: String,
    /// The model used when none is named.
    pub default_model: ModelChoice,
    /// Seen read-only at `/opt/hangar` in every sandbox.
    pub toolkit: PathBuf,
    /// What a sandbox may use when nobody asks for anything else.
    pub limits: Limits,
    /// What a sandbox may use at most, whoever asks.
    pub maximum_limits: Limits,
    /// The wall around sandboxes when nobody asks for another.
    pub isolation: Isolation,
}

/// Bytes of `hangar.toml` at most.
const SETTINGS_BYTES: u64 = 64 * 1024;

/// The rooms, and the sessions that live.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) settings: ServerSettings,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) index: Arc<Index>,
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) bases: Option<sandbox::base::Store>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) forge: Arc<forge::Local>,
    pub(crate) directory: Directory,
    pub(crate) open: OpenSessions,
    /// Who hears of limits that were hit.
    pub(crate) workers: crate::limits::Workers,
    /// One image build at a time for each repository.
    pub(crate) builds: crate::images::Builds,
    pub(crate) secrets: crate::secrets::Secrets,
    /// The sandboxes that have a way out, and on what terms.
    pub(crate) claims: crate::way_out::Claims,
    pub(crate) levels: crate::levels::Levels,
}

impl Shared {
    /// agentd of a sandbox.
    pub(crate) fn client(&self, sandbox: SandboxId) -> Client {
        Client::new(Arc::clone(&self.backend), sandbox)
    }

    /// The commit of a branch on the forge.
    pub(crate) async fn resolve(
        &self,
        repository: &RepositoryName,
        branch: &str,
    ) -> Result<String, Error> {
        self.forge.resolve(repository, branch).await.map_err(|error| {
            Error::failed(format!("looking up the branch {branch} of {repository}"), error)
        })
    }

    /// What `hangar.toml` says at a commit; a damaged one counts as empty and is logged.
    pub(crate) async fn repository_settings(
        &self,
        repository: &RepositoryName,
        commit: &str,
    ) -> Settings {
        let file = self.forge.read_file(repository, commit, settings::FILE, SETTINGS_BYTES).await;
        match file {
            Ok(Some(bytes)) => {
                Settings::parse(&String::from_utf8_lossy(&bytes)).unwrap_or_else(|error| {
                    tracing::warn!(%repository, %error, "settings ignored");
                    Settings::default()
                })
            }
            Ok(None) => Settings::default(),
            Err(error) => {
                tracing::warn!(%repository, error = crate::error::chain(&error), "settings not read");
                Settings::default()
            }
        }
    }

    /// Agents that are in the toolkit.
    pub(crate) fn agents(&self) -> Vec<String> {
        installed_agents(&self.settings.toolkit)
    }

    /// Refuses an agent that is not in the toolkit.
    pub(crate) fn require_agent(&self, agent: &str) -> Result<(), Error> {
        let installed = self.agents();
        if installed.iter().any(|name| name == agent) {
            return Ok(());
        }
        Err(Error::Invalid {
            what: format!(
                "the agent `{agent}` is not installed; installed: {}",
                installed.join(", ")
            ),
            hint: format!("install it with `hangar toolkit install {agent}`"),
        })
    }

    /// Brings the list of sessions up to date. It can be rebuilt from the journal, so a failure is
    /// logged and the session goes on.
    pub(crate) async fn summarize(&self, summary: &SessionSummary) {
        if let Err(error) = self.index.put_session(summary).await {
            let error = crate::error::chain(&error);
            tracing::warn!(session = %summary.id, error, "the list of sessions is behind");
        }
    }
}

/// Agents whose programs are in a toolkit directory.
pub fn installed_agents(toolkit: &Path) -> Vec<String> {
    [("built-in", "bin/hangar-agent"), ("opencode", "bin/opencode")]
        .into_iter()
        .filter(|(_, program)| toolkit.join(program).exists())
        .map(|(name, _)| name.to_owned())
        .collect()
}

/// The path under which the gateway serves a repository.
pub(crate) fn remote(repository: &RepositoryName) -> String {
    format!("/git/local/{repository}.git")
}

/// Whole milliseconds since a moment.
pub(crate) fn elapsed_milliseconds(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}
