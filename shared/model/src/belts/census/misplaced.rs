//! What is listed in another scope than it is registered in. Whoever hands a census in says where each is: if that were believed,
//! whoever asks for deletions could put all that there is into its own scope, and a share would be one of all that.
//!
//! Contract: no share is counted of these, neither where they are listed nor where they are registered, and they are named with
//! both: a machine was moved, or somebody is wrong about whose it is. That is for a person to find out.
use std::cmp::Reverse;
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::foreign::DAY_US;
use super::{Census, Taken};
use crate::id::{Kind, ResourceId, Scope};
use crate::time::Timestamp;

/// Most that are named of one census: people read it. All are counted.
pub const MISPLACED_NAMED_MAX: usize = 100;
/// Most that a digest names of one census. What is kept of it names more.
pub const MISPLACED_TOLD_MAX: usize = 20;

/// What is registered of one, as far as a census asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsRegistered {
    /// Its scope.
    pub scope: Scope,
    /// Whether the hard stage of a live record of it has begun: it may be gone.
    pub going: bool,
}

/// One that is listed in another scope than it is registered in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Misplaced {
    /// Kind and name.
    pub id: ResourceId,
    /// Where it is listed.
    pub listed_in: Scope,
    /// Where it is registered.
    pub registered_in: Scope,
}

/// What one census lists in other scopes than they are registered in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ListedElsewhere {
    /// Which census.
    pub census: i64,
    /// Their kind.
    pub kind: Kind,
    /// The scope of the census, which is around both.
    pub scope: Scope,
    /// When it was believed.
    pub found_at: Timestamp,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub named: Vec<Misplaced>,
}

/// What censuses of the day before `now` have found so, the newest first. Each says it again until it is put right, so of a kind and
/// scope the one counts that has found most, of several the newest: one that finds fewer, or none, by whoever hands it in, hides
/// nothing. `all` that are kept, the oldest first.
pub fn of_last_day(all: &[Taken], now: Timestamp) -> Vec<ListedElsewhere> {
    let from = Timestamp(now.0.saturating_sub(DAY_US));
    let mut most: BTreeMap<(&Kind, &str), (u64, &Taken)> = BTreeMap::new();
    for taken in all.iter().filter(|taken| taken.accepted_at > from && !taken.misplaced.is_empty()) {
        let count = taken.misplaced.values().copied().fold(0, u64::saturating_add);
        let known = most.entry((&taken.kind, taken.scope.as_str())).or_insert((count, taken));
        if count >= known.0 {
            *known = (count, taken);
        }
    }
    let mut told: Vec<(u64, &Taken)> = most.into_values().collect();
    told.sort_unstable_by_key(|(_, taken)| Reverse(taken.census));
    told.into_iter()
        .map(|(count, taken)| ListedElsewhere {
            census: taken.census,
            kind: taken.kind.clone(),
            scope: taken.scope.clone(),
            found_at: taken.accepted_at,
            count,
            named: taken.misplaced_named.iter().take(MISPLACED_TOLD_MAX).cloned().collect(),
        })
        .collect()
}

impl Census {
    /// How many are misplaced, in each scope in which any is listed, and the first of them. None of what Sexton has listed
    /// itself, for that was registered there when it was listed.
    pub(super) fn misplaced(
        &self,
        registered: &BTreeMap<ResourceId, AsRegistered>,
    ) -> (BTreeMap<String, u64>, Vec<Misplaced>) {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        let mut named = Vec::new();
        for one in self.listed.iter().filter(|_| !self.itself) {
            let Some(own) = registered.get(&one.id).filter(|own| own.scope != one.scope) else { continue };
            *counts.entry(one.scope.to_string()).or_default() += 1;
            if named.len() < MISPLACED_NAMED_MAX {
                let (listed_in, registered_in) = (one.scope.clone(), own.scope.clone());
                named.push(Misplaced { id: one.id.clone(), listed_in, registered_in });
            }
        }
        (counts, named)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, census, rules, scope};
    use super::super::{NotBelieved, Population};
    use super::*;
    use crate::belts::budget::Counted;

    fn vm(name: &str) -> ResourceId {
        format!("vm/{name}").parse().unwrap()
    }

    /// Each registered in that scope.
    fn registered(places: &[(&str, &str)]) -> BTreeMap<ResourceId, AsRegistered> {
        let one = |(name, of): &(&str, &str)| (vm(name), AsRegistered { scope: scope(of), going: false });
        places.iter().map(one).collect()
    }

