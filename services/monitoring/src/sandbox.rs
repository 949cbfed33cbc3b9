//! Monitoring as JSON files in a folder: kind `targets` (what is probed) and kind `history` (what was seen).
//!
//! A target is `{"identity": {…}, "address": TEXT, "silenced": BOOL}`, a history
//! `{"identity": {…}, "samples": NUMBER}`; both are called like the resource. The pinned targets are
//! `{"place": TEXT, "target": BOOL}`, a manifest is `{"target": OBJECT}` or `{"target": null}`.
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, StepContext};
use sexton_consumer::permit::Permit;
use sexton_consumer::sandbox::{Object, Sandbox};
use sexton_model::resource::Identity;
use sexton_model::step::Presence;
use sexton_model::{Fence, Instance, ResourceId};

use crate::action::{Action, only_looks};

const TARGETS: &str = "targets";
const HISTORY: &str = "history";

/// Where the sandbox is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of all sandboxes.
    pub root: PathBuf,
    /// Which instance this is, such as `monitoring.main`.
    pub instance: Instance,
}

/// The driver.
#[derive(Debug)]
pub struct SandboxMonitoring {
    sandbox: Sandbox,
}

/// Make the place, if need be, with a target and a history for `resource`.
///
/// # Errors
/// If the file system refuses.
pub fn create(
    root: &Path,
    instance: &Instance,
    resource: &ResourceId,
    identity: &Identity,
    address: &str,
) -> anyhow::Result<()> {
    let sandbox = Sandbox::create(root, instance)?;
    let target =
        object([("identity", json!(identity)), ("address", json!(address)), ("silenced", json!(false))]);
    let history = object([("identity", json!(identity)), ("samples", json!(1000))]);
    sandbox.write(TARGETS, resource.name.as_str(), target, Fence::default())?;
    sandbox.write(HISTORY, resource.name.as_str(), history, Fence::default())?;
    Ok(())
}

/// What there is for `resource`, for comparing before and after; without fences, `null` for what is not there.
///
/// # Errors
/// If the place cannot be read.
pub fn describe(root: &Path, instance: &Instance, resource: &ResourceId) -> anyhow::Result<Value> {
    let sandbox = Sandbox::at(root, instance);
    let target = sandbox.read(TARGETS, resource.name.as_str())?.map(unfenced);
    let history = sandbox.read(HISTORY, resource.name.as_str())?.map(unfenced);
    Ok(json!({ "target": target, "history": history }))
}

fn object<const N: usize>(attributes: [(&str, Value); N]) -> Object {
    attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn unfenced(mut object: Object) -> Object {
    object.remove("fence");
    object
}

fn silenced(object: &Object) -> bool {
    object.get("silenced") == Some(&Value::Bool(true))
}

/// What `silence` makes of a target.
fn intended(captured: &Object) -> Object {
    let mut intended = captured.clone();
    intended.insert("silenced".into(), Value::Bool(true));
    intended
}

/// The captured target; `None` if there was none.
fn captured(step: &StepContext, manifest: &Value) -> Result<Option<Object>, Obstacle> {
    match manifest.get("target") {
        Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object.clone())),
        Some(_) | None => {
            Err(Obstacle::Refuse(format!("{}: a manifest without \"target\": {manifest}", step.resource)))
        }
    }
}

impl SandboxMonitoring {
    /// The driver for the place that `config` names, which need not exist yet.
    pub fn new(config: &Config) -> Self {
        Self { sandbox: Sandbox::at(&config.root, &config.instance) }
    }

    fn read(&self, kind: &str, step: &StepContext) -> Result<Option<Object>, Obstacle> {
        Ok(self.sandbox.read(kind, step.resource.name.as_str())?.map(unfenced))
    }

    fn found(&self, step: &StepContext, kind: &str) -> Result<Found, Obstacle> {
        let place = self.sandbox.place()?;
        if let Some(pinned) = step.targets.get("place")
            && pinned.as_str() != Some(&place.0)
        {
            let why = format!("{}: pinned in {pinned}, but this is {}", step.resource, place.0);
            return Ok(Found::Different(why));
        }
        let Some(read) = self.read(kind, step)? else {
            return Ok(Found::Absent(place));
        };
        Ok(match read.get("identity") {
            Some(held) if *held == json!(step.identity) => Found::Same,
            held => Found::Different(format!(
                "{kind}/{} has identity {}",
                step.resource.name,
                held.unwrap_or(&Value::Null)
            )),
        })
    }

    /// Whether the target was pinned as not being there: then its absence is what was expected.
    fn none_pinned(step: &StepContext) -> bool {
        step.targets.get("target") == Some(&Value::Bool(false))
    }

