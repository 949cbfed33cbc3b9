//! What resources have to themselves by what they state, as both footings go through a list.
//!
//! Each claim of a resource is a row, so that whoever claims the same is found by an index, in whichever scope. A resource claims
//! what is registered of it, and what its live record has as a copy of that: a record goes by its copy, and by nothing that was
//! registered since, so its copy is claimed until it is over. A row may be left of what nobody states any more: the end of a
//! record leaves its rows as they are, and so does whoever goes by other files ([`agrees`]). So whether one still states what its
//! rows say is asked of what is registered, and of the copy ([`still`]).
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sexton_model::belts::Policy;
use sexton_model::claims::{self, Claimable, Rival};
use sexton_model::deletion::Record;
use sexton_model::resource::Resource;
use sexton_model::{DeletionId, ResourceId, Scope};

use crate::rules::Registering;
use crate::{LedgerError, NotDone};

/// A claim, and of which resource: a row.
pub(crate) type Row = (String, String);

/// A resource by its name, as it is registered, and its live record, if it has one: both as they are stored.
pub(crate) type Stored = (String, String, Option<String>);

/// Resources whose claims are written down at once, if they were registered before claims were.
pub(crate) const FILL: u32 = 512;

/// In front of the text by which a table is being filled.
const FILLING: &str = "filling: ";

/// Most claims that are told after a fill.
pub(crate) const TOLD: u32 = 100;

/// Say of a claim that others share it with a live record, which went by that before anybody asked.
pub(crate) fn tell_shared(claim: &str, by: &str, record: i64) {
    tracing::warn!(
        claim,
        resource = by,
        record = %DeletionId(record),
        "claimed, too, by a resource that is being deleted: its deletion may take that away"
    );
}

/// What these resources claim, ascending. What cannot be compared is refused later, one by one.
pub(crate) fn stated<'a>(
    claimable: &Claimable,
    resources: impl IntoIterator<Item = &'a Resource>,
) -> Vec<String> {
    let stated: BTreeSet<String> =
        resources.into_iter().filter_map(|resource| claimable.of(resource).ok()).flatten().collect();
    stated.into_iter().collect()
}

/// What is to be written down of a resource that was registered before claims were: what it states, and what its live record
/// has as a copy of that; both as they are stored. What cannot be read, or not be compared, is told, and claims nothing until it
/// is registered in other words: one row that is spoilt stops nobody else.
pub(crate) fn of_older(claimable: &Claimable, id: &str, body: &str, record: Option<&str>) -> Vec<Row> {
    let stated = serde_json::from_str::<Resource>(body);
    let copy = record.map(|record| serde_json::from_str::<Record>(record).map(|record| record.resource));
    let mut claims = BTreeSet::new();
    for read in std::iter::once(stated).chain(copy) {
        match read.map(|resource| claimable.of(&resource)) {
            Ok(Ok(all)) => claims.extend(all),
            Ok(Err(why)) => tracing::warn!(resource = id, %why, "what it has to itself cannot be told"),
            Err(error) => tracing::error!(resource = id, %error, "what it has to itself cannot be read"),
        }
    }
    claims.into_iter().map(|claim| (claim, id.to_owned())).collect()
}

/// The names of those rivals whose rows do not tell whether they are any: for something that another one of these resources
/// states. There are few: a resource finds its own rows, too.
pub(crate) fn doubtful(claimable: &Claimable, resources: &[&Resource], rivals: &[Rival]) -> Vec<String> {
    let mut stated: BTreeMap<String, BTreeSet<&ResourceId>> = BTreeMap::new();
    for resource in resources {
        for claim in claimable.of(resource).into_iter().flatten() {
            stated.entry(claim).or_default().insert(&resource.id);
        }
    }
    let contested = |rival: &&Rival| {
        let mut by = stated.get(&rival.claim).into_iter().flatten();
        by.any(|id| **id != rival.resource)
    };
    let names: BTreeSet<String> =
        rivals.iter().filter(contested).map(|rival| rival.resource.to_string()).collect();
    names.into_iter().collect()
}

