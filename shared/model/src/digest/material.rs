//! What a digest is composed of.
use crate::access::Extent;
use crate::alarm::hold::{self, BatchFact, Moment};
use crate::alarm::{Standing, not_back};
use crate::belts::Pause;
use crate::belts::census::daily::Missed;
use crate::belts::census::foreign::Foreign;
use crate::belts::census::misplaced::ListedElsewhere;
use crate::deletion::{Deletion, RecordStatus};
use crate::digest::{Ahead, Coming, HeldBy, LINES_MAX, Listed, Overdue, Still, short};
use crate::job::{Job, JobState};
use crate::time::Timestamp;
use crate::undo;

/// A list that grows, of which the first are kept: those that stand longest.
#[derive(Debug, Clone)]
pub struct Longest<T> {
    kept: Vec<(Timestamp, T)>,
    count: u64,
}

impl<T> Default for Longest<T> {
    fn default() -> Self {
        Self { kept: Vec::new(), count: 0 }
    }
}

impl<T> Longest<T> {
    /// One more that stands since then.
    pub fn add(&mut self, since: Timestamp, item: T) {
        self.count += 1;
        self.kept.push((since, item));
        if self.kept.len() > LINES_MAX * 2 {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.kept.sort_by_key(|(since, _)| *since);
        self.kept.truncate(LINES_MAX);
    }

    pub(super) fn finish(mut self) -> Listed<T> {
        self.cut();
        let items: Vec<T> = self.kept.into_iter().map(|(_, item)| item).collect();
        Listed { more: self.count - items.len() as u64, items }
    }
}

/// What a digest is composed of: only what whoever reads it may see is added.
#[derive(Debug, Clone, Default)]
pub struct Material {
    /// What the job table counts.
    pub ahead: Vec<Ahead>,
    /// What earlier digests said was coming, one for each week that there is one for.
    pub weeks: Vec<Vec<Coming>>,
    /// Jobs that are held, the longest first: the first ones.
    pub held: Vec<Still>,
    /// How many are held, by what.
    pub held_by: Vec<HeldBy>,
    /// Pauses in force.
    pub pauses: Vec<Pause>,
    /// What others have deleted, as censuses of the last day found.
    pub foreign: Vec<Foreign>,
    /// What these list in another scope than it is registered in.
    pub misplaced: Vec<ListedElsewhere>,
    /// Batches that wait.
    pub batches: Vec<BatchFact>,
    /// Alarms that are open.
    pub alarms: Vec<Standing>,
    /// What nobody finds out because nothing is configured for it.
    pub lacks: Vec<String>,
    /// Which censuses are configured to be taken, and do not come.
    pub missed: Vec<Missed>,
    /// What was seen of the deletions that are watched.
    pub watched: Watched,
}

/// What stands still or is overdue, of deletions that are looked at one by one.
#[derive(Debug, Clone, Default)]
pub struct Watched {
    pub(super) not_back: Longest<Still>,
    pub(super) parked: Longest<Still>,
    pub(super) untold: Longest<Still>,
    pub(super) credentials: Longest<Overdue>,
    pub(super) gone_by: Longest<Overdue>,
}

impl Watched {
    /// Look at one deletion that is watched; `parked_at`: since when its job is parked, as far as that is known.
    pub fn see(&mut self, d: &Deletion, parked_at: Option<Timestamp>, at: &Moment) {
        let resource = &d.record.resource;
        let said = undo::undo(d, at.day, at.now).offer();
        let overdue = |since| Overdue {
            deletion: d.id,
            resource: resource.id.clone(),
            scope: resource.scope.clone(),
            since,
            why: short(&hold::standstill(d)),
            undo: said.clone(),
        };
        if d.status == RecordStatus::Live && !hold::gone(d) {
            if let Some(since) = hold::overdue_from(d, at).filter(|since| at.now >= *since) {
                self.credentials.add(since, overdue(since));
            }
            if let Some(since) = hold::gone_by_end(d, at.day).filter(|since| at.now >= *since) {
                self.gone_by.add(since, overdue(since));
            }
        }
        let still = |job: &Job, since: Option<Timestamp>, why: &str| Still {
            deletion: d.id,
            resource: resource.id.clone(),
            scope: resource.scope.clone(),
            job: job.kind,
            since,
            why: short(why),
            undo: said.clone(),
        };
        if let Some(late) = not_back(d, at) {
            self.not_back.add(late.since, still(late.job, Some(late.since), &late.why(d)));
        } else if let Some((job, reason)) = hold::parked(d) {
            // Of what nobody knows since when it stands, it is said first.
            self.parked.add(parked_at.unwrap_or_default(), still(job, parked_at, reason));
        } else if let Some((job, since, first)) = hold::untold(d) {
            // While it is tried nobody knows more than that it failed.
            let why = if let JobState::Waiting { reason, .. } = &job.state { reason.as_str() } else { first };
            self.untold.add(since, still(job, Some(since), why));
        }
    }
}

impl Material {
    /// Leave out what is outside, of all that is not added one by one.
    pub fn keep(&mut self, extent: &Extent) {
        if extent.is_everywhere() {
            return;
        }
        self.lacks.clear();
        self.missed.retain(|one| extent.contains(&one.scope));
        self.ahead.retain(|ahead| extent.contains(&ahead.scope));
        for week in &mut self.weeks {
            week.retain(|coming| extent.contains(&coming.scope));
        }
        self.held.retain(|still| extent.contains(&still.scope));
        self.held_by.retain(|held| extent.contains(&held.scope));
        self.pauses.retain(|pause| pause.covers.scope.as_ref().is_none_or(|scope| extent.meets(scope)));
        self.foreign.retain(|one| extent.contains(&one.scope));
        self.misplaced.retain(|one| extent.contains(&one.scope));
        self.batches.retain(|batch| extent.contains(&batch.group.scope));
        self.alarms.retain(|one| one.alarm.scope.as_ref().is_some_and(|scope| extent.contains(scope)));
    }
}
