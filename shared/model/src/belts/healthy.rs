//! Healthy time: the grace between two stages passes only while people could have cancelled.
//!
//! Contract: a coordinator that serves the API says so every second, in the job table itself: a **heartbeat**. It proves
//! what a cancel needs, an API, a job table that is written to, and a way between them. Where two heartbeats are further
//! apart than a tolerance, nobody could have cancelled between them: an **outage**, whatever it was: no coordinator, no
//! database, or a clock that jumped ahead, whose time was skipped rather than lived through. A stage begins no earlier
//! than it is due, plus all of that since its predecessor ended. Before that it is held.
//!
//! Outages are kept rather than healthy spans: it is the same knowledge, nothing but one number is written while all is
//! well, and there are few of them. What is merged, since only so many are kept, makes an outage longer, never shorter.
//!
//! What lies before the first heartbeat that is known of counts as healthy. A job table that was made with this has one
//! from its beginning; one that is older takes over its last checkpoint, which only a running coordinator writes. Whether
//! it was there all the time before, nobody kept, and to doubt all of it would begin every grace that is under way anew,
//! because of an outage that nobody has seen.
//!
//! No override lets a stage pass: it is the time of those who could cancel, and no operator's to give away. It ends by
//! itself.
use std::fmt;
use std::sync::Arc;

use crate::deletion::Deletion;
use crate::job::{Blocker, Job, Stage};
use crate::time::{Day, Timestamp};

/// Most outages that are kept: one a day for years, and read within a millisecond.
pub const OUTAGES_MAX: usize = 1000;

/// How far apart two heartbeats may be without an outage, in milliseconds.
///
/// A minute in a job table of real days: an exchange of coordinators, and of a database for its replica, takes less, and
/// whoever meets it while cancelling tries once more; beside a grace of days it is nothing. As much of a shorter day
/// (its 1440th), but never less than five seconds: heartbeats come every second, on machines that have more to do.
pub fn tolerance_ms(day: Day) -> u64 {
    const MINUTE_MS: u64 = 60_000;
    const LEAST_MS: u64 = 5_000;
    match day {
        Day::Calendar => MINUTE_MS,
        Day::Rehearsal { length_ms } => (length_ms / (24 * 60)).clamp(LEAST_MS, MINUTE_MS),
    }
}

/// A time in which nobody could have cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The last heartbeat before it.
    pub began: Timestamp,
    /// The first one after it; later.
    pub ended: Timestamp,
}

impl Outage {
    /// How long it was, in microseconds.
    fn lasted_us(self) -> i64 {
        self.ended.0.saturating_sub(self.began.0)
    }
}

/// What heartbeats tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthy {
    /// The last heartbeat.
    pub beat: Timestamp,
    /// See [`tolerance_ms`].
    pub tolerance_ms: u64,
    /// Ascending, apart from each other, and before the last heartbeat; at most [`OUTAGES_MAX`].
    pub outages: Arc<Vec<Outage>>,
}

impl Healthy {
    /// Nobody was ever missing: for whoever asks what would be if all goes well.
    pub fn always() -> Self {
        Self { beat: Timestamp::MAX, ..Self::default() }
    }

    /// A heartbeat at `now`. Whether that changed the outages.
    ///
    /// If the clock went back, what it showed since `now` has not happened: it will be lived through, and shown again.
    pub fn beat(&mut self, now: Timestamp) -> bool {
        let changed = if now < self.beat {
            let not_yet = self.outages.last().is_some_and(|last| last.ended > now);
            if not_yet {
                let outages = Arc::make_mut(&mut self.outages);
                outages.retain(|outage| outage.began < now);
                if let Some(last) = outages.last_mut() {
                    last.ended = last.ended.min(now);
                }
            }
            not_yet
        } else {
            let outage = self.going_on(now);
            if let Some(outage) = outage {
                let outages = Arc::make_mut(&mut self.outages);
                outages.push(outage);
                merge(outages);
            }
            outage.is_some()
        };
        self.beat = now;
        changed
    }