    /// The target now, and what it should become: refused if it is neither captured nor `wanted`.
    fn change(
        &self,
        step: &StepContext,
        from: Option<&Object>,
        to: Option<&Object>,
        permit: &Permit,
    ) -> Result<&'static str, Obstacle> {
        let now = self.read(TARGETS, step)?;
        if now.as_ref() == to {
            // For its fence: an older order that is still on its way must find it.
            if let Some(to) = to {
                self.sandbox.write(TARGETS, step.resource.name.as_str(), to.clone(), permit.again()?)?;
            }
            return Ok("already");
        }
        match to {
            Some(to) if now.as_ref() == from => {
                self.sandbox.write(TARGETS, step.resource.name.as_str(), to.clone(), permit.again()?)?;
                Ok("written")
            }
            Some(_) | None => Err(Obstacle::Refuse(format!(
                "targets/{} was changed by others: it is {}",
                step.resource.name,
                json!(now)
            ))),
        }
    }

    fn delete_history(&self, step: &StepContext, permit: &Permit) -> Result<Done, Obstacle> {
        match self.found(step, TARGETS)? {
            Found::Absent(_) => {}
            Found::Same | Found::Different(_) => {
                return Err(Obstacle::Refuse(format!(
                    "targets/{} is still probed: what is deleted would be measured anew",
                    step.resource.name
                )));
            }
        }
        self.sandbox.remove(HISTORY, step.resource.name.as_str(), permit.again()?)?;
        Ok(Done::saw("history deleted"))
    }
}

#[async_trait]
impl Driver for SandboxMonitoring {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let found = self.found(step, TARGETS)?;
        let place = self.sandbox.place()?.0;
        let targets = json!({ "place": place, "target": found == Found::Same });
        let evidence = match &found {
            Found::Same => format!("{place}: target {}", step.resource.name),
            Found::Absent(_) => format!("{place}: no target {}", step.resource.name),
            Found::Different(why) => why.clone(),
        };
        let found = match found {
            Found::Absent(_) if step.none_expected() => Found::Same,
            found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => found,
        };
        Ok(Inspection { found, targets, protected: None, evidence })
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        match Action::of(&step.action)? {
            Action::Inspect | Action::RemoveTarget => self.found(step, TARGETS),
            Action::DeleteHistory => self.found(step, HISTORY),
            Action::Silence => match self.found(step, TARGETS)? {
                Found::Absent(_) if Self::none_pinned(step) => Ok(Found::Same),
                found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => Ok(found),
            },
        }
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        match Action::of(&step.action)? {
            Action::Silence => match self.find(step).await? {
                Found::Same => Ok(json!({ "target": self.read(TARGETS, step)? })),
                Found::Absent(place) => {
                    Err(Obstacle::Refuse(format!("targets/{}: not in {}", step.resource.name, place.0)))
                }
                Found::Different(why) => Err(Obstacle::Refuse(why)),
            },
            Action::Inspect | Action::RemoveTarget | Action::DeleteHistory => Err(step.no_undo()),
        }
    }

    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        if let Found::Different(why) = self.find(step).await? {
            return Err(Obstacle::Refuse(why));
        }
        match Action::of(&step.action)? {
            Action::Inspect => Err(only_looks(step)),
            Action::Silence => {
                let manifest = manifest.ok_or_else(|| {
                    Obstacle::Refuse(format!("{}: monitoring.silence without a manifest", step.resource))
                })?;
                let from = captured(step, manifest)?;
                let to = from.as_ref().map(intended);
                let how = self.change(step, from.as_ref(), to.as_ref(), &permit)?;
                Ok(Done::saw(format!("silenced ({how})")))
            }
            Action::RemoveTarget => {
                self.sandbox.remove(TARGETS, step.resource.name.as_str(), permit.again()?)?;
                Ok(Done::saw("target removed"))
            }
            Action::DeleteHistory => self.delete_history(step, &permit),
        }
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        if Action::of(&step.action)? != Action::Silence {
            return Err(step.no_undo());
        }
        if let Found::Different(why) = self.find(step).await? {
            return Err(Obstacle::Refuse(why));
        }
        let to = captured(step, manifest)?;
        let from = to.as_ref().map(intended);
        let how = self.change(step, from.as_ref(), to.as_ref(), &permit)?;
        Ok(Done::saw(format!("as captured ({how})")))
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        let action = Action::of(&step.action)?;
        let kind = if action == Action::DeleteHistory { HISTORY } else { TARGETS };
        let name = &step.resource.name;
        match self.found(step, kind)? {
            Found::Different(why) => Err(Obstacle::Refuse(why)),
            // Nothing was there to be silenced, and nothing is: that is the effect.
            Found::Absent(place) if action == Action::Silence && Self::none_pinned(step) => {
                Ok((Presence::Present, format!("{}: no {kind}/{name} to silence", place.0)))
            }
            Found::Absent(place) => Ok((Presence::Absent, format!("{}: no {kind}/{name}", place.0))),
            Found::Same if action == Action::Silence => {
                let silent = self.read(TARGETS, step)?.is_some_and(|read| silenced(&read));
                let presence = if silent { Presence::Present } else { Presence::Absent };
                Ok((presence, format!("{kind}/{name}: silenced is {silent}")))
            }
            Found::Same => Ok((Presence::Present, format!("{kind}/{name} is there"))),
        }
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        if Action::of(&step.action)? != Action::Silence {
            return Err(step.no_undo());
        }
        if let Found::Different(why) = self.find(step).await? {
            return Err(Obstacle::Refuse(why));
        }
        let now = self.read(TARGETS, step)?;
        if now == captured(step, manifest)? {
            return Ok(format!("targets/{} is as captured", step.resource.name));
        }
        Err(Obstacle::Refuse(format!("targets/{} is not as captured: {}", step.resource.name, json!(now))))
    }
}
