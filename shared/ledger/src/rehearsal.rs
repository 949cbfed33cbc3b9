//! What the job table itself has to refuse, tried in it: one operation after the other, the same on both footings.
//!
//! A footing begins a transaction, does what [`Script::next`] asks for by the very functions that it does everything else
//! by, and rolls back, whatever came of it.
use std::sync::Arc;

use sexton_model::belts::Policy;
use sexton_model::belts::budget::{Budgets, Group};
use sexton_model::belts::healthy::Healthy;
use sexton_model::canary::{self, Probe, Rehearsed, rehearsal};
use sexton_model::decide::Event;
use sexton_model::deletion::{CannotDelete, Deletion};
use sexton_model::job::{Blocker, Stage};
use sexton_model::plan::Plan;
use sexton_model::resource::Resource;
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId, Kind, Timestamp};

use crate::batch::{Loaded, decide_all};
use crate::row::JobRow;
use crate::{Intent, LedgerError, Limits, NewDeletion, NotDone, Pulsed};

/// Orders that a consumer of a rehearsal could carry out at once: for credit never to be what stops it.
const HANDS: u32 = 1024;

/// What to do next in the transaction.
#[derive(Debug)]
pub(crate) enum Op {
    /// Register these, by [`canary::actor`].
    Register(Vec<Resource>),
    /// Make these records.
    Create(Vec<NewDeletion>),
    /// Have these records come as far as this stage: write [`rows`].
    Arrive(Vec<DeletionId>, Stage),
    /// Count as many as this group may have as begun.
    Spend(Group),
    /// Admit what is due with these.
    Admit(Vec<JobId>),
    /// Claim these: what is loaded for it goes to [`claims`].
    Claim(Vec<JobId>),
}

/// What came of it, in the same order.
#[derive(Debug)]
pub(crate) enum Done {
    Registered(Vec<Result<(), NotDone>>),
    Created(Vec<Result<DeletionId, NotDone>>),
    /// It was done, and says nothing.
    Quietly,
    Claimed(Rehearsed),
}

/// What happens next.
#[derive(Debug)]
pub(crate) enum Next {
    Do(Op),
    Over(Rehearsed),
}

/// What is tried.
#[derive(Debug)]
pub(crate) struct Script {
    probe: Probe,
    plan: Arc<Plan>,
    now: Timestamp,
    /// Whether whoever tries it counts what is to be over.
    counts: bool,
    place: u8,
    made: Vec<DeletionId>,
}

/// What is tried fails here, with why; or something goes wrong.
type Step = Result<Op, Rehearsed>;

impl Script {
    /// Try this, with the plan of its kind, as whoever decides by this policy.
    pub(crate) fn new(probe: Probe, plan: Arc<Plan>, now: Timestamp, (policy, day): (&Policy, Day)) -> Self {
        let counts = match &probe {
            Probe::OverBudget { stage, .. } => policy.counts(*stage, day),
            Probe::Protected { .. }
            | Probe::ForgedOrder { .. }
            | Probe::WrongIdentity { .. }
            | Probe::RightIdentity { .. }
            | Probe::RightPlace { .. }
            | Probe::WrongPlace { .. } => true,
        };
        Self { probe, plan, now, counts, place: 0, made: Vec::new() }
    }

    /// What comes after `done`; it begins with [`Done::Quietly`].
    pub(crate) fn next(&mut self, done: Done) -> Next {
        if let Done::Claimed(came) = done {
            return Next::Over(came);
        }
        let place = self.place;
        self.place += 1;
        let step = match self.probe.clone() {
            Probe::Protected { of } => self.protected(&of, place, done),
            Probe::OverBudget { of, stage } => self.over_budget(&of, stage, (place, done)),
            Probe::ForgedOrder { .. }
            | Probe::WrongIdentity { .. }
            | Probe::RightIdentity { .. }
            | Probe::RightPlace { .. }
            | Probe::WrongPlace { .. } => {
                Err(Rehearsed::Failed("it is nothing that the job table is asked".into()))
            }
        };
        step.map_or_else(Next::Over, Next::Do)
    }

    /// One that is protected gets no record, and one that is protected once it has one is not claimed.
    fn protected(&mut self, of: &Kind, place: u8, done: Done) -> Step {
        let both = [self.resource(of, 1, true)?, self.resource(of, 2, false)?];
        match (place, done) {
            (0, _) => Ok(Op::Register(both.into())),
            (1, Done::Registered(results)) => all(results).map(|()| self.create(both)),
            (2, Done::Created(mut results)) => {
                let (Some(open), Some(shielded)) = (results.pop(), results.pop()) else {
                    return Err(unexpected());
                };
                match shielded {
                    Err(NotDone::CannotDelete(CannotDelete::Protected(_))) => {}
                    Ok(_) => return Err(Rehearsed::Passed("a record for what is protected was made".into())),
                    Err(why) => return Err(failed(&why)),
                }
                // That it is refused proves something only if what is not protected is not refused.
                self.made.push(open.map_err(|why| failed(&why))?);
                Ok(Op::Register(vec![self.resource(of, 2, true)?]))
            }
            (3, Done::Registered(results)) => all(results).map(|()| Op::Claim(self.jobs(Stage::Announce))),
            (_, Done::Registered(_) | Done::Created(_) | Done::Quietly | Done::Claimed(_)) => {
                Err(unexpected())
            }
        }
    }

