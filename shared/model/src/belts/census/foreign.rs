//! What others have deleted, as censuses find it. Many within a day pause their scope; fewer pause nothing, and are named
//! in the daily digest.
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Taken;
use crate::id::{Kind, ResourceId, Scope};
use crate::time::Timestamp;

/// Most that are named of one census: people read it. What is kept of a census names more.
pub const FOREIGN_NAMED_MAX: usize = 20;

/// A day by the clock, in microseconds: that is how often a digest is made, in a rehearsal, too.
const DAY_US: i64 = 86_400_000_000;

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
    /// The first of them.
    pub named: Vec<ResourceId>,
}

/// What censuses of the day before `now` have found so, the newest first. `all` that are kept, the oldest first.
pub fn of_last_day(all: &[Taken], now: Timestamp) -> Vec<Foreign> {
    let from = Timestamp(now.0.saturating_sub(DAY_US));
    let mut before: BTreeMap<(&Kind, &str), &BTreeSet<ResourceId>> = BTreeMap::new();
    let mut found = Vec::new();
    for taken in all {
        let known = before.insert((&taken.kind, taken.scope.as_str()), &taken.missing_named);
        if taken.accepted_at <= from || taken.newly_missing == 0 {
            continue;
        }
        let new = |id: &&ResourceId| known.is_none_or(|known| !known.contains(*id));
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
    use crate::belts::budget::{A_DAY, Budgets, Written};
    use crate::belts::census::Population;

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
            more: false,
            missing: missing.len() as u64,
            missing_named: missing.iter().map(|name| format!("vm/{name}").parse().unwrap()).collect(),
            newly_missing,
            unknown: 0,
            unknown_named: BTreeSet::new(),
            of_no_scope: 0,
            told: false,
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
        let rehearsal = Budgets::none();
        let default =
            rehearsal.by_others(&"a".parse().unwrap(), &"vm".parse().unwrap(), &Population::default());
        assert_eq!(default, A_DAY, "nobody configures one there");
    }
}
