//! Announcements in a folder: kind `announcements`, `{"identity": {…}, "to": [TEXT], "state": "announced" or
//! "retracted", "sequence": N}`, called like the resource.
//!
//! Pinned targets are `{"to": [TEXT]}`. A manifest is `{"sequence": N}`, the number of the last announcement
//! before this one, 0 if there was none: an undo raises it by two, an announcement by one, as a calendar does.
use std::path::PathBuf;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, StepContext};
use sexton_consumer::permit::Permit;
use sexton_consumer::sandbox::{Object, Sandbox};
use sexton_model::Instance;
use sexton_model::step::Presence;

const ANNOUNCEMENTS: &str = "announcements";

/// Where the sandbox is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The folder of all sandboxes.
    pub root: PathBuf,
    /// Which instance this is, such as `notifier.main`.
    pub instance: Instance,
}

/// What the platform registers: `attributes.notifier`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    #[serde(default)]
    contacts: Vec<String>,
}

/// The driver.
#[derive(Debug)]
pub struct SandboxNotifier {
    sandbox: Sandbox,
}

fn contacts(step: &StepContext) -> Result<Vec<String>, Obstacle> {
    if step.attributes.is_null() {
        return Ok(Vec::new());
    }
    serde_json::from_value::<Attributes>(step.attributes.clone())
        .map(|a| a.contacts)
        .map_err(|e| Obstacle::Refuse(format!("{}: attributes.notifier: {e}", step.resource)))
}

fn sequence_in(value: &Value) -> Option<u64> {
    value.get("sequence").and_then(Value::as_u64)
}

impl SandboxNotifier {
    /// The driver for the place that `config` names, which need not exist yet.
    pub fn new(config: &Config) -> Self {
        Self { sandbox: Sandbox::at(&config.root, &config.instance) }
    }

    fn read(&self, step: &StepContext) -> Result<Option<Object>, Obstacle> {
        self.sandbox.read(ANNOUNCEMENTS, step.resource.name.as_str())
    }

    /// The sequence and state of the announcement; 0 and none if there is none.
    fn standing(&self, step: &StepContext) -> Result<(u64, Option<String>), Obstacle> {
        let Some(object) = self.read(step)? else { return Ok((0, None)) };
        let state = object.get("state").and_then(Value::as_str).map(str::to_owned);
        let sequence = object.get("sequence").and_then(Value::as_u64);
        match (sequence, state) {
            (Some(sequence), Some(state)) => Ok((sequence, Some(state))),
            _ => {
                Err(Obstacle::Unclear(format!("announcements/{}: no sequence or state", step.resource.name)))
            }
        }
    }

    fn captured(step: &StepContext, manifest: &Value) -> Result<u64, Obstacle> {
        sequence_in(manifest)
            .ok_or_else(|| Obstacle::Refuse(format!("{}: a manifest without \"sequence\"", step.resource)))
    }

    fn put(&self, step: &StepContext, state: &str, sequence: u64, permit: &Permit) -> Result<(), Obstacle> {
        let object: Object = [
            ("identity", json!(step.identity)),
            ("to", json!(contacts(step)?)),
            ("state", json!(state)),
            ("sequence", json!(sequence)),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        self.sandbox.write(ANNOUNCEMENTS, step.resource.name.as_str(), object, permit.fence())
    }

    fn changed(step: &StepContext, found: u64, captured: u64) -> Obstacle {
        Obstacle::Refuse(format!(
            "{}: announcement {found} was sent by others since {captured} was captured",
            step.resource
        ))
    }
}

#[async_trait]
impl Driver for SandboxNotifier {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let to = contacts(step)?;
        let found = self.find(step).await?;
        let evidence = format!("{} to be told", to.len());
        Ok(Inspection { found, targets: json!({ "to": to }), protected: None, evidence })
    }

    /// People are always there; an announcement about another machine of this name is somebody else's.
    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        self.sandbox.place()?;
        let Some(object) = self.read(step)? else { return Ok(Found::Same) };
        let retracted = object.get("state").and_then(Value::as_str) == Some("retracted");
        if object.get("identity") == Some(&json!(step.identity)) || retracted {
            return Ok(Found::Same);
        }
        Ok(Found::Different(format!("announcements/{} is about another identity", step.resource.name)))
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        Ok(json!({ "sequence": self.standing(step)?.0 }))
    }

    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        let before = Self::captured(step, manifest.unwrap_or(&Value::Null))?;
        match self.standing(step)? {
            (sequence, _) if sequence == before => self.put(step, "announced", before + 1, &permit)?,
            (sequence, Some(state)) if sequence == before + 1 && state == "announced" => {}
            (sequence, _) => return Err(Self::changed(step, sequence, before)),
        }
        Ok(Done::saw(format!("announced as number {} to {} contacts", before + 1, contacts(step)?.len())))
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        let before = Self::captured(step, manifest)?;
        match self.standing(step)? {
            (sequence, _) if sequence == before => return Ok(Done::saw("was never announced")),
            (sequence, _) if sequence == before + 1 => self.put(step, "retracted", before + 2, &permit)?,
            (sequence, Some(state)) if sequence == before + 2 && state == "retracted" => {}
            (sequence, _) => return Err(Self::changed(step, sequence, before)),
        }
        Ok(Done::saw(format!("retracted as number {}", before + 2)))
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        let (sequence, state) = self.standing(step)?;
        Ok(match state {
            Some(state) => (Presence::Present, format!("announcement {sequence} is {state}")),
            None => (Presence::Absent, "no announcement".to_owned()),
        })
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        let before = Self::captured(step, manifest)?;
        match self.standing(step)? {
            (sequence, _) if sequence == before => Ok("was never announced".to_owned()),
            (sequence, Some(state)) if sequence == before + 2 && state == "retracted" => {
                Ok(format!("retracted as number {sequence}"))
            }
            (sequence, state) => Err(Obstacle::Refuse(format!(
                "{}: announcement {sequence} is {}",
                step.resource,
                state.unwrap_or_default()
            ))),
        }
    }

    async fn check(&self, step: &StepContext) -> Result<Done, Obstacle> {
        Err(Obstacle::Refuse(format!("{}: notifier.{} is no check", step.resource, step.action)))
    }
}
