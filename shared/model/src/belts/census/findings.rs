//! What is there and nobody has registered, as the last complete listing showed it: a finding each, with a record that is
//! filled in as far as the listing says, for a person to complete and sign.
//!
//! Contract: nothing is made of a finding here or anywhere else. There is none but by the last census of its kind and scope,
//! and none at all while that one was refused or is old: then it is said why. What is registered by now, or has a live record, is
//! none any more. No date is ever filled in, and nothing else that the listing does not say.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{AsRegistered, Census, Latest, Taken};
use crate::access::Extent;
use crate::belts::within;
use crate::id::{Instance, Kind, ResourceId, Scope};
use crate::resource::Identity;
use crate::time::{Day, Timestamp};

/// Most that are kept of one census, one by one: a person signs each. All are counted.
pub const STRANGERS_MAX: usize = 1000;

/// One that is listed, and nobody has registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stranger {
    /// Kind and name, as the listing has them.
    pub id: ResourceId,
    /// Its scope, as the platform says; none if an instance has listed it, which does not know whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What makes it this one, as the listing gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Which instance has listed it; none if the census was handed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
}

/// One that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Which.
    pub stranger: Stranger,
    /// The scope of the census.
    pub listed_in: Scope,
    /// Its number.
    pub census: i64,
    /// When the first of the censuses without a gap that list it so was begun.
    pub first_seen: Timestamp,
}

impl Census {
    /// What it lists and nobody has registered, at most [`STRANGERS_MAX`]. `registered`: as for [`Census::taken`].
    pub fn strangers(&self, registered: &BTreeMap<ResourceId, AsRegistered>) -> Vec<Stranger> {
        let unknown = self.listed.iter().filter(|one| !registered.contains_key(&one.id));
        let placed = unknown.map(|one| Stranger {
            id: one.id.clone(),
            scope: Some(one.scope.clone()),
            identity: one.identity.clone(),
            instance: None,
        });
        placed.chain(self.unregistered.iter().cloned()).take(STRANGERS_MAX).collect()
    }
}

/// What is kept of a census that is believed, in the place of `before`: that of the last one of its kind and scope. Another one
/// under the same name is seen for the first time.
pub fn kept(taken: &Taken, strangers: Vec<Stranger>, before: &[Kept]) -> Vec<Kept> {
    let known: BTreeMap<&ResourceId, &Kept> = before.iter().map(|one| (&one.stranger.id, one)).collect();
    let since = |stranger: &Stranger| {
        let same = known.get(&stranger.id).filter(|one| one.stranger.identity == stranger.identity);
        same.map_or(taken.taken_at, |one| one.first_seen)
    };
    let keep = |stranger: Stranger| Kept {
        first_seen: since(&stranger),
        stranger,
        listed_in: taken.scope.clone(),
        census: taken.census,
    };
    strangers.into_iter().map(keep).collect()
}

/// Whether there are findings by the last census of a kind and scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// There are: it was believed, and is not old.
    Believed,
    /// There are none: the newest one was refused.
    Refused,
    /// There are none: the last one that was believed is older than a policy day and a quarter.
    Old,
}

/// The last census of a kind and scope, as far as findings go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Source {
    /// Which kind.
    pub kind: Kind,
    /// Which scope, with those below it.
    pub scope: Scope,
    /// Whether there are findings by it.
    pub standing: Standing,
    /// Why there are none, in a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The number of the last one that was believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub census: Option<i64>,
    /// When that was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// How many it listed that nobody had registered in its scope; and of no known scope, for who is limited to none. Not told to
    /// whoever sees only a part of its scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<u64>,
    /// How many of those are not kept one by one ([`STRANGERS_MAX`] are), and so are no findings. Not told to whoever is limited
    /// if any of them is of no known scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
}

/// What a person has to give before a record can be made: it is not in the listing, and nothing stands in for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// A plan for its kind: none is configured.
    Plan,
    /// Whose it is (`scope` of the resource).
    Scope,
    /// What makes it this one (`identity` of the resource).
    Identity,
    /// How dangerous it is to delete (`criticality` of the resource).
    Criticality,
    /// When it is to go (`on` of the record). Always: no default may create a date.
    Date,
}

/// What would be sent to have it deleted, as far as the listing says. Neither is taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Prefilled {
    /// The body of `POST /v1/resources`.
    pub register: Value,
    /// The body of `POST /v1/deletions`, which has no date.
    pub delete: Value,
    /// Version of its kind's plan, by which the record would go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<u32>,
    /// What a person has to give first.
    pub lacks: Vec<Lack>,
}

