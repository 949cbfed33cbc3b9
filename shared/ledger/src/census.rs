//! Censuses, as both footings keep them.
use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sexton_model::belts::census::{
    AsRegistered, CREDENTIAL_MAX, Census, GoneEverywhere, Latest, NotBelieved, Population, Refusal, Taken,
    gone_everywhere, gone_within_a_day,
};
use sexton_model::belts::{Pause, PauseSelector, Policy};
use sexton_model::time::Day;
use sexton_model::{Actor, Kind, ResourceId, Scope, Timestamp};

use crate::rules::LedgerEvent;
use crate::{LedgerError, Page, known};

/// Largest page.
pub(crate) const PAGE_MAX: u32 = 1000;

/// Which censuses.
#[derive(Debug, Clone, Default)]
pub struct CensusFilter {
    /// Only of these scopes and those below them; none: of all.
    pub scopes: Option<Vec<Scope>>,
    /// Before this number.
    pub before: Option<i64>,
    /// At most so many, 1 to 1000.
    pub limit: u32,
}

/// Reading censuses: a trait of its own, since nothing of it decides about anything.
#[async_trait]
pub trait Censuses: Send + Sync {
    /// One page of those that are kept, the newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn believed(&self, filter: &CensusFilter) -> Result<Page<Taken>, LedgerError>;

    /// Censuses that were believed and are kept, the oldest first: what budgets count by.
    async fn censuses(&self) -> Result<Vec<Taken>, LedgerError>;

    /// What came last of each kind and scope, believed or refused.
    async fn latest_censuses(&self) -> Result<Vec<Latest>, LedgerError>;
}

/// What was read, of which one more than `limit` was, if there is one.
pub(crate) fn page(mut items: Vec<Taken>, limit: u32) -> Page<Taken> {
    let more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let next = items.last().filter(|_| more).map(|last| last.census.to_string());
    Page { items, next }
}

/// A census that was believed, and what followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// What is kept of it.
    pub taken: Taken,
    /// The pause of its scope that so many foreign deletions led to.
    pub paused: Option<i64>,
    /// The pause of its kind everywhere that so many in all scopes together led to.
    #[serde(default)]
    pub paused_everywhere: Option<i64>,
}

impl Counted {
    /// Whether it led to any pause.
    pub fn has_paused(&self) -> bool {
        self.paused.is_some() || self.paused_everywhere.is_some()
    }
}

/// How long censuses are kept that newer ones have followed, in policy days: the longest span and a day, as long as a budget may
/// count by them.
const KEPT_DAYS: i64 = sexton_model::belts::budget::DAYS_MAX as i64 + 1;
/// And for a day by the clock at the least, in microseconds: a digest names what others have deleted within that.
const KEPT_LEAST_US: i64 = 86_400_000_000;

/// What one that was read is decided on.
pub(crate) struct Beside<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) day: Day,
    pub(crate) now: Timestamp,
    /// The census before it, of the same kind and scope.
    pub(crate) last: Option<Taken>,
    /// Those of the same kind and scope that were believed since [`day_before`], ascending.
    pub(crate) of_day: Vec<Taken>,
    /// Those of its kind and whichever scope that were believed since then and found something gone, ascending.
    pub(crate) of_kind: Vec<Taken>,
    /// Those of its kind and whichever scope that came last, if one was refused since then.
    pub(crate) refused: Vec<Latest>,
    /// What is registered of its kind and scope, and whether the hard stage of a live record of it has begun.
    pub(crate) registered: BTreeMap<ResourceId, AsRegistered>,
    /// What counts of all censuses so far.
    pub(crate) population: Population,
    /// Pauses in force.
    pub(crate) pauses: Vec<Pause>,
}

/// Who pauses without being asked.
const COORDINATOR: &str = "coordinator";

/// Places that are kept where a census was refused and none was ever believed, at most: the newest.
pub(crate) const NEVER_BELIEVED_MAX: i64 = 1000;

/// Kinds and scopes of which is read what came last, at most: there are fewer, since a believed one takes a sentinel.
pub(crate) const LATEST_MAX: i64 = 20_000;

/// What is read of the day before a census, at most: the newest. Of its scope, and once more of its kind.
pub(crate) const OF_DAY_MAX: i64 = 2000;

/// Part of the text of each that is kept and found nothing gone that was there before: most do, and those are not read to count
/// what all scopes have lost. No name or scope has such a thing in it, and in a credential's name its quotes are escaped.
pub(crate) const NOTHING_GONE: &str = "\"newly_missing\":0,";

