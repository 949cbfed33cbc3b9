//! Monitoring by a Prometheus server that finds its targets in files (`file_sd_configs`), one per resource:
//! `TARGETS_DIR/NAME.json`, every group of it with the label `uuid`.
//!
//! *Proof of place*: the server shows an external label (or a command-line flag, such as its storage path) with
//! the configured value, and `TARGETS_DIR/.place`, `{"place": "NAME=VALUE"}`, says the same. So neither
//! another server nor an empty folder, where a disk is not mounted, is taken for one without the target. (Not
//! `*.json`: the server would take it for targets.)
//!
//! *Evidence*: a target is gone when neither the file nor the server's own list has it; history is gone when a
//! query over the whole range finds no sample, nowhere in time. A 204 says neither.
//!
//! *What fences cannot stop here*: neither target files nor series hold a fence. A consumer that slept through
//! its lease may silence a target again after its undo; the undo is verified once more after the longest call.
//! A target file is compared right before it is rewritten, but a writer in between is not seen.
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, Place, StepContext};
use sexton_consumer::permit::Permit;
use sexton_model::step::Presence;

use crate::action::{Action, only_looks};

mod answer;
mod file;
mod server;
mod target;

use answer::Seen;
use server::Server;
use target::Folder;

/// Time between two looks whether the server has taken over a changed target file.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Where the server and its target files are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The server, such as `http://127.0.0.1:9090`.
    pub url: String,
    /// A file with the value of the header `Authorization`, if the server wants one.
    #[serde(default)]
    pub authorization_file: Option<PathBuf>,
    /// The folder of target files.
    pub targets_dir: PathBuf,
    /// What this server, and no other, shows.
    pub place: Proof,
    /// Longest wait for the server to take over a changed target file, in milliseconds. It looks itself when
    /// the folder changes, or else every `refresh_interval`.
    #[serde(default = "twenty_seconds")]
    pub reload_wait_ms: u64,
}

/// What the server shows of itself. Of the external labels no answer of the query API tells; they are read in
/// the configuration that the server prints.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Proof {
    /// An external label.
    ExternalLabel {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// A command-line flag, such as `storage.tsdb.path`.
    Flag {
        /// Its name, without dashes.
        name: String,
        /// Its value.
        value: String,
    },
}

impl Proof {
    fn text(&self) -> String {
        match self {
            Self::ExternalLabel { name, value } | Self::Flag { name, value } => format!("{name}={value}"),
        }
    }
}

fn twenty_seconds() -> u64 {
    20_000
}

/// The driver.
#[derive(Debug)]
pub struct Prometheus {
    server: Server,
    folder: Folder,
    proof: Proof,
    reload_wait: Duration,
}

impl Prometheus {
    /// The driver for the server that `config` names.
    ///
    /// # Errors
    /// If the address is none.
    pub fn new(config: Config) -> anyhow::Result<Self> {
        Ok(Self {
            server: Server::new(&config.url, config.authorization_file)?,
            folder: Folder { path: config.targets_dir, place: config.place.text() },
            proof: config.place,
            reload_wait: Duration::from_millis(config.reload_wait_ms),
        })
    }

    /// The proof, read afresh.
    async fn place(&self, step: &StepContext) -> Result<Place, Obstacle> {
        let (held, wanted) = match &self.proof {
            Proof::ExternalLabel { name, value } => (self.server.external_label(step, name).await?, value),
            Proof::Flag { name, value } => (self.server.flag(step, name).await?, value),
        };
        if held.as_ref() != Some(wanted) {
            let held = held.unwrap_or_else(|| "nothing".into());
            return Err(Obstacle::Unclear(format!(
                "{}: this Prometheus shows {held}, expected {}: not the place",
                step.resource,
                self.proof.text()
            )));
        }
        Ok(Place(format!("prometheus {}", self.proof.text())))
    }