    /// All are listed in tenants/acme.
    #[test]
    fn a_share_is_of_what_is_listed_where_it_is_registered() {
        let of = |census: &Census| {
            let registered = registered(&[
                ("a", "tenants/acme"),
                ("b", "tenants/other"),
                ("c", "tenants/acme/web"),
                ("sentinel", "tenants/acme"),
            ]);
            let taken = census.taken(1, &registered, None, NOW);
            assert_eq!((taken.counts.get("tenants/acme"), taken.unknown, taken.missing), (Some(&4), 0, 0));
            taken
        };
        let there = |census: &Census| {
            let all = Population::frozen([of(census)], NOW);
            let of = |counted: &Counted| all.of(&"vm".parse().unwrap(), counted);
            let [acme, other] = ["tenants/acme", "tenants/other"].map(scope);
            [Counted::In(acme), Counted::In(other), Counted::Within(scope("tenants")), Counted::Everywhere]
                .map(|counted| of(&counted))
        };
        let handed_in = census(&["a", "b", "c"]);
        assert_eq!(there(&handed_in), [Some(2), Some(0), Some(2), Some(2)]);
        let taken = of(&handed_in);
        assert_eq!(taken.misplaced, BTreeMap::from([("tenants/acme".to_owned(), 2)]));
        let named: Vec<_> = taken
            .misplaced_named
            .iter()
            .map(|one| (one.id.name.as_str(), one.listed_in.as_str(), one.registered_in.as_str()))
            .collect();
        let expected = [("b", "tenants/acme", "tenants/other"), ("c", "tenants/acme", "tenants/acme/web")];
        assert_eq!(named, expected);
        // One that was moved while Sexton listed it.
        let itself = Census { itself: true, ..handed_in };
        assert_eq!(there(&itself), [Some(4), Some(0), Some(4), Some(4)]);
        assert_eq!((of(&itself).misplaced.len(), of(&itself).misplaced_named.len()), (0, 0));
    }

    #[test]
    fn all_are_counted_and_the_first_are_named() {
        let names: Vec<String> = (0..=MISPLACED_NAMED_MAX).map(|number| format!("m{number:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let places: Vec<(&str, &str)> = names.iter().map(|name| (*name, "tenants/other")).collect();
        let taken = census(&names).taken(1, &registered(&places), None, NOW);
        assert_eq!(taken.misplaced.get("tenants/acme"), Some(&(MISPLACED_NAMED_MAX as u64 + 1)));
        assert_eq!(taken.misplaced_named.len(), MISPLACED_NAMED_MAX);
    }

    #[test]
    fn what_was_found_within_the_last_day_is_told_once() {
        let names: Vec<String> = (0..=MISPLACED_TOLD_MAX).map(|number| format!("m{number:04}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let elsewhere: Vec<(&str, &str)> = names.iter().map(|name| (*name, "tenants/other")).collect();
        let taken = |number: i64, of: &str, places: &[(&str, &str)], days_ago: i64| {
            let at = Timestamp(NOW.0 - days_ago * DAY_US + number);
            Taken { scope: scope(of), ..census(&names).taken(number, &registered(places), None, at) }
        };
        let all = [
            taken(1, "old", &elsewhere, 2),
            taken(2, "tenants", &elsewhere[1..], 1),
            taken(3, "tenants", &elsewhere[..MISPLACED_TOLD_MAX], 1),
            taken(4, "other", &elsewhere, 1),
            // Whoever hands in one that finds fewer hides nothing, nor one that finds none.
            taken(5, "tenants", &elsewhere[..1], 1),
            taken(6, "tenants", &[], 1),
            taken(7, "none", &[], 1),
        ];
        let found = of_last_day(&all, NOW);
        let said: Vec<(i64, u64, usize)> =
            found.iter().map(|one| (one.census, one.count, one.named.len())).collect();
        let many = MISPLACED_TOLD_MAX as u64 + 1;
        let fewer = MISPLACED_TOLD_MAX as u64;
        assert_eq!(said, [(4, many, MISPLACED_TOLD_MAX), (3, fewer, MISPLACED_TOLD_MAX)], "of two the newer");
        assert_eq!((found[1].scope.as_str(), found[1].named[0].id.name.as_str()), ("tenants", "m0000"));
    }

    /// It proves that its scope was seen: not if it is said to be somewhere else.
    #[test]
    fn a_sentinel_is_listed_within_its_own_scope() {
        let listed_in = |of: &str| {
            let mut census = census(&["a"]);
            for one in census.listed.iter_mut().filter(|one| one.id == vm("sentinel")) {
                one.scope = scope(of);
            }
            census.check(&rules(), None, NOW)
        };
        let elsewhere = |of: &str| -> Result<(), NotBelieved> {
            Err(NotBelieved::SentinelElsewhere {
                sentinel: vm("sentinel"),
                listed_in: scope(of),
                own: scope("tenants/acme"),
            })
        };
        assert_eq!(["tenants/acme", "tenants/acme/web"].map(listed_in), [Ok(()), Ok(())]);
        for of in ["tenants", "tenants/other"] {
            assert_eq!(listed_in(of), elsewhere(of));
        }
        assert_eq!(
            elsewhere("tenants").unwrap_err().to_string(),
            "listed: the sentinel vm/sentinel is listed in tenants: expected within tenants/acme, of which it is one"
        );
    }
}
