//! What others have deleted, as censuses find it. Many within a day pause their scope, and many in all scopes together their kind
//! everywhere; fewer pause nothing, and are named in the daily digest.
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::missed::Missed;
use super::{Latest, Taken};
use crate::id::{Kind, ResourceId, Scope};
use crate::time::Timestamp;

/// Most that are named of one census: people read it. What is kept of a census names more.
pub const FOREIGN_NAMED_MAX: usize = 20;

/// A day by the clock, in microseconds: that is how often a digest is made, in a rehearsal, too.
pub(super) const DAY_US: i64 = 86_400_000_000;

/// What one census found gone that is not being removed here, and that the one before it had not missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Foreign {
    /// By which census.
    pub census: i64,
    /// Their kind.
    pub kind: Kind,
    /// The scope of the census.
    pub scope: Scope,
    /// When it was believed.
    pub found_at: Timestamp,
    /// How many.
    pub count: u64,
    /// The first of them that are known by name: none, if all are beyond what the census names.
    pub named: Vec<ResourceId>,
}

/// How many others have deleted within a day: newly missing in this census and in those of its kind and scope that were
/// believed within the day before it, ascending. Those that a pause has told of are not counted again: whoever lifted it
/// knows of them.
pub fn gone_within_a_day(taken: &Taken, of_day: &[Taken]) -> u64 {
    let untold = of_day.iter().rev().take_while(|earlier| !earlier.told);
    untold.map(|earlier| earlier.newly_missing).fold(taken.newly_missing, u64::saturating_add)
}

/// How many of a kind others have deleted within a day, by the censuses of all scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GoneEverywhere {
    /// By those of one scope: of that of which they say most.
    pub largest: u64,
    /// By all of them.
    pub all: u64,
}

/// The same of all scopes together: by this census, by those of its kind that were believed within the day before it (`of_kind`,
/// ascending), and by those that were `refused` last within it, since whoever deletes most of many small scopes has each of them
/// refused. A census of a scope and one around it may miss the same ones: of these the larger number counts, and never the sum.
///
/// Those that a pause of all scopes has told of are not counted again, nor those that one of their scope has told of, unless it
/// still stands (`paused`): then nobody has said that they are known. But whoever has one scope paused stops no other by it: of which
/// `most` says so, it and those below it add no more together.
pub fn gone_everywhere(
    taken: &Taken,
    (of_kind, refused): (&[Taken], &[Latest]),
    paused: impl Fn(&Scope) -> bool,
    most: impl Fn(&Scope) -> Option<u64>,
) -> GoneEverywhere {
    let mut told_at = None;
    let mut known: BTreeSet<&str> = BTreeSet::new();
    let mut gone: BTreeMap<&str, (&Scope, u64)> = BTreeMap::new();
    let mut found = vec![(&taken.scope, taken.newly_missing)];
    for earlier in of_kind.iter().rev() {
        if earlier.told_everywhere {
            told_at = Some(earlier.accepted_at);
            break;
        }
        if earlier.told && !paused(&earlier.scope) {
            known.insert(earlier.scope.as_str());
        }
        if !known.contains(earlier.scope.as_str()) {
            found.push((&earlier.scope, earlier.newly_missing));
        }
    }
    // Of its own scope it is the newest one.
    for latest in refused.iter().filter(|latest| latest.kind == taken.kind && latest.scope != taken.scope) {
        let untold = latest.refused_last().filter(|refusal| told_at.is_none_or(|at| refusal.at > at));
        found.extend(untold.map(|refusal| (&latest.scope, refusal.newly_missing)));
    }
    for (scope, many) in found {
        let (_, sum) = gone.entry(scope.as_str()).or_insert((scope, 0));
        *sum = sum.saturating_add(many);
    }
    let own = |(scope, sum): &(&Scope, u64)| most(scope).map_or(*sum, |most| most.min(*sum));
    GoneEverywhere { largest: gone.values().map(own).max().unwrap_or(0), all: each_once(&gone, most) }
}

