//! What came last: whether censuses still come, and are believed. Who counts by an old one takes deletions by others, and a
//! world that has become smaller, for what it was.
use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::daily::{self, Missed, Take};
use crate::id::{Actor, Kind, ResourceId, Scope};
use crate::time::{Day, Timestamp};

/// Where no census was ever believed, a refused one counts for so many policy days: it may have named a wrong place.
pub const REFUSED_DAYS: u64 = 7;
/// The next one is missed after so many quarters of a policy day: one that comes daily is not there at the same minute each day.
const FRESH_QUARTERS: u64 = 5;

/// A census that was not believed, or of which nothing came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// Who handed it in; the coordinator if it was time for one.
    pub by: Actor,
    /// What it was listed with.
    pub credential: String,
    /// How many it listed.
    pub listed: u64,
    /// What it lacked.
    pub why: String,
    /// If it was refused only because it lists too few: how many are registered, not being removed here, and not in it.
    #[serde(default)]
    pub missing: u64,
    /// The first of them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub missing_named: BTreeSet<ResourceId>,
    /// How many of these the last one that was believed had not missed: the most that one has shown which was refused since then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub newly_missing: u64,
    /// That there was none to be believed: it was time for one, and whoever holds the kind did not list everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub not_taken: bool,
    /// When it was last time for one and there was none, if that was before this one, or after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Timestamp>,
    /// Since when nothing is listed, one attempt after the other, if this one was not the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
}

impl Refusal {
    /// When it was last time for one and there was none, as far as this says.
    pub fn tried(&self) -> Option<Timestamp> {
        let own = (self.by == Actor::coordinator()).then_some(self.at);
        own.max(self.tried_at)
    }

    /// Whose it is, for people: who has had it taken by hand is told as who hands one in.
    pub fn whose(&self) -> String {
        if self.by == Actor::coordinator() {
            "taken when it was time".to_owned()
        } else {
            format!("by {}", self.by)
        }
    }

    /// This one in the place of the one `before` it, of which it is still known when it was time for one. And how many it lacked,
    /// unless one was believed since: one that is handed in afterwards, and refused for something else, hides none of them.
    #[must_use]
    pub fn after(self, before: Option<&Latest>) -> Self {
        let tried_at = before.and_then(|one| one.refused.as_ref()).and_then(Self::tried);
        let lacked = before.and_then(Latest::refused_last).map_or(0, |refused| refused.newly_missing);
        Self {
            tried_at: tried_at.filter(|_| self.by != Actor::coordinator()),
            newly_missing: self.newly_missing.max(lacked),
            ..self
        }
    }
}

/// What came last of one kind and scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Latest {
    /// Which kind.
    pub kind: Kind,
    /// Which scope, with those below it.
    pub scope: Scope,
    /// When one was believed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub believed_at: Option<Timestamp>,
    /// The last one that was refused, even if one was believed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refusal>,
}

impl Latest {
    /// The refusal of the newest one, if it was refused.
    pub fn refused_last(&self) -> Option<&Refusal> {
        self.refused.as_ref().filter(|refused| self.believed_at.is_none_or(|at| at < refused.at))
    }

    /// The same, if there was one to be believed: where one was only not listed, what the last one has shown stands.
    pub fn not_believed(&self) -> Option<&Refusal> {
        self.refused_last().filter(|refused| !refused.not_taken)
    }

    /// Whether the last one that was believed is not missed yet: within a policy day and a quarter.
    pub fn is_fresh(&self, day: Day, now: Timestamp) -> bool {
        self.believed_at.is_some_and(|at| within(at, FRESH_QUARTERS, (day, now)))
    }
}

