//! From the SDK's calls to an office.
use async_trait::async_trait;
use chrono::Utc;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sexton_consumer::driver::{Done, Driver, Found, Inspection, Obstacle, StepContext};
use sexton_consumer::permit::Permit;
use sexton_model::step::Presence;
use tokio::time::Instant;

use crate::ask::{Ask, Targets, check_contacts};
use crate::letter::{self, Kind, Window, Words};
use crate::office::{Delivery, Office};
use crate::spool::{Announcement, State};

/// The driver for an office.
#[derive(Debug)]
pub struct Notifier<O> {
    office: O,
}

/// What an undo needs to know: the number of the last message before.
#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    sequence: u32,
}

impl<O: Office> Notifier<O> {
    /// The driver for this office.
    pub fn new(office: O) -> Self {
        Self { office }
    }

    /// What stands; refused if it is about another resource or at another place.
    fn standing(&self, ask: &Ask) -> Result<Result<Option<Announcement>, String>, Obstacle> {
        let place = self.office.place()?.0;
        if let Some(pinned) = ask.pinned.as_ref().filter(|pinned| pinned.place != place) {
            return Ok(Err(format!("pinned at {}, but this is {place}", pinned.place)));
        }
        let standing = self.office.spool().read(ask.uid)?;
        Ok(match standing {
            Some(other) if other.identity != ask.identity || other.resource != ask.resource => {
                Err(format!("announcement {} is about another {}", ask.uid, other.resource))
            }
            standing => Ok(standing),
        })
    }

    fn ours(&self, ask: &Ask) -> Result<Option<Announcement>, Obstacle> {
        self.standing(ask)?.map_err(Obstacle::Refuse)
    }

    fn look(&self, ask: &Ask) -> Result<Inspection, Obstacle> {
        let place = self.office.place()?;
        let mut to = ask.contacts()?;
        to.extend(self.office.also_tell().iter().cloned());
        let mut seen = std::collections::BTreeSet::new();
        to.retain(|contact| seen.insert(contact.clone()));
        check_contacts(&to).map_err(|why| Obstacle::Refuse(format!("{}: {why}", ask.resource)))?;
        let found = self.standing(ask)?.map_or_else(Found::Different, |_| Found::Same);
        let protected = to.is_empty().then(|| {
            "nobody would be told: attributes.notifier states nobody, and also_tell names nobody".to_owned()
        });
        let evidence = format!("{}: to be told are {}", place.0, to.join(", "));
        Ok(Inspection {
            found,
            targets: json!(Targets { place: place.0, uid: ask.uid, to }),
            protected,
            evidence,
        })
    }

    async fn announce(&self, ask: &Ask, before: u32, permit: &Permit) -> Result<Done, Obstacle> {
        let to = ask.targets()?.to.clone();
        let _lock = self.office.spool().lock(ask.uid)?;
        let standing = self.ours(ask)?;
        let mut announcement = match standing {
            Some(now) if now.sequence == before + 1 && now.state == State::Announced => {
                return Ok(Done::saw(format!("announced already, as number {}", now.sequence)));
            }
            Some(now) if now.sequence == before + 1 && now.state == State::Announcing => now,
            now if sequence(now.as_ref()) == before => blank(ask, to, before + 1),
            now => return Err(changed(ask, now.as_ref(), before)),
        };
        self.tell_all(ask, Kind::Announcement, &mut announcement, permit).await?;
        announcement.state = State::Announced;
        // Everybody was told: that is written down whatever has come meanwhile.
        self.office.spool().write(&announcement, permit.fence())?;
        Ok(Done::saw(told("announced to", &announcement)))
    }

