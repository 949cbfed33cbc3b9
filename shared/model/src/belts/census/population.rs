//! Of how many a share is counted, as censuses say that were believed.
use std::collections::BTreeMap;

use super::Taken;
use crate::belts::budget::Counted;
use crate::belts::within;
use crate::id::{Kind, Scope};
use crate::time::Timestamp;

/// How many there are, as censuses say that were believed: of what is registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Population(Vec<Taken>);

impl Population {
    /// What counts at `now`: of each kind and scope the newest census of before the span that began at `from`, else the
    /// oldest one. So a number does not change while it is counted.
    pub fn frozen(all: impl IntoIterator<Item = Taken>, from: Timestamp) -> Self {
        let mut kept: BTreeMap<(Kind, String), Taken> = BTreeMap::new();
        let mut all: Vec<Taken> = all.into_iter().collect();
        all.sort_by_key(|taken| taken.accepted_at);
        for taken in all {
            let key = (taken.kind.clone(), taken.scope.to_string());
            if taken.accepted_at <= from || !kept.contains_key(&key) {
                kept.insert(key, taken);
            }
        }
        Self(kept.into_values().collect())
    }

    /// How many of a kind there are where is counted; none if no census says so. For all scopes together it is what is
    /// known, which is never too much.
    pub fn of(&self, kind: &Kind, counted: &Counted) -> Option<u64> {
        let covers = |taken: &&Taken| {
            taken.kind == *kind
                && match counted {
                    Counted::In(scope) | Counted::Within(scope) => within(scope, &taken.scope),
                    Counted::Everywhere => true,
                }
        };
        // Censuses of a scope and of one around it both count what is below: the narrowest is taken for one scope, and for
        // all together each resource once, by the census of the widest scope.
        let mut covering: Vec<&Taken> = self.0.iter().filter(covers).collect();
        covering.sort_by_key(|taken| taken.scope.as_str().len());
        match counted {
            Counted::In(_) | Counted::Within(_) => {
                let narrowest = covering.last()?;
                let inside = narrowest
                    .population()
                    .filter(|(scope, _)| scope.parse::<Scope>().is_ok_and(|scope| counted.has(&scope)));
                Some(inside.map(|(_, count)| count).fold(0, u64::saturating_add))
            }
            Counted::Everywhere => {
                let mut widest: Vec<&Taken> = Vec::new();
                for taken in covering {
                    if !widest.iter().any(|wider| within(&taken.scope, &wider.scope)) {
                        widest.push(taken);
                    }
                }
                (!widest.is_empty()).then(|| {
                    let all = widest.into_iter().flat_map(Taken::population);
                    all.map(|(_, count)| count).fold(0, u64::saturating_add)
                })
            }
        }
    }
}