/// When the policy day that ends now has begun.
pub(crate) fn day_before(now: Timestamp, day: Day) -> Timestamp {
    Timestamp(now.0.saturating_sub(length_us(day)))
}

/// Those that were believed before this moment are forgotten, but for the last of them.
pub(crate) fn kept_from(now: Timestamp, day: Day) -> Timestamp {
    Timestamp(now.0.saturating_sub(length_us(day).saturating_mul(KEPT_DAYS).max(KEPT_LEAST_US)))
}

fn length_us(day: Day) -> i64 {
    i64::try_from(day.length_ms()).unwrap_or(i64::MAX / 1000).saturating_mul(1000)
}

/// What follows from a census.
pub(crate) struct Decided {
    /// What is kept of it, or why it is not believed.
    pub(crate) judged: Result<Taken, NotBelieved>,
    /// What is to be paused: it may be, whether it is believed or not.
    pub(crate) pauses: ToPause,
    /// Of one that is not believed, and only because it lists too few: what is missing. Of any other it is not known that it is.
    pub(crate) missing: Missing,
}

/// What is to be paused because others delete, and why.
#[derive(Default)]
pub(crate) struct ToPause {
    /// The scope of the census, whatever is deleted there: whoever deletes one kind by another way may have others in mind.
    pub(crate) scope: Option<(PauseSelector, String)>,
    /// Its kind everywhere.
    pub(crate) everywhere: Option<(PauseSelector, String)>,
}

/// What is missing in a census that lists too few.
#[derive(Default)]
pub(crate) struct Missing {
    /// How many.
    many: u64,
    /// The first of them.
    named: BTreeSet<ResourceId>,
    /// How many of them the last one that was believed had not missed.
    newly: u64,
}

impl Beside<'_> {
    /// Believe it, under this number, or not. More that others have deleted within a day than a budget lets begin in one, or
    /// would by default, pauses its scope, however many censuses have seen them go; more in all scopes together its kind everywhere.
    pub(crate) fn decide(&self, number: i64, census: &Census) -> Decided {
        let counted = || census.taken(number, &self.registered, self.last.as_ref(), self.now);
        let last = self.last.as_ref();
        let checked = census.check(&self.policy.census, last, self.now);
        let explained = || last.is_some_and(|last| census.lost_nothing(&counted(), last, &self.registered));
        let checked = checked.and_then(|()| census.sees_each_scope(&self.registered, last));
        let checked = match checked.and_then(|()| census.grown(last, &self.of_day)) {
            // It has proved all else, and what it lists no more is what was removed here.
            Err(NotBelieved::Fewer { .. }) if explained() => Ok(()),
            checked => checked,
        };
        match checked {
            Ok(()) => {
                let mut taken = counted();
                let pauses = self.many_gone(&taken, &format!("census {number}"));
                taken.told = pauses.scope.is_some();
                taken.told_everywhere = pauses.everywhere.is_some();
                Decided { judged: Ok(taken), pauses, missing: Missing::default() }
            }
            // It is complete by all else that it shows: somebody deletes, or all of that lies. Nothing goes on before a
            // person has found out which.
            Err(why @ NotBelieved::Fewer { .. }) => {
                let counted = counted();
                let ToPause { scope, everywhere } =
                    self.many_gone(&counted, "a census that lists too few to be believed");
                let pauses = ToPause { scope: scope.filter(|(covers, _)| !self.paused(covers)), everywhere };
                let Taken { missing: many, missing_named: named, newly_missing: newly, .. } = counted;
                Decided { judged: Err(why), pauses, missing: Missing { many, named, newly } }
            }
            Err(why) => Decided { judged: Err(why), pauses: ToPause::default(), missing: Missing::default() },
        }
    }

    /// What is to be paused if others have deleted too many, as `found_by` has found.
    fn many_gone(&self, taken: &Taken, found_by: &str) -> ToPause {
        if taken.newly_missing == 0 {
            return ToPause::default();
        }
        let scope = self.many_in_scope(taken, found_by);
        let everywhere = self.many_everywhere(taken, found_by, scope.is_some());
        ToPause { scope, everywhere }
    }

    fn many_in_scope(&self, taken: &Taken, found_by: &str) -> Option<(PauseSelector, String)> {
        let budgets = self.policy.budgets(self.day);
        let most = budgets.by_others(&taken.scope, &taken.kind, &self.population);
        let gone = gone_within_a_day(taken, &self.of_day);
        (gone > most).then(|| {
            let reason = format!(
                "{found_by}: {gone} of {} are gone that are not being removed here, where {most} may go in a day: somebody \
                 else deletes",
                taken.kind
            );
            (all_of(&taken.scope), reason)
        })
    }

    /// Of one scope alone its own pause is enough, also one that this census leads to (`its_own`), and of what stands still already
    /// nothing more is to be paused: what is found meanwhile counts once that is lifted.
    fn many_everywhere(
        &self,
        taken: &Taken,
        found_by: &str,
        its_own: bool,
    ) -> Option<(PauseSelector, String)> {
        let budgets = self.policy.budgets(self.day);
        let most = budgets.by_others_everywhere(&taken.scope, &taken.kind, &self.population);
        let paused = |scope: &Scope| self.paused(&all_of(scope));
        let most_of = |scope: &Scope| {
            let stands = paused(scope) || (its_own && *scope == taken.scope);
            stands.then(|| budgets.by_others(scope, &taken.kind, &self.population))
        };
        let found = (self.of_kind.as_slice(), self.refused.as_slice());
        let GoneEverywhere { largest, all } = gone_everywhere(taken, found, paused, most_of);
        let covers = PauseSelector { kind: Some(taken.kind.clone()), ..PauseSelector::default() };
        (all > most && all > largest && !self.paused(&covers)).then(|| {
            let reason = format!(
                "{found_by}: with it {all} of {} are gone in all scopes together that are not being removed here, where {most} \
                 may go in a day: somebody else deletes",
                taken.kind
            );
            (covers, reason)
        })
    }

    /// Whether a census has paused just that, and nobody has lifted it: one that is not believed is handed in again and
    /// again, and nothing of it is kept that would count them once.
    fn paused(&self, covers: &PauseSelector) -> bool {
        self.pauses.iter().any(|pause| pause.by.as_str() == COORDINATOR && pause.covers == *covers)
    }
}