    /// The outage that goes on at `now`: no heartbeat has ended it yet.
    fn going_on(&self, now: Timestamp) -> Option<Outage> {
        (now.ms_since(self.beat) > self.tolerance_ms).then_some(Outage { began: self.beat, ended: now })
    }

    /// How much of the time from `from` to `now` nobody could have cancelled in, in microseconds.
    pub fn lost_us(&self, from: Timestamp, now: Timestamp) -> i64 {
        let first = self.outages.partition_point(|outage| outage.ended <= from);
        let mut counted = from;
        let mut lost = 0i64;
        // The last heartbeat and the outages may have been read at different moments: what both say is counted once.
        for outage in self.outages.iter().skip(first).copied().chain(self.going_on(now)) {
            let within =
                Outage { began: outage.began.max(counted), ended: outage.ended.min(now).max(counted) };
            lost = lost.saturating_add(within.lasted_us().max(0));
            counted = within.ended;
        }
        lost
    }

    /// The last outage that a heartbeat has ended.
    pub fn last(&self) -> Option<Outage> {
        self.outages.last().copied()
    }
}

/// As many as are kept: those that were closest to each other become one, with the time between them.
fn merge(outages: &mut Vec<Outage>) {
    while outages.len() > OUTAGES_MAX {
        let between =
            outages.iter().zip(outages.iter().skip(1)).map(|(a, b)| b.began.0.saturating_sub(a.ended.0));
        let Some((closest, _)) = between.enumerate().min_by_key(|(_, apart)| *apart) else { return };
        let later = outages.remove(closest + 1);
        if let Some(outage) = outages.get_mut(closest) {
            outage.ended = later.ended;
        }
    }
}

/// Whether this belt asks anything of a stage: those that have a grace in which somebody could do something. Announce has
/// none, and recycle destroys nothing: what its name was of has been gone for long, and nobody could bring it back.
pub fn binds(stage: Stage) -> bool {
    match stage {
        Stage::Soft | Stage::Hard | Stage::Purge => true,
        Stage::Announce | Stage::Recycle => false,
    }
}

/// What stops `job` of `deletion`, if part of its grace does not count and is not made up for yet at `now`.
pub fn blocker(
    deletion: &Deletion,
    (stage, job): (Stage, &Job),
    healthy: &Healthy,
    now: Timestamp,
) -> Option<Blocker> {
    // What has begun is not bound.
    let due_at = job.state.due_at()?;
    if !binds(stage) {
        return None;
    }
    let before = stage.index().checked_sub(1).and_then(|index| Stage::ALL.get(usize::from(index)))?;
    let ended = deletion.stage_job(*before).and_then(|job| job.ended_at);
    // A predecessor that does not say when it ended: then the grace is looked at from the record's beginning on.
    let from = ended.unwrap_or(deletion.record.created_at);
    let lost_us = healthy.lost_us(from, now);
    let until = Timestamp(due_at.0.saturating_add(lost_us));
    let lost_ms = u64::try_from(lost_us / 1000).unwrap_or(0);
    (lost_us > 0 && now < until).then_some(Blocker::Outage { stage, lost_ms, until })
}

/// A length of time in milliseconds, as people say it: its two greatest parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length(pub u64);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const PARTS: [(u64, &str); 5] =
            [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")];
        let first = PARTS.iter().position(|(length, _)| self.0 >= *length).unwrap_or(PARTS.len() - 1);
        let mut left = self.0;
        for (nth, (length, unit)) in PARTS.iter().skip(first).take(2).enumerate() {
            let count = left / length;
            left %= length;
            match (nth, count) {
                (0, count) => write!(f, "{count} {unit}")?,
                (_, 0) => {}
                (_, count) => write!(f, " {count} {unit}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