    async fn retract(&self, ask: &Ask, before: u32, permit: &Permit) -> Result<Done, Obstacle> {
        let _lock = self.office.spool().lock(ask.uid)?;
        let standing = self.ours(ask)?;
        let mut retraction = match standing {
            now if sequence(now.as_ref()) == before => {
                // Written all the same, for the fence: an announcement that is still on its way must find it.
                let nothing = now.unwrap_or_else(|| Announcement {
                    state: State::Retracted,
                    ..blank(ask, Vec::new(), before)
                });
                self.office.spool().write(&nothing, permit.again()?)?;
                return Ok(Done::saw("nobody had been told"));
            }
            Some(now) if now.sequence == before + 2 && now.state == State::Retracted => {
                return Ok(Done::saw(format!("retracted already, as number {}", now.sequence)));
            }
            Some(now) if now.sequence == before + 2 && now.state == State::Retracting => now,
            Some(now) if now.sequence == before + 1 => Announcement {
                // Everybody who may have got it, but for those whom the server would not take mail for.
                to: now.tried.iter().filter(|to| !now.rejected.contains_key(*to)).cloned().collect(),
                state: State::Retracting,
                sequence: before + 2,
                tried: Default::default(),
                accepted: Default::default(),
                rejected: Default::default(),
                ..now
            },
            now => return Err(changed(ask, now.as_ref(), before)),
        };
        self.tell_all(ask, Kind::Retraction, &mut retraction, permit).await?;
        retraction.state = State::Retracted;
        // As above.
        self.office.spool().write(&retraction, permit.fence())?;
        Ok(Done::saw(told("retracted to", &retraction)))
    }

    /// Tell everybody who was not told yet. One who cannot be reached does not keep the others from it.
    async fn tell_all(
        &self,
        ask: &Ask,
        kind: Kind,
        about: &mut Announcement,
        permit: &Permit,
    ) -> Result<(), Obstacle> {
        let from = self.office.place()?.0;
        let words = Words {
            text: ask.params.text.as_deref(),
            cancel: ask.params.cancel.as_deref(),
            undo: ask.params.undo.as_deref(),
            from: self.office.from().unwrap_or(&from),
        };
        let now = Utc::now();
        let mut first = None;
        for to in about.to.clone() {
            if about.accepted.contains(&to) {
                continue;
            }
            let left = ask.ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Obstacle::Unclear(format!("out of time; {}", told("told so far", about))));
            }
            let fence = permit.again()?;
            about.tried.insert(to.clone());
            about.rejected.remove(&to);
            self.office.spool().write(about, fence)?;
            let letter = letter::write(kind, about, &to, words, now);
            match self.office.tell(&to, &letter, left).await {
                Ok(Delivery::Accepted) => {
                    about.accepted.insert(to);
                }
                Ok(Delivery::Rejected(why)) => {
                    first.get_or_insert(Obstacle::Unclear(format!("{to} was rejected: {why}")));
                    about.rejected.insert(to, why);
                }
                Err(Obstacle::Busy(why)) => {
                    first.get_or_insert(Obstacle::Busy(format!("{to}: {why}")));
                }
                Err(Obstacle::Unclear(why) | Obstacle::Refuse(why)) => {
                    first.get_or_insert(Obstacle::Unclear(format!("{to}: {why}")));
                }
            }
            // How it went, whatever has come meanwhile: what is forgotten would be told twice.
            self.office.spool().write(about, fence)?;
        }
        first.map_or(Ok(()), Err)
    }
}

/// The announcement number `sequence`, of which nobody was told yet.
fn blank(ask: &Ask, to: Vec<String>, sequence: u32) -> Announcement {
    Announcement {
        uid: ask.uid,
        resource: ask.resource.clone(),
        identity: ask.identity.clone(),
        due: ask.params.due,
        zone: ask.params.zone,
        window: ask.params.due.and_then(Window::of),
        to,
        state: State::Announcing,
        sequence,
        tried: Default::default(),
        accepted: Default::default(),
        rejected: Default::default(),
    }
}

fn sequence(standing: Option<&Announcement>) -> u32 {
    standing.map_or(0, |announcement| announcement.sequence)
}

