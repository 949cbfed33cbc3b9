//! Complete listings only: a census is believed if it proves that nothing is left out. Absence in it is a finding for a
//! person, and never a reason to delete.
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::within;
use crate::access::Extent;
use crate::id::{Kind, ResourceId, Scope};
use crate::resource::Identity;
use crate::time::Timestamp;

pub mod assembled;
pub mod daily;
pub mod findings;
pub mod foreign;
mod handed_in;
mod latest;
pub mod listing;
pub mod misplaced;
mod missed;
mod population;
mod seen;
mod written;

pub use findings::Stranger;
pub use foreign::{GoneEverywhere, gone_everywhere, gone_within_a_day};
pub use latest::{Lapse, Lapsed, Latest, REFUSED_DAYS, Refusal, lapses};
pub use misplaced::{AsRegistered, MISPLACED_NAMED_MAX, Misplaced};
pub use population::Population;
pub use written::{Mistake, Written};

/// Most resources of one census.
pub const LISTED_MAX: usize = 200_000;
/// Most scopes that they may be in: each is counted.
pub const SCOPES_MAX: usize = 4096;
/// Longest name of a credential, in characters.
pub const CREDENTIAL_MAX: usize = 200;
/// Most resources that are named of those that are missing, or unknown; all are counted.
pub const NAMED_MAX: usize = 1000;
/// Most that are named of those that instances have listed and nobody has registered: whose they are is not known.
pub const UNREGISTERED_NAMED_MAX: usize = 20;

/// One that is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Kind and name.
    pub id: ResourceId,
    /// Its scope, as the platform says.
    pub scope: Scope,
    /// What makes it this one, if the platform says so. Kept of what nobody has registered; of what is registered it is not
    /// compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
}

/// A listing of all resources of a kind in a scope and those below it, and what makes it complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Census {
    /// Which kind.
    pub kind: Kind,
    /// Which scope, with those below it.
    pub scope: Scope,
    /// What it was listed with, by name: another one may see another part.
    pub credential: String,
    /// That another credential than last time is meant.
    pub new_credential: bool,
    /// That so many fewer than last time is meant; of the first one, that nothing is there of scopes in which there should be.
    pub fewer: bool,
    /// That so many more than last time is meant: see [`Census::grown`].
    pub more: bool,
    /// When it was begun.
    pub taken_at: Timestamp,
    /// How many there are, as the platform counts them itself.
    pub total: u64,
    /// All of them, ascending by id, as they come when pages are cut by that key.
    pub listed: Vec<Listed>,
    /// Beside them, what instances have listed and nobody has registered: of no scope, and not in `total`. None if the
    /// census was handed in, for then each has the scope that the platform says.
    pub unregistered: Vec<Stranger>,
    /// That Sexton has taken it: then each that it lists is one that is registered in its scope.
    pub itself: bool,
}

/// One that must be in each census of its scope, or of one around it: somebody put it there for that.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sentinel {
    /// Its scope.
    pub scope: Scope,
    /// Which.
    pub resource: ResourceId,
}

/// What the configuration asks of censuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Oldest that is believed, in milliseconds since it was begun.
    pub age_max_ms: u64,
    /// How many per cent fewer than last time it may list.
    pub shrinks_percent: u8,
    /// What must be in them.
    pub sentinels: Vec<Sentinel>,
    /// Which are taken without anybody asking.
    pub take: Vec<daily::Take>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { age_max_ms: 3_600_000, shrinks_percent: 10, sentinels: Vec::new(), take: Vec::new() }
    }
}

