//! The sections of the configuration that every footing of the coordinator reads.
use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::Deserialize;
use sexton_ledger::Limits;
use sexton_model::Instance;
use sexton_service::{Config, secret};

use crate::Plans;

/// The section `[api]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiSection {
    /// Where it listens.
    pub listen: SocketAddr,
    /// A file with the token that callers must show.
    #[serde(default)]
    token_file: Option<PathBuf>,
}

impl ApiSection {
    /// The token, if one is configured.
    ///
    /// # Errors
    /// If it cannot be read, or without one the API would be open to other machines.
    pub fn token(&self, config: &Config, listen: SocketAddr) -> anyhow::Result<Option<SecretString>> {
        let token = self.token_file.as_ref().map(|file| secret::read(&config.path(file))).transpose()?;
        anyhow::ensure!(
            token.is_some() || listen.ip().is_loopback(),
            "[api]: listen = {listen} is open to others: expected a token_file, or a loopback address"
        );
        Ok(token)
    }
}

/// The section `[plans]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlansSection {
    folder: PathBuf,
    subsystems: PathBuf,
}

impl PlansSection {
    /// Load and lint the plans.
    ///
    /// # Errors
    /// As [`Plans::load`].
    pub fn load(&self, config: &Config, rehearsal: bool) -> anyhow::Result<Plans> {
        Plans::load(&config.path(&self.folder), &config.path(&self.subsystems), rehearsal)
    }
}

/// The section `[credit]`: how many orders may be out, and how they travel.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditSection {
    #[serde(default)]
    per_instance: Option<u32>,
    #[serde(default)]
    restores: Option<u32>,
    /// Instances whose orders travel one by one, because their steps are slow.
    #[serde(default)]
    pub unpacked: Vec<Instance>,
}

impl CreditSection {
    /// The ledger's limits.
    pub fn limits(&self) -> Limits {
        let defaults = Limits::default();
        Limits {
            credit: self.per_instance.unwrap_or(defaults.credit),
            restore_credit: self.restores.unwrap_or(defaults.restore_credit),
            ..defaults
        }
    }
}
