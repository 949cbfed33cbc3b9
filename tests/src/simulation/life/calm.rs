//! How a run ends: nothing goes wrong any more, people do what they are there for, and everything has to be over.
use sexton_ledger::{DeletionView, Intent, Ledger};
use sexton_model::decide::{self, Event};
use sexton_model::deletion::{Deletion, WaiverClaim};
use sexton_model::job::{Job, JobKind, JobState, Stage};

use super::{another, somebody};
use crate::simulation::check::{Violation, left};
use crate::simulation::weather::{Trouble, Weather};
use crate::simulation::world::World;

/// Steps after which whatever is not over is stuck.
const STEPS_MAX: u64 = 80_000;
/// Virtual time after the storm within which everything has to be over, in milliseconds: leases, back-offs and graces
/// that were begun again count.
const CALM_MAX_MS: u64 = 4 * 3_600_000;
/// How often a person tries a parked job again before leaving it to others.
const RETRIES: u32 = 6;
/// So many looks long people let batches wait for their turn that time makes room for.
const TURNS: u32 = 3;
/// Between two looks of that person, in milliseconds of virtual time.
const LOOK_EVERY_MS: u64 = 30_000;

impl World {
    /// Nothing goes wrong any more, and people do what they are there for.
    pub(super) async fn calm(&mut self) -> Result<(), Violation> {
        self.say("the weather is fair from now on");
        let stop = self.script.weather.chance(Trouble::Stop) / 4;
        self.dice.set(Weather::FAIR.with(Trouble::Stop, stop));
        let now = self.time.now();
        for one in &mut self.coordinators {
            if let Err(again_at) = one {
                *again_at = now;
            }
        }
        for one in &mut self.consumers {
            one.again_at = one.again_at.map(|_| now);
            one.thaws_at = one.thaws_at.map(|_| now);
            one.frozen.deafen(now);
        }
        // Whether fewer are meant nobody says any more, and one that lists fewer pauses its scope.
        self.stop_counting();
        self.down = self.down.map(|(since, _)| (since, now));
        self.set_clocks_right();
        self.truth().locked.clear();
        self.go_on().await?;
        for vm in self.script.all().collect::<Vec<_>>() {
            self.protect(&vm, false).await?;
        }
        self.resume().await?;
        self.look().await?;
        let (began, mut look_at, mut looks) = (now, now, 0);
        while !(self.all_answered() && self.all_over().await) {
            self.go_on().await?;
            if self.time.now() < look_at {
                continue;
            }
            look_at = self.time.now().plus_ms(LOOK_EVERY_MS);
            looks += 1;
            if self.checker.pauses.any() {
                // Whoever answered a canary may be heard as late as this.
                self.resume().await?;
            }
            if looks > self.script.patience {
                let all = looks > self.script.patience + TURNS;
                self.approve_what_waits(all).await?;
            }
            let rightly_parked = self.look_after_records().await;
            self.look().await?;
            if rightly_parked && looks > RETRIES && self.all_answered() {
                break;
            }
            if self.time.now() > began.plus_ms(CALM_MAX_MS) || self.step > STEPS_MAX {
                return Err(self.stuck().await);
            }
        }
        Ok(())
    }

    /// Release, and try again, whatever there is. Whether all that is not over is parked, and rightly so.
    async fn look_after_records(&mut self) -> bool {
        let mut rightly_parked = true;
        for view in self.all().await.into_iter().filter(|view| view.deletion.status.live()) {
            let d = &view.deletion;
            for hold in &d.holds {
                // Whose it is may release it, whoever has asked for the deletion.
                let event = Event::ReleaseHold { hold: hold.id, by: hold.origin.clone() };
                self.ask(Intent { deletion: d.id, event }).await;
            }
            let parked = parked(d);
            let warrant = self.checker.warrants.parking(d, &self.truth());
            rightly_parked &= parked.is_some() && warrant.is_some();
            if let Some(job) = parked {
                let event = self.way_out(d, job);
                self.ask(Intent { deletion: d.id, event }).await;
            }
        }
        rightly_parked
    }

    /// What a person says of a job that is parked: that what might have remained is gone, if it is; or to try again.
    fn way_out(&self, d: &Deletion, job: &Job) -> Event {
        if job.kind == JobKind::Stage(Stage::Recycle) && left(d, &self.truth()).is_none() {
            let evidence = "there is nothing any more".into();
            let mark = decide::mark(d).unwrap_or_default();
            return Event::Waive { by: another(), claim: WaiverClaim::Absent, mark, evidence };
        }
        Event::Retry { by: somebody() }
    }

    async fn stuck(&self) -> Violation {
        let live = self.all().await.into_iter().filter(|view| view.deletion.status.live());
        let states = live.map(|DeletionView { deletion: d, .. }| {
            let open = d.jobs.iter().find(|job| !job.state.name().over());
            let warrant = self.checker.warrants.parking(&d, &self.truth());
            let why = match (parked(&d), warrant) {
                (Some(_), None) => "; nothing warrants that it is parked".to_owned(),
                (Some(_), Some(warrant)) => format!("; {warrant:?}"),
                (None, _) => String::new(),
            };
            format!("{}: {:?}{why}", d.id, open.map(|job| (job.kind, &job.state)))
        });
        let states: Vec<String> = states.chain(self.unanswered()).collect();
        Violation { invariant: "I13", what: format!("not over: {}", states.join("; ")) }
    }

    /// The whole, once it is over.
    pub(super) async fn verify(&mut self) -> Result<(), Violation> {
        let ledger = self.ledger.clone().unwrap();
        self.look_at_canaries(&ledger).await?;
        self.checker.canaries.ended(&self.truth())?;
        self.all_once(&ledger).await?;
        for view in self.all().await {
            self.checker.ended(&view, &self.truth())?;
            *self.ended.entry(view.deletion.status).or_default() += 1;
        }
        // Those of pauses and resources, and on pages behind them those of records.
        let mut after: Option<String> = None;
        loop {
            let page = ledger.verify_chains(after.as_deref(), 1000).await.unwrap();
            if let Some((chain, broken)) = page.broken.first() {
                return Err(Violation { invariant: "I12", what: format!("{chain}: {broken:?}") });
            }
            let Some(next) = page.next else { break };
            after = Some(next);
        }
        self.sign_all(&ledger).await?;
        self.forget_all(&ledger).await?;
        self.compare().await
    }
}

fn parked(d: &Deletion) -> Option<&Job> {
    d.jobs.iter().find(|job| matches!(job.state, JobState::Parked { .. }))
}
