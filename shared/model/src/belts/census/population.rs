//! Of how many a share is counted, as censuses say that were believed.
use std::collections::BTreeMap;

use super::Taken;
use crate::belts::budget::Counted;
use crate::belts::within;
use crate::id::{Kind, Scope};
use crate::time::Timestamp;

/// How many there are, as censuses say that were believed: of what is registered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Population {
    /// One of each kind and scope.
    kept: Vec<Taken>,
    /// When the span began within which is counted.
    from: Timestamp,
}

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
        Self { kept: kept.into_values().collect(), from }
    }

    /// How many of a kind there are where is counted; none if no census says so. Of one scope it is what the census of the
    /// narrowest scope says, and no more than a later one of a scope around it: one that was taken once, of a part, does not say
    /// for ever how many may go there. For all scopes together it is what is known.
    pub fn of(&self, kind: &Kind, counted: &Counted) -> Option<u64> {
        let covers = |taken: &&Taken| {
            taken.kind == *kind
                && match counted {
                    Counted::In(scope) | Counted::Within(scope) => within(scope, &taken.scope),
                    Counted::Everywhere => true,
                }
        };
        // Censuses of a scope and of one around it both count what is below: the narrowest is taken for one scope, unless a later
        // one has fewer, and for all together each resource once, by the census of the widest scope.
        let mut covering: Vec<&Taken> = self.kept.iter().filter(covers).collect();
        covering.sort_by_key(|taken| taken.scope.as_str().len());
        match counted {
            Counted::In(_) | Counted::Within(_) => {
                let narrowest = covering.last()?;
                let inside = |taken: &Taken| {
                    let own = taken
                        .population()
                        .filter(|(scope, _)| scope.parse::<Scope>().is_ok_and(|scope| counted.has(&scope)));
                    own.map(|(_, count)| count).fold(0, u64::saturating_add)
                };
                let later = covering.iter().filter(|taken| self.is_later(taken, narrowest));
                Some(later.map(|taken| inside(taken)).fold(inside(narrowest), u64::min))
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

    /// Whether one was begun after another one, and does not change what is counted by within the span.
    fn is_later(&self, taken: &Taken, narrowest: &Taken) -> bool {
        taken.taken_at > narrowest.taken_at
            && (taken.accepted_at <= self.from || narrowest.accepted_at > self.from)
    }
}
