//! Several deletions of one scope and kind whose hard stage is due, under a budget: what is admitted, what is frozen as a
//! batch, what people approve, and who leaves or comes meanwhile.
//!
//! Only beginnings count here: of what has begun nothing more is told, and what was cancelled is gone.
mod admission;
mod fixed;
mod people;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

use sexton_model::Timestamp;
use sexton_model::belts::budget::Exceeded;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::job::Stage;

use crate::world::{OPS, REASON, Row, TICK, clamp};

use admission::Admission;
use fixed::{A_DAY, APPROVED_TICKS, BUDGETS, DAY, MEMBERS, SPAN_TICKS, base, hard_of};
use people::Look;

/// What limits the search; every number is for a whole history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Deletions whose hard stage is due to begin with; with those that come later no more than there are.
    pub due: usize,
    /// Deletions that come later.
    pub late: usize,
    /// Batches that may be frozen.
    pub batches: usize,
    /// Looks at a batch; one is remembered, and may be approved by again and again.
    pub looks: u8,
    /// Deletions that may be cancelled.
    pub cancels: u8,
    /// Holds that may be placed on the first one.
    pub holds: u8,
}

/// Where a deletion stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// It is not due yet.
    ToCome,
    /// Its hard stage is due.
    Waits,
    /// Its hard stage has begun.
    Begun,
    /// It was cancelled.
    Left,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    pub place: Place,
    /// Its hard stage, as long as that waits.
    hard: Row,
    held: bool,
    admission: Option<Admission>,
    /// The batch that it is one of, as long as that waits.
    pub batch: Option<i64>,
    /// Steps of time since somebody approved a set that it is one of; none once that is no longer good.
    pub approved: Option<u8>,
}

/// A batch that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    pub id: i64,
    why: Exceeded,
}

impl Hash for Batch {
    fn hash<H: Hasher>(&self, h: &mut H) {
        (self.id, self.why.to_string()).hash(h);
    }
}

/// Everything that decides what may happen next.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Crowd {
    pub members: [Member; MEMBERS],
    pub batches: Vec<Batch>,
    /// Number of the last batch.
    pub last: i64,
    /// Admissions, by the part of a day they are counted in.
    counts: BTreeMap<Timestamp, u64>,
    look: Option<Look>,
    /// For the rules: how long ago those began that nobody had approved, in steps of time.
    begun: Vec<u8>,
    pub left: Bounds,
    pub broken: Option<&'static str>,
}

/// What somebody does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Act {
    /// It becomes due.
    Come(usize),
    Claim(usize),
    Recheck(usize),
    /// What is due is admitted or frozen, and what fits by now let go; or only the latter.
    Admit(bool),
    /// A person looks at a batch.
    Look(i64),
    /// A person approves what was looked at, who asked for this one, or for none.
    Approve(Option<usize>),
    Cancel(usize),
    Hold,
    Release,
    Tick,
}

impl Crowd {
    pub fn new(bounds: &Bounds) -> Self {
        let member = |index: usize| Member {
            place: match index {
                _ if index < bounds.due => Place::Waits,
                _ if index < bounds.due + bounds.late => Place::ToCome,
                _ => Place::Left,
            },
            hard: hard_of(base(index)),
            held: false,
            admission: None,
            batch: None,
            approved: None,
        };
        Self {
            members: std::array::from_fn(member),
            batches: Vec::new(),
            last: 0,
            counts: BTreeMap::new(),
            look: None,
            begun: Vec::new(),
            left: *bounds,
            broken: None,
        }
    }

    /// Everything anybody may do now, whether or not it will be refused.
    pub fn acts(&self, acts: &mut Vec<Act>) {
        if self.broken.is_some() {
            return;
        }
        for (index, member) in self.members.iter().enumerate() {
            match member.place {
                Place::ToCome => acts.push(Act::Come(index)),
                Place::Waits => {
                    acts.extend([Act::Claim(index), Act::Recheck(index)]);
                    if self.left.cancels > 0 {
                        acts.push(Act::Cancel(index));
                    }
                }
                Place::Begun | Place::Left => {}
            }
        }
        acts.extend([Act::Admit(true), Act::Admit(false), Act::Approve(None), Act::Tick]);
        acts.extend((0..MEMBERS).map(|index| Act::Approve(Some(index))));
        if self.left.looks > 0 {
            acts.extend(self.batches.iter().map(|batch| Act::Look(batch.id)));
        }
        if self.members[0].held {
            acts.push(Act::Release);
        } else if self.left.holds > 0 {
            acts.push(Act::Hold);
        }
    }

    /// The crowd afterwards; none if nothing changed.
    pub fn after(&self, act: &Act) -> Option<Crowd> {
        let mut next = self.clone();
        match act {
            Act::Come(index) => next.members[*index].place = Place::Waits,
            Act::Claim(index) => {
                let job = next.members[*index].hard.0.id;
                next.commit(*index, &Event::Claim { job })?;
            }
            Act::Recheck(index) => {
                let job = next.members[*index].hard.0.id;
                next.commit(*index, &Event::Recheck { job })?;
            }
            Act::Admit(due) => next.admit(*due)?,
            Act::Look(batch) => next.look_at(*batch)?,
            Act::Approve(asked_for) => next.approve(*asked_for)?,
            Act::Cancel(index) => {
                next.left.cancels -= 1;
                next.commit(*index, &Event::Cancel { by: OPS.clone(), reason: REASON.into() })?;
            }
            Act::Hold => {
                next.left.holds -= 1;
                next.commit(0, &Event::PlaceHold { by: OPS.clone(), reason: REASON.into() })?;
            }
            Act::Release => next.commit(0, &Event::ReleaseHold { hold: 1, by: OPS.clone() })?,
            Act::Tick => next.tick(),
        }
        next.forget();
        (next != *self).then_some(next)
    }