/// That nobody should go by the censuses of a kind and scope any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapse {
    /// Which kind.
    pub kind: Kind,
    /// Which scope.
    pub scope: Scope,
    /// Why.
    pub why: Lapsed,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lapsed {
    /// The newest one was not believed.
    Refused(Refusal),
    /// None was believed for more than a policy day.
    Silent {
        /// When the last one was.
        since: Timestamp,
    },
    /// One that is configured to be taken has not come.
    Missed(Missed),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(many: &u64) -> bool {
    *many == 0
}

/// Whether it is so many quarters of a policy day ago at the most.
fn within(at: Timestamp, quarters: u64, (day, now): (Day, Timestamp)) -> bool {
    now.ms_since(at) <= day.length_ms().saturating_mul(quarters) / 4
}

/// Where the newest census was refused, or none was believed for more than a policy day (and a quarter) although there had been
/// one. One of a scope around it counts for that, too. And where one that is `configured` to be taken has not come for two
/// intervals: of these only one of that very scope counts.
pub fn lapses(all: &[Latest], configured: &[Take], day: Day, now: Timestamp) -> Vec<Lapse> {
    let fresh = |one: &&Latest| one.is_fresh(day, now);
    let counted: BTreeSet<(&Kind, &str)> =
        all.iter().filter(fresh).map(|one| (&one.kind, one.scope.as_str())).collect();
    let covered = |one: &Latest| one.scope.around().any(|scope| counted.contains(&(&one.kind, scope)));
    let refused = |one: &Latest| one.not_believed().cloned();
    let why = |one: &Latest| match (refused(one), one.believed_at) {
        (Some(refused), Some(_)) => Some(Lapsed::Refused(refused)),
        (Some(refused), None) => {
            within(refused.at, 4 * REFUSED_DAYS, (day, now)).then_some(Lapsed::Refused(refused))
        }
        (None, Some(since)) if !covered(one) => Some(Lapsed::Silent { since }),
        (None, _) => None,
    };
    let missed = daily::missed(configured, all, day, now);
    let missed = |one: &Latest| {
        let own = missed.iter().find(|missed| missed.kind == one.kind && missed.scope == one.scope);
        own.filter(|missed| missed.alarms).cloned()
    };
    let why = |one: &Latest| match (why(one), missed(one)) {
        (None | Some(Lapsed::Silent { .. }), Some(missed)) => Some(Lapsed::Missed(missed)),
        (why, _) => why,
    };
    all.iter()
        .filter_map(|one| why(one).map(|why| Lapse { kind: one.kind.clone(), scope: one.scope.clone(), why }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const FRESH_MS: u64 = DAY_MS / 4 * FRESH_QUARTERS;

    fn refusal(at: Timestamp) -> Refusal {
        let (credential, why) = ("census-ro".to_owned(), "listed: nothing is listed".to_owned());
        let by = "platform".parse().unwrap();
        Refusal {
            at,
            by,
            credential,
            listed: 0,
            why,
            missing: 0,
            missing_named: BTreeSet::new(),
            newly_missing: 0,
            not_taken: false,
            tried_at: None,
            failing_since: None,
        }
    }

    fn latest(scope: &str, believed_at: Option<u64>, refused: Option<u64>) -> Latest {
        let at = |ms: u64| Timestamp(0).plus_ms(ms);
        Latest {
            kind: "vm".parse().unwrap(),
            scope: scope.parse().unwrap(),
            believed_at: believed_at.map(at),
            refused: refused.map(|ms| refusal(at(ms))),
        }
    }

    fn lapsed(all: &[Latest], now_ms: u64) -> Vec<String> {
        lapsed_of(all, &[], now_ms)
    }

    fn lapsed_of(all: &[Latest], configured: &[Take], now_ms: u64) -> Vec<String> {
        let now = Timestamp(0).plus_ms(now_ms);
        let said = |lapse: &Lapse| match &lapse.why {
            Lapsed::Refused(_) => format!("{} refused", lapse.scope),
            Lapsed::Silent { .. } => format!("{} silent", lapse.scope),
            Lapsed::Missed(_) => format!("{} missed", lapse.scope),
        };
        lapses(all, configured, Day::Calendar, now).iter().map(said).collect()
    }

    #[test]
    fn one_that_is_refused_counts_until_one_is_believed() {
        assert_eq!(lapsed(&[latest("a", Some(1), Some(2))], 3), ["a refused"]);
        assert_eq!(lapsed(&[latest("a", Some(1), Some(2))], 100 * DAY_MS), ["a refused"], "however long");
        assert_eq!(lapsed(&[latest("a", Some(3), Some(2))], 4), Vec::<String>::new());
        let never = [latest("a", None, Some(2))];
        assert_eq!(lapsed(&never, 2 + REFUSED_DAYS * DAY_MS), ["a refused"]);
        assert_eq!(lapsed(&never, 3 + REFUSED_DAYS * DAY_MS), Vec::<String>::new(), "it was no place");
    }

    #[test]
    fn what_one_lacked_is_not_hidden_by_the_next_one_that_is_refused() {
        let lacks =
            |ms: u64, newly_missing: u64| Refusal { newly_missing, ..refusal(Timestamp(0).plus_ms(ms)) };
        let five = |believed_at: Option<u64>| Latest {
            refused: Some(lacks(2, 5)),
            ..latest("a", believed_at, None)
        };
        let after =
            |newly_missing: u64, before: &Latest| lacks(3, newly_missing).after(Some(before)).newly_missing;
        assert_eq!([0, 4, 6].map(|newly_missing| after(newly_missing, &five(Some(1)))), [5, 5, 6]);
        assert_eq!(after(0, &five(Some(2))), 0, "one was believed since, and counts itself");
        assert_eq!(lacks(3, 4).after(None).newly_missing, 4);
    }

    #[test]
    fn censuses_that_stop_coming_are_missed_after_a_day() {
        let one = [latest("tenants/acme", Some(1), None)];
        assert_eq!(lapsed(&one, 1 + FRESH_MS), Vec::<String>::new());
        assert_eq!(lapsed(&one, 2 + FRESH_MS), ["tenants/acme silent"]);
        // One of a scope around it counts it, too.
        for (wider, counts) in [("tenants", true), ("tenants/acme/web", false), ("tenants/ac", false)] {
            let both = [latest(wider, Some(DAY_MS), None), one[0].clone()];
            assert_eq!(lapsed(&both, 2 + FRESH_MS).is_empty(), counts, "{wider}");
        }
        let image = Latest { kind: "image".parse().unwrap(), ..latest("tenants", Some(DAY_MS), None) };
        assert_eq!(
            lapsed(&[image, one[0].clone()], 2 + FRESH_MS),
            ["tenants/acme silent"],
            "of another kind"
        );
    }
    #[test]
    fn one_that_is_configured_and_does_not_come_is_missed() {
        let take = |scope: &str| Take {
            kind: "vm".parse().unwrap(),
            scope: scope.parse().unwrap(),
            every_hours: 6,
            within_secs: 20,
        };
        let configured = [take("tenants/acme")];
        let of = |all: &[Latest], now_ms: u64| lapsed_of(all, &configured, now_ms);
        let half = DAY_MS / 2;
        let not_taken = |believed_at: Option<u64>, at_ms: u64| {
            let mut one = latest("tenants/acme", believed_at, Some(at_ms));
            let refused = one.refused.as_mut().unwrap();
            (refused.not_taken, refused.by) = (true, Actor::coordinator());
            one
        };
        let untried = [latest("tenants/acme", Some(0), None)];
        assert_eq!(of(&untried, half + 1), Vec::<String>::new(), "in a pause, or after a stop");
        assert_eq!(of(&untried, 1 + FRESH_MS), ["tenants/acme silent"], "whyever nobody tries");
        let alone = [not_taken(Some(0), half)];
        assert_eq!(of(&alone, half), Vec::<String>::new());
        assert_eq!(of(&alone, half + 1), ["tenants/acme missed"], "sooner than where nobody says how often");
        assert_eq!(of(&alone, 3 * DAY_MS), ["tenants/acme missed"], "and not twice");
        let around = latest("tenants", Some(half), None);
        let [acme] = alone;
        assert_eq!(of(&[around, acme], half + 1), ["tenants/acme missed"], "one around it is another");
        let refused = latest("tenants/acme", Some(0), Some(1));
        assert_eq!(of(&[refused], DAY_MS), ["tenants/acme refused"], "that says more");

        // That nothing was listed is told if it lasts, also where nothing ever was: whoever lists may be started later.
        assert_eq!(of(&[not_taken(Some(0), 1)], half), Vec::<String>::new());
        assert_eq!(of(&[not_taken(Some(0), 1)], half + 1), ["tenants/acme missed"]);
        assert_eq!(of(&[not_taken(None, 1)], half / 2), Vec::<String>::new());
        assert_eq!(of(&[not_taken(None, 1)], half / 2 + 1), ["tenants/acme missed"]);
        assert_eq!(of(&[], 2), Vec::<String>::new(), "nobody has tried it yet");
    }
}
