//! What attempts are made with: a world with one sandbox to attack from, and who runs and records them.

#![allow(dead_code, reason = "what one group does not need another does")]

pub(crate) mod attempt;
pub(crate) mod document;
pub(crate) mod host;
pub(crate) mod hostile;
pub(crate) mod meanwhile;
pub(crate) mod outside;
pub(crate) mod run;
pub(crate) mod sandbox;
pub(crate) mod user;
pub(crate) mod world;
