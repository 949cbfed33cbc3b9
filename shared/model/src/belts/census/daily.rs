//! Censuses that are taken without anybody asking: which of those that are configured are due, and which do not come.
//!
//! Contract: this only decides, by what the job table says: what came last of each kind and scope, and what is being listed.
//! Nothing else is remembered, so any coordinator goes on where another one has stopped; and since a census is begun only if
//! nothing has come since it was found to be due ([`Seen`]), two of them take none twice.
use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::latest::{Latest, Refusal};
use super::listing::{Listing, NotTaken};
use crate::id::{Actor, Kind, Scope};
use crate::time::{Day, Timestamp};

/// Most that are configured: they are taken one after the other, and each may take half a minute.
pub const TAKES_MAX: usize = 64;
/// How often one is taken unless it is said, and at the longest, in hours: whoever counts by a census that is older than a day
/// is told so.
pub const EVERY_HOURS: u8 = 24;
/// One that was refused, or not taken, is not tried again for so many hours: whoever lists is not to be asked again and again.
const AGAIN_HOURS: u8 = 1;
/// So many intervals without a complete census are a lack: one may come late.
const MISSED_INTERVALS: u64 = 2;
/// Shortest interval, in milliseconds: in a rehearsal an hour may be over at once.
const LEAST_MS: u64 = 5_000;

/// One that is to be taken again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Take {
    /// Of which kind.
    pub kind: Kind,
    /// Of which scope, with those below it.
    pub scope: Scope,
    /// How often, in hours, of which a policy day has 24.
    pub every_hours: u8,
    /// How long instances may take to list everything, in seconds.
    pub within_secs: u64,
}

/// What is known of a kind and scope when one of it is found to be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// When one was believed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub believed_at: Option<Timestamp>,
    /// When one was refused last, or not taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_at: Option<Timestamp>,
}

impl Seen {
    /// What this says; of nothing nothing is known.
    pub fn of(latest: Option<&Latest>) -> Self {
        Self {
            believed_at: latest.and_then(|one| one.believed_at),
            refused_at: latest
                .and_then(|one| one.refused.as_ref())
                .map(|refused| refused.tried_at.map_or(refused.at, |tried| tried.max(refused.at))),
        }
    }
}

/// One that was due, and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Of which kind.
    pub kind: Kind,
    /// Of which scope.
    pub scope: Scope,
    /// What was known when it was found to be due.
    pub seen: Seen,
    /// Why there is none.
    pub why: String,
}

impl Attempt {
    /// What is kept of it. One that was not believed stands until one is, as it was: that nothing was listed after it makes it
    /// no better, and says nothing of what it lacked.
    pub fn refusal(&self, latest: Option<&Latest>, at: Timestamp) -> Refusal {
        let standing = latest.and_then(Latest::not_believed).cloned();
        let before = latest.and_then(Latest::refused_last);
        let failing_since = before.map(|before| before.failing_since.unwrap_or(before.at));
        standing.map_or_else(
            || Refusal { failing_since, ..self.noted(at) },
            |standing| Refusal { tried_at: Some(at), ..standing },
        )
    }

    /// What is written into the audit trail of it, whatever stands.
    pub fn noted(&self, at: Timestamp) -> Refusal {
        Refusal {
            at,
            by: Actor::coordinator(),
            credential: String::new(),
            listed: 0,
            why: self.why.clone(),
            missing: 0,
            missing_named: BTreeSet::new(),
            newly_missing: 0,
            not_taken: true,
            tried_at: None,
            failing_since: None,
        }
    }
}

/// One that should have come, and has not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Of which kind.
    pub kind: Kind,
    /// Of which scope.
    pub scope: Scope,
    /// How often it is to be taken, in hours.
    pub every_hours: u8,
    /// When one was believed last, if one ever was.
    pub since: Option<Timestamp>,
    /// What came of the last attempt, if it was refused, or not taken.
    pub last: Option<Refusal>,
    /// Whether somebody is to be called. Of what nobody has tried since then it is only shown: it is tried within seconds of a
    /// start, or a pause or a review keeps it from that, and stands in the same place. Where there was never one, whoever lists may
    /// not have been started yet: so nobody is called before nothing was listed for an interval.
    pub alarms: bool,
}

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, scope, every_hours, since, last, .. } = self;
        write!(
            f,
            "no complete census of {kind} in {scope}, which [census] take has every {every_hours} h: "
        )?;
        match since {
            Some(since) => write!(f, "the last one was at {since}")?,
            None => write!(f, "there was never one")?,
        }
        match last {
            Some(Refusal { at, why, .. }) => write!(f, "; the last attempt ({at}): {why}"),
            None => Ok(()),
        }
    }
}