/// What is kept of one that was believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    /// Its number.
    pub census: i64,
    /// Which kind.
    pub kind: Kind,
    /// Which scope, with those below it.
    pub scope: Scope,
    /// What it was listed with.
    pub credential: String,
    /// When it was begun.
    pub taken_at: Timestamp,
    /// When it was believed, by the store's clock.
    pub accepted_at: Timestamp,
    /// How many there are in each scope.
    pub counts: BTreeMap<String, u64>,
    /// How many of these nobody had registered, in each scope that has any: listed by whoever handed it in, and by nobody else.
    /// No share is counted of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unregistered: BTreeMap<String, u64>,
    /// How many of them are registered in another scope than that, in each in which it lists any. No share is counted of these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub misplaced: BTreeMap<String, u64>,
    /// The first of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub misplaced_named: Vec<Misplaced>,
    /// Whether somebody has said that so many more were meant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Registered, not being removed here, and not listed: somebody else has deleted them, or the inventory is
    /// wrong. How many.
    pub missing: u64,
    /// The first of them.
    pub missing_named: BTreeSet<ResourceId>,
    /// Marks of more of them, ascending: the next census is compared with them. Nobody who asks is told these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_marked: Vec<u32>,
    /// Of these, how many the census before had not missed; none if there was none before. At the least, if that one kept some
    /// neither by name nor by mark.
    pub newly_missing: u64,
    /// Listed, and not registered: how many.
    pub unknown: u64,
    /// The first of them.
    pub unknown_named: BTreeSet<ResourceId>,
    /// How many of them are of no known scope, for instances have listed them: they may be anybody's.
    #[serde(default)]
    pub of_no_scope: u64,
    /// Whether so many were missing anew that its scope was paused: that told somebody of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told: bool,
    /// Whether so many were missing anew in all scopes together that its kind was paused everywhere.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told_everywhere: bool,
}

impl Taken {
    /// What somebody is told of it who is limited so: nothing of what is of no known scope, unless to none.
    #[must_use]
    pub fn told_to(self, extent: &Extent) -> Self {
        let told = self.unmarked();
        if extent.is_everywhere() || told.of_no_scope == 0 {
            return told;
        }
        let unknown = told.unknown.saturating_sub(told.of_no_scope);
        Self { unknown, unknown_named: BTreeSet::new(), of_no_scope: 0, ..told }
    }

    /// It without its marks, which say nothing to anybody.
    #[must_use]
    pub fn unmarked(self) -> Self {
        Self { missing_marked: Vec::new(), ..self }
    }

    fn listed(&self) -> u64 {
        self.counts.values().copied().fold(0, u64::saturating_add)
    }

    /// How many of those that it listed in their scopes nobody had registered.
    fn strange(&self) -> u64 {
        self.unknown.saturating_sub(self.of_no_scope)
    }

    /// How many of these may still be so: all but those that are `registered` in its scope by now. Only what was named is known
    /// to be one of them, and of the names none says whether it was of a scope: as many as were of none are taken for those.
    fn still_strange(&self, registered: &BTreeMap<ResourceId, AsRegistered>) -> u64 {
        let named = self.unknown_named.iter().filter(|id| registered.contains_key(*id)).count();
        let met = u64::try_from(named).unwrap_or(0).saturating_sub(self.of_no_scope);
        self.strange().saturating_sub(met)
    }

    /// How many there are in each scope of which a share is counted: what nobody has registered there enlarges none, or whoever
    /// lists would say how many may go.
    fn population(&self) -> impl Iterator<Item = (&str, u64)> {
        let of = |counts: &BTreeMap<String, u64>, scope: &str| counts.get(scope).copied().unwrap_or(0);
        self.counts.iter().map(move |(scope, count)| {
            let not_its_own = of(&self.unregistered, scope).saturating_add(of(&self.misplaced, scope));
            (scope.as_str(), count.saturating_sub(not_its_own))
        })
    }
}

