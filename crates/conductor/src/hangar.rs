//! The whole of Hangar as one handle: what every door calls.

use std::path::PathBuf;
use std::sync::Arc;

use gateway::Gateway;
use journal::{Index, Journal};
use protocol::client::ServerDescription;
use protocol::session::Author;
use sandbox::Backend;

use crate::directory::Directory;
use crate::observe;
use crate::open_sessions::OpenSessions;
use crate::redaction::{Named, Redaction};
use crate::secrets::{Inspector, KeySource, Secrets};
use crate::shared::{ServerSettings, Shared};
use crate::upstream::ForgeUpstream;
use crate::{Error, recover};

/// What Hangar is put together from.
#[derive(Debug)]
pub struct Parts {
    /// What the operator decided.
    pub settings: ServerSettings,
    /// Where events are kept.
    pub journal: Arc<dyn Journal>,
    /// What lists are made of.
    pub index: Arc<Index>,
    /// Where sandboxes run.
    pub backend: Arc<dyn Backend>,
    /// Images that sandboxes can stand on; none where only the host can be.
    pub bases: Option<sandbox::base::Store>,
    /// The Git host.
    pub forge: Arc<forge::Local>,
    /// Model providers and limits of the way out.
    pub gateway: gateway::Config,
    /// Where the keys are that secrets are encrypted with.
    pub secret_keys: KeySource,
}

/// A running Hangar; cheap to clone. Every method names the person who acts.
#[derive(Debug, Clone)]
pub struct Hangar {
    pub(crate) shared: Arc<Shared>,
}

impl Hangar {
    /// Puts the parts together and takes up what an earlier process left.
    pub async fn open(parts: Parts) -> Result<Self, Error> {
        let (queue, observations) = observe::queue();
        let upstream = Arc::new(ForgeUpstream(Arc::clone(&parts.forge)));
        let own = own_credentials(&parts.gateway.providers);
        let index = Arc::clone(&parts.index);
        let secrets = Secrets::open(index, parts.secret_keys, own).await?;
        let inspector = Arc::new(Inspector(secrets.redaction().clone()));
        parts.forge.inspect_pushes(inspector);
        let gateway = Gateway::new(parts.gateway, upstream, Arc::new(queue))
            .map_err(|error| Error::failed("opening the gateway", error))?;
        let open = OpenSessions::load(Arc::clone(&parts.index)).await?;
        let shared = Arc::new(Shared {
            settings: parts.settings,
            journal: parts.journal,
            index: parts.index,
            backend: parts.backend,
            bases: parts.bases,
            gateway: Arc::new(gateway),
            forge: parts.forge,
            directory: Directory::default(),
            open,
            workers: crate::limits::Workers::default(),
            builds: crate::images::Builds::default(),
            secrets,
            claims: crate::way_out::Claims::default(),
            levels: crate::levels::Levels::default(),
        });
        let user = &shared.settings.user;
        shared
            .index
            .put_user(user)
            .await
            .map_err(|error| Error::failed(format!("recording the user {}", user.name), error))?;
        recover::recover(&shared).await?;
        tokio::spawn(observe::forward(Arc::clone(&shared), observations));
        tokio::spawn(crate::limits::watch(Arc::downgrade(&shared)));
        Ok(Self { shared })
    }

    /// The person of the single-user mode.
    pub fn local_user(&self) -> &Author {
        &self.shared.settings.user
    }

    /// What this server is and offers.
    pub fn description(&self, user: &Author) -> ServerDescription {
        let settings = &self.shared.settings;
        ServerDescription {
            version: protocol::VERSION,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            user: user.clone(),
            agents: self.shared.agents(),
            default_model: settings.default_model.clone(),
            default_agent: settings.default_agent.clone(),
            isolation: settings.isolation,
            limits: settings.limits,
            maximum_limits: settings.maximum_limits,
        }
    }

    /// Strikes the secrets known now out of a text, for what is logged.
    pub fn redaction(&self) -> Redaction {
        self.shared.secrets.redaction().clone()
    }

    /// Where toolkits are.
    pub fn toolkit(&self) -> PathBuf {
        self.shared.settings.toolkit.clone()
    }
}

/// The providers' keys: they are used here and must be found nowhere else.
fn own_credentials(providers: &gateway::Providers) -> Vec<Named> {
    let all = [&providers.anthropic, &providers.openai];
    let named = |provider: &gateway::Provider| Named {
        name: provider.credential.clone(),
        value: provider.key.clone(),
    };
    all.into_iter().flatten().map(named).collect()
}
