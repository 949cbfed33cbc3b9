//! The sections of the configuration that every footing of the coordinator reads.
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sexton_ledger::postgres::check_address;
use sexton_ledger::{Archive, Limits};
use sexton_model::Instance;
use sexton_protocol::{BeaconSigner, BeaconVerifier};
use sexton_service::Config;

use crate::Plans;
use crate::archiver::{self, Archiver};
use crate::attester::{self, Attester};

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
        let read = |file: &PathBuf| config.secret("api", "token_file", file);
        let token = self.token_file.as_ref().map(read).transpose()?;
        if token.is_none() && !listen.ip().is_loopback() {
            let reason =
                format!("listen = {listen} is open to others: expected a token_file, or a loopback address");
            return Err(config.mistake("api", reason).into());
        }
        Ok(token)
    }
}

/// The database's address, in the file that `postgres_url_file` of this section says.
///
/// # Errors
/// Naming section and key, if it cannot be read or is no address.
pub fn postgres_url(config: &Config, section: &str, file: &Path) -> anyhow::Result<SecretString> {
    let url = config.secret(section, "postgres_url_file", file)?;
    check_address(url.expose_secret()).map_err(|why| {
        let why = anyhow::Error::from(why);
        config.mistake(section, format!("postgres_url_file: {why:#}"))
    })?;
    Ok(url)
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
        let [folder, subsystems] =
            [("folder", &self.folder), ("subsystems", &self.subsystems)].map(|(key, path)| {
                let path = config.path(path);
                let missing = format!("{key} = {}: expected a folder that exists", path.display());
                if path.is_dir() { Ok(path) } else { Err(config.mistake("plans", missing)) }
            });
        Plans::load(&folder?, &subsystems?, rehearsal)
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
    pub fn limits(&self, config: &Config) -> anyhow::Result<Limits> {
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
            if !(1..=CREDIT_MAX).contains(&number) {
                let reason = format!("{key} = {number}: expected 1 to {CREDIT_MAX}");
                return Err(config.mistake("credit", reason).into());
            }
        }
        Ok(limits)
    }
}

/// Seconds between two rounds over the audit trail, unless configured.
const CHECKPOINT_SECS: u64 = 300;
/// Longest time between two of them, in seconds: a day.
const CHECKPOINT_SECS_MAX: u64 = 86_400;

/// The section `[audit]`: what is signed of the audit trail.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditSection {
    #[serde(default)]
    checkpoint_secs: Option<u64>,
    /// Where signed checkpoints are kept; beside the witness if not given.
    #[serde(default)]
    checkpoints: Option<PathBuf>,
}

impl AuditSection {
    /// What signs the audit trail, with this key; older signatures may be of those that are `known`. `witness` is where
    /// this coordinator's witness lies.
    ///
    /// # Errors
    /// Naming the key that is out of bounds.
    pub fn attester(
        &self,
        config: &Config,
        witness: &Path,
        (signer, known): (Arc<BeaconSigner>, BeaconVerifier),
    ) -> anyhow::Result<Attester> {
        let secs = self.checkpoint_secs.unwrap_or(CHECKPOINT_SECS);
        if !(1..=CHECKPOINT_SECS_MAX).contains(&secs) {
            let reason = format!("checkpoint_secs = {secs}: expected 1 to {CHECKPOINT_SECS_MAX}");
            return Err(config.mistake("audit", reason).into());
        }
        let file = self.checkpoints.as_ref().map_or_else(|| beside(witness), |file| config.path(file));
        Ok(Attester::new(attester::Options { file, every: Duration::from_secs(secs), signer, known }))
    }
}

/// The signed checkpoints of a coordinator for which no file is configured: `coordinator.checkpoints` beside
/// `coordinator.witness`.
fn beside(witness: &Path) -> PathBuf {
    if witness.extension().is_some_and(|extension| extension == "witness") {
        return witness.with_extension("checkpoints");
    }
    let mut name = witness.as_os_str().to_owned();
    name.push(".checkpoints");
    PathBuf::from(name)
}

/// Longest time until a record is archived, in days: a hundred years.
const AFTER_DAYS_MAX: u32 = 36_500;

/// The section `[archive]`: nothing is archived without it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArchiveSection {
    /// Where files are kept.
    folder: PathBuf,
    /// Policy days after its end.
    after_days: u32,
    /// On PostgreSQL, a file with the address under which a member of the role `sexton_archiver` connects.
    #[serde(default)]
    postgres_url_file: Option<PathBuf>,
}

