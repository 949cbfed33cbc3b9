//! What a resource has to itself by what it states: its records in DNS, its addresses, its network card.
//!
//! Contract: some subsystems hold no identity. What is a resource's there follows from what its platform stated, and from
//! nothing else: an inspection pins whatever fits that. So while a resource has a live record, no other one that is
//! registered claims the same ([`may_delete`], [`may_register`]): else the deletion of the one would take from the other
//! what it uses. Two that share a claim may be registered, as long as neither is being deleted: the inventory says what
//! platforms say. Once its purge is done, a record looks at nothing any more, and can neither be cancelled nor rescued: what
//! it went by is free ([`Leaving`]), long before its name is, unless something of it may remain.
//!
//! Which statements are claims is said by the file of each subsystem (`claims`, see
//! [`crate::catalogue::SubsystemActions`]). A claim is about one instance: two servers may know the same address. What is one
//! thing in different words (upper case, a final dot, a MAC with dashes, a long form of an address) is one claim; what could be
//! one thing in words that cannot be compared is refused ([`NoClaim`]).
//!
//! Why not [`crate::exclusive`]: there one resource alone may be *registered*, and leaves only with a receipt. A name and an
//! address move to a new machine before the old one is taken out of the inventory.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::deletion::{Deletion, WaiverClaim};
use crate::id::{DeletionId, ResourceId, Scope, Subsystem};
use crate::job::Stage;
use crate::resource::{Presence, Resource};

#[cfg(test)]
mod tests;

/// Most claims of one resource: each is a row. So many are the pairs of 64 names and 64 addresses, of which the driver of DNS takes
/// no more, with 64 addresses and 64 network cards: what a driver takes can be deleted.
pub const CLAIMS_MAX: usize = 64 * 64 + 64 + 64;
/// Longest text that is compared, in bytes: a name in DNS is no longer.
const TEXT_MAX: usize = 255;
/// What may stand in it besides letters and digits.
const MARKS: &[u8] = b"-_.:/";

/// Which statements are claims, by subsystem: lists of keys, of which each value (of several keys, each combination of their
/// values) is one resource's alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimable(BTreeMap<Subsystem, Vec<Vec<String>>>);

/// Why it cannot be told what a resource claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoClaim {
    /// A text that could say the same as another one in other words.
    #[error(
        "attributes.{subsystem}.{key}: a text of it cannot be compared with what others state: expected 1 to {TEXT_MAX} \
         letters, digits and -_.:/"
    )]
    Text {
        /// Whose part.
        subsystem: Subsystem,
        /// Which statement.
        key: String,
    },
    /// More than are kept.
    #[error("attributes.{subsystem}: {keys} come to {found} claims: at most {CLAIMS_MAX}")]
    TooMany {
        /// Whose part.
        subsystem: Subsystem,
        /// Which statements.
        keys: String,
        /// How many there are.
        found: usize,
    },
}

impl Claimable {
    /// What is a claim in the part of one more subsystem.
    pub fn add(&mut self, subsystem: Subsystem, keys: Vec<Vec<String>>) {
        self.0.insert(subsystem, keys);
    }

    /// Whether nothing is a claim.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a resource claims, each such as `ipam.main: mac 52:54:00:12:34:56`.
    ///
    /// # Errors
    /// If something that it states cannot be compared, or it claims too much.
    pub fn of(&self, resource: &Resource) -> Result<BTreeSet<String>, NoClaim> {
        let mut claims = BTreeSet::new();
        for (subsystem, groups) in &self.0 {
            // What is no object is refused by whoever reads it.
            let part = resource.attributes.get(subsystem.as_str()).and_then(Value::as_object);
            let Some(part) = part else { continue };
            let at = resource.instance_of(subsystem);
            for keys in groups {
                let mut combined = vec![format!("{at}:")];
                for (place, key) in keys.iter().enumerate() {
                    let texts = plain_texts(part.get(key))
                        .ok_or_else(|| NoClaim::Text { subsystem: subsystem.clone(), key: key.clone() })?;
                    let found = combined.len() * texts.len();
                    if found > CLAIMS_MAX {
                        let keys = keys.join(" and ");
                        return Err(NoClaim::TooMany { subsystem: subsystem.clone(), keys, found });
                    }
                    let between = if place == 0 { "" } else { "," };
                    let with = |begun: &String| {
                        let begun = begun.clone();
                        texts
                            .iter()
                            .map(move |text| format!("{begun}{between} {key} {text}"))
                            .collect::<Vec<_>>()
                    };
                    combined = combined.iter().flat_map(with).collect();
                }
                claims.extend(combined);
                if claims.len() > CLAIMS_MAX {
                    let (keys, found) = (keys.join(" and "), claims.len());
                    return Err(NoClaim::TooMany { subsystem: subsystem.clone(), keys, found });
                }
            }
        }
        Ok(claims)
    }
}