/// How many there are at the least: of a scope as many as its own censuses say, or those of the scopes below it together, and no
/// more than may count of it.
fn each_once(gone: &BTreeMap<&str, (&Scope, u64)>, most: impl Fn(&Scope) -> Option<u64>) -> u64 {
    let around = gone.values().flat_map(|(scope, _)| scope.around().skip(1));
    let around: Vec<Scope> = around.filter_map(|outer| outer.parse().ok()).collect();
    let mut gone: BTreeMap<&str, (&Scope, u64)> = gone.clone();
    for outer in around.iter().filter(|outer| most(outer).is_some()) {
        gone.entry(outer.as_str()).or_insert((outer, 0));
    }
    let mut narrowest_first: Vec<(&Scope, u64)> = gone.values().copied().collect();
    narrowest_first.sort_by_key(|(scope, _)| Reverse(scope.as_str().len()));
    let mut below: BTreeMap<&str, u64> = BTreeMap::new();
    let mut all: u64 = 0;
    for (scope, own) in narrowest_first {
        let many = own.max(below.get(scope.as_str()).copied().unwrap_or(0));
        let many = most(scope).map_or(many, |most| most.min(many));
        match scope.around().skip(1).find(|outer| gone.contains_key(outer)) {
            Some(outer) => {
                let sum = below.entry(outer).or_default();
                *sum = sum.saturating_add(many);
            }
            None => all = all.saturating_add(many),
        }
    }
    all
}

