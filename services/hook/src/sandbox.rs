//! Objects in a folder, for any hooked subsystem: kind `objects`, `{"identity": {…}, "active": BOOL,
//! "certificate": BOOL}`, called like the resource.
//!
//! What an action does follows from its nature: a reversible one sets `active` to false, a destructive one
//! removes the object with its certificate, if anything is pinned. Pinned targets are `{"place": TEXT, "object": BOOL}`, a manifest
//! is `{"active": BOOL}`, or `{"active": null}` if there was no object.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, StepContext};
use sexton_consumer::permit::Permit;
use sexton_consumer::sandbox::{Object, Sandbox};
use sexton_model::catalogue::{Nature, SubsystemActions};
use sexton_model::resource::Identity;
use sexton_model::step::Presence;
use sexton_model::{ActionName, Fence, Instance, ResourceId};

use crate::hook::{NOTHING_PINNED, nothing_pinned};

const OBJECTS: &str = "objects";

/// Where the sandbox is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of all sandboxes.
    pub root: PathBuf,
    /// Which instance this is, such as `accounting.main`.
    pub instance: Instance,
    /// The file that describes the subsystem's actions; not needed for the delivered subsystems.
    #[serde(default)]
    pub actions: Option<PathBuf>,
}

/// The driver.
#[derive(Debug)]
pub struct SandboxHook {
    sandbox: Sandbox,
    natures: BTreeMap<ActionName, Nature>,
}

/// Make the place, if need be, with an active object that has a certificate, for `resource`.
///
/// # Errors
/// If the file system refuses.
pub fn create(
    root: &Path,
    instance: &Instance,
    resource: &ResourceId,
    identity: &Identity,
) -> anyhow::Result<()> {
    let sandbox = Sandbox::create(root, instance)?;
    let object: Object =
        [("identity", json!(identity)), ("active", json!(true)), ("certificate", json!(true))]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
    sandbox.write(OBJECTS, resource.name.as_str(), object, Fence::default())?;
    Ok(())
}

/// What there is for `resource`, for comparing before and after; without its fence, `null` if it is not there.
///
/// # Errors
/// If the place cannot be read.
pub fn describe(root: &Path, instance: &Instance, resource: &ResourceId) -> anyhow::Result<Value> {
    let mut object = Sandbox::at(root, instance).read(OBJECTS, resource.name.as_str())?;
    if let Some(object) = object.as_mut() {
        object.remove("fence");
    }
    Ok(json!({ "object": object }))
}

/// What was captured of `active`; `None` if there was no object.
fn captured(step: &StepContext, manifest: &Value) -> Result<Option<bool>, Obstacle> {
    match manifest.get("active") {
        Some(Value::Null) => Ok(None),
        Some(Value::Bool(active)) => Ok(Some(*active)),
        Some(_) | None => {
            Err(Obstacle::Refuse(format!("{}: a manifest without \"active\": {manifest}", step.resource)))
        }
    }
}

impl SandboxHook {
    /// The driver for the place that `config` names, which need not exist yet.
    pub fn new(config: &Config, actions: &SubsystemActions) -> Self {
        let natures = actions.actions.iter().map(|(name, action)| (name.clone(), action.nature)).collect();
        Self { sandbox: Sandbox::at(&config.root, &config.instance), natures }
    }

    fn nature(&self, step: &StepContext) -> Result<Nature, Obstacle> {
        self.natures.get(&step.action).copied().ok_or_else(|| {
            Obstacle::Refuse(format!("{}: this hook has no action {}", step.resource, step.action))
        })
    }

    fn read(&self, step: &StepContext) -> Result<Option<Object>, Obstacle> {
        self.sandbox.read(OBJECTS, step.resource.name.as_str())
    }

    fn active(&self, step: &StepContext) -> Result<Option<bool>, Obstacle> {
        let Some(read) = self.read(step)? else {
            return Ok(None);
        };
        match read.get("active") {
            Some(Value::Bool(active)) => Ok(Some(*active)),
            Some(_) | None => {
                Err(Obstacle::Unclear(format!("objects/{}: no \"active\"", step.resource.name)))
            }
        }
    }

    fn found(&self, step: &StepContext) -> Result<Found, Obstacle> {
        let place = self.sandbox.place()?;
        if let Some(pinned) = step.targets.get("place")
            && pinned.as_str() != Some(&place.0)
        {
            let why = format!("{}: pinned in {pinned}, but this is {}", step.resource, place.0);
            return Ok(Found::Different(why));
        }
        let Some(read) = self.read(step)? else {
            return Ok(Found::Absent(place));
        };
        Ok(match read.get("identity") {
            Some(held) if *held == json!(step.identity) => Found::Same,
            held => Found::Different(format!(
                "objects/{} has identity {}",
                step.resource.name,
                held.unwrap_or(&Value::Null)
            )),
        })
    }

