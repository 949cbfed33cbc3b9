//! The sections of the configuration that every footing of the coordinator reads.
use std::collections::BTreeMap;
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

/// Most orders that may be out at one instance: each is a locked job, and locked jobs are found by looking at all
/// of them.
const CREDIT_MAX: u32 = 65_536;

/// The section `[credit]`: how many orders may be out, and how they travel.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreditSection {
    #[serde(default)]
    per_instance: Option<u32>,
    #[serde(default)]
    restores: Option<u32>,
    /// Other credit for some instances.
    #[serde(default)]
    instances: BTreeMap<Instance, u32>,
    /// Instances whose orders travel one by one, because their steps are slow.
    #[serde(default)]
    pub unpacked: Vec<Instance>,
}

impl CreditSection {
    /// The ledger's limits.
    ///
    /// # Errors
    /// Naming the key that is out of bounds: without credit an instance would wait for ever.
    pub fn limits(&self) -> anyhow::Result<Limits> {
        let defaults = Limits::default();
        let limits = Limits {
            credit: self.per_instance.unwrap_or(defaults.credit),
            restore_credit: self.restores.unwrap_or(defaults.restore_credit),
            per_instance: self.instances.clone(),
            ..defaults
        };
        let others = self.instances.iter().map(|(name, n)| (format!("instances.\"{name}\""), *n));
        let own =
            [("per_instance".to_owned(), limits.credit), ("restores".to_owned(), limits.restore_credit)];
        for (key, number) in own.into_iter().chain(others) {
            anyhow::ensure!(
                (1..=CREDIT_MAX).contains(&number),
                "[credit]: {key} = {number}: expected 1 to {CREDIT_MAX}"
            );
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sexton_model::decide::Lane;

    use super::*;

    fn limits(text: &str) -> Result<Limits, String> {
        let config = Config::parse(Path::new("sexton.toml"), text, &["credit"]).unwrap();
        let section: CreditSection = config.section("credit").map_err(|e| e.to_string())?;
        section.limits().map_err(|e| e.to_string())
    }

    #[test]
    fn credit_is_the_instances_own_or_everybodys() {
        let text = "[credit]\nper_instance = 100\ninstances = { \"backup.main\" = 4 }\n";
        let limits = limits(text).unwrap();
        let of = |name: &str, lane| limits.of(&name.parse().unwrap(), lane);
        assert_eq!((of("backup.main", Lane::Stages), of("dns.main", Lane::Stages)), (4, 100));
        assert_eq!(of("backup.main", Lane::Restores), Limits::default().restore_credit);
    }

    #[test]
    fn a_mistake_names_the_key() {
        for (text, part) in [
            ("per_instance = 0", "[credit]: per_instance = 0: expected 1 to 65536"),
            ("restores = 70000", "[credit]: restores = 70000"),
            ("instances = { \"dns.main\" = 0 }", "[credit]: instances.\"dns.main\" = 0"),
            ("instances = { \"dns\" = 1 }", "dns"),
            ("per_instanec = 1", "per_instanec"),
        ] {
            let error = limits(&format!("[credit]\n{text}\n")).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