    /// Of what is due beyond what may begin, nothing is claimed.
    fn over_budget(&mut self, of: &Kind, stage: Stage, at: (u8, Done)) -> Step {
        let both = [self.resource(of, 1, false)?, self.resource(of, 2, false)?];
        match at {
            // Whoever began the run may be configured otherwise: nothing is over what nobody counts.
            (0, _) if !self.counts => {
                Err(Rehearsed::Failed(format!("the coordinator that tries it has no budget for {stage}")))
            }
            (0, _) => Ok(Op::Register(both.into())),
            (1, Done::Registered(results)) => all(results).map(|()| self.create(both)),
            (2, Done::Created(results)) => {
                for made in results {
                    self.made.push(made.map_err(|why| failed(&why))?);
                }
                Ok(Op::Arrive(self.made.clone(), stage))
            }
            (3, Done::Quietly) => {
                Ok(Op::Spend(Group { scope: both[0].scope.clone(), kind: of.clone(), stage }))
            }
            (4, Done::Quietly) => Ok(Op::Admit(self.jobs(stage))),
            (5, Done::Quietly) => Ok(Op::Claim(self.jobs(stage))),
            (_, Done::Registered(_) | Done::Created(_) | Done::Quietly | Done::Claimed(_)) => {
                Err(unexpected())
            }
        }
    }

    fn resource(&self, of: &Kind, number: usize, protected: bool) -> Result<Resource, Rehearsed> {
        rehearsal::resource(of, number, protected, self.now).map_err(Rehearsed::Failed)
    }

    fn create(&self, resources: [Resource; 2]) -> Op {
        let due = rehearsal::due(self.now);
        let new = |resource: Resource| NewDeletion {
            resource: resource.id,
            due,
            gone_by: None,
            by: canary::actor(),
            reason: "a rehearsal that is rolled back".into(),
            plan: self.plan.clone(),
        };
        Op::Create(resources.into_iter().map(new).collect())
    }

    fn jobs(&self, stage: Stage) -> Vec<JobId> {
        self.made.iter().map(|deletion| JobId::of(*deletion, stage.index())).collect()
    }

    /// What has to stop the claim.
    fn stops(&self, by: &Blocker) -> bool {
        match self.probe {
            Probe::Protected { .. } => matches!(by, Blocker::Protected),
            Probe::OverBudget { .. } => matches!(by, Blocker::Budget { .. }),
            Probe::ForgedOrder { .. }
            | Probe::WrongIdentity { .. }
            | Probe::RightIdentity { .. }
            | Probe::RightPlace { .. }
            | Probe::WrongPlace { .. } => false,
        }
    }

    /// What comes of claiming these, decided on what was loaded for it as every batch is, but as if nothing else stopped
    /// them. Nothing of it is to be written.
    ///
    /// # Errors
    /// If an audit event cannot be written down, which would be a defect.
    pub(crate) fn claims(
        &self,
        mut loaded: Loaded,
        jobs: &[JobId],
        (limits, policy): (&Limits, &Policy),
    ) -> Result<Done, LedgerError> {
        let wants = |(deletion, _): &(Deletion, _)| {
            deletion.jobs.iter().filter_map(|job| deletion.wants(job)).collect::<Vec<_>>()
        };
        let living = Pulsed { at: loaded.now, hands: HANDS, answered_at: Some(loaded.now) };
        loaded.pulses =
            loaded.deletions.values().flat_map(wants).map(|instance| (instance, living)).collect();
        loaded.out.clear();
        loaded.in_force = Arc::new(rehearsal::allowing());
        loaded.healthy = Healthy::always();
        let budgets = match self.probe {
            // A claim that only waits to be admitted would hide that nothing else stops it.
            Probe::Protected { .. } => Some(Budgets::none()),
            Probe::OverBudget { .. }
            | Probe::ForgedOrder { .. }
            | Probe::WrongIdentity { .. }
            | Probe::RightIdentity { .. }
            | Probe::RightPlace { .. }
            | Probe::WrongPlace { .. } => policy.budgets.clone(),
        };
        let policy = Policy { windows: None, budgets, ..policy.clone() };
        let (settled, _) = decide_all(&mut loaded, &intents(jobs), limits, &policy)?;
        let one = |(id, settled): (&JobId, Result<_, NotDone>)| {
            let job = loaded.deletions.get(&id.deletion()).and_then(|(deletion, _)| deletion.job(*id));
            let came = match (job, settled) {
                (Some(job), Ok(_)) => rehearsal::claimed(job, None, |by| self.stops(by)),
                (Some(job), Err(NotDone::Refused(why))) => {
                    rehearsal::claimed(job, Some(&why), |by| self.stops(by))
                }
                (_, Err(why)) => failed(&why),
                (None, Ok(_)) => unexpected(),
            };
            (*id, came)
        };
        Ok(Done::Claimed(rehearsal::together(jobs.iter().zip(settled).map(one).collect())))
    }
}

