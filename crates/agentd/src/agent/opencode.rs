//! OpenCode, from the toolkit, without any network but the model's route.

use std::collections::BTreeMap;
use std::path::PathBuf;

use protocol::agentd::StartAgent;
use protocol::session::Dialect;
use serde_json::json;

use super::{Agent, model_url};
use crate::children::Program;
use crate::settings::Settings;

/// OpenCode.
#[derive(Debug)]
pub(super) struct OpenCode;

/// What it would otherwise fetch from the network, wait for, or share.
const QUIET: &[&str] = &[
    "OPENCODE_DISABLE_MODELS_FETCH",
    "OPENCODE_DISABLE_AUTOUPDATE",
    "OPENCODE_DISABLE_LSP_DOWNLOAD",
    "OPENCODE_DISABLE_SHARE",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS",
    "OPENCODE_DISABLE_CLAUDE_CODE",
    // It would watch every directory of the repository, for an editor that is not there.
    "OPENCODE_EXPERIMENTAL_DISABLE_FILEWATCHER",
];

impl Agent for OpenCode {
    fn program(&self, settings: &Settings, start: &StartAgent) -> Program {
        let mut program = Program::new([settings.tool("opencode").into_os_string(), "acp".into()]);
        program.environment = BTreeMap::from([(
            "OPENCODE_CONFIG_CONTENT".into(),
            configuration(settings, start).to_string().into(),
        )]);
        for name in QUIET {
            program.environment.insert((*name).into(), "1".into());
        }
        program
    }

    /// At its first session OpenCode installs a package into its configuration's directory, and
    /// without a registry it waits over a minute for that. So the directory looks installed.
    fn files(&self, settings: &Settings, start: &StartAgent) -> Vec<(PathBuf, Vec<u8>)> {
        let directory = directory(settings);
        let lock = json!({
            "name": "cfg",
            "lockfileVersion": 3,
            "packages": {"": {"dependencies": {"@opencode-ai/plugin": "*"}}},
        });
        vec![
            (directory.join("node_modules/.hangar"), Vec::new()),
            (directory.join("package-lock.json"), lock.to_string().into_bytes()),
            (directory.join(INSTRUCTIONS), start.instructions.clone().into_bytes()),
        ]
    }

    fn works_before_sync(&self) -> bool {
        false
    }
}

const INSTRUCTIONS: &str = "hangar-instructions.md";

fn directory(settings: &Settings) -> PathBuf {
    settings.home.join(".config/opencode")
}

fn configuration(settings: &Settings, start: &StartAgent) -> serde_json::Value {
    let package = match start.model.dialect {
        Dialect::Anthropic => "@ai-sdk/anthropic",
        Dialect::OpenaiChat => "@ai-sdk/openai-compatible",
    };
    let name = &start.model.name;
    let model = format!("hangar/{name}");
    json!({
        "model": model,
        "small_model": model,
        "autoupdate": false,
        "share": "disabled",
        // A second copy of the workspace under HOME, which the platform's own commits make useless.
        "snapshot": false,
        "enabled_providers": ["hangar"],
        // Hangar titles its sessions itself; this would be a model request beside the first one.
        "agent": {"title": {"disable": true}},
        // The sandbox is the boundary; a question nobody answers would only stop the work.
        "permission": {"edit": "allow", "bash": "allow", "webfetch": "deny"},
        "instructions": [directory(settings).join(INSTRUCTIONS)],
        "provider": {"hangar": {
            "npm": package,
            "name": "Hangar",
            // The gateway replaces the key; programs only refuse to start without one.
            "options": {"baseURL": format!("{}/v1", model_url(settings, start)), "apiKey": "gateway"},
            "models": {name: {
                "name": name,
                "limit": {"context": 200_000, "output": 32_000},
                "tool_call": true,
            }},
        }},
    })
}

#[cfg(test)]
mod tests {
    use protocol::session::ModelChoice;

    use super::*;

    #[test]
    fn the_configuration_names_one_model_at_the_gateway() {
        let settings = Settings::sandbox();
        let start = StartAgent {
            agent: "opencode".into(),
            model: ModelChoice {
                provider: "anthropic".into(),
                name: "some-model".into(),
                dialect: Dialect::Anthropic,
            },
            instructions: String::new(),
        };
        let configuration = configuration(&settings, &start);
        let provider = &configuration["provider"]["hangar"];
        assert_eq!(provider["npm"], "@ai-sdk/anthropic");
        assert_eq!(provider["options"]["baseURL"], "http://127.0.0.1:7070/model/anthropic/v1");
        assert_eq!(configuration["model"], "hangar/some-model");
        assert!(provider["models"]["some-model"].is_object());
    }
}
