//! One module for each command.

pub(crate) mod base;
pub(crate) mod doctor;
pub(crate) mod repository;
pub(crate) mod run;
pub(crate) mod secret;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod settings;
pub(crate) mod toolkit;
pub(crate) mod try_job;
