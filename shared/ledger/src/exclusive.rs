//! What only one resource at a time may be registered for, as both footings go through a list.
use std::collections::{BTreeMap, BTreeSet};

use sexton_model::ResourceId;
use sexton_model::exclusive::{self, Holder};
use sexton_model::resource::{Presence, Resource};

use crate::NotDone;

/// Who has what, as it was read under the lock, and as a list leaves it.
#[derive(Debug, Default)]
pub(crate) struct Holders {
    by_place: BTreeMap<String, Holder>,
    /// Of which somebody else is the holder now.
    changed: BTreeSet<String>,
}

impl Holders {
    /// What was read.
    pub(crate) fn of(read: impl IntoIterator<Item = (String, Holder)>) -> Self {
        Self { by_place: read.into_iter().collect(), changed: BTreeSet::new() }
    }

    /// Whether `new` may be registered over what is there under its name.
    pub(crate) fn check(&self, old: Option<(&Resource, Presence)>, new: &Resource) -> Result<(), NotDone> {
        let holder = new.exclusive.as_ref().and_then(|place| self.by_place.get(place));
        exclusive::check(old, new, holder).map_err(NotDone::from)
    }

    /// It is registered: whoever comes behind it in the list finds it there.
    pub(crate) fn note(&mut self, new: &Resource) {
        let Some(place) = &new.exclusive else { return };
        let holder = Holder { resource: new.id.clone(), presence: Presence::Registered, leaving: None };
        let before = self.by_place.insert(place.clone(), holder);
        if before.is_none_or(|before| before.resource != new.id) {
            self.changed.insert(place.clone());
        }
    }

    /// What is to be written: each with the resource that has it from now on.
    pub(crate) fn changed(&self) -> impl Iterator<Item = (&String, &ResourceId)> {
        let holder = |place| self.by_place.get(place).map(|holder| (place, &holder.resource));
        self.changed.iter().filter_map(holder)
    }
}

/// What these resources state, ascending.
pub(crate) fn stated(resources: &[Resource]) -> Vec<String> {
    let stated: BTreeSet<_> = resources.iter().filter_map(|resource| resource.exclusive.as_ref()).collect();
    stated.into_iter().cloned().collect()
}

/// Of what was read (what is stated, and who has it): those of whom it matters how far their deletion is, since somebody
/// else states the same. Ascending.
pub(crate) fn contested(resources: &[Resource], read: &[(String, ResourceId)]) -> Vec<String> {
    let holders: BTreeMap<&String, &ResourceId> =
        read.iter().map(|(place, holder)| (place, holder)).collect();
    let contested = |new: &Resource| {
        let holder = holders.get(new.exclusive.as_ref()?)?;
        (**holder != new.id).then(|| holder.to_string())
    };
    let ids: BTreeSet<String> = resources.iter().filter_map(contested).collect();
    ids.into_iter().collect()
}
