//! What a step asks for, parsed once.
use lettre::message::Mailbox;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sexton_consumer::Stated;
use sexton_consumer::driver::{Obstacle, StepContext};
use sexton_model::ResourceId;
use sexton_model::deletion::Zone;
use sexton_model::resource::Identity;
use tokio::time::Instant;
use uuid::Uuid;

use crate::letter::Due;

/// Most people told of one deletion: the pinned list travels with every order.
pub(crate) const CONTACTS_MAX: usize = 64;
/// Longest address or text of the plan, in bytes: they come from outside.
const TEXT_MAX_BYTES: usize = 2048;
/// What the UIDs are drawn from: any constant does, and it must never change.
const UIDS: Uuid = Uuid::from_u128(0x5e87_0cc4_6f0b_4f6e_9a3c_d1a2_7b04_11e5);

/// What the platform registers: `attributes.notifier`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    contacts: Vec<String>,
}

/// What a plan may say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Params {
    /// When it goes: a date, or a moment.
    #[serde(default)]
    pub(crate) due: Option<Due>,
    /// Whose calendar a date is of.
    #[serde(default)]
    pub(crate) zone: Option<Zone>,
    /// What happens when, in the plan's own words.
    #[serde(default)]
    pub(crate) text: Option<String>,
    /// How to stop it, in the plan's own words.
    #[serde(default)]
    pub(crate) cancel: Option<String>,
    /// What a cancel restores, and until when that is certain.
    #[serde(default)]
    pub(crate) undo: Option<String>,
}

/// What an inspection pins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Targets {
    /// Which office tells them.
    pub(crate) place: String,
    /// What the announcement is known by.
    pub(crate) uid: Uuid,
    /// Who is told.
    pub(crate) to: Vec<String>,
}

/// The step, in this subsystem's words.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// The resource, as people know it.
    pub(crate) resource: String,
    /// What makes it this one.
    pub(crate) identity: Identity,
    /// What the announcement is known by.
    pub(crate) uid: Uuid,
    /// What the platform states, which only an inspection reads.
    attributes: Value,
    id: ResourceId,
    /// What was pinned, if anything was.
    pub(crate) pinned: Option<Targets>,
    /// What the plan says.
    pub(crate) params: Params,
    /// No message may be begun after this.
    pub(crate) ends: Instant,
}

impl Ask {
    /// Parse a step.
    pub(crate) fn of(step: &StepContext) -> Result<Self, Obstacle> {
        let refuse = |why: String| Obstacle::Refuse(format!("{}: {why}", step.resource));
        let resource = step.resource.to_string();
        let uid = uid(&resource, &step.identity);
        let pinned: Option<Targets> = serde_json::from_value(step.targets.clone())
            .map_err(|e| refuse(format!("its pinned targets are not this subsystem's: {e}")))?;
        if let Some(pinned) = &pinned {
            if pinned.uid != uid {
                return Err(refuse(format!("pinned was the announcement {}, this is {uid}", pinned.uid)));
            }
            check_contacts(&pinned.to).map_err(refuse)?;
        }
        let params = step.params.clone().into_iter().collect();
        let params: Params = serde_json::from_value(serde_json::Value::Object(params))
            .map_err(|e| refuse(format!("the plan's parameters: {e}")))?;
        for text in [&params.text, &params.cancel, &params.undo].into_iter().flatten() {
            if text.len() > TEXT_MAX_BYTES {
                return Err(refuse(format!("a text of the plan is longer than {TEXT_MAX_BYTES} bytes")));
            }
        }
        let ends = Instant::now() + step.time_left();
        let (attributes, id) = (step.attributes.clone(), step.resource.clone());
        Ok(Self { resource, identity: step.identity.clone(), uid, attributes, id, pinned, params, ends })
    }

    /// Whom the platform names. That there is nobody has to be stated: an owner who is missing there by mistake would not
    /// be told, and the office alone would.
    pub(crate) fn contacts(&self) -> Result<Vec<String>, Obstacle> {
        let form = format!("{{\"contacts\": […]}} with 1 to {CONTACTS_MAX} mail addresses");
        let stated = Stated { resource: &self.id, subsystem: "notifier", form: &form };
        let Some(Attributes { contacts }) = stated.read(&self.attributes)? else { return Ok(Vec::new()) };
        if contacts.is_empty() {
            return Err(stated.wrong("contacts is empty"));
        }
        check_contacts(&contacts).map_err(|why| stated.wrong(why))?;
        Ok(contacts)
    }

    /// The pinned targets, without which nobody is told.
    pub(crate) fn targets(&self) -> Result<&Targets, Obstacle> {
        self.pinned
            .as_ref()
            .ok_or_else(|| Obstacle::Refuse(format!("{}: nobody is pinned; inspect first", self.resource)))
    }
}

/// The UID of a resource's announcements: the same for every repeat, another for a re-created resource.
pub(crate) fn uid(resource: &str, identity: &Identity) -> Uuid {
    let mut text = resource.to_owned();
    for (name, value) in identity.attributes() {
        // Lengths, so that no two lists of attributes give the same text.
        text.push_str(&format!("\n{}:{name}={}:{value}", name.len(), value.len()));
    }
    Uuid::new_v5(&UIDS, text.as_bytes())
}

/// Whether mail can be addressed to each of them.
pub(crate) fn check_contacts(contacts: &[String]) -> Result<(), String> {
    if contacts.len() > CONTACTS_MAX {
        return Err(format!("{} contacts, at most {CONTACTS_MAX} are told", contacts.len()));
    }
    for contact in contacts {
        let short: String = contact.chars().take(80).collect();
        if contact.len() > TEXT_MAX_BYTES {
            return Err(format!("contact {short:?} is too long"));
        }
        contact.parse::<Mailbox>().map_err(|e| format!("contact {short:?} is no mail address: {e}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn identity(attributes: &[(&str, &str)]) -> Identity {
        let map: BTreeMap<String, String> =
            attributes.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Identity::try_from(map).unwrap()
    }

    #[test]
    fn a_uid_is_stable_and_differs_for_another_machine() {
        let first = uid("vm/web01", &identity(&[("uuid", "1")]));
        assert_eq!(first, uid("vm/web01", &identity(&[("uuid", "1")])));
        assert_eq!(first.to_string(), "1bfcc276-96c4-5a34-a0af-29bba3a322f0");
        assert_ne!(first, uid("vm/web01", &identity(&[("uuid", "2")])));
        assert_ne!(first, uid("vm/web02", &identity(&[("uuid", "1")])));
        assert_ne!(
            uid("vm/a", &identity(&[("a", "1\n1:b=1:2")])),
            uid("vm/a", &identity(&[("a", "1"), ("b", "2")]))
        );
    }

    #[test]
    fn what_is_no_address_is_named() {
        for good in ["ops@example.org", "The Owner <owner@example.org>"] {
            check_contacts(&[good.to_owned()]).unwrap();
        }
        for bad in ["", "ops", "a@b\r\nBcc: c@d", "<>", "a b@c d"] {
            assert!(check_contacts(&[bad.to_owned()]).is_err(), "{bad:?} was taken");
        }
        assert!(check_contacts(&vec!["a@b.example".to_owned(); CONTACTS_MAX + 1]).is_err());
    }
}