/// Those that are rivals by what is registered of them, or by what their live record has as a copy of that. What cannot be read,
/// or not be compared, may still state what its rows say.
pub(crate) fn still(
    claimable: &Claimable,
    rivals: Vec<Rival>,
    stored: impl IntoIterator<Item = Stored>,
) -> Vec<Rival> {
    let mut states: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (id, body, record) in stored {
        if let Some(claims) = of_both(claimable, &body, record.as_deref()) {
            states.insert(id, claims);
        }
    }
    let is_one = |rival: &Rival| {
        let stated = states.get(&rival.resource.to_string());
        stated.is_none_or(|stated| stated.contains(&rival.claim))
    };
    rivals.into_iter().filter(is_one).collect()
}

/// What a resource claims by how it is registered and by its live record's copy; `None` unless all of that can be told.
fn of_both(claimable: &Claimable, body: &str, record: Option<&str>) -> Option<BTreeSet<String>> {
    let resource = serde_json::from_str::<Resource>(body).ok()?;
    let mut claims = claimable.of(&resource).ok()?;
    if let Some(record) = record {
        let record = serde_json::from_str::<Record>(record).ok()?;
        claims.append(&mut claimable.of(&record.resource).ok()?);
    }
    Some(claims)
}

/// Whoever claims something, besides its name.
#[derive(Debug, Clone)]
struct Claimant {
    scope: Scope,
    live: Option<DeletionId>,
}

/// Who claims what, as it was read under the locks, and as a list leaves it.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    policy: Arc<Policy>,
    by_claim: BTreeMap<String, BTreeMap<ResourceId, Claimant>>,
    /// What the rows say of the resources of the list, by their names.
    written: BTreeMap<String, BTreeSet<String>>,
    /// What they are to say.
    wanted: BTreeMap<String, BTreeSet<String>>,
}

impl Claims {
    /// What was read: who claims what the resources of a list state, and all rows of these resources.
    pub(crate) fn of(policy: Arc<Policy>, rivals: Vec<Rival>, rows: Vec<Row>) -> Self {
        let mut by_claim: BTreeMap<String, BTreeMap<ResourceId, Claimant>> = BTreeMap::new();
        for Rival { claim, resource, scope, live } in rivals {
            by_claim.entry(claim).or_default().insert(resource, Claimant { scope, live });
        }
        let mut written: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (claim, resource) in rows {
            written.entry(resource).or_default().insert(claim);
        }
        Self { policy, by_claim, written, wanted: BTreeMap::new() }
    }