/// Why a census is not believed. Each names its field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// Absence of everything is no evidence of anything.
    #[error("listed: nothing is listed; an empty listing is not believed")]
    Empty,
    /// More than one call takes.
    #[error("listed: {0} are listed: expected at most {LISTED_MAX}; take it by scope")]
    TooMany(usize),
    /// Another number than the platform's own.
    #[error(
        "total: the platform counts {said}, and {listed} are listed: pages are missing, or it changed meanwhile"
    )]
    Total {
        /// What it says.
        said: u64,
        /// What came.
        listed: usize,
    },
    /// Pages overlap, or were cut by something else than the key.
    #[error("listed: {0} does not come after the one before it: expected each once, ascending by id")]
    Order(ResourceId),
    /// It is not about that.
    #[error("listed: {0} is not of {1}")]
    Elsewhere(ResourceId, String),
    /// More scopes than are counted.
    #[error("listed: they are in {0} scopes: expected at most {SCOPES_MAX}")]
    Scopes(usize),
    /// Nothing proves that this scope was seen.
    #[error(
        "scope: no sentinel is known within {0}: name a resource of each scope that is always there under [census] sentinels"
    )]
    NoSentinel(Scope),
    /// A part was not seen.
    #[error("listed: the sentinel {0} is missing: {1} sees only a part")]
    SentinelMissing(ResourceId, String),
    /// It shows nothing of that scope.
    #[error(
        "listed: the sentinel {sentinel} is listed in {listed_in}: expected within {own}, of which it is one"
    )]
    SentinelElsewhere {
        /// Which.
        sentinel: ResourceId,
        /// Where it is listed.
        listed_in: Scope,
        /// Where it has to be.
        own: Scope,
    },
    /// The world has gone on.
    #[error("taken_at: it was begun at {taken_at}, and it is {now}: expected at most {} minutes ago", most_ms / 60_000)]
    Old {
        /// When it was begun.
        taken_at: Timestamp,
        /// The store's clock.
        now: Timestamp,
        /// What is believed.
        most_ms: u64,
    },
    /// A clock is wrong.
    #[error("taken_at: {taken_at} is to come; it is {now}")]
    Ahead {
        /// When it was begun.
        taken_at: Timestamp,
        /// The store's clock.
        now: Timestamp,
    },
    /// It is older than the last one.
    #[error("taken_at: census {0} was begun later, and was believed")]
    Overtaken(i64),
    /// Another token may see another part.
    #[error(
        "credential: {now}, and census {census} was taken with {before}: state new_credential if that is meant"
    )]
    Credential {
        /// The last one.
        census: i64,
        /// With which.
        before: String,
        /// With which it is now.
        now: String,
    },
    /// A cut listing looks like this.
    #[error("listed: {listed}, and census {census} listed {before}: state fewer if that is meant")]
    Fewer {
        /// The last one.
        census: i64,
        /// How many it listed.
        before: u64,
        /// How many there are now.
        listed: usize,
    },
    /// Nothing of a scope was seen, and no census before says that this is so.
    #[error(
        "listed: none of {registered} registered in {scope} is listed, and no census of {of} was believed before: whoever lists \
         may see a part alone; state fewer if that is meant"
    )]
    ScopeUnseen {
        /// Which scope.
        scope: Scope,
        /// How many are registered there, and not being removed.
        registered: usize,
        /// Of which scope the census is.
        of: Scope,
    },
    /// Whoever lists may want a share to be of more.
    #[error("listed: {listed}, and census {census} listed {before}: state more if that is meant")]
    More {
        /// The one that listed the fewest.
        census: i64,
        /// How many it listed.
        before: u64,
        /// How many there are now.
        listed: usize,
    },
    /// Nothing shows who has listed it, and there is better.
    #[error(
        "scope: Sexton takes the censuses of {kind} in {scope} itself ([census] take): none is handed in of it, nor of a part of \
         it; have one taken (sexton census take)"
    )]
    TakenHere {
        /// Of which kind.
        kind: Kind,
        /// Of which scope, with those below it.
        scope: Scope,
    },
    /// Neither name nor length of one.
    #[error("credential: expected 1 to {CREDENTIAL_MAX} characters")]
    CredentialName,
}

/// How far a platform's clock may be ahead, in milliseconds.
const AHEAD_MS: u64 = 60_000;

impl Census {
    /// Whether it is believed: complete, of its time, and in keeping with `last`, the one before it of the same kind and scope.
    /// Whether it has grown is [`Census::grown`].
    ///
    /// # Errors
    /// Saying what it lacks.
    pub fn check(&self, rules: &Rules, last: Option<&Taken>, now: Timestamp) -> Result<(), NotBelieved> {
        self.may_come_from_others(rules)?;
        if self.credential.trim().is_empty() || self.credential.chars().count() > CREDENTIAL_MAX {
            return Err(NotBelieved::CredentialName);
        }
        self.complete()?;
        self.sees_all(&rules.sentinels)?;
        let taken_at = self.taken_at;
        if taken_at > now.plus_ms(AHEAD_MS) {
            return Err(NotBelieved::Ahead { taken_at, now });
        }
        if now.ms_since(taken_at) > rules.age_max_ms {
            return Err(NotBelieved::Old { taken_at, now, most_ms: rules.age_max_ms });
        }
        let Some(last) = last else { return Ok(()) };
        if taken_at <= last.taken_at {
            return Err(NotBelieved::Overtaken(last.census));
        }
        if self.credential != last.credential && !self.new_credential {
            let (before, now) = (last.credential.clone(), self.credential.clone());
            return Err(NotBelieved::Credential { census: last.census, before, now });
        }
        // The last one: whatever is refused for this has proved all else, and its scope may be paused for what it lacks.
        let (before, listed) = (last.listed(), self.listed.len());
        let least =
            before.saturating_mul(u64::from(100u8.saturating_sub(rules.shrinks_percent))).div_ceil(100);
        if u64::try_from(listed).unwrap_or(u64::MAX) < least && !self.fewer {
            return Err(NotBelieved::Fewer { census: last.census, before, listed });
        }
        Ok(())
    }

