//! Censuses, by rules written down once more: none is believed that is not the truth, and what is there is what was believed of
//! it.
use std::collections::{BTreeMap, BTreeSet};

use sexton_model::belts::census::{Census, Taken};
use sexton_model::{Kind, ResourceId, Timestamp};

use super::{DAY_MS, Violation, violated};
use crate::simulation::platform::Machines;
use crate::simulation::script::Script;

/// Whether a scope is the other one, or below it.
pub fn within(scope: &str, outer: &str) -> bool {
    scope.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// One was believed. Since it takes a while, what was there before and after it is in it, and nothing that was there at neither
/// time.
///
/// # Errors
/// If it is not the truth.
pub fn believed(
    script: &Script,
    (census, taken): (&Census, &Taken),
    (before, after): (&Machines, &Machines),
) -> Result<(), Violation> {
    let told = || format!("census {} of {} in {} is believed", taken.census, taken.kind, taken.scope);
    let counts = counted(script, census, (before, after), &told)?;
    if counts != taken.counts {
        violated("census", format!("{}: {:?} is counted, and listed is {counts:?}", told(), taken.counts))?;
    }
    Ok(())
}

/// One was refused only because it lists too few, which may have paused its scope: all that it lists is as true as if it had
/// been believed.
///
/// # Errors
/// If it is not.
pub fn too_few(
    script: &Script,
    census: &Census,
    (before, after): (&Machines, &Machines),
) -> Result<(), Violation> {
    let told = || format!("a census of {} in {} only lists too few", census.kind, census.scope);
    counted(script, census, (before, after), &told).map(drop)
}

/// How many of each scope are listed.
fn counted(
    script: &Script,
    census: &Census,
    (before, after): (&Machines, &Machines),
    told: &impl Fn() -> String,
) -> Result<BTreeMap<String, u64>, Violation> {
    let listed: BTreeSet<&ResourceId> = census.listed.iter().map(|one| &one.id).collect();
    for (vm, owner) in before {
        let about_it = vm.kind == census.kind && within(script.scope_of(vm), census.scope.as_str());
        let there = about_it && after.get(vm) == Some(owner);
        if there && !listed.contains(vm) && !census.unregistered.iter().any(|one| one.id == *vm) {
            violated("census", format!("{}, and {vm} is missing", told()))?;
        }
    }
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for vm in listed {
        if !before.contains_key(vm) && !after.contains_key(vm) {
            violated("census", format!("{}, and there is no {vm}", told()))?;
        }
        *counts.entry(script.scope_of(vm).to_owned()).or_default() += 1;
    }
    Ok(counts)
}

/// One was believed that coordinators have taken without being asked, so nobody has seen all that it lists: of each scope it
/// counts those that were there before and after it, and are `registered` as what they are, and none that was there at neither
/// time.
///
/// # Errors
/// If it is not the truth.
pub fn believed_when_due(
    script: &Script,
    taken: &Taken,
    (before, after): (&Machines, &Machines),
    registered: &BTreeSet<ResourceId>,
) -> Result<(), Violation> {
    let about = |vm: &&ResourceId| vm.kind == taken.kind && within(script.scope_of(vm), taken.scope.as_str());
    let all: BTreeSet<&ResourceId> = before.keys().chain(after.keys()).filter(about).collect();
    let stayed = |vm: &ResourceId| {
        let owner = before.get(vm);
        owner.is_some() && owner == after.get(vm) && registered.contains(vm)
    };
    let mut expected: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for vm in all {
        let (least, most) = expected.entry(script.scope_of(vm)).or_default();
        *least += u64::from(stayed(vm));
        *most += 1;
    }
    for scope in taken.counts.keys().map(String::as_str).chain(expected.keys().copied()) {
        let counted = taken.counts.get(scope).copied().unwrap_or_default();
        let (least, most) = expected.get(scope).copied().unwrap_or_default();
        if counted < least || counted > most {
            let number = taken.census;
            violated("census", format!("census {number} counts {counted} in {scope}, of {least} to {most}"))?;
        }
    }
    Ok(())
}

/// It was due: it was begun a day after the last one of its scope was believed.
///
/// # Errors
/// If it was not.
pub fn due(taken: &Taken, last: Option<&Taken>) -> Result<(), Violation> {
    let early = last.filter(|last| taken.taken_at.ms_since(last.accepted_at) < DAY_MS);
    early.map_or(Ok(()), |last| {
        let (at, before) = (taken.taken_at, last.accepted_at);
        violated("census", format!("census {} was begun at {at}, and the last is of {before}", taken.census))
    })
}

/// Whose population is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// Of this scope alone.
    In(&'a str),
    /// Of this one and those below it.
    Within(&'a str),
    /// Of all scopes that censuses know of.
    All,
}

/// What counts at a moment: the newest census of before a span that began between these two, and else the oldest one. Where that
/// is more than one, the one with the most of them: no more than that counts, and fewer if a later one around it has fewer.
pub(super) fn there(
    censuses: &[Taken],
    kind: &Kind,
    of: Of<'_>,
    (least, most): (Timestamp, Timestamp),
) -> Option<u64> {
    let counted = |taken: &Taken| {
        let counts = taken.counts.iter().filter(|(scope, _)| match of {
            Of::In(only) => *scope == only,
            Of::Within(outer) => within(scope, outer),
            Of::All => true,
        });
        counts.map(|(_, count)| *count).sum::<u64>()
    };
    let covers = |taken: &&Taken| match of {
        Of::In(scope) | Of::Within(scope) => within(scope, taken.scope.as_str()),
        Of::All => true,
    };
    let mut by_scope: BTreeMap<&str, Vec<&Taken>> = BTreeMap::new();
    for taken in censuses.iter().filter(|taken| taken.kind == *kind).filter(covers) {
        by_scope.entry(taken.scope.as_str()).or_default().push(taken);
    }
    let mut known: Vec<(&str, u64)> = Vec::new();
    for (scope, mut all) in by_scope {
        all.sort_by_key(|taken| taken.accepted_at);
        // From the one that counts at the earliest moment on.
        let first = all.iter().rposition(|taken| taken.accepted_at <= least).unwrap_or_default();
        let counting = all.iter().enumerate().filter(|(n, taken)| *n == first || taken.accepted_at <= most);
        let most = counting.skip_while(|(n, _)| *n < first).map(|(_, taken)| counted(taken)).max();
        known.extend(most.map(|most| (scope, most)));
    }
    known.sort_by_key(|(scope, _)| scope.len());
    match of {
        // Censuses of a scope and of one around it both count what is below: the narrower one counts.
        Of::In(_) | Of::Within(_) => known.last().map(|(_, count)| *count),
        Of::All => {
            let mut widest: Vec<(&str, u64)> = Vec::new();
            for (scope, count) in known {
                if !widest.iter().any(|(wider, _)| within(scope, wider)) {
                    widest.push((scope, count));
                }
            }
            (!widest.is_empty()).then(|| widest.iter().map(|(_, count)| count).sum())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(scope: &str, accepted_at: i64, counts: &[(&str, u64)]) -> Taken {
        let accepted_at = Timestamp(accepted_at);
        Taken {
            census: 1,
            kind: "vm".parse().unwrap(),
            scope: scope.parse().unwrap(),
            credential: "a test".to_owned(),
            taken_at: accepted_at,
            accepted_at,
            counts: counts.iter().map(|&(scope, count)| (scope.to_owned(), count)).collect(),
            unregistered: BTreeMap::new(),
            misplaced: BTreeMap::new(),
            misplaced_named: Vec::new(),
            more: false,
            missing: 0,
            missing_named: BTreeSet::new(),
            missing_marked: Vec::new(),
            newly_missing: 0,
            unknown: 0,
            unknown_named: BTreeSet::new(),
            of_no_scope: 0,
            told: false,
            told_everywhere: false,
        }
    }

    #[test]
    fn what_nobody_has_asked_for_is_counted_rightly_and_once_a_day() {
        let script = Script { machines: 3, kinds: 1, scopes: 1, allowed: None, ..Script::of(1) };
        let all: Vec<ResourceId> = script.all().collect();
        let machines = |some: &[ResourceId]| -> Machines {
            some.iter().map(|vm| (vm.clone(), format!("of {vm}"))).collect()
        };
        let (before, after) = (machines(&all), machines(&all[..2]));
        let scope = script.scope_of(&all[0]);
        let counts = |many: u64, registered: &[ResourceId]| {
            let registered = registered.iter().cloned().collect();
            let taken = taken("tenants", 0, &[(scope, many)]);
            believed_when_due(&script, &taken, (&before, &after), &registered).is_ok()
        };
        // One is gone at the end, and may have been seen.
        assert_eq!([1, 2, 3, 4].map(|many| counts(many, &all)), [false, true, true, false]);
        assert!(counts(1, &all[..1]), "what nobody has registered is not counted");

        let first = taken("tenants", 0, &[]);
        let at = |ms: i64| taken("tenants", ms * 1000, &[]);
        let day_ms = i64::try_from(DAY_MS).unwrap();
        assert!(due(&first, None).is_ok() && due(&at(day_ms), Some(&first)).is_ok());
        assert!(due(&at(day_ms - 1), Some(&first)).is_err());
    }

    #[test]
    fn what_counts_is_the_newest_of_before_the_span() {
        let kind = "vm".parse().unwrap();
        let all = [
            taken("t", 10, &[("t/a", 4), ("t/b", 2)]),
            taken("t", 30, &[("t/a", 3), ("t/b", 9)]),
            taken("t/a", 20, &[("t/a", 7)]),
        ];
        let there = |of: Of<'_>, least: i64, most: i64| {
            super::there(&all, &kind, of, (Timestamp(least), Timestamp(most)))
        };
        assert_eq!(there(Of::In("t/b"), 10, 29), Some(2));
        assert_eq!(there(Of::In("t/b"), 5, 5), Some(2), "the oldest one");
        assert_eq!(there(Of::In("t/b"), 10, 30), Some(9), "the most of them");
        assert_eq!(there(Of::In("t/a"), 30, 40), Some(7), "the narrower one");
        assert_eq!(there(Of::Within("t"), 30, 40), Some(12));
        assert_eq!(there(Of::All, 30, 40), Some(12), "each once");
        assert_eq!(there(Of::In("u"), 30, 40), None);
    }
}
