//! Backups as JSON files in a folder: kind `archives` (all snapshots of one resource) and kind `schedules`.
//!
//! An archive is `{"identity": {…}, "snapshots": {ID: {"final": BOOL}}}`, a schedule
//! `{"identity": {…}, "cron": TEXT}`; both are called like the resource. Targets are
//! `{"place": TEXT, "snapshots": [ID, …], "schedule": BOOL}`; `final` adds `{"final": [ID]}`.
//!
//! While a backup of the resource runs, there is `running/NAME.json`, `{"by": TEXT}`: an inspection waits for its end, and so
//! does whoever deletes, as a store does that is locked by who writes to it.
//! While the store keeps the archive, whoever asks, there is `locks/NAME.json`, `{"locked until": "YYYY-MM-DD"}`: then
//! nothing of it is deleted, and a person is told until when it is present.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, StepContext};
use sexton_consumer::permit::Permit;
use sexton_consumer::sandbox::{Object, Sandbox};
use sexton_model::receipt::PRESENT_UNTIL;
use sexton_model::resource::Identity;
use sexton_model::step::Presence;
use sexton_model::{Fence, Instance, ResourceId};

use crate::action::{Action, only_looks};

const ARCHIVES: &str = "archives";
const SCHEDULES: &str = "schedules";
const RUNNING: &str = "running";
const LOCKS: &str = "locks";
const LOCKED_UNTIL: &str = "locked until";

/// Where the sandbox is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of all sandboxes.
    pub root: PathBuf,
    /// Which instance this is, such as `backup.main`.
    pub instance: Instance,
}

/// The driver.
#[derive(Debug)]
pub struct SandboxBackup {
    sandbox: Sandbox,
}

/// Make the place, if need be, with these snapshots and a nightly schedule for `resource`.
///
/// # Errors
/// If the file system refuses.
pub fn create(
    root: &Path,
    instance: &Instance,
    resource: &ResourceId,
    identity: &Identity,
    snapshots: &[&str],
) -> anyhow::Result<()> {
    let sandbox = Sandbox::create(root, instance)?;
    let all: Map<String, Value> =
        snapshots.iter().map(|id| ((*id).to_owned(), json!({ "final": false }))).collect();
    let archive = object([("identity", json!(identity)), ("snapshots", Value::Object(all))]);
    let schedule = object([("identity", json!(identity)), ("cron", json!("30 2 * * *"))]);
    sandbox.write(ARCHIVES, resource.name.as_str(), archive, Fence::default())?;
    sandbox.write(SCHEDULES, resource.name.as_str(), schedule, Fence::default())?;
    Ok(())
}

/// What there is for `resource`, for comparing before and after: no fences, and no final backups, which a
/// cancel rightly leaves where they are. `null` for what is not there.
///
/// # Errors
/// If the place cannot be read.
pub fn describe(root: &Path, instance: &Instance, resource: &ResourceId) -> anyhow::Result<Value> {
    let sandbox = Sandbox::at(root, instance);
    let mut archive = sandbox.read(ARCHIVES, resource.name.as_str())?;
    if let Some(Value::Object(all)) = archive.as_mut().and_then(|a| a.get_mut("snapshots")) {
        all.retain(|_, snapshot| !is_final(snapshot));
    }
    let mut schedule = sandbox.read(SCHEDULES, resource.name.as_str())?;
    for read in [&mut archive, &mut schedule].into_iter().flatten() {
        read.remove("fence");
    }
    Ok(json!({ "archive": archive, "schedule": schedule }))
}