/// What censuses of the day before `now` have found so, the newest first. `all` that are kept, the oldest first.
pub fn of_last_day(all: &[Taken], now: Timestamp) -> Vec<Foreign> {
    let from = Timestamp(now.0.saturating_sub(DAY_US));
    let mut before: BTreeMap<(&Kind, &str), &Taken> = BTreeMap::new();
    let mut found = Vec::new();
    for taken in all {
        let last = before.insert((&taken.kind, taken.scope.as_str()), taken);
        if taken.accepted_at <= from || taken.newly_missing == 0 {
            continue;
        }
        let new = |id: &&ResourceId| last.is_none_or(|last| last.missed(id) == Missed::No);
        found.push(Foreign {
            census: taken.census,
            kind: taken.kind.clone(),
            scope: taken.scope.clone(),
            found_at: taken.accepted_at,
            count: taken.newly_missing,
            named: taken.missing_named.iter().filter(new).take(FOREIGN_NAMED_MAX).cloned().collect(),
        });
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belts::budget::{A_DAY, Budgets, EVERYWHERE, Written};
    use crate::belts::census::{Population, Refusal};

    fn taken(census: i64, of: &str, accepted_at: i64, missing: &[&str], newly_missing: u64) -> Taken {
        Taken {
            census,
            kind: "vm".parse().unwrap(),
            scope: of.parse().unwrap(),
            credential: "census-ro".to_owned(),
            taken_at: Timestamp(accepted_at),
            accepted_at: Timestamp(accepted_at),
            counts: BTreeMap::new(),
            unregistered: BTreeMap::new(),
            misplaced: BTreeMap::new(),
            misplaced_named: Vec::new(),
            more: false,
            missing: missing.len() as u64,
            missing_named: missing.iter().map(|name| format!("vm/{name}").parse().unwrap()).collect(),
            missing_marked: Vec::new(),
            newly_missing,
            unknown: 0,
            unknown_named: BTreeSet::new(),
            of_no_scope: 0,
            told: false,
            told_everywhere: false,
        }
    }

    #[test]
    fn what_is_newly_gone_within_the_last_day_is_named_once() {
        let now = 10 * DAY_US;
        let all = [
            taken(1, "a", now - 3 * DAY_US, &["x"], 0),
            taken(2, "a", now - DAY_US, &["x", "old"], 1),
            taken(3, "b", now - 5, &["first"], 0),
            taken(4, "a", now - 4, &["x", "old", "new"], 1),
            taken(5, "a", now - 3, &["x", "old", "new"], 0),
            taken(6, "b", now - 2, &["first", "second", "third"], 2),
        ];
        let found = of_last_day(&all, Timestamp(now));
        let found: Vec<(i64, u64, Vec<String>)> = found
            .into_iter()
            .map(|one| (one.census, one.count, one.named.iter().map(ToString::to_string).collect()))
            .collect();
        let expected = [(6i64, 2u64, vec!["vm/second", "vm/third"]), (4, 1, vec!["vm/new"])];
        assert_eq!(
            found,
            expected.map(|(n, count, named)| (n, count, named.into_iter().map(String::from).collect()))
        );
    }

    /// One of that scope that others have deleted so many of.
    fn gone(census: i64, of: &str, newly_missing: u64) -> Taken {
        taken(census, of, census, &[], newly_missing)
    }

    /// By the last of these, the scopes of which a pause stands and each of which may lose ten, and what was refused.
    fn everywhere(all: &[Taken], standing: &[&str], refused: &[Latest]) -> (u64, u64) {
        let (last, before) = all.split_last().unwrap();
        let paused = |scope: &Scope| standing.contains(&scope.as_str());
        let most = |scope: &Scope| paused(scope).then_some(10);
        let GoneEverywhere { largest, all } = gone_everywhere(last, (before, refused), paused, most);
        (largest, all)
    }

    #[test]
    fn of_many_scopes_few_of_each_are_many() {
        let all: Vec<Taken> = (1..=200).map(|n| gone(n, &format!("tenants/t{n}"), 5)).collect();
        assert_eq!(everywhere(&all, &[], &[]), (5, 1000));
        let drips = [gone(1, "a", 2), gone(2, "b", 3), gone(3, "a", 4), gone(4, "ab", 1), gone(5, "a", 1)];
        assert_eq!(everywhere(&drips, &[], &[]), (7, 11));
    }

    #[test]
    fn what_a_census_around_another_one_misses_too_is_counted_once() {
        let counted = |all: &[(&str, u64)]| {
            let all: Vec<Taken> =
                (1..).zip(all).map(|(n, (of, newly_missing))| gone(n, of, *newly_missing)).collect();
            everywhere(&all, &[], &[]).1
        };
        assert_eq!(counted(&[("t/a", 5), ("t/b", 4), ("t", 9), ("lab", 1)]), 10);
        assert_eq!(
            counted(&[("t", 3), ("t/a", 5), ("t/b", 4), ("t/b/web", 6), ("lab", 1)]),
            12,
            "t is older"
        );
        assert_eq!(counted(&[("t", 30), ("t/a/web", 5), ("tt", 4)]), 34);
    }

    /// A scope around another one, of which each misses the same.
    #[test]
    fn what_one_scope_has_lost_is_no_more_by_a_census_around_it() {
        assert_eq!(everywhere(&[gone(1, "t", 60), gone(2, "t/a", 55)], &[], &[]), (60, 60));
        assert_eq!(everywhere(&[gone(1, "t/a", 55), gone(2, "t", 60)], &[], &[]), (60, 60));
        // Whoever has their own scope paused stops no other by it.
        assert_eq!(everywhere(&[gone(1, "acme", 60), gone(2, "b", 1)], &["acme"], &[]), (10, 11));
        // Nor by having it paused just now, nor by censuses of what is below it.
        assert_eq!(everywhere(&[gone(1, "b", 1), gone(2, "acme", 60)], &["acme"], &[]), (10, 11));
        let below: Vec<Taken> = (1..=12).map(|n| gone(n, &format!("t/{n}"), 5)).collect();
        assert_eq!(everywhere(&below, &["t"], &[]), (5, 10));
        assert_eq!(everywhere(&below, &[], &[]), (5, 60));
    }

    #[test]
    fn what_somebody_knows_of_is_not_counted_again() {
        let told = |census, of| Taken { told: true, ..gone(census, of, 6) };
        let all = [gone(1, "a", 3), told(2, "a"), gone(3, "a", 2), gone(4, "b", 4)];
        assert_eq!(everywhere(&all, &[], &[]), (4, 6), "the pause of a was lifted");
        assert_eq!(
            everywhere(&all, &["a"], &[]),
            (10, 14),
            "nobody has said that they are known; but a stands still"
        );
        let everybody = Taken { told_everywhere: true, ..gone(2, "a", 6) };
        let all = [gone(1, "c", 3), everybody, gone(3, "a", 2), gone(4, "b", 4)];
        assert_eq!(everywhere(&all, &["a"], &[]), (4, 6));
    }

    #[test]
    fn what_a_refused_one_lacks_counts_until_one_is_believed() {
        let refused = |of: &str, at: i64, believed_at: Option<i64>| {
            let refusal = Refusal {
                at: Timestamp(at),
                by: "platform".parse().unwrap(),
                credential: "census-ro".to_owned(),
                listed: 5,
                why: "too few".to_owned(),
                missing: 7,
                missing_named: BTreeSet::new(),
                newly_missing: 5,
                not_taken: false,
                tried_at: None,
                failing_since: None,
            };
            let (kind, scope) = ("vm".parse().unwrap(), of.parse().unwrap());
            Latest { kind, scope, believed_at: believed_at.map(Timestamp), refused: Some(refusal) }
        };
        let count = |all: &[Taken], refused: Latest| everywhere(all, &[], &[refused]).1;
        let one = [gone(4, "b", 4)];
        assert_eq!(count(&one, refused("a", 3, Some(2))), 9);
        assert_eq!(count(&one, refused("a", 3, Some(3))), 4, "one was believed since, and counts itself");
        assert_eq!(count(&one, refused("b", 3, Some(2))), 4, "this one is newer");
        let image = Latest { kind: "image".parse().unwrap(), ..refused("a", 3, Some(2)) };
        assert_eq!(count(&one, image), 4);
        let told = Taken { told_everywhere: true, ..gone(2, "c", 6) };
        let both = [told, gone(4, "b", 4)];
        assert_eq!(count(&both, refused("a", 2, Some(1))), 4, "that pause has told of it");
        assert_eq!(count(&both, refused("a", 3, Some(1))), 9);
    }

    #[test]
    fn where_hard_is_not_counted_others_may_delete_what_may_begin_by_default() {
        let most = |text: &str| {
            let budgets = toml::from_str::<Written>(text).unwrap().budgets().unwrap();
            budgets.by_others(&"a".parse().unwrap(), &"vm".parse().unwrap(), &Population::default())
        };
        for text in ["", "none = true", "a_day = 500\nstages = [\"announce\"]", "stages = [\"purge\"]"] {
            assert_eq!(most(text), A_DAY, "{text}");
        }
        assert_eq!([most("a_day = 2"), most("a_day = 9\neverywhere = 20")], [2, 9]);
        let everywhere = |text: &str| {
            let budgets = toml::from_str::<Written>(text).unwrap().budgets().unwrap();
            budgets.by_others_everywhere(
                &"a".parse().unwrap(),
                &"vm".parse().unwrap(),
                &Population::default(),
            )
        };
        for text in ["", "none = true", "everywhere = 500\nstages = [\"announce\"]", "stages = [\"purge\"]"] {
            assert_eq!(everywhere(text), EVERYWHERE, "{text}");
        }
        assert_eq!([everywhere("a_day = 2"), everywhere("a_day = 9\neverywhere = 20")], [EVERYWHERE, 20]);
        let rehearsal = Budgets::none();
        let default =
            rehearsal.by_others(&"a".parse().unwrap(), &"vm".parse().unwrap(), &Population::default());
        assert_eq!(default, A_DAY, "nobody configures one there");
    }
}
