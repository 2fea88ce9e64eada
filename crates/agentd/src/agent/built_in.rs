//! Hangar's own agent, from the toolkit.

use std::collections::BTreeMap;
use std::path::PathBuf;

use protocol::agentd::StartAgent;

use super::{Agent, dialect, model_url};
use crate::children::Program;
use crate::settings::Settings;

/// The built-in agent.
#[derive(Debug)]
pub(super) struct BuiltIn;

impl Agent for BuiltIn {
    fn program(&self, settings: &Settings, start: &StartAgent) -> Program {
        let mut program = Program::new([settings.tool("hangar-agent")]);
        program.environment = BTreeMap::from([
            ("HANGAR_MODEL_URL".into(), model_url(settings, start).into()),
            ("HANGAR_MODEL_NAME".into(), start.model.name.clone().into()),
            ("HANGAR_MODEL_DIALECT".into(), dialect(start).into()),
            ("HANGAR_INSTRUCTIONS".into(), start.instructions.replace('\0', "").into()),
        ]);
        program
    }

    fn files(&self, _: &Settings, _: &StartAgent) -> Vec<(PathBuf, Vec<u8>)> {
        Vec::new()
    }

    fn works_before_sync(&self) -> bool {
        true
    }
}