    /// What the targets that are pinned must agree with.
    fn same_place(&self, step: &StepContext) -> Result<(), String> {
        match step.targets.get("place") {
            Some(pinned) if *pinned != json!(self.proof.text()) => {
                Err(format!("{}: pinned in {pinned}, but this is {}", step.resource, self.proof.text()))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The target, on disk and in the server's list.
    async fn find_target(&self, step: &StepContext) -> Result<Found, Obstacle> {
        let uuid = uuid(step)?;
        let place = self.place(step).await?;
        if let Err(why) = self.same_place(step) {
            return Ok(Found::Different(why));
        }
        match self.folder.find(step, uuid).await? {
            Found::Absent(_) => {}
            found @ (Found::Same | Found::Different(_)) => return Ok(found),
        }
        let seen = self.server.targets(step, uuid).await?;
        if let Some(elsewhere) = seen.iter().find(|s| !self.is_ours(step, s)) {
            let from = elsewhere.file.as_deref().unwrap_or("the server's own configuration");
            return Ok(Found::Different(format!("{}: is also probed from {from}", step.resource)));
        }
        // Listed although the file is gone: the server has not looked yet, and there is something to wait for.
        Ok(if seen.is_empty() { Found::Absent(place) } else { Found::Same })
    }

    /// Whether a target in the server's list comes from the resource's own file. The server may see the folder
    /// under another path, so only the name is compared.
    fn is_ours(&self, step: &StepContext, seen: &Seen) -> bool {
        let name = format!("{}.json", step.resource.name);
        seen.file.as_deref().and_then(|file| file.rsplit('/').next()) == Some(name.as_str())
    }

    /// Wait until the server's list satisfies `wanted`; `None` if it does not in time.
    async fn wait_for(
        &self,
        step: &StepContext,
        uuid: &str,
        wanted: impl Fn(&[Seen]) -> bool,
    ) -> Result<bool, Obstacle> {
        let until = tokio::time::Instant::now() + self.reload_wait.min(step.time_left() / 2);
        loop {
            if wanted(&self.server.targets(step, uuid).await?) {
                return Ok(true);
            }
            if tokio::time::Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn find_history(&self, step: &StepContext) -> Result<Found, Obstacle> {
        let uuid = uuid(step)?;
        let place = self.place(step).await?;
        if let Err(why) = self.same_place(step) {
            return Ok(Found::Different(why));
        }
        if self.server.lists_series(step, uuid).await? || self.server.has_samples(step, uuid).await? {
            return Ok(Found::Same);
        }
        Ok(Found::Absent(place))
    }

    async fn delete_history(&self, step: &StepContext, permit: &Permit) -> Result<Done, Obstacle> {
        let uuid = uuid(step)?;
        match self.find_target(step).await? {
            Found::Absent(_) => {}
            Found::Same => {
                return Err(Obstacle::Refuse(format!(
                    "{}: is still probed: what is deleted would be measured anew",
                    step.resource
                )));
            }
            Found::Different(why) => return Err(Obstacle::Refuse(why)),
        }
        self.server.delete_series(step, uuid, permit).await?;
        if self.server.has_samples(step, uuid).await? {
            return Err(Obstacle::Unclear(format!(
                "{}: samples are left after the deletion, perhaps such as came out of order",
                step.resource
            )));
        }
        self.server.clean_tombstones(step, permit).await?;
        Ok(Done::saw("series deleted, their space freed"))
    }

    async fn presence_of_silence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        let uuid = uuid(step)?;
        let place = self.place(step).await?.0;
        let Some(text) = self.folder.read(step).await? else {
            let presence = if none_pinned(step) { Presence::Present } else { Presence::Absent };
            return Ok((presence, format!("{place}: no target to silence")));
        };
        let refuse = |why: String| Obstacle::Refuse(format!("{}: the target file {why}", step.resource));
        file::compare(&text, uuid).map_err(refuse)?;
        if !file::is_silenced(&text).map_err(refuse)? {
            return Ok((Presence::Absent, format!("{place}: the target is not silenced")));
        }
        let count = file::addresses(&text).map_err(refuse)?;
        let taken = |seen: &[Seen]| seen.len() >= count && seen.iter().all(|s| s.silenced);
        if self.wait_for(step, uuid, taken).await? {
            return Ok((Presence::Present, format!("{place}: silenced, {count} targets")));
        }
        Err(Obstacle::Unclear(format!(
            "{}: {place} has not taken over the silenced target yet",
            step.resource
        )))
    }
}

/// The resource's uuid. Never empty: a selector with an empty value would mean everything.
fn uuid(step: &StepContext) -> Result<&str, Obstacle> {
    step.identity
        .get("uuid")
        .filter(|uuid| {
            !uuid.is_empty() && uuid.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
        })
        .ok_or_else(|| {
            Obstacle::Refuse(format!("{}: monitoring needs an identity with a plain uuid", step.resource))
        })
}

/// Whether no target was there when targets were pinned: then its absence is what was expected.
fn none_pinned(step: &StepContext) -> bool {
    step.targets.get("target") == Some(&Value::Bool(false))
}

/// The captured file; `None` if there was none.
fn captured(step: &StepContext, manifest: &Value) -> Result<Option<String>, Obstacle> {
    match manifest.get("file") {
        Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) | None => Err(Obstacle::Refuse(format!("{}: a manifest without \"file\"", step.resource))),
    }
}

/// The captured file and its silenced form.
fn forms(step: &StepContext, manifest: &Value) -> Result<Option<(String, String)>, Obstacle> {
    let Some(loud) = captured(step, manifest)? else {
        return Ok(None);
    };
    let silent = file::silenced(&loud)
        .map_err(|why| Obstacle::Refuse(format!("{}: the captured target file {why}", step.resource)))?;
    Ok(Some((loud, silent)))
}

#[async_trait]
impl Driver for Prometheus {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let found = self.find_target(step).await?;
        let evidence = match &found {
            Found::Same => format!("{}: a target", self.proof.text()),
            Found::Absent(place) => format!("{}: no target", place.0),
            Found::Different(why) => why.clone(),
        };
        let targets = json!({ "place": self.proof.text(), "target": found == Found::Same });
        let found = match found {
            Found::Absent(_) if step.none_expected() => Found::Same,
            found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => found,
        };
        Ok(Inspection { found, targets, protected: None, evidence })
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        match Action::of(&step.action)? {
            Action::Inspect | Action::RemoveTarget => self.find_target(step).await,
            Action::DeleteHistory => self.find_history(step).await,
            Action::Silence => match self.find_target(step).await? {
                Found::Absent(_) if none_pinned(step) => Ok(Found::Same),
                found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => Ok(found),
            },
        }
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        if Action::of(&step.action)? != Action::Silence {
            return Err(step.no_undo());
        }
        match self.find(step).await? {
            Found::Same => Ok(json!({ "file": self.folder.read(step).await? })),
            Found::Absent(place) => {
                Err(Obstacle::Refuse(format!("{}: no target in {}", step.resource, place.0)))
            }
            Found::Different(why) => Err(Obstacle::Refuse(why)),
        }
    }

    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        let action = Action::of(&step.action)?;
        if let Found::Different(why) = self.find(step).await? {
            return Err(Obstacle::Refuse(why));
        }
        match action {
            Action::Inspect => Err(only_looks(step)),
            Action::Silence => {
                let manifest = manifest.ok_or_else(|| {
                    Obstacle::Refuse(format!("{}: monitoring.silence without a manifest", step.resource))
                })?;
                match forms(step, manifest)? {
                    None => self.folder.must_be_absent(step).await,
                    Some((loud, silent)) => self.folder.change(step, loud, silent, permit).await,
                }
            }
            Action::RemoveTarget => self.folder.remove(step, uuid(step)?, permit).await,
            Action::DeleteHistory => self.delete_history(step, &permit).await,
        }
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        if Action::of(&step.action)? != Action::Silence {
            return Err(step.no_undo());
        }
        if let Found::Different(why) = self.find(step).await? {
            return Err(Obstacle::Refuse(why));
        }
        match forms(step, manifest)? {
            None => self.folder.must_be_absent(step).await,
            Some((loud, silent)) => self.folder.change(step, silent, loud, permit).await,
        }
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        match Action::of(&step.action)? {
            Action::Silence => self.presence_of_silence(step).await,
            Action::DeleteHistory => {
                let place = self.place(step).await?.0;
                self.same_place(step).map_err(Obstacle::Refuse)?;
                Ok(if self.server.has_samples(step, uuid(step)?).await? {
                    (Presence::Present, format!("{place}: samples are left"))
                } else {
                    (Presence::Absent, format!("{place}: no sample at any time"))
                })
            }
            Action::Inspect | Action::RemoveTarget => {
                let uuid = uuid(step)?;
                match self.find_target(step).await? {
                    Found::Different(why) => Err(Obstacle::Refuse(why)),
                    Found::Absent(place) => {
                        Ok((Presence::Absent, format!("{}: neither on disk nor listed", place.0)))
                    }
                    Found::Same if self.folder.read(step).await?.is_some() => {
                        Ok((Presence::Present, "the target file is there".into()))
                    }
                    Found::Same if self.wait_for(step, uuid, <[Seen]>::is_empty).await? => {
                        let place = self.place(step).await?.0;
                        Ok((Presence::Absent, format!("{place}: neither on disk nor listed any more")))
                    }
                    Found::Same => Err(Obstacle::Unclear(format!(
                        "{}: the target file is gone, but the server lists the target still",
                        step.resource
                    ))),
                }
            }
        }
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        if Action::of(&step.action)? != Action::Silence {
            return Err(step.no_undo());
        }
        if let Found::Different(why) = self.find(step).await? {
            return Err(Obstacle::Refuse(why));
        }
        if self.folder.read(step).await? == captured(step, manifest)? {
            return Ok(format!("{}: the target file is as captured", self.proof.text()));
        }
        Err(Obstacle::Refuse(format!("{}: the target file is not as captured", step.resource)))
    }
}