    /// Whoever else claims one of these.
    fn rivals<'a>(
        &'a self,
        id: &'a ResourceId,
        claims: &'a BTreeSet<String>,
    ) -> impl Iterator<Item = Rival> + 'a {
        let others = move |claim: &'a String| {
            let claimants = self.by_claim.get(claim).into_iter().flatten();
            claimants.filter(move |(other, _)| *other != id).map(move |(other, claimant)| Rival {
                claim: claim.clone(),
                resource: other.clone(),
                scope: claimant.scope.clone(),
                live: claimant.live,
            })
        };
        claims.iter().flat_map(others)
    }

    /// Whether `new`, which has that live record or none, may be registered.
    fn may_register(&self, new: &Resource, live: Option<DeletionId>) -> Result<(), NotDone> {
        let claims = self.policy.claimable.of(new)?;
        claims::may_register(live, self.rivals(&new.id, &claims)).map_err(NotDone::from)
    }

    /// The verdict on one that may be registered otherwise. What is registered already just so stays registered; so does what
    /// claims nothing more than is registered of it, whoever shares that: both may have been before anybody asked.
    pub(crate) fn may_be(
        &self,
        verdict: Registering,
        (old, new): (Option<&Resource>, &Resource),
        live: Option<DeletionId>,
    ) -> Result<Registering, NotDone> {
        match verdict {
            Registering::Same => Ok(verdict),
            Registering::Update if old.is_some_and(|old| self.claims_no_more(old, new)) => Ok(verdict),
            Registering::Anew | Registering::Update => self.may_register(new, live).map(|()| verdict),
        }
    }

    /// Whether a resource claims nothing that it did not claim before. Of what cannot be compared it is not known.
    fn claims_no_more(&self, old: &Resource, new: &Resource) -> bool {
        let claimable = &self.policy.claimable;
        matches!((claimable.of(old), claimable.of(new)), (Ok(before), Ok(after)) if after.is_subset(&before))
    }

    /// Whether a record may be made for it.
    pub(crate) fn may_delete(&self, resource: &Resource) -> Result<(), NotDone> {
        let claims = self.policy.claimable.of(resource)?;
        claims::may_delete(self.rivals(&resource.id, &claims)).map_err(NotDone::from)
    }

    /// So it is registered from now on, with that live record or none: whoever comes behind it in the list finds it there, and
    /// its rows are to say it. Of one that is being deleted none goes, because one may be of what its record goes by; whoever
    /// reads them next asks what is still stated.
    pub(crate) fn note(&mut self, new: &Resource, live: Option<DeletionId>) {
        let Ok(mut claims) = self.policy.claimable.of(new) else { return };
        let name = new.id.to_string();
        let stated = self.wanted.get(&name);
        let before: Vec<String> =
            self.written.get(&name).into_iter().chain(stated).flatten().cloned().collect();
        let claimant = Claimant { scope: new.scope.clone(), live };
        for claim in &before {
            let Some(claimants) = self.by_claim.get_mut(claim) else { continue };
            if live.is_none() {
                claimants.remove(&new.id);
            } else if let Some(known) = claimants.get_mut(&new.id) {
                known.clone_from(&claimant);
            }
        }
        for claim in &claims {
            self.by_claim.entry(claim.clone()).or_default().insert(new.id.clone(), claimant.clone());
        }
        if live.is_some() {
            claims.extend(before);
        }
        self.wanted.insert(name, claims);
    }

    /// By what these are claims, as a text: see [`declared`].
    pub(crate) fn declared(&self) -> Result<String, LedgerError> {
        declared(&self.policy)
    }

    /// The rows that are to go, and those that are to come.
    pub(crate) fn changes(&self) -> (Vec<Row>, Vec<Row>) {
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        let none = BTreeSet::new();
        for (resource, claims) in &self.wanted {
            let written = self.written.get(resource).unwrap_or(&none);
            gone.extend(written.difference(claims).map(|claim| (claim.clone(), resource.clone())));
            new.extend(claims.difference(written).map(|claim| (claim.clone(), resource.clone())));
        }
        (gone, new)
    }
}

/// Whether anything has to be read for these policies: where nothing is a claim, nobody claims anything.
pub(crate) fn asked(policy: &Policy) -> bool {
    !policy.claimable.is_empty()
}

/// By what the rows of a table were written, as a text.
///
/// # Errors
/// If it cannot be written down, which would be a defect.
pub(crate) fn declared(policy: &Policy) -> Result<String, LedgerError> {
    crate::rules::text(&policy.claimable)
}

/// What is written down of a table in place of that while it is filled: whoever writes rows by other files empties it, so that
/// the fill does not end as if nothing had happened.
pub(crate) fn being_filled(declared: &str) -> String {
    format!("{FILLING}{declared}")
}

/// Whether the rows of a table are written by what `own` says. Whoever goes by something else removes no row, because others
/// may need it, and leaves no text, because others may miss one: whoever is started next fills the table again.
pub(crate) fn agrees(written: Option<&str>, own: &str) -> bool {
    written.is_some_and(|written| written.strip_prefix(FILLING).unwrap_or(written) == own)
}
