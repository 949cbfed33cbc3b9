//! Does what a definition says.
//!
//! Every look at the object comes with a look at the place, in this order: place, object. Absence counts only
//! where the place proved itself. A call's answer only says whether to go on; whether it was done says a look.
//! So a lost answer, a 500 after the effect and a 204 for nothing all come to the same: look again. A look that is not
//! answered has changed nothing: the subsystem is away, and that spends no attempt.
//!
//! What is there is removed only if it was looked at, at announce, and pinned: else nothing tells in which place it has to be.
//! What is absent is absent all the same.
//!
//! *What fences cannot stop here*: the subsystem holds none. A consumer that slept through its lease may repeat
//! a call; the undo of a reversible action is verified once more after the longest call.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, Place, StepContext};
use sexton_consumer::permit::Permit;
use sexton_model::Subsystem;
use sexton_model::catalogue::{Nature, SubsystemActions};
use sexton_model::step::Presence;

use crate::answer::{Answer, Saw, changed_by_others, intended, judge, values_at};
use crate::definition::{Call, Definition, Http, Read, Steps, transport};
use crate::send::{Purpose, Sender};
use crate::template::{Template, Values};

/// Which definition, and where its subsystem is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The subsystem, such as `accounting`.
    pub subsystem: Subsystem,
    /// The definition file; see [`crate::definition`].
    pub definition: PathBuf,
    /// The file that describes the actions; not needed for the delivered subsystems.
    #[serde(default)]
    pub actions: Option<PathBuf>,
    /// What addresses that begin with `/` are below.
    #[serde(default)]
    pub base_url: Option<String>,
    /// What the instance must call itself.
    pub place: String,
    /// Headers whose values are secret: name → file. Read for every request, so that they can be changed.
    #[serde(default)]
    pub secret_headers: BTreeMap<String, PathBuf>,
}

/// The driver.
#[derive(Debug)]
pub struct Hook {
    definition: Definition,
    actions: SubsystemActions,
    place: String,
    sender: Sender,
}