    fn none_pinned(step: &StepContext) -> bool {
        step.targets.get("object") == Some(&Value::Bool(false))
    }

    /// Set `active`, which must be as it was captured or as it is intended.
    fn set(
        &self,
        step: &StepContext,
        before: Option<bool>,
        active: bool,
        permit: &Permit,
    ) -> Result<Done, Obstacle> {
        let now = self.active(step)?;
        match (before, self.read(step)?) {
            (None, None) => Ok(Done::saw("there was no object, and there is none")),
            (Some(_), Some(mut object)) => {
                object.insert("active".into(), Value::Bool(active));
                // Also if it is so already, for the fence: an older order that is on its way must find it.
                self.sandbox.write(OBJECTS, step.resource.name.as_str(), object, permit.again()?)?;
                Ok(Done::saw(format!("active is {active}")))
            }
            (None, Some(_)) | (Some(_), None) => Err(Obstacle::Refuse(format!(
                "objects/{} was changed by others since the capture: active was {}, is {}",
                step.resource.name,
                json!(before),
                json!(now)
            ))),
        }
    }
}

#[async_trait]
impl Driver for SandboxHook {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let found = self.found(step)?;
        let place = self.sandbox.place()?.0;
        let targets = json!({ "place": place, "object": found == Found::Same });
        let evidence = match &found {
            Found::Same => format!("{place}: object {}", step.resource.name),
            Found::Absent(_) => format!("{place}: no object {}", step.resource.name),
            Found::Different(why) => why.clone(),
        };
        let found = match found {
            Found::Absent(_) if step.none_expected() => Found::Same,
            found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => found,
        };
        Ok(Inspection { found, targets, protected: None, evidence })
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        match (self.nature(step)?, self.found(step)?) {
            // Nothing was there at announce, and nothing is: as expected.
            (Nature::Reversible, Found::Absent(_)) if Self::none_pinned(step) => Ok(Found::Same),
            (_, found) => Ok(found),
        }
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        if self.nature(step)? != Nature::Reversible {
            return Err(step.no_undo());
        }
        match self.find(step).await? {
            Found::Same => Ok(json!({ "active": self.active(step)? })),
            Found::Absent(place) => {
                Err(Obstacle::Refuse(format!("objects/{}: not in {}", step.resource.name, place.0)))
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
        let there = match self.find(step).await? {
            Found::Different(why) => return Err(Obstacle::Refuse(why)),
            Found::Same => true,
            Found::Absent(_) => false,
        };
        match self.nature(step)? {
            Nature::Destructive if there && nothing_pinned(step) => {
                Err(Obstacle::Refuse(format!("objects/{}: {NOTHING_PINNED}", step.resource.name)))
            }
            Nature::Reversible => {
                let manifest = manifest.ok_or_else(|| {
                    Obstacle::Refuse(format!("{}: {} without a manifest", step.resource, step.action))
                })?;
                self.set(step, captured(step, manifest)?, false, &permit)
            }
            Nature::Destructive => {
                self.sandbox.remove(OBJECTS, step.resource.name.as_str(), permit.again()?)?;
                Ok(Done::saw("object and certificate removed"))
            }
            Nature::Inspect | Nature::Check | Nature::Adds => Err(Obstacle::Refuse(format!(
                "{}: {} changes nothing; it cannot be performed",
                step.resource, step.action
            ))),
        }
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        if self.nature(step)? != Nature::Reversible {
            return Err(step.no_undo());
        }
        if let Found::Different(why) = self.find(step).await? {
            return Err(Obstacle::Refuse(why));
        }
        let before = captured(step, manifest)?;
        self.set(step, before, before.unwrap_or_default(), &permit)
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        let nature = self.nature(step)?;
        let name = &step.resource.name;
        match self.found(step)? {
            Found::Different(why) => Err(Obstacle::Refuse(why)),
            Found::Absent(place) if nature == Nature::Reversible && Self::none_pinned(step) => {
                Ok((Presence::Present, format!("{}: no objects/{name} to switch off", place.0)))
            }
            Found::Absent(place) => Ok((Presence::Absent, format!("{}: no objects/{name}", place.0))),
            Found::Same if nature == Nature::Reversible => {
                let off = self.active(step)? == Some(false);
                let presence = if off { Presence::Present } else { Presence::Absent };
                Ok((presence, format!("objects/{name}: active is {}", !off)))
            }
            Found::Same => Ok((Presence::Present, format!("objects/{name} is there"))),
        }
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        if let Found::Different(why) = self.find(step).await? {
            return Err(Obstacle::Refuse(why));
        }
        let (before, now) = (captured(step, manifest)?, self.active(step)?);
        if before == now {
            return Ok(format!("objects/{}: active is {}, as captured", step.resource.name, json!(now)));
        }
        Err(Obstacle::Refuse(format!(
            "objects/{}: active was {}, is {}",
            step.resource.name,
            json!(before),
            json!(now)
        )))
    }
}