/// One that is there, by the last complete listing, and nobody has registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// Kind and name, as the listing has them.
    pub resource: ResourceId,
    /// Its scope, as the platform says; none if it is not known whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// What makes it this one, if the listing says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Which instance has listed it; none if the census was handed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// By which census.
    pub census: i64,
    /// The scope of that.
    pub census_scope: Scope,
    /// When that was begun.
    pub taken_at: Timestamp,
    /// When the first of the censuses without a gap that list it so was begun.
    pub first_seen: Timestamp,
    /// A record for a person to complete and sign.
    pub record: Prefilled,
}

/// What is known of the censuses by which there may be findings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// What came last of each kind and scope.
    pub latest: Vec<Latest>,
    /// The last one of each that was believed.
    pub last: Vec<Taken>,
    /// How many strangers are kept of that.
    pub kept: BTreeMap<(Kind, Scope), u64>,
}

/// Who asks for which findings, and when.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What the asker is limited to.
    pub extent: &'a Extent,
    /// Only of this kind.
    pub kind: Option<&'a Kind>,
    /// Only of this scope and those below it.
    pub scope: Option<&'a Scope>,
    /// What a policy day is.
    pub day: Day,
    /// The store's clock.
    pub now: Timestamp,
}

/// Says what is a finding.
#[derive(Debug)]
pub struct Judge<'a> {
    asked: Asked<'a>,
    by: BTreeMap<(&'a Kind, &'a str), By>,
}

/// One census by which there may be findings.
#[derive(Debug)]
struct By {
    source: Source,
    /// How many it listed that are of no known scope.
    of_no_scope: u64,
}

impl Known {
    /// Whoever says what is a finding by these.
    pub fn judge<'a>(&'a self, asked: Asked<'a>) -> Judge<'a> {
        let last: BTreeMap<(&Kind, &str), &Taken> =
            self.last.iter().map(|taken| ((&taken.kind, taken.scope.as_str()), taken)).collect();
        let of = |latest: &'a Latest| {
            let key = (&latest.kind, latest.scope.as_str());
            let kept = self.kept.get(&(latest.kind.clone(), latest.scope.clone())).copied();
            let last = last.get(&key).copied();
            let source = source(latest, last, kept.unwrap_or(0), (asked.day, asked.now));
            (key, By { source, of_no_scope: last.map_or(0, |last| last.of_no_scope) })
        };
        Judge { asked, by: self.latest.iter().map(of).collect() }
    }
}

fn source(latest: &Latest, last: Option<&Taken>, kept: u64, (day, now): (Day, Timestamp)) -> Source {
    let (standing, why) = match (latest.not_believed(), latest.believed_at) {
        (Some(refused), _) => {
            let why = format!("the newest census was not believed ({}): {}", refused.at, refused.why);
            (Standing::Refused, Some(why))
        }
        (None, Some(_)) if latest.is_fresh(day, now) => (Standing::Believed, None),
        (None, Some(at)) => {
            let why =
                format!("the last census was believed at {at}, which is too long ago: take another one");
            (Standing::Old, Some(why))
        }
        (None, None) => (Standing::Old, Some("no census was believed".to_owned())),
    };
    Source {
        kind: latest.kind.clone(),
        scope: latest.scope.clone(),
        standing,
        why,
        census: last.map(|last| last.census),
        taken_at: last.map(|last| last.taken_at),
        unknown: last.map(|last| last.unknown),
        more: last.map(|last| last.unknown.saturating_sub(kept)),
    }
}

impl Source {
    /// For whoever sees only a part of its scope: what it says of the others is left out.
    fn in_part(self) -> Self {
        let why = match self.standing {
            Standing::Refused => Some("the newest census was not believed".to_owned()),
            Standing::Believed | Standing::Old => self.why,
        };
        Self { why, unknown: None, more: None, ..self }
    }

    /// For whoever sees all of its scope, and not what is of no known one: how many of that are kept one by one is not known
    /// apart.
    fn without(self, of_no_scope: u64) -> Self {
        if of_no_scope == 0 {
            return self;
        }
        let unknown = self.unknown.map(|unknown| unknown.saturating_sub(of_no_scope));
        Self { unknown, more: None, ..self }
    }
}