/// What an action is, with what its definition says.
enum Doing<'a> {
    Inspect,
    Reversible(&'a Steps),
    Destructive(&'a Steps),
}

impl Hook {
    /// The driver for the definition that `config` names.
    ///
    /// # Errors
    /// If a file cannot be read, or is wrong.
    pub fn new(config: Config, actions: SubsystemActions) -> anyhow::Result<Self> {
        let file = config.definition.display().to_string();
        let text = std::fs::read_to_string(&config.definition)
            .with_context(|| format!("reading the hook's definition {file}"))?;
        Ok(Self {
            definition: Definition::parse(&file, &text, &actions)?,
            actions,
            place: config.place,
            sender: Sender::new(config.base_url.as_deref(), config.secret_headers)?,
        })
    }

    fn doing(&self, step: &StepContext) -> Result<Doing<'_>, Obstacle> {
        let refuse = |why: &str| Obstacle::Refuse(format!("{}: {why} {}", step.resource, step.action));
        let action =
            self.actions.actions.get(&step.action).ok_or_else(|| refuse("this hook has no action"))?;
        match (action.nature, self.definition.actions.get(&step.action)) {
            (Nature::Inspect, _) => Ok(Doing::Inspect),
            (Nature::Reversible, Some(steps)) => Ok(Doing::Reversible(steps)),
            (Nature::Destructive, Some(steps)) => Ok(Doing::Destructive(steps)),
            (_, None) | (Nature::Check | Nature::Adds, _) => Err(refuse("this hook does not define")),
        }
    }

    fn reversible(&self, step: &StepContext) -> Result<&Steps, Obstacle> {
        match self.doing(step)? {
            Doing::Reversible(steps) => Ok(steps),
            Doing::Inspect | Doing::Destructive(_) => Err(step.no_undo()),
        }
    }

    fn what(&self, step: &StepContext, doing: &str) -> String {
        format!("{}: {}.{}: {doing}", step.resource, self.definition.subsystem, step.action)
    }

    async fn ask(
        &self,
        what: &str,
        purpose: Purpose,
        http: &Option<Http>,
        command: &Option<Vec<Template>>,
        timeout_ms: u64,
        values: &Values<'_>,
    ) -> Result<Answer, Obstacle> {
        let transport = transport(http, command)
            .ok_or_else(|| Obstacle::Refuse(format!("{what}: neither http nor command")))?;
        let limit = Duration::from_millis(timeout_ms).min(values.step.time_left());
        self.sender.ask(what, purpose, transport, values, limit).await
    }

    /// The proof of place, read afresh.
    async fn place(&self, step: &StepContext) -> Result<Place, Obstacle> {
        let read = &self.definition.place;
        let what = self.what(step, "asking which place this is");
        let values = Values { step, manifest: None };
        let answer =
            self.ask(&what, Purpose::Look, &read.http, &read.command, read.timeout_ms, &values).await?;
        if !read.present.holds(&answer) {
            let text = format!("{what}: {}: {}", answer.code, answer.said);
            let away = read.busy.contains(&answer.code);
            return Err(if away { Obstacle::Busy(text) } else { Obstacle::Unclear(text) });
        }
        match answer.body.pointer(&read.value) {
            Some(Value::String(held)) if *held == self.place => {
                Ok(Place(format!("{} {held}", self.definition.subsystem)))
            }
            held => {
                Err(Obstacle::Unclear(format!("{what}: it is {}, expected {:?}", json!(held), self.place)))
            }
        }
    }

    async fn look(&self, step: &StepContext, read: &Read) -> Result<Saw, Obstacle> {
        let what = self.what(step, "looking");
        let values = Values { step, manifest: None };
        let answer =
            self.ask(&what, Purpose::Look, &read.http, &read.command, read.timeout_ms, &values).await?;
        judge(&what, read, answer, &values)
    }

    /// The object, at its place.
    async fn object(&self, step: &StepContext) -> Result<(Place, Saw), Obstacle> {
        let place = self.place(step).await?;
        if let Some(pinned) = step.targets.get("place")
            && *pinned != json!(self.place)
        {
            let why = format!("{}: pinned in {pinned}, but this is {:?}", step.resource, self.place);
            return Ok((place, Saw::Different(why)));
        }
        let saw = self.look(step, &self.definition.object).await?;
        Ok((place, saw))
    }

    /// Everything that a destructive action removes: one thing that is another's stops it, one that is there
    /// is enough to go on.
    async fn gone(&self, step: &StepContext, steps: &Steps) -> Result<Found, Obstacle> {
        let (place, object) = self.object(step).await?;
        if object == Saw::Absent && none_pinned(step) {
            // There was never anything to name the parts by.
            return Ok(Found::Absent(place));
        }
        let mut all = vec![object];
        if !steps.gone.is_empty() {
            // The object itself may stay, if it is not named; but it must not be another's.
            if matches!(all.first(), Some(Saw::Same(_) | Saw::Absent)) {
                all.clear();
            }
            for read in &steps.gone {
                all.push(self.look(step, read).await?);
            }
        }
        let mut found = Found::Absent(place);
        for saw in all {
            match saw {
                Saw::Different(why) => return Ok(Found::Different(why)),
                Saw::Same(_) => found = Found::Same,
                Saw::Absent => {}
            }
        }
        Ok(found)
    }

    /// The captured values in the object now; `None` if it is not there.
    async fn now(
        &self,
        step: &StepContext,
        steps: &Steps,
    ) -> Result<Option<BTreeMap<String, Value>>, Obstacle> {
        match self.object(step).await?.1 {
            Saw::Different(why) => Err(Obstacle::Refuse(why)),
            Saw::Absent => Ok(None),
            Saw::Same(body) => values_at(&self.what(step, "looking"), &steps.capture, &body).map(Some),
        }
    }

    async fn run(
        &self,
        step: &StepContext,
        calls: &[Call],
        manifest: Option<&Value>,
        permit: &Permit,
    ) -> Result<String, Obstacle> {
        let values = Values { step, manifest };
        let mut codes = Vec::new();
        for (index, call) in calls.iter().enumerate() {
            let what = self.what(step, &format!("call {}", index + 1));
            permit.again()?;
            let answer =
                self.ask(&what, Purpose::Change, &call.http, &call.command, call.timeout_ms, &values).await?;
            if !call.expect.contains(&answer.code) {
                let text = format!("{what}: answered {}: {}", answer.code, answer.said);
                return Err(if call.refused.contains(&answer.code) {
                    Obstacle::Refuse(text)
                } else if call.busy.contains(&answer.code) {
                    Obstacle::Busy(text)
                } else {
                    Obstacle::Unclear(text)
                });
            }
            codes.push(answer.code.to_string());
        }
        Ok(format!("answered {}", codes.join(", ")))
    }

    /// Bring the object from one of two known states to `wanted`.
    async fn change(
        &self,
        step: &StepContext,
        steps: &Steps,
        manifest: &Value,
        undo: bool,
        permit: &Permit,
    ) -> Result<Done, Obstacle> {
        let Some(before) = captured(step, manifest)? else {
            return match self.now(step, steps).await? {
                None => Ok(Done::saw("there was no object, and there is none")),
                Some(_) => Err(Obstacle::Refuse(
                    self.what(step, "an object has appeared since there was none to capture"),
                )),
            };
        };
        let after = intended(&before, &steps.intended);
        let now = self
            .now(step, steps)
            .await?
            .ok_or_else(|| Obstacle::Refuse(self.what(step, "the object was removed by others")))?;
        if let Some(why) = changed_by_others(&now, [&before, &after]) {
            return Err(Obstacle::Refuse(self.what(step, &why)));
        }
        let (wanted, calls) = if undo { (&before, &steps.undo) } else { (&after, &steps.perform) };
        if now == *wanted {
            return Ok(Done::saw("it is so already"));
        }
        self.run(step, calls, manifest.get("object"), permit).await.map(Done::saw)
    }
}