    /// Whether there are fewer than `last` time only because fewer are registered, or are being removed here: nothing that is
    /// registered is missing (`counted`). Of one that was handed in that is not enough, for it lists what nobody has registered,
    /// too, and may have left that out: of those there are no fewer, either, but for those that are `registered` by now, as in
    /// [`Census::taken`].
    pub fn lost_nothing(
        &self,
        counted: &Taken,
        last: &Taken,
        registered: &BTreeMap<ResourceId, AsRegistered>,
    ) -> bool {
        counted.missing == 0 && (self.itself || counted.strange() >= last.still_strange(registered))
    }

    fn complete(&self) -> Result<(), NotBelieved> {
        let listed = self.listed.len();
        if listed == 0 {
            return Err(NotBelieved::Empty);
        }
        if listed > LISTED_MAX {
            return Err(NotBelieved::TooMany(listed));
        }
        if u64::try_from(listed) != Ok(self.total) {
            return Err(NotBelieved::Total { said: self.total, listed });
        }
        let overlap = self.listed.windows(2).find_map(|pair| match pair {
            [one, next] if one.id >= next.id => Some(next.id.clone()),
            _ => None,
        });
        if let Some(id) = overlap {
            return Err(NotBelieved::Order(id));
        }
        for one in &self.listed {
            if one.id.kind != self.kind {
                return Err(NotBelieved::Elsewhere(one.id.clone(), format!("kind {}", self.kind)));
            }
            if !within(&one.scope, &self.scope) {
                return Err(NotBelieved::Elsewhere(one.id.clone(), format!("scope {}", self.scope)));
            }
        }
        let scopes: BTreeSet<&str> = self.listed.iter().map(|one| one.scope.as_str()).collect();
        if scopes.len() > SCOPES_MAX { Err(NotBelieved::Scopes(scopes.len())) } else { Ok(()) }
    }

    /// What is kept of it. `registered` are the resources of its kind and scope that are registered: what is being removed may
    /// be gone. A record alone takes nothing away, also if it is due soon: what is gone before that was removed by somebody
    /// else.
    pub fn taken(
        &self,
        census: i64,
        registered: &BTreeMap<ResourceId, AsRegistered>,
        last: Option<&Taken>,
        now: Timestamp,
    ) -> Taken {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut unregistered: BTreeMap<String, u64> = BTreeMap::new();
        for one in &self.listed {
            *counts.entry(one.scope.to_string()).or_default() += 1;
            // What Sexton lists itself was registered when it was listed.
            if !self.itself && !registered.contains_key(&one.id) {
                *unregistered.entry(one.scope.to_string()).or_default() += 1;
            }
        }
        let (misplaced, misplaced_named) = self.misplaced(registered);
        let listed: BTreeSet<&ResourceId> = self.listed.iter().map(|one| &one.id).collect();
        // One that was registered while the census was taken is there, too.
        let unplaced = || self.unregistered.iter().map(|one| &one.id);
        let there: BTreeSet<&ResourceId> = listed.iter().copied().chain(unplaced()).collect();
        let missing =
            || registered.iter().filter(|(id, of)| !of.going && !there.contains(id)).map(|(id, _)| id);
        let unknown = || listed.iter().filter(|id| !registered.contains_key(**id)).copied();
        let many = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        Taken {
            census,
            kind: self.kind.clone(),
            scope: self.scope.clone(),
            credential: self.credential.clone(),
            taken_at: self.taken_at,
            accepted_at: now,
            counts,
            unregistered,
            misplaced,
            misplaced_named,
            more: self.more,
            missing: many(missing().count()),
            missing_named: missing().take(NAMED_MAX).cloned().collect(),
            missing_marked: missed::marks(missing().skip(NAMED_MAX).take(missed::MARKED_MAX)),
            newly_missing: last.map_or(0, |last| last.had_not_missed(missing())),
            unknown: many(unknown().count() + self.unregistered.len()),
            unknown_named: unknown()
                .chain(unplaced().take(UNREGISTERED_NAMED_MAX))
                .take(NAMED_MAX)
                .cloned()
                .collect(),
            of_no_scope: many(self.unregistered.len()),
            told: false,
            told_everywhere: false,
        }
    }
}

#[cfg(test)]
mod tests;
