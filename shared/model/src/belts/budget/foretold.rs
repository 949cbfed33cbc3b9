//! Whether a record will be one of too many, said when it is made.
use std::collections::BTreeMap;

use super::{Budgets, Exceeded, Group, count, counted_in, day_us};
use crate::belts::census::Population;
use crate::id::Scope;
use crate::time::{Day, Timestamp};

/// Foretell whether what begins at `at`, one of `group`, will be one of too many: the most that begin within one span that
/// it is in. `others` begin the same stage, by their scope and moment; `begun` is what has begun already, if it begins now.
/// Only [`admit`](super::admit) decides.
pub fn foretell(
    (budgets, population): (&Budgets, &Population),
    group: &Group,
    at: Timestamp,
    others: &[(Scope, Timestamp)],
    begun: &BTreeMap<Group, u64>,
    day: Day,
) -> Option<Exceeded> {
    if !budgets.bind(group.stage) {
        return None;
    }
    budgets.limits(&group.scope, &group.kind, population).into_iter().find_map(|limit| {
        let span = day_us(day).saturating_mul(i64::from(limit.days));
        let counted = others.iter().filter(|(scope, _)| limit.counted.has(scope));
        let mut moments: Vec<i64> = counted.map(|(_, moment)| moment.0).chain([at.0]).collect();
        moments.sort_unstable();
        let from_each =
            moments.iter().enumerate().filter(|(_, from)| (at.0.saturating_sub(span)..=at.0).contains(*from));
        let within = from_each.map(|(n, from)| {
            let end = from.saturating_add(span);
            moments.partition_point(|moment| *moment < end) - n
        });
        let members = count(within.max().unwrap_or_default());
        if members > limit.most {
            return Some(Exceeded { members, used: 0, before: 0, limit });
        }
        // With what has begun begins all that is due by now.
        let by_now = at.0.saturating_sub(span)..=Budgets::good_until(at, day).0;
        let members = count(moments.iter().filter(|moment| by_now.contains(*moment)).count());
        let used = counted_in(&limit, group, begun);
        (used > 0 && members.saturating_add(used) > limit.most).then_some(Exceeded {
            members,
            used,
            before: 0,
            limit,
        })
    })
}

/// How far before and after a moment [`foretell`] has to know of others.
pub fn foretold_span(budgets: &Budgets, at: Timestamp, day: Day) -> (Timestamp, Timestamp) {
    let span = day_us(day).saturating_mul(i64::from(budgets.days));
    (Timestamp(at.0.saturating_sub(span)), Timestamp(at.0.saturating_add(span)))
}