/// The texts that are stated under one key, in the words in which they are compared; `None` if one cannot be. What is neither a
/// text nor a number is refused by whoever reads it.
fn plain_texts(stated: Option<&Value>) -> Option<BTreeSet<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(plain(text)),
        Value::Number(number) => Some(Some(number.to_string())),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match stated {
        Some(Value::Array(all)) => all.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Some(BTreeSet::new()),
    }
}

/// A text in the words in which it is compared.
fn plain(text: &str) -> Option<String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_string());
    }
    let fits = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || MARKS.contains(&byte));
    if !fits || !(1..=TEXT_MAX).contains(&text.len()) {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_suffix('.').unwrap_or(&lower);
    Some(if is_mac(name) { name.replace('-', ":") } else { name.to_owned() })
}

fn is_mac(text: &str) -> bool {
    let pair = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split([':', '-']).count() == 6 && text.split([':', '-']).all(pair)
}

/// A live record, as far as it keeps what its resource claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaving {
    /// Which.
    pub record: DeletionId,
    /// Its purge is done: none of its steps is left, and neither cancel nor rescue.
    pub purged: bool,
    /// Something was let pass because it may remain.
    pub may_remain: bool,
}

impl Leaving {
    /// Whether nothing takes back or uses any more what its resource claims.
    fn lets_go(self) -> bool {
        self.purged && !self.may_remain
    }
}

/// The stage with which a live record lets go of what its resource claims.
pub fn freed_by(deletion: &Deletion) -> Stage {
    let may_remain = deletion.waivers.iter().any(|waiver| waiver.claim == WaiverClaim::MayRemain);
    if may_remain { Stage::Recycle } else { Stage::Purge }
}

/// Another resource that claims the same, and is not gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// What both claim.
    pub claim: String,
    /// Which.
    pub resource: ResourceId,
    /// Its scope: who does not see that is not told of it.
    pub scope: Scope,
    /// Its live record, if it has one.
    pub live: Option<DeletionId>,
}

impl Rival {
    /// What was read of another resource that claims the same; nothing if that is gone, or its record has let go of that.
    pub fn of(
        claim: String,
        (resource, scope): (ResourceId, Scope),
        presence: Presence,
        live: Option<Leaving>,
    ) -> Option<Self> {
        let there = match presence {
            Presence::Registered | Presence::Tombstone => !live.is_some_and(Leaving::lets_go),
            Presence::Recycled => false,
        };
        there.then(|| Self { claim, resource, scope, live: live.map(|leaving| leaving.record) })
    }
}

/// Why a resource may not be deleted, or registered so, because of what another one claims. It is not said which: that is for
/// whoever may see its scope ([`Self::named`]).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contested {
    /// Its deletion would take it from the other one.
    #[error(
        "claimed by another resource, too: {}: its deletion would take that from the other one; let each state what is its \
         own, and nothing else",
        .0.claim
    )]
    Shared(Rival),
    /// The other one is being deleted, and would take it along.
    #[error("claimed by a resource that is being deleted: {}: it is not free yet", .0.claim)]
    Leaving(Rival),
    /// It is being deleted itself, and would take it along.
    #[error(
        "claimed by another resource: {}: this one is being deleted, and would take that from the other one",
        .0.claim
    )]
    Taken(Rival),
}

impl Contested {
    /// The other one.
    pub fn rival(&self) -> &Rival {
        match self {
            Self::Shared(rival) | Self::Leaving(rival) | Self::Taken(rival) => rival,
        }
    }

    /// With the other one's name, for whoever may see it.
    pub fn named(&self) -> String {
        let Rival { resource, live, .. } = self.rival();
        let record = live.map(|id| format!(" ({id})")).unwrap_or_default();
        format!("{self}: {resource}{record}")
    }
}

/// Whether a record may be made for a resource beside all that claim the same and are not gone.
///
/// # Errors
/// If there is one, in whichever scope.
pub fn may_delete(mut rivals: impl Iterator<Item = Rival>) -> Result<(), Contested> {
    rivals.next().map_or(Ok(()), |rival| Err(Contested::Shared(rival)))
}

/// Whether a resource, with its live record `own` if it has one, may be registered beside all that claim the same and are not
/// gone.
///
/// # Errors
/// If one of them has a live record, or it has one itself.
pub fn may_register(
    own: Option<DeletionId>,
    mut rivals: impl Iterator<Item = Rival>,
) -> Result<(), Contested> {
    match rivals.find(|rival| own.is_some() || rival.live.is_some()) {
        Some(rival) if rival.live.is_some() => Err(Contested::Leaving(rival)),
        Some(rival) => Err(Contested::Taken(rival)),
        None => Ok(()),
    }
}
