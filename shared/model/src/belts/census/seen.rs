//! Whether a census has seen each part of its scope: by the sentinels in it, and by what is registered.
use std::collections::BTreeMap;

use super::{AsRegistered, Census, Listed, NotBelieved, Sentinel, Taken};
use crate::belts::within;
use crate::id::{ResourceId, Scope};

impl Census {
    /// Whether the first census of its kind and scope lists anything of each scope in which something is `registered`. A credential that
    /// sees one customer alone lists nothing of the others, and counts what it lists correctly; a sentinel shows this only where
    /// there is one. Of a later one this is known by comparing it with the one before, which was believed.
    ///
    /// # Errors
    /// Naming the first such scope, unless it is stated that fewer are meant.
    pub fn sees_each_scope(
        &self,
        registered: &BTreeMap<ResourceId, AsRegistered>,
        last: Option<&Taken>,
    ) -> Result<(), NotBelieved> {
        if last.is_some() || self.fewer {
            return Ok(());
        }
        // How many there should be, and whether any is.
        let mut scopes: BTreeMap<&Scope, (usize, bool)> = BTreeMap::new();
        for (id, of) in registered.iter().filter(|(_, of)| !of.going) {
            let (should, seen) = scopes.entry(&of.scope).or_default();
            *should += 1;
            *seen |= self.listed_as(id).is_some();
        }
        match scopes.into_iter().find(|(_, (_, seen))| !seen) {
            None => Ok(()),
            Some((scope, (registered, _))) => {
                Err(NotBelieved::ScopeUnseen { scope: scope.clone(), registered, of: self.scope.clone() })
            }
        }
    }

    pub(super) fn sees_all(&self, sentinels: &[Sentinel]) -> Result<(), NotBelieved> {
        let mut own = sentinels
            .iter()
            .filter(|s| s.resource.kind == self.kind && within(&s.scope, &self.scope))
            .peekable();
        if own.peek().is_none() {
            return Err(NotBelieved::NoSentinel(self.scope.clone()));
        }
        own.try_for_each(|sentinel| match self.listed_as(&sentinel.resource) {
            None => Err(NotBelieved::SentinelMissing(sentinel.resource.clone(), self.credential.clone())),
            Some(one) if !within(&one.scope, &sentinel.scope) => Err(NotBelieved::SentinelElsewhere {
                sentinel: sentinel.resource.clone(),
                listed_in: one.scope.clone(),
                own: sentinel.scope.clone(),
            }),
            Some(_) => Ok(()),
        })
    }

    fn listed_as(&self, id: &ResourceId) -> Option<&Listed> {
        self.listed.binary_search_by(|one| one.id.cmp(id)).ok().and_then(|at| self.listed.get(at))
    }
}