/// The batch that claims these.
pub(crate) fn intents(jobs: &[JobId]) -> Vec<Intent> {
    let claim = |job: &JobId| Intent { deletion: job.deletion(), event: Event::Claim { job: *job } };
    jobs.iter().map(claim).collect()
}

/// The jobs of a record that has come as far as this stage.
pub(crate) fn rows(deletion: &mut Deletion, stage: Stage, now: Timestamp) -> Vec<JobRow> {
    rehearsal::arrive(deletion, stage, now);
    deletion.jobs.iter().map(|job| JobRow::of(deletion, job)).collect()
}

fn all(results: Vec<Result<(), NotDone>>) -> Result<(), Rehearsed> {
    results.into_iter().collect::<Result<(), NotDone>>().map_err(|why| failed(&why))
}

fn failed(why: &NotDone) -> Rehearsed {
    Rehearsed::Failed(why.to_string())
}

fn unexpected() -> Rehearsed {
    Rehearsed::Failed("the job table has answered something else than it was asked".into())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use sexton_model::belts::redundancy::Groups;
    use sexton_model::catalogue::Catalogue;
    use sexton_model::deletion::Record;

    use super::*;

    const LOOKS: &str = "subsystem = \"hypervisor\"\n[actions.inspect]\nnature = \"inspect\"\nearliest = \"announce\"\n\
         deadline_ms = 1000\nlongest_call_ms = 100\nabout = \"look\"\n";
    const PLAN: &str = "kind = \"vm\"\nversion = 1\ncriticality = \"reproducible\"\nrehearsal = true\n\
         [stages.announce]\noffset_days = 0\nsteps = [{ do = \"hypervisor.inspect\" }]\n\
         [stages.soft]\noffset_days = 0\nsteps = []\n[stages.hard]\noffset_days = 1\nsteps = []\n\
         [stages.purge]\noffset_days = 2\nsteps = []\n[stages.recycle]\noffset_days = 3\nsteps = []\n";

    /// What comes of the claim of a record, announcing being counted.
    fn claimed(protected: bool) -> Rehearsed {
        let mut catalogue = Catalogue::default();
        catalogue.add("hypervisor.toml", LOOKS).unwrap();
        let plan = Arc::new(Plan::parse("vm.toml", PLAN, &catalogue, true).unwrap());
        let (now, day, of) = (Timestamp(1_000_000_000_000), Day::Calendar, "vm".parse::<Kind>().unwrap());
        let record = Record {
            resource: rehearsal::resource(&of, 2, false, now).unwrap(),
            due: rehearsal::due(now),
            gone_by: None,
            requested_by: canary::actor(),
            reason: "a test".into(),
            created_at: now,
        };
        let id = DeletionId(1);
        let deletion = Deletion { protected, ..Deletion::draw_up(id, record, plan.clone(), day).unwrap() };
        let loaded = Loaded {
            now,
            day,
            epoch: 1,
            first_fence: 1,
            deletions: HashMap::from([(id, (deletion, [0; 32]))]),
            in_force: Arc::default(),
            review: None,
            standing: HashMap::new(),
            healthy: Healthy::default(),
            groups: Groups::default(),
            out: HashMap::new(),
            pulses: HashMap::new(),
            pinned: HashMap::new(),
        };
        let policy = Policy::default();
        assert!(policy.counts(Stage::Announce, day));
        let script = Script::new(Probe::Protected { of }, plan, now, (&policy, day));
        let jobs = [JobId::of(id, Stage::Announce.index())];
        match script.claims(loaded, &jobs, (&Limits::default(), &policy)).unwrap() {
            Done::Claimed(came) => came,
            other => panic!("{other:?}"),
        }
    }

    /// Not that it only waits to be admitted, or that nobody is there: else a belt that is broken would pause nothing.
    #[test]
    fn a_claim_that_nothing_stops_goes_through_whatever_is_counted() {
        assert!(matches!(claimed(true), Rehearsed::Stopped(_)));
        let through = claimed(false);
        assert!(matches!(through, Rehearsed::Passed(_)), "{through:?}");
    }
}