fn object<const N: usize>(attributes: [(&str, Value); N]) -> Object {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn is_final(snapshot: &Value) -> bool {
    snapshot.get("final") == Some(&Value::Bool(true))
}

/// Whether `read` is this resource's, by its whole identity.
fn compare(step: &StepContext, kind: &str, read: &Object) -> Result<(), String> {
    match read.get("identity") {
        Some(held) if *held == json!(step.identity) => Ok(()),
        held => Err(format!("{kind}/{} has identity {}", step.resource.name, held.unwrap_or(&Value::Null))),
    }
}

fn snapshots(step: &StepContext, archive: Option<&Object>) -> Result<Map<String, Value>, Obstacle> {
    match archive.map(|a| a.get("snapshots")) {
        None => Ok(Map::new()),
        Some(Some(Value::Object(all))) => Ok(all.clone()),
        Some(_) => Err(Obstacle::Unclear(format!("archives/{}: no \"snapshots\"", step.resource.name))),
    }
}

/// The snapshot ids that were pinned, and those this deletion has made.
fn pinned(step: &StepContext) -> Result<BTreeSet<String>, Obstacle> {
    let mut ids = made(step)?;
    let listed = step.targets.get("snapshots").ok_or_else(|| {
        Obstacle::Refuse(format!("{}: no snapshots are pinned; inspect first", step.resource))
    })?;
    ids.extend(ids_of(step, listed)?);
    Ok(ids)
}

fn made(step: &StepContext) -> Result<BTreeSet<String>, Obstacle> {
    step.targets.get("final").map_or_else(|| Ok(BTreeSet::new()), |listed| ids_of(step, listed))
}

fn ids_of(step: &StepContext, listed: &Value) -> Result<BTreeSet<String>, Obstacle> {
    serde_json::from_value(listed.clone())
        .map_err(|e| Obstacle::Refuse(format!("{}: pinned snapshots {listed}: {e}", step.resource)))
}

impl SandboxBackup {
    /// The driver for the place that `config` names, which need not exist yet.
    pub fn new(config: &Config) -> Self {
        Self { sandbox: Sandbox::at(&config.root, &config.instance) }
    }

    fn read(&self, kind: &str, step: &StepContext) -> Result<Option<Object>, Obstacle> {
        self.sandbox.read(kind, step.resource.name.as_str())
    }

    /// Refuses a place other than the pinned one.
    fn same_place(&self, step: &StepContext) -> Result<Option<String>, Obstacle> {
        let place = self.sandbox.place()?.0;
        Ok(match step.targets.get("place") {
            Some(pinned) if pinned.as_str() != Some(&place) => {
                Some(format!("{}: pinned in {pinned}, but this is {place}", step.resource))
            }
            Some(_) | None => None,
        })
    }

    fn found(&self, step: &StepContext, kind: &str) -> Result<Found, Obstacle> {
        if let Some(other) = self.same_place(step)? {
            return Ok(Found::Different(other));
        }
        match self.read(kind, step)? {
            None => Ok(Found::Absent(self.sandbox.place()?)),
            Some(read) => Ok(compare(step, kind, &read).map_or_else(Found::Different, |()| Found::Same)),
        }
    }

    /// The pinned snapshots that are there.
    fn left(&self, step: &StepContext) -> Result<Vec<String>, Obstacle> {
        let all = snapshots(step, self.read(ARCHIVES, step)?.as_ref())?;
        Ok(pinned(step)?.into_iter().filter(|id| all.contains_key(id)).collect())
    }

    /// The snapshots that are no targets: made by others since those were pinned.
    fn not_pinned(&self, step: &StepContext) -> Result<Vec<String>, Obstacle> {
        let all = snapshots(step, self.read(ARCHIVES, step)?.as_ref())?;
        let targets = pinned(step)?;
        let newer = all.iter().filter(|(id, snapshot)| !targets.contains(*id) && !is_final(snapshot));
        Ok(newer.map(|(id, _)| id.clone()).collect())
    }

    /// Not now while a backup of it runs: nobody is told of a deletion before it has ended, and nothing goes from under it.
    fn not_running(&self, step: &StepContext) -> Result<(), Obstacle> {
        match self.read(RUNNING, step)? {
            None => Ok(()),
            Some(running) => {
                let by = running.get("by").and_then(Value::as_str).unwrap_or("nobody knows whom");
                Err(Obstacle::Busy(format!(
                    "{} is in use: a backup of it is being made by {by}",
                    step.resource
                )))
            }
        }
    }

    /// Until when the store keeps the archive, if it does.
    fn locked_until(&self, step: &StepContext) -> Result<Option<String>, Obstacle> {
        let Some(lock) = self.read(LOCKS, step)? else { return Ok(None) };
        let until = lock.get(LOCKED_UNTIL).and_then(Value::as_str);
        let until = until.ok_or_else(|| {
            Obstacle::Unclear(format!("{LOCKS}/{}: no {LOCKED_UNTIL:?}", step.resource.name))
        })?;
        Ok(Some(until.to_owned()))
    }

    /// From now on no more are made: those that were since the targets were pinned join them.
    fn remove_schedule(&self, step: &StepContext, permit: &Permit) -> Result<Done, Obstacle> {
        self.sandbox.remove(SCHEDULES, step.resource.name.as_str(), permit.again()?)?;
        let newer = self.not_pinned(step)?;
        let evidence = format!("schedule removed; {} newer snapshots join the targets", newer.len());
        let pinned =
            step.targets.get("snapshots").map_or_else(|| Ok(BTreeSet::new()), |ids| ids_of(step, ids))?;
        let snapshots: BTreeSet<String> = pinned.into_iter().chain(newer).collect();
        Ok(Done { evidence, created: Some(json!({ "snapshots": snapshots })) })
    }

    /// The final backup of this deletion: pinned as made by it, or marked and newer than what was pinned.
    fn last(&self, step: &StepContext) -> Result<Option<String>, Obstacle> {
        let all = snapshots(step, self.read(ARCHIVES, step)?.as_ref())?;
        let made = made(step)?;
        let before = match step.targets.get("snapshots") {
            Some(listed) => ids_of(step, listed)?,
            None => BTreeSet::new(),
        };
        Ok(all
            .iter()
            .find(|(id, snapshot)| made.contains(*id) || is_final(snapshot) && !before.contains(*id))
            .map(|(id, _)| id.clone()))
    }

    fn back_up(&self, step: &StepContext, permit: &Permit) -> Result<Done, Obstacle> {
        let id = match self.last(step)? {
            Some(id) => id,
            None => {
                let fence = permit.fence();
                let id = format!("final-{}-{}", fence.epoch, fence.number);
                let mut archive = self.read(ARCHIVES, step)?.unwrap_or_else(|| {
                    object([("identity", json!(step.identity)), ("snapshots", json!({}))])
                });
                let mut all = snapshots(step, Some(&archive))?;
                all.insert(id.clone(), json!({ "final": true }));
                archive.insert("snapshots".into(), Value::Object(all));
                self.sandbox.write(ARCHIVES, step.resource.name.as_str(), archive, permit.again()?)?;
                id
            }
        };
        Ok(Done { evidence: format!("final backup {id}"), created: Some(json!({ "final": [id] })) })
    }

    fn delete_archives(&self, step: &StepContext, permit: &Permit) -> Result<Done, Obstacle> {
        let pinned = pinned(step)?;
        if let Some(date) = self.locked_until(step)? {
            return Err(Obstacle::Refuse(format!(
                "{}: its archive is locked by the store: {PRESENT_UNTIL}{date}",
                step.resource
            )));
        }
        self.not_running(step)?;
        let Some(mut archive) = self.read(ARCHIVES, step)? else {
            return Ok(Done::saw("no archive"));
        };
        let mut all = snapshots(step, Some(&archive))?;
        let before = all.len();
        all.retain(|id, _| !pinned.contains(id));
        let deleted = before - all.len();
        step.progress.report(deleted as u64, before as u64);
        let name = step.resource.name.as_str();
        if all.is_empty() {
            self.sandbox.remove(ARCHIVES, name, permit.again()?)?;
        } else {
            archive.insert("snapshots".into(), Value::Object(all));
            self.sandbox.write(ARCHIVES, name, archive, permit.again()?)?;
        }
        Ok(Done::saw(format!("deleted {deleted} of {before} snapshots")))
    }
}

#[async_trait]
impl Driver for SandboxBackup {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let place = self.sandbox.place()?;
        self.not_running(step)?;
        let archive = self.found(step, ARCHIVES)?;
        let schedule = self.found(step, SCHEDULES)?;
        let all = snapshots(step, self.read(ARCHIVES, step)?.as_ref())?;
        // What this deletion made itself stands under a key of its own.
        let made = made(step)?;
        let ids: Vec<&String> = all.keys().filter(|id| !made.contains(*id)).collect();
        let locked = self.locked_until(step)?.map(|date| format!(", {PRESENT_UNTIL}{date}"));
        let evidence = format!("{}: {} snapshots{}", place.0, ids.len(), locked.unwrap_or_default());
        let targets = json!({ "place": place.0, "snapshots": ids, "schedule": schedule == Found::Same });
        let found = match (archive, schedule) {
            (Found::Different(why), _) | (_, Found::Different(why)) => Found::Different(why),
            (Found::Same, _) | (_, Found::Same) => Found::Same,
            (Found::Absent(_), Found::Absent(_)) if step.none_expected() => Found::Same,
            (Found::Absent(place), Found::Absent(_)) => Found::Absent(place),
        };
        Ok(Inspection { found, targets, protected: None, evidence })
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        match Action::of(&step.action)? {
            Action::Inspect => Ok(self.inspect(step).await?.found),
            Action::RemoveSchedule => Ok(match self.found(step, SCHEDULES)? {
                Found::Absent(_) if !self.not_pinned(step)?.is_empty() => Found::Same,
                found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => found,
            }),
            Action::Final => match self.found(step, ARCHIVES)? {
                // The first backup of a resource that had none: there is nothing to be missed.
                Found::Absent(_) if pinned(step)?.is_empty() => Ok(Found::Same),
                found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => Ok(found),
            },
            Action::DeleteArchives => match self.found(step, ARCHIVES)? {
                Found::Same if !self.not_pinned(step)?.is_empty() => Ok(Found::Different(format!(
                    "{}: {} snapshots of it were made after the targets were pinned; look at them, and move or \
                     delete them by hand",
                    step.resource,
                    self.not_pinned(step)?.len()
                ))),
                Found::Same if self.left(step)?.is_empty() => Ok(Found::Absent(self.sandbox.place()?)),
                found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => Ok(found),
            },
        }
    }

    async fn perform(
        &self,
        step: &StepContext,
        _manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        if let Found::Different(why) = self.find(step).await? {
            return Err(Obstacle::Refuse(why));
        }
        match Action::of(&step.action)? {
            Action::Inspect => Err(only_looks(step)),
            Action::Final => self.back_up(step, &permit),
            Action::RemoveSchedule => self.remove_schedule(step, &permit),
            Action::DeleteArchives => self.delete_archives(step, &permit),
        }
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        let place = self.sandbox.place()?.0;
        if let Some(other) = self.same_place(step)? {
            return Err(Obstacle::Refuse(other));
        }
        match Action::of(&step.action)? {
            Action::Final => Ok(match self.last(step)? {
                Some(id) => (Presence::Present, format!("{place}: final backup {id}")),
                None => (Presence::Absent, format!("{place}: no final backup")),
            }),
            Action::DeleteArchives => Ok(match self.left(step)?.as_slice() {
                [] => (Presence::Absent, format!("{place}: no pinned snapshot is left")),
                left => (Presence::Present, format!("{place}: left are {}", left.join(", "))),
            }),
            Action::RemoveSchedule | Action::Inspect => match self.found(step, SCHEDULES)? {
                Found::Same => Ok((Presence::Present, format!("{place}: scheduled"))),
                Found::Absent(place) => Ok((Presence::Absent, format!("{}: not scheduled", place.0))),
                Found::Different(why) => Err(Obstacle::Refuse(why)),
            },
        }
    }
}