/// The captured values; `None` if there was no object. In a table of its own, so that "none" is not mistaken
/// for no manifest.
fn captured(step: &StepContext, manifest: &Value) -> Result<Option<BTreeMap<String, Value>>, Obstacle> {
    let wrong = |why: &str| Obstacle::Refuse(format!("{}: the manifest {why}", step.resource));
    let object = manifest.get("object").ok_or_else(|| wrong("has no \"object\""))?;
    serde_json::from_value(object.clone()).map_err(|e| wrong(&e.to_string()))
}

/// Why something that is there is not removed.
pub(crate) const NOTHING_PINNED: &str =
    "it is there, and nothing is pinned to compare it with; inspect first";

/// Whether nobody has looked: there is no object to compare with, and no place. Each look pins where it was.
pub(crate) fn nothing_pinned(step: &StepContext) -> bool {
    step.targets.get("place").is_none()
}

fn none_pinned(step: &StepContext) -> bool {
    step.targets.get("object") == Some(&Value::Bool(false))
}

fn found(place: Place, saw: &Saw) -> Found {
    match saw {
        Saw::Same(_) => Found::Same,
        Saw::Absent => Found::Absent(place),
        Saw::Different(why) => Found::Different(why.clone()),
    }
}

#[async_trait]
impl Driver for Hook {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        let (place, saw) = self.object(step).await?;
        let mut targets = Map::new();
        targets.insert("place".into(), json!(self.place));
        targets.insert("object".into(), json!(matches!(saw, Saw::Same(_))));
        if let Saw::Same(body) = &saw {
            targets.extend(values_at(&self.what(step, "pinning"), &self.definition.object.pin, body)?);
        }
        let evidence = match &saw {
            Saw::Same(_) => format!("{}: the object is there", place.0),
            Saw::Absent => format!("{}: no object", place.0),
            Saw::Different(why) => why.clone(),
        };
        let found = match found(place, &saw) {
            Found::Absent(_) if step.none_expected() => Found::Same,
            found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => found,
        };
        Ok(Inspection { found, targets: Value::Object(targets), protected: None, evidence })
    }

    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        match self.doing(step)? {
            Doing::Inspect => Ok(self.inspect(step).await?.found),
            Doing::Destructive(steps) => self.gone(step, steps).await,
            Doing::Reversible(_) => {
                let (place, saw) = self.object(step).await?;
                Ok(match found(place, &saw) {
                    Found::Absent(_) if none_pinned(step) => Found::Same,
                    found @ (Found::Same | Found::Absent(_) | Found::Different(_)) => found,
                })
            }
        }
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        let steps = self.reversible(step)?;
        match self.now(step, steps).await? {
            None if !none_pinned(step) => {
                Err(Obstacle::Refuse(self.what(step, "the object is unexpectedly absent")))
            }
            captured => Ok(json!({ "object": captured })),
        }
    }

    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        match self.doing(step)? {
            Doing::Inspect => Err(Obstacle::Refuse(self.what(step, "only looks"))),
            Doing::Reversible(steps) => {
                let manifest = manifest
                    .ok_or_else(|| Obstacle::Refuse(self.what(step, "there is no captured manifest")))?;
                self.change(step, steps, manifest, false, &permit).await
            }
            Doing::Destructive(steps) => match self.gone(step, steps).await? {
                Found::Different(why) => Err(Obstacle::Refuse(why)),
                Found::Absent(place) => Ok(Done::saw(format!("already absent in {}", place.0))),
                Found::Same if nothing_pinned(step) => Err(Obstacle::Refuse(self.what(step, NOTHING_PINNED))),
                Found::Same => self.run(step, &steps.perform, None, &permit).await.map(Done::saw),
            },
        }
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        let steps = self.reversible(step)?;
        self.change(step, steps, manifest, true, &permit).await
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        match self.doing(step)? {
            Doing::Reversible(steps) => {
                let place = self.place(step).await?.0;
                Ok(match self.now(step, steps).await? {
                    // Nothing was there to be changed, and nothing is: that is the effect.
                    None if none_pinned(step) => (Presence::Present, format!("{place}: no object to change")),
                    None => (Presence::Absent, format!("{place}: no object")),
                    Some(now) if intended(&now, &steps.intended) == now => {
                        (Presence::Present, format!("{place}: {}", json!(now)))
                    }
                    Some(now) => (Presence::Absent, format!("{place}: {}", json!(now))),
                })
            }
            Doing::Inspect | Doing::Destructive(_) => match self.find(step).await? {
                Found::Same => Ok((Presence::Present, "not all is gone".into())),
                Found::Absent(place) => Ok((Presence::Absent, format!("{}: nothing is left", place.0))),
                Found::Different(why) => Err(Obstacle::Refuse(why)),
            },
        }
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        let steps = self.reversible(step)?;
        let (before, now) = (captured(step, manifest)?, self.now(step, steps).await?);
        if before == now {
            return Ok(format!("as captured: {}", json!(now)));
        }
        let text = format!("it is {}, captured was {}", json!(now), json!(before));
        Err(Obstacle::Refuse(self.what(step, &text)))
    }
}
