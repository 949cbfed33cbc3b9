//! What has changed, and what is to be told by which route.
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alarm::{ACKNOWLEDGED_MS, Alarm, AlarmKind, Standing};
use crate::time::Timestamp;

/// An alarm that still holds is told again after so many milliseconds: a day.
pub const AGAIN_MS: u64 = 24 * 3_600_000;
/// What one process says of itself is believed for so long, in milliseconds: then that process is gone.
pub const OWNER_SILENT_MS: u64 = 10 * 60_000;
/// What it says of purges without a receipt is believed longer, in milliseconds: a day. One that was started anew knows of none before
/// it has gone through all records, which takes as long as there are many, and does not begin under a review. Not of one that is
/// signed by now.
pub const NO_RECEIPT_SILENT_MS: u64 = 24 * 3_600_000;

/// How long a route that has failed is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// After the first failure, in milliseconds; after each further one twice as long.
    pub first_ms: u64,
    /// At most, in milliseconds.
    pub longest_ms: u64,
}

/// Ten seconds at first, and a quarter of an hour at most.
impl Default for BackOff {
    fn default() -> Self {
        Self { first_ms: 10_000, longest_ms: 15 * 60_000 }
    }
}

impl BackOff {
    /// How long to wait after so many failures, in milliseconds.
    pub fn after_ms(self, failures: u16) -> u64 {
        let doubled = u32::from(failures.saturating_sub(1)).min(16);
        self.first_ms.saturating_mul(1 << doubled).min(self.longest_ms)
    }
}

/// What is told of an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It holds.
    Raised,
    /// It still holds.
    Again,
    /// It does not hold any more.
    Ended,
}

/// What has been told by one route of one alarm, or digest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Telling {
    /// How often somebody began to tell it: who tells says which number was seen, so that two do not tell it at once.
    pub tries: i64,
    /// How often it failed since it was told last.
    pub failures: u16,
    /// When somebody began last.
    pub tried_at: Option<Timestamp>,
    /// Somebody tells it now, and has to say until then what became of it.
    pub lease_until: Option<Timestamp>,
    /// What was told last, and when.
    pub told: Option<(Phase, Timestamp)>,
    /// Why it failed last.
    pub error: Option<String>,
}

impl Telling {
    /// Whether it may be tried now: nobody tells it, and its back-off is over.
    fn may_try(&self, now: Timestamp, back_off: BackOff) -> bool {
        let leased = self.lease_until.is_some_and(|until| now < until);
        let again_at = self.tried_at.map(|at| at.plus_ms(back_off.after_ms(self.failures)));
        let waits = self.failures > 0 && again_at.is_some_and(|at| now < at);
        !leased && !waits
    }
}

/// What is to be told of an alarm by a route now, if anything is.
///
/// An alarm that was raised and ended before it could be told is told all the same, as ended: never silently not at all.
pub fn due(standing: &Standing, telling: &Telling, now: Timestamp, back_off: BackOff) -> Option<Phase> {
    if !telling.may_try(now, back_off) {
        return None;
    }
    if standing.ended_at.is_some() {
        let told = matches!(telling.told, Some((Phase::Ended, _)));
        return (!told).then_some(Phase::Ended);
    }
    let seen = standing.acknowledged.as_ref();
    if seen.is_some_and(|seen| now.ms_since(seen.at) < ACKNOWLEDGED_MS) {
        return None;
    }
    match telling.told {
        None => Some(Phase::Raised),
        Some((_, at)) => (now.ms_since(at) >= AGAIN_MS).then_some(Phase::Again),
    }
}

/// Whether something that is told once is to be told now.
pub fn due_once(telling: &Telling, now: Timestamp, back_off: BackOff) -> bool {
    telling.told.is_none() && telling.may_try(now, back_off)
}

/// An alarm that is open, with what only the table needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its number.
    pub id: i64,
    /// As it was found last.
    pub alarm: Alarm,
    /// The process that it is about; empty if it is about the job table, and whoever looks can tell.
    pub owner: String,
    /// When it was found last, if it has an owner.
    pub seen_at: Timestamp,
    /// Whether it is seen in the job table that it holds no more, whatever its owner says.
    pub over: bool,
}

/// What is to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// New ones.
    pub raise: Vec<Alarm>,
    /// Those that are found again: in other words, or by their owner, who is alive.
    pub again: Vec<(i64, Alarm)>,
    /// Those that do not hold any more.
    pub end: Vec<i64>,
}

/// Compare what `owner` finds to hold with what is open. What is of other owners is left alone, unless it is looked at for
/// the job table and its own process has said nothing for long ([`OWNER_SILENT_MS`], [`NO_RECEIPT_SILENT_MS`]).
pub fn compare(open: &[Open], hold: Vec<Alarm>, owner: &str, now: Timestamp) -> Change {
    let there: BTreeMap<String, &Open> = open.iter().map(|open| (open.alarm.key(), open)).collect();
    let mut change = Change::default();
    let mut found = BTreeSet::new();
    for alarm in hold {
        let key = alarm.key();
        if !found.insert(key.clone()) {
            continue;
        }
        match there.get(&key) {
            None => change.raise.push(alarm),
            Some(open) if open.alarm != alarm || !owner.is_empty() => change.again.push((open.id, alarm)),
            Some(_) => {}
        }
    }
    for (key, open) in there {
        let own = open.owner == owner && !found.contains(&key);
        let silent = now.ms_since(open.seen_at) >= believed_ms(open);
        let left = owner.is_empty() && !open.owner.is_empty() && silent;
        if own || left {
            change.end.push(open.id);
        }
    }
    change
}

/// How long what a process says is believed while it says nothing, in milliseconds. One that lives ends by itself what is over, or
/// would say it anew.
fn believed_ms(open: &Open) -> u64 {
    if open.alarm.kind == AlarmKind::NoReceipt && !open.over { NO_RECEIPT_SILENT_MS } else { OWNER_SILENT_MS }
}