/// Everything in a scope and those below it.
fn all_of(scope: &Scope) -> PauseSelector {
    PauseSelector { scope: Some(scope.clone()), ..PauseSelector::default() }
}

/// Who pauses.
pub(crate) fn coordinator() -> Result<Actor, LedgerError> {
    COORDINATOR.parse().map_err(|e: sexton_model::InvalidId| LedgerError::Unfit(e.to_string()))
}

/// The event of a census that was believed.
pub(crate) fn event(taken: &Taken, by: &Actor) -> Result<LedgerEvent, LedgerError> {
    let body = known::value(&taken.clone().unmarked())?;
    Ok(LedgerEvent { at: taken.accepted_at, what: "census".into(), by: by.to_string(), body })
}

/// What is kept of one that was not, and of what is `missing` in it.
pub(crate) fn refusal(
    (census, by): (&Census, &Actor),
    (why, missing): (&NotBelieved, Missing),
    at: Timestamp,
) -> Refusal {
    let Missing { many: missing, named: missing_named, newly: newly_missing } = missing;
    Refusal {
        at,
        by: by.clone(),
        credential: census.credential.chars().take(CREDENTIAL_MAX).collect(),
        listed: u64::try_from(census.listed.len()).unwrap_or(u64::MAX),
        why: why.to_string(),
        missing,
        missing_named,
        newly_missing,
        not_taken: false,
        tried_at: None,
        failing_since: None,
    }
}