/// Which are due at `now`, and what is known of each: the last one that was believed is older than the interval, none is being
/// taken, and the last attempt that came to nothing is an hour old. `latest`: what came last of each kind and scope;
/// `kept`: all listings that nobody has put away; one that is left over counts for a minute after its time, and then no more.
pub fn to_take(
    configured: &[Take],
    latest: &[Latest],
    kept: &[Listing],
    day: Day,
    now: Timestamp,
) -> Vec<(Take, Seen)> {
    let over = |since: Option<Timestamp>, hours: u8| {
        since.is_none_or(|since| now.ms_since(since) >= hours_ms(day, hours))
    };
    let due = |take: &Take| {
        let same = |listing: &&Listing| listing.kind == take.kind && listing.scope == take.scope;
        let taken = kept.iter().filter(same).any(|listing| listing.may_be_judged(now));
        let last = of(latest, take);
        // What others hand in, and is refused, puts none off: it is none of its attempts.
        let tried_at = last.and_then(|last| last.refused.as_ref()).and_then(Refusal::tried);
        let due = !taken
            && over(last.and_then(|last| last.believed_at), take.every_hours)
            && over(tried_at, AGAIN_HOURS);
        due.then(|| (take.clone(), Seen::of(last)))
    };
    configured.iter().filter_map(due).collect()
}

/// Of which there was no complete census for two intervals, or never one.
pub fn missed(configured: &[Take], latest: &[Latest], day: Day, now: Timestamp) -> Vec<Missed> {
    let lacks = |take: &Take| {
        let last = of(latest, take);
        let since = last.and_then(|last| last.believed_at);
        let most_ms = hours_ms(day, take.every_hours).saturating_mul(MISSED_INTERVALS);
        let lacks = since.is_none_or(|since| now.ms_since(since) > most_ms);
        let refused = last.and_then(Latest::refused_last);
        let alarms = match since {
            Some(since) => refused.and_then(Refusal::tried).is_some_and(|at| at > since),
            None => refused.is_some_and(|refused| {
                let from = refused.failing_since.unwrap_or(refused.at);
                !refused.not_taken || now.ms_since(from) >= hours_ms(day, take.every_hours)
            }),
        };
        lacks.then(|| Missed {
            kind: take.kind.clone(),
            scope: take.scope.clone(),
            every_hours: take.every_hours,
            since,
            last: refused.cloned(),
            alarms,
        })
    };
    configured.iter().filter_map(lacks).collect()
}

/// Whether that passes by itself, and says nothing of whoever lists: then nothing is written down, and it is tried again
/// at the next look.
pub fn passes(why: &NotTaken) -> bool {
    match why {
        NotTaken::Paused(_)
        | NotTaken::Review
        | NotTaken::Busy { .. }
        | NotTaken::TooMany { .. }
        | NotTaken::Overtaken => true,
        NotTaken::NobodyLists(_)
        | NotTaken::NoInstance(_)
        | NotTaken::TooManyInstances { .. }
        | NotTaken::NoAnswer { .. }
        | NotTaken::Refused { .. }
        | NotTaken::Gone
        | NotTaken::Changed { .. }
        | NotTaken::Total { .. }
        | NotTaken::TooManyListed(_)
        | NotTaken::Twice { .. }
        | NotTaken::Another { .. }
        | NotTaken::NotAsked { .. } => false,
    }
}

fn of<'a>(latest: &'a [Latest], take: &Take) -> Option<&'a Latest> {
    latest.iter().find(|one| one.kind == take.kind && one.scope == take.scope)
}

/// So many of the 24 hours of a policy day, in milliseconds.
fn hours_ms(day: Day, hours: u8) -> u64 {
    (day.length_ms().saturating_mul(u64::from(hours)) / 24).max(LEAST_MS)
}

#[cfg(test)]
mod tests;