impl ArchiveSection {
    /// The section, if it is there.
    ///
    /// # Errors
    /// Naming the key that is missing or out of bounds; if the folder is missing, which may be a disk that is not there.
    pub fn read(config: &Config) -> anyhow::Result<Option<Self>> {
        if !config.has("archive") {
            return Ok(None);
        }
        let section: Self = config.section("archive")?;
        let (days, folder) = (section.after_days, config.path(&section.folder));
        if !(1..=AFTER_DAYS_MAX).contains(&days) {
            let reason = format!("after_days = {days}: expected 1 to {AFTER_DAYS_MAX}");
            return Err(config.mistake("archive", reason).into());
        }
        if !folder.is_dir() {
            let reason = format!("folder = {}: expected a folder that exists", folder.display());
            return Err(config.mistake("archive", reason).into());
        }
        Ok(Some(section))
    }

    /// The address under which the archiver connects to PostgreSQL.
    ///
    /// # Errors
    /// If it is not given or cannot be read.
    pub fn url(&self, config: &Config) -> anyhow::Result<SecretString> {
        let Some(file) = &self.postgres_url_file else {
            let why = "postgres_url_file is missing: expected a file with the address for a member of the role \
                       sexton_archiver; the coordinator's own user cannot remove records";
            return Err(config.mistake("archive", why).into());
        };
        postgres_url(config, "archive", file)
    }

    /// That no database is named where there is none.
    ///
    /// # Errors
    /// If there is one.
    pub fn no_url(&self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.postgres_url_file.is_none(),
            "[archive]: postgres_url_file: this job table is a SQLite file, whose own writer archives"
        );
        Ok(())
    }

    /// What archives, from this store, with this key; older files may be signed with those that are `known`.
    pub fn archiver(
        &self,
        config: &Config,
        store: Arc<dyn Archive>,
        (signer, known): (Arc<BeaconSigner>, BeaconVerifier),
    ) -> Archiver {
        let folder = config.path(&self.folder);
        Archiver::new(archiver::Options { store, folder, after_days: self.after_days, signer, known })
    }
}

#[cfg(test)]
mod tests {
    use sexton_model::decide::Lane;

    use super::*;

    fn limits(text: &str) -> Result<Limits, String> {
        let config = Config::parse(Path::new("sexton.toml"), text, &["credit"]).unwrap();
        let section: CreditSection = config.section("credit").map_err(|e| e.to_string())?;
        section.limits(&config).map_err(|e| e.to_string())
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
    fn checkpoints_lie_beside_the_witness() {
        for (witness, file) in
            [("a/coordinator.witness", "a/coordinator.checkpoints"), ("b/seen", "b/seen.checkpoints")]
        {
            assert_eq!(beside(Path::new(witness)), Path::new(file));
        }
        for (text, part) in [
            ("checkpoint_secs = 0", "[audit]: checkpoint_secs = 0: expected 1 to 86400"),
            ("checkpoint_secs = 86401", "[audit]: checkpoint_secs = 86401"),
        ] {
            let text = format!("[audit]\n{text}\n");
            let config = Config::parse(Path::new("sexton.toml"), &text, &["audit"]).unwrap();
            let section: AuditSection = config.section("audit").unwrap();
            let signer = Arc::new(BeaconSigner::generate("k", &mut rand::rng()));
            let error = section.attester(&config, Path::new("w"), (signer, BeaconVerifier::default()));
            assert!(error.unwrap_err().to_string().contains(part), "{part}");
        }
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

    #[test]
    fn nothing_is_archived_by_default_and_a_mistake_names_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let config = Config::parse(&folder.path().join("sexton.toml"), text, &["archive"]).unwrap();
            ArchiveSection::read(&config).map(|section| section.is_some()).map_err(|e| e.to_string())
        };
        assert_eq!(read(""), Ok(false));
        assert_eq!(read("[archive]\nfolder = \".\"\nafter_days = 1\n"), Ok(true));
        for (text, part) in [
            ("", "folder"),
            ("folder = \".\"", "after_days"),
            ("folder = \".\"\nafter_days = 0", "[archive]: after_days = 0: expected 1 to 36500"),
            ("folder = \".\"\nafter_days = 36501", "[archive]: after_days = 36501"),
            ("folder = \"gone\"\nafter_days = 1", "expected a folder that exists"),
            ("folder = \".\"\nafter_days = 1\ndays = 2", "days"),
        ] {
            let error = read(&format!("[archive]\n{text}\n")).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