    /// Decide about one of them, if it waits.
    fn commit(&mut self, index: usize, event: &Event) -> Option<()> {
        if self.members[index].place != Place::Waits {
            return None;
        }
        let before = self.deletion(index);
        let decision = self.decide(&before, event).ok()?;
        let mut after = before;
        for change in &decision.changes {
            after.apply(change);
        }
        let place = match after.status {
            RecordStatus::Live if after.claimed(Stage::Hard) => {
                self.begins(index);
                Place::Begun
            }
            RecordStatus::Live => Place::Waits,
            RecordStatus::Cancelled => Place::Left,
            RecordStatus::Restoring | RecordStatus::Recycled | RecordStatus::Rescued => {
                self.broken = Some("nothing was done that a cancel could have to take back");
                Place::Left
            }
        };
        let member = &mut self.members[index];
        member.place = place;
        member.held = !after.holds.is_empty();
        member.hard = hard_of(&after);
        Some(())
    }

    /// One begins. I11: not one of a batch that waits, and no more within the span than may, but for those that a person
    /// has approved while that was good.
    fn begins(&mut self, index: usize) {
        let member = &self.members[index];
        if member.held {
            self.broken = Some("one began that is held");
        } else if member.batch.is_some() {
            self.broken = Some("I11: one of a batch began that waits");
        } else if member.approved.is_none() {
            let approved = |admission: &Admission| admission.bucket.is_none();
            if member.admission.as_ref().is_some_and(approved) {
                self.broken = Some("I11: one began by an approval that is no longer good");
            }
            self.begun.push(0);
            if self.begun.len() > A_DAY {
                self.broken = Some("I11: more began within the span than may");
            }
        }
    }

    fn tick(&mut self) {
        let older = |at: Timestamp| Timestamp(at.0 - TICK);
        self.counts = self.counts.iter().map(|(at, count)| (older(*at), *count)).collect();
        for member in &mut self.members {
            if let Some(admission) = &mut member.admission {
                admission.bucket = admission.bucket.map(older);
                admission.good_until = older(admission.good_until);
            }
            let good = |age: &u8| *age < APPROVED_TICKS;
            member.approved = member.approved.map(|age| age + 1).filter(good);
        }
        self.begun.iter_mut().for_each(|age| *age += 1);
        self.begun.retain(|age| *age < SPAN_TICKS);
    }

    /// Forget what no longer decides anything.
    fn forget(&mut self) {
        let from = BUDGETS.counted_from(Timestamp(0), DAY);
        self.counts.retain(|bucket, count| *bucket >= from && *count > 0);
        self.begun.sort_unstable();
        for (index, member) in self.members.iter_mut().enumerate() {
            if matches!(member.place, Place::Begun | Place::Left) {
                let approved = member.approved.filter(|_| member.place == Place::Begun);
                let hard = hard_of(base(index));
                *member =
                    Member { place: member.place, hard, held: false, admission: None, batch: None, approved };
            }
            if let Some(admission) = &mut member.admission {
                clamp(&mut admission.good_until);
                admission.good_until = admission.good_until.max(Timestamp(0));
                let counts = admission.bucket.is_some_and(|bucket| bucket >= from);
                if !admission.is_good() && !counts {
                    member.admission = None;
                }
            }
        }
    }

    /// Whether a hold has come between an admission and the claim.
    pub fn is_held_though_admitted(&self) -> bool {
        let admitted = |admission: Admission| admission.is_good();
        self.members[0].held && self.members[0].admission.is_some_and(admitted)
    }

    /// Whether nobody waits who has come.
    pub fn is_over(&self) -> bool {
        self.members.iter().all(|member| member.place != Place::Waits)
    }

    /// The same without limits to what is needed to go on.
    pub fn in_good_weather(&self) -> Crowd {
        let left = Bounds { batches: usize::MAX, looks: 1, cancels: 0, holds: 0, ..self.left };
        Crowd { left, ..self.clone() }
    }

    /// The next thing that people and machines do who want it to end, unless it breaks a rule.
    pub fn onward(&self) -> Option<Crowd> {
        let mut acts = vec![Act::Release];
        for index in 0..MEMBERS {
            acts.extend([Act::Recheck(index), Act::Claim(index)]);
        }
        acts.extend([Act::Admit(true), Act::Admit(false), Act::Approve(None)]);
        // Only what can never fit needs a person: the others get their turn.
        acts.extend(self.batches.iter().find(|batch| self.needs_approval(batch)).map(|b| Act::Look(b.id)));
        acts.push(Act::Tick);
        let next = acts.into_iter().find_map(|act| self.after(&act))?;
        next.broken.is_none().then(|| next.in_good_weather())
    }
}