fn told(how: &str, about: &Announcement) -> String {
    let accepted: Vec<&str> = about.accepted.iter().map(String::as_str).collect();
    let mut text = format!("{} number {}: {how} {}", about.uid, about.sequence, accepted.join(", "));
    for (to, why) in &about.rejected {
        text.push_str(&format!("; {to} was rejected: {why}"));
    }
    text
}

fn changed(ask: &Ask, now: Option<&Announcement>, before: u32) -> Obstacle {
    let now = now.map_or_else(|| "gone".to_owned(), |now| format!("number {}, {}", now.sequence, now.state));
    Obstacle::Refuse(format!(
        "{}: announcement {} is {now}; number {before} was captured, and others changed it since",
        ask.resource, ask.uid
    ))
}

fn before(ask: &Ask, manifest: Option<&Value>) -> Result<u32, Obstacle> {
    let manifest =
        manifest.ok_or_else(|| Obstacle::Refuse(format!("{}: nothing was captured", ask.resource)))?;
    serde_json::from_value::<Manifest>(manifest.clone())
        .ok()
        // Far from the end, so that nobody need think of it.
        .filter(|manifest| manifest.sequence < u32::MAX / 2)
        .map(|manifest| manifest.sequence)
        .ok_or_else(|| {
            Obstacle::Refuse(format!("{}: what was captured is not this action's: {manifest}", ask.resource))
        })
}

fn only_announce(step: &StepContext) -> Result<Ask, Obstacle> {
    match step.action.as_str() {
        "announce" => Ask::of(step),
        "inspect" => Err(Obstacle::Refuse(format!("{}: notifier.inspect only looks", step.resource))),
        other => Err(Obstacle::Refuse(format!("{}: notifier has no action {other}", step.resource))),
    }
}

#[async_trait]
impl<O: Office> Driver for Notifier<O> {
    async fn inspect(&self, step: &StepContext) -> Result<Inspection, Obstacle> {
        self.look(&Ask::of(step)?)
    }

    /// People are always there: only another announcement under this UID, or another place, is in the way.
    async fn find(&self, step: &StepContext) -> Result<Found, Obstacle> {
        Ok(self.standing(&Ask::of(step)?)?.map_or_else(Found::Different, |_| Found::Same))
    }

    async fn capture(&self, step: &StepContext) -> Result<Value, Obstacle> {
        let standing = self.ours(&only_announce(step)?)?;
        Ok(json!(Manifest { sequence: sequence(standing.as_ref()) }))
    }

    async fn perform(
        &self,
        step: &StepContext,
        manifest: Option<&Value>,
        permit: Permit,
    ) -> Result<Done, Obstacle> {
        let ask = only_announce(step)?;
        self.announce(&ask, before(&ask, manifest)?, &permit).await
    }

    async fn undo(&self, step: &StepContext, manifest: &Value, permit: Permit) -> Result<Done, Obstacle> {
        let ask = only_announce(step)?;
        self.retract(&ask, before(&ask, Some(manifest))?, &permit).await
    }

    async fn presence(&self, step: &StepContext) -> Result<(Presence, String), Obstacle> {
        Ok(match self.ours(&Ask::of(step)?)? {
            Some(now) if now.state == State::Announced => (Presence::Present, told("announced to", &now)),
            Some(now) => (Presence::Absent, format!("number {} is {}", now.sequence, now.state)),
            None => (Presence::Absent, format!("{}: nobody was told", self.office.place()?.0)),
        })
    }

    async fn restored(&self, step: &StepContext, manifest: &Value) -> Result<String, Obstacle> {
        let ask = only_announce(step)?;
        let before = before(&ask, Some(manifest))?;
        match self.ours(&ask)? {
            now if sequence(now.as_ref()) == before => Ok("nobody had been told".to_owned()),
            Some(now) if now.sequence == before + 2 && now.state == State::Retracted => {
                Ok(told("retracted to", &now))
            }
            now => Err(changed(&ask, now.as_ref(), before)),
        }
    }
}