impl Judge<'_> {
    /// How the censuses stand that speak of what is asked for: where there are no findings, it is said here why.
    pub fn sources(&self) -> Vec<Source> {
        let Asked { extent, kind, scope, .. } = self.asked;
        let asked = |By { source, .. }: &&By| {
            extent.meets(&source.scope)
                && kind.is_none_or(|kind| *kind == source.kind)
                && scope.is_none_or(|of| within(&source.scope, of) || within(of, &source.scope))
        };
        let told = |By { source, of_no_scope }: &By| match extent {
            Extent::Everywhere => source.clone(),
            Extent::Scopes(_) if extent.contains(&source.scope) => source.clone().without(*of_no_scope),
            Extent::Scopes(_) => source.clone().in_part(),
        };
        self.by.values().filter(asked).map(told).collect()
    }

    /// Whether one that is kept is a finding for whoever asks. `registered`: whether one of its name is, by now, or has
    /// a live record. `plan`: the version of the plan of its kind.
    pub fn finding(&self, kept: Kept, registered: bool, plan: Option<u32>) -> Option<Finding> {
        if registered || !self.asks_for(&kept) {
            return None;
        }
        let Kept { stranger, listed_in, census, first_seen } = kept;
        let By { source, .. } = self.by.get(&(&stranger.id.kind, listed_in.as_str()))?;
        if source.standing != Standing::Believed || source.census != Some(census) {
            return None;
        }
        let taken_at = source.taken_at?;
        if self.spoken_of_since(&stranger, taken_at) {
            return None;
        }
        let record = prefilled(&stranger, (&listed_in, census, taken_at), plan);
        let Stranger { id, scope, identity, instance } = stranger;
        Some(Finding {
            resource: id,
            scope,
            identity,
            instance,
            census,
            census_scope: listed_in,
            taken_at,
            first_seen,
            record,
        })
    }

    /// Whether whoever asks sees it, and wants it. What is of no known scope may be anybody's: only who is limited to none sees it.
    fn asks_for(&self, kept: &Kept) -> bool {
        let Asked { extent, kind, scope, .. } = self.asked;
        let own = kept.stranger.scope.as_ref();
        let sees = extent.is_everywhere() || own.is_some_and(|own| extent.contains(own));
        sees && kind.is_none_or(|kind| *kind == kept.stranger.id.kind)
            && scope.is_none_or(|of| within(own.unwrap_or(&kept.listed_in), of))
    }

    /// Whether a census of another scope, which has its scope in it, was begun later and stands: it is that one's, or gone. One that
    /// was refused since, or is old, gives no findings, and so takes none away.
    fn spoken_of_since(&self, stranger: &Stranger, begun_at: Timestamp) -> bool {
        let Some(own) = &stranger.scope else { return false };
        let others = own.around().filter_map(|scope| self.by.get(&(&stranger.id.kind, scope)));
        let stands = others.map(|by| &by.source).filter(|source| source.standing == Standing::Believed);
        stands.filter_map(|source| source.taken_at).any(|at| at > begun_at)
    }
}

/// The record that a person may complete.
fn prefilled(
    stranger: &Stranger,
    (listed_in, census, taken_at): (&Scope, i64, Timestamp),
    plan: Option<u32>,
) -> Prefilled {
    let Stranger { id, scope, identity, instance } = stranger;
    let mut lacks = Vec::new();
    let mut resource = Map::new();
    resource.insert("id".to_owned(), json!(id));
    if plan.is_none() {
        lacks.push(Lack::Plan);
    }
    match scope {
        Some(scope) => drop(resource.insert("scope".to_owned(), json!(scope))),
        None => lacks.push(Lack::Scope),
    }
    match identity {
        Some(identity) => drop(resource.insert("identity".to_owned(), json!(identity))),
        None => lacks.push(Lack::Identity),
    }
    if let Some(Instance { subsystem, name }) = instance {
        resource.insert("instances".to_owned(), json!({ (subsystem.as_str()): name }));
    }
    lacks.extend([Lack::Criticality, Lack::Date]);
    let kind = &id.kind;
    let reason = format!(
        "found by census {census} of {kind} in {listed_in}, begun at {taken_at}: registered by nobody"
    );
    let delete = json!({ "resource": id, "reason": reason });
    Prefilled { register: json!({ "resources": [resource], "whole": true }), delete, plan, lacks }
}

#[cfg(test)]
mod tests;
