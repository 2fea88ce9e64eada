//! The coding agents agentd can start: how each is started, nothing else. All speak ACP after that.

mod built_in;
mod opencode;

use std::path::PathBuf;

use protocol::agentd::StartAgent;
use protocol::session::Dialect;

use crate::children::Program;
use crate::settings::Settings;

/// One kind of agent.
pub(crate) trait Agent: Send + Sync {
    /// Its process for a model, confined, with standard streams for ACP.
    fn program(&self, settings: &Settings, start: &StartAgent) -> Program;

    /// Files it must find, written with the agent's rights before it starts.
    fn files(&self, settings: &Settings, start: &StartAgent) -> Vec<(PathBuf, Vec<u8>)>;

    /// Whether it may open its session and get a prompt while the repository is not in sync:
    /// it must take in the repository's files at each use, not once when its session opens.
    fn works_before_sync(&self) -> bool;
}

/// The names of all agents, for error texts.
pub(crate) const NAMES: &str = "`built-in`, `opencode`";

/// The agent of a name.
pub(crate) fn find(name: &str) -> Option<&'static dyn Agent> {
    match name {
        "built-in" => Some(&built_in::BuiltIn),
        "opencode" => Some(&opencode::OpenCode),
        _ => None,
    }
}

/// The base address of a model's route at the gateway, without a version.
fn model_url(settings: &Settings, start: &StartAgent) -> String {
    let gateway = if settings.gateway_socket.is_some() {
        format!("http://{}", settings.relay_address)
    } else {
        settings.gateway_url.clone()
    };
    format!("{gateway}/model/{}", start.model.provider)
}

fn dialect(start: &StartAgent) -> &'static str {
    match start.model.dialect {
        Dialect::Anthropic => "anthropic",
        Dialect::OpenaiChat => "openai_chat",
    }
}