/// Its event, or that of one which was due and was not taken.
pub(crate) fn refused((kind, scope): (&Kind, &Scope), refusal: &Refusal) -> LedgerEvent {
    let Refusal {
        at,
        by,
        credential,
        listed,
        why,
        missing,
        missing_named,
        newly_missing: _,
        not_taken,
        tried_at: _,
        failing_since: _,
    } = refusal;
    let mut body = json!({
        "kind": kind, "scope": scope, "credential": credential, "listed": listed, "why": why,
    });
    if *missing > 0 {
        body["missing"] = json!(missing);
        body["missing_named"] = json!(missing_named);
    }
    if *not_taken {
        body["not_taken"] = json!(true);
    }
    LedgerEvent { at: *at, what: "census_refused".into(), by: by.to_string(), body }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use sexton_model::belts::budget::Written;
    use sexton_model::belts::census::{Listed, Rules, Sentinel};

    use super::*;

    /// It says of each that is kept whether it has to be read, whatever its credential is called.
    #[test]
    fn what_found_nothing_gone_is_told_by_its_text() {
        let kept = |newly_missing: u64, credential: &str| {
            let taken: Taken = serde_json::from_value(json!({
                "census": 1, "kind": "vm", "scope": "tenants", "credential": credential, "taken_at": 1, "accepted_at": 1,
                "counts": {}, "missing": 9, "missing_named": ["vm/a"], "newly_missing": newly_missing, "unknown": 0,
                "unknown_named": [],
            }))
            .unwrap();
            crate::rules::text(&taken).unwrap()
        };
        assert!(kept(0, "census-ro").contains(NOTHING_GONE));
        for (gone, credential) in [(1, "census-ro"), (10, "census-ro"), (1, NOTHING_GONE)] {
            assert!(!kept(gone, credential).contains(NOTHING_GONE), "{gone}");
        }
    }

    /// An inventory in which more is wrong than is kept by name.
    #[test]
    fn what_has_been_missing_for_long_pauses_nothing_and_what_goes_beside_it_does() {
        let (scope, kind): (Scope, Kind) = ("tenants".parse().unwrap(), "vm".parse().unwrap());
        let sentinel: ResourceId = "vm/sentinel".parse().unwrap();
        let budgets = toml::from_str::<Written>("a_day = 5").unwrap().budgets().unwrap();
        let always = Sentinel { scope: scope.clone(), resource: sentinel.clone() };
        let policy = Policy {
            budgets: Some(budgets),
            census: Rules { sentinels: vec![always], ..Rules::default() },
            ..Policy::default()
        };
        let vms = |numbers: Range<usize>| -> Vec<ResourceId> {
            let names = numbers.map(|number| format!("vm/m{number:05}").parse().unwrap());
            names.chain([sentinel.clone()]).collect()
        };
        // Each day one more, of those from that number on.
        let decide = |number: i64, from: usize, last: Option<Taken>| {
            let now = Timestamp(1_800_000_000_000_000 + number * 86_400_000_000);
            let ids = vms(from..1500);
            let census = Census {
                kind: kind.clone(),
                scope: scope.clone(),
                credential: "census-ro".to_owned(),
                new_credential: false,
                fewer: false,
                more: false,
                taken_at: now,
                total: ids.len() as u64,
                listed: ids
                    .into_iter()
                    .map(|id| Listed { id, scope: scope.clone(), identity: None })
                    .collect(),
                unregistered: Vec::new(),
                itself: false,
            };
            let known = |id| (id, AsRegistered { scope: scope.clone(), going: false });
            let beside = Beside {
                policy: &policy,
                day: Day::Calendar,
                now,
                last,
                of_day: Vec::new(),
                of_kind: Vec::new(),
                refused: Vec::new(),
                registered: vms(0..1500).into_iter().map(known).collect(),
                population: Population::default(),
                pauses: Vec::new(),
            };
            let Decided { judged, pauses, .. } = beside.decide(number, &census);
            let kept = crate::rules::text(&judged.unwrap()).unwrap();
            let taken: Taken = serde_json::from_str(&kept).unwrap();
            (taken, pauses.scope.map(|(_, reason)| reason))
        };
        let (first, _) = decide(1, 1200, None);
        assert_eq!(first.missing, 1200);
        let (second, paused) = decide(2, 1200, Some(first));
        assert_eq!((second.newly_missing, paused), (0, None), "nothing was deleted");
        let event = event(&second, &coordinator().unwrap()).unwrap();
        assert_eq!(event.body.get("missing_marked"), None, "the audit trail keeps what people read");
        let (third, paused) = decide(3, 1206, Some(second));
        let reason = paused.unwrap();
        assert_eq!(third.newly_missing, 6);
        assert!(
            reason.contains("6 of vm are gone that are not being removed here, where 5 may go"),
            "{reason}"
        );
    }

    #[test]
    fn in_a_rehearsal_they_are_not_kept_for_as_many_days_by_the_clock() {
        let now = Timestamp(1_800_000_000_000_000);
        let kept_us = |day: Day| now.0 - kept_from(now, day).0;
        assert_eq!(kept_us(Day::Calendar), KEPT_DAYS * 86_400_000_000);
        assert_eq!(kept_us(Day::Rehearsal { length_ms: 21_600_000 }), KEPT_DAYS * 21_600_000_000);
        assert_eq!(kept_us(Day::Rehearsal { length_ms: 60_000 }), KEPT_LEAST_US, "a digest counts them");
    }
}
