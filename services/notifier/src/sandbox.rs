//! An office that tells nobody: it only keeps the spool, for the demo and for tests.
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::Obstacle;
use sexton_model::Instance;
use tokio::time::Duration;

use crate::letter::Letter;
use crate::office::{Delivery, Office};
use crate::spool::{Spool, State};

/// Where the sandbox is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of all sandboxes.
    pub root: PathBuf,
    /// Which instance this is, such as `notifier.main`.
    pub instance: Instance,
    /// Who is told of every deletion, beside those whom the platform names.
    #[serde(default)]
    pub also_tell: Vec<String>,
}

/// The office.
#[derive(Debug)]
pub struct SandboxOffice {
    spool: Spool,
    also_tell: Vec<String>,
}

/// Make the place, if need be.
///
/// # Errors
/// If the file system refuses.
pub fn create(root: &Path, instance: &Instance) -> std::io::Result<()> {
    Spool::create(root, instance).map(drop)
}

/// Which deletions people have been told of and not told otherwise, and who: for comparing before and after.
///
/// # Errors
/// If the place cannot be read.
pub fn describe(root: &Path, instance: &Instance) -> anyhow::Result<Value> {
    let mut expected = Vec::new();
    for announcement in Spool::at(root, instance).all()? {
        let told = match announcement.state {
            State::Announcing | State::Announced => announcement.tried,
            State::Retracting => announcement.to.into_iter().collect(),
            State::Retracted => continue,
        };
        expected.push(json!({
            "resource": announcement.resource,
            "identity": announcement.identity,
            "due": announcement.due,
            "told": told,
        }));
    }
    Ok(json!(expected))
}

impl SandboxOffice {
    /// The office in the place that `config` names, which need not exist yet.
    pub fn new(config: &Config) -> Self {
        Self { spool: Spool::at(&config.root, &config.instance), also_tell: config.also_tell.clone() }
    }
}

#[async_trait]
impl Office for SandboxOffice {
    fn spool(&self) -> &Spool {
        &self.spool
    }

    fn also_tell(&self) -> &[String] {
        &self.also_tell
    }

    async fn tell(&self, _to: &str, _letter: &Letter, _within: Duration) -> Result<Delivery, Obstacle> {
        Ok(Delivery::Accepted)
    }
}
