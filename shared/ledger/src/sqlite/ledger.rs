//! What [`Ledger`] asks, of the writer or of those who read; what belongs to one matter has its trait beside it.
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use sexton_model::access::Registrar;
use sexton_model::archive::Stub;
use sexton_model::attest::{Head, SignedCheckpoint};
use sexton_model::audit::{Broken, Hash};
use sexton_model::beacon::Beacon;
use sexton_model::belts::budget::Group;
use sexton_model::belts::ceiling::{Ceilings, NewCeiling};
use sexton_model::belts::census::Census;
use sexton_model::belts::covered::Covered;
use sexton_model::belts::healthy::Healthy;
use sexton_model::belts::one_shot::{NewOneShot, OneShot};
use sexton_model::belts::redundancy::Groups;
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::belts::window::Windows;
use sexton_model::belts::{Pause, PauseSelector, Policy};
use sexton_model::checkpoint::{Checkpoint, Review};
use sexton_model::decide::Lane;
use sexton_model::deletion::Hold;
use sexton_model::resource::Resource;
use sexton_model::time::Day;
use sexton_model::{Actor, DeletionId, Instance, JobId, Kind, ResourceId, Scope, Timestamp};

use super::connection::{Bind, Db, row, store};
use super::writer::{Answer, Work};
use super::{
    SqliteLedger, admitting, archive, attesting, claims, find, gone, groups, healthy, lifting, memory,
    mixed_up, one_shots, reviewing, verify, views,
};
use crate::bounds::{CREATE_MAX, HASHES_MAX, PULSE_MAX, REGISTER_MAX, RUN_MAX, within};
use crate::budget::Lifting;
use crate::known;
use crate::{
    Admitted, Alive, Approval, BatchRow, BatchView, Counted, Decided, DeletionFilter, DeletionRow,
    DeletionView, DueReader, Facts, Grown, Health, InstanceState, Intent, Ledger, LedgerError, NewDeletion,
    NotDone, Page, Paused, ResourceFilter, ResourceView, Stopped, StubFilter, Verified,
};

impl SqliteLedger {
    async fn run_whole(&self, batch: Arc<Vec<Intent>>) -> Result<Vec<Result<Decided, NotDone>>, LedgerError> {
        match self.ask(Work::Run(batch)).await? {
            Answer::Run(results) => {
                if results.iter().flatten().any(|decided| decided.leaves_groups) {
                    self.rounds.held.again();
                }
                self.rounds.held.wanted_by(&results);
                Ok(results)
            }
            other => Err(mixed_up(&other)),
        }
    }
}

#[async_trait]
impl DueReader for SqliteLedger {
    async fn due(&self, limit: u32) -> Result<Vec<JobId>, LedgerError> {
        let now = self.clock.now();
        self.reads.read_to_ask(move |db| find::due(db, now, limit)).await
    }
}

#[async_trait]
impl Ledger for SqliteLedger {
    fn day(&self) -> Day {
        self.setting.day
    }

    fn policy(&self) -> Arc<Policy> {
        self.setting.policy.get()
    }

    fn keep_hours(&self, windows: Windows) {
        self.setting.policy.keep_hours(windows);
    }

    async fn facts(&self) -> Result<Facts, LedgerError> {
        // Asked for to know whether the job table answers: without its writer it does not.
        self.reads.check()?;
        if self.commands.is_closed() {
            return Err(gone());
        }
        let known = self.known.seen();
        Ok(Facts {
            ledger: known.ledger,
            epoch: known.mark.epoch,
            day: self.setting.day,
            now: self.clock.now(),
            decided: known.mark.fence > 0,
        })
    }

    async fn lost(&self) -> LedgerError {
        tokio::select! {
            () = self.commands.closed() => {}
            () = self.reads.over() => {}
        }
        self.reads.check().err().unwrap_or_else(gone)
    }

    async fn run(&self, batch: Vec<Intent>) -> Result<Vec<Result<Decided, NotDone>>, LedgerError> {
        within("intents", batch.len(), RUN_MAX)?;
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let batch = Arc::new(batch);
        match self.run_whole(batch.clone()).await {
            Err(error) if error.spoilt() => {}
            other => return other,
        }
        // One by one, so that what cannot be read fails alone.
        let mut results = Vec::with_capacity(batch.len());
        for intent in batch.iter() {
            results.extend(match self.run_whole(Arc::new(vec![intent.clone()])).await {
                Ok(one) => one,
                Err(error) => vec![Err(error.alone(intent.deletion)?)],
            });
        }
        Ok(results)
    }

    async fn next_for(
        &self,
        instance: Option<&Instance>,
        lane: Lane,
        limit: u32,
    ) -> Result<Vec<JobId>, LedgerError> {
        let (now, instance) = (self.clock.now(), instance.cloned());
        self.reads.read_to_ask(move |db| find::next_for(db, now, (instance.as_ref(), lane, limit))).await
    }

    async fn free_credit(&self) -> Result<BTreeMap<(Instance, Lane), u32>, LedgerError> {
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (now, limits) = (self.clock.now(), self.setting.limits.clone());
        self.reads.read_to_ask(move |db| find::free_credit(db, now, &limits, &out)).await
    }

    async fn to_wake(&self, limit: u32) -> Result<Vec<Intent>, LedgerError> {
        let (now, limits, rounds) = (self.clock.now(), self.setting.limits.clone(), self.rounds.clone());
        self.reads.read_to_ask(move |db| find::to_wake(db, now, limit, (&limits, &rounds))).await
    }

    async fn register_with(
        &self,
        registrar: &Registrar,
        resources: Vec<Resource>,
        by: &Actor,
        whole: bool,
    ) -> Result<Vec<Result<(), NotDone>>, LedgerError> {
        within("resources", resources.len(), REGISTER_MAX)?;
        match self.ask(Work::Register(resources, registrar.clone(), by.clone(), whole)).await? {
            Answer::Register(results) => Ok(results),
            other => Err(mixed_up(&other)),
        }
    }

    async fn check_resources(
        &self,
        registrar: &Registrar,
        resources: Vec<Resource>,
        by: &Actor,
    ) -> Result<Vec<Result<(), NotDone>>, LedgerError> {
        within("resources", resources.len(), REGISTER_MAX)?;
        match self.ask(Work::CheckResources(resources, registrar.clone(), by.clone())).await? {
            Answer::CheckResources(results) => Ok(results),
            other => Err(mixed_up(&other)),
        }
    }

    async fn uncontested(&self, resource: &Resource) -> Result<Result<(), NotDone>, LedgerError> {
        let (policy, resource) = (self.setting.policy.get(), resource.clone());
        self.reads.read(move |db| claims::uncontested(db, &policy, &resource)).await
    }

    async fn create(&self, new: Vec<NewDeletion>) -> Result<Vec<Result<DeletionId, NotDone>>, LedgerError> {
        within("records", new.len(), CREATE_MAX)?;
        match self.ask(Work::Create(new)).await? {
            Answer::Create(results) => Ok(results),
            other => Err(mixed_up(&other)),
        }
    }

    async fn resource(&self, id: &ResourceId) -> Result<Option<ResourceView>, LedgerError> {
        let id = id.clone();
        self.reads.read(move |db| views::resource(db, &id)).await
    }

    async fn resources(&self, filter: &ResourceFilter) -> Result<Page<ResourceView>, LedgerError> {
        let filter = filter.clone();
        self.reads.read(move |db| views::resources(db, &filter)).await
    }

    async fn hold_resource(&self, new: NewHold) -> Result<Result<Hold, NotDone>, LedgerError> {
        match self.ask(Work::HoldResource(new)).await? {
            Answer::HoldResource(done) => Ok(*done),
            other => Err(mixed_up(&other)),
        }
    }

    async fn release_resource(
        &self,
        resource: &ResourceId,
        which: Which,
        by: &Actor,
    ) -> Result<Result<Vec<Hold>, NotDone>, LedgerError> {
        let (released, live) =
            match self.ask(Work::ReleaseResource(resource.clone(), which, by.clone())).await? {
                Answer::ReleaseResource(Ok(released)) => released,
                Answer::ReleaseResource(Err(why)) => return Ok(Err(why)),
                other => return Err(mixed_up(&other)),
            };
        // They are released whatever comes of this: what is held is looked at within a minute anyway.
        if let Some(live) = live
            && let Err(error) = self.itself().run(crate::rules::look_again(live)).await
        {
            tracing::warn!(error = %error, deletion = %live, "released; what was held is looked at later");
        }
        Ok(Ok(released))
    }

    async fn groups_of(&self, resource: &ResourceId) -> Result<Groups, LedgerError> {
        let resource = resource.to_string();
        self.reads.read(move |db| groups::of_resource(db, &resource)).await
    }

    async fn deletion(&self, id: DeletionId) -> Result<Option<DeletionView>, LedgerError> {
        self.reads.read(move |db| views::deletion(db, id)).await
    }

    async fn deletion_of(&self, resource: &ResourceId) -> Result<Option<DeletionId>, LedgerError> {
        let resource = resource.clone();
        self.reads.read(move |db| views::deletion_of(db, &resource)).await
    }

    async fn deletions(&self, filter: &DeletionFilter) -> Result<Page<DeletionRow>, LedgerError> {
        let filter = filter.clone();
        self.reads.read(move |db| views::deletions(db, &filter)).await
    }

    async fn admit(&self, jobs: Vec<JobId>) -> Result<Admitted, LedgerError> {
        within("jobs", jobs.len(), RUN_MAX)?;
        match self.ask(Work::Admit(jobs)).await? {
            Answer::Admit(admitted) => Ok(admitted),
            other => Err(mixed_up(&other)),
        }
    }

    async fn announced(
        &self,
        kind: &Kind,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(DeletionId, Scope, Timestamp)>, LedgerError> {
        let (kind, now) = (kind.clone(), self.clock.now());
        self.reads.read(move |db| admitting::announced(db, &kind, (from, to), now)).await
    }

    async fn batches(&self) -> Result<Vec<BatchRow>, LedgerError> {
        self.reads.read(admitting::waiting).await
    }

    async fn batch(&self, batch: i64) -> Result<Option<BatchView>, LedgerError> {
        self.reads.read(move |db| admitting::view(db, batch)).await
    }

    async fn approve(&self, approval: Approval) -> Result<Result<Vec<JobId>, NotDone>, LedgerError> {
        match self.ask(Work::Approve(approval)).await? {
            Answer::Approve(done) => Ok(done),
            other => Err(mixed_up(&other)),
        }
    }

    async fn pause(&self, covers: PauseSelector, by: &Actor, reason: &str) -> Result<Paused, LedgerError> {
        match self.ask(Work::Pause(covers, by.clone(), reason.to_owned())).await? {
            Answer::Pause(paused) => paused.map_err(LedgerError::from),
            other => Err(mixed_up(&other)),
        }
    }

    async fn resume(
        &self,
        pause: i64,
        by: &Actor,
        approved: Option<&str>,
    ) -> Result<Result<bool, NotDone>, LedgerError> {
        let work = Work::Resume(pause, by.clone(), approved.map(str::to_owned));
        let lifted = match self.ask(work).await? {
            Answer::Resume(Ok(lifted)) => lifted.is_some(),
            Answer::Resume(Err(why)) => return Ok(Err(why)),
            other => return Err(mixed_up(&other)),
        };
        if lifted {
            // Not in the same transaction: it may have stopped a million jobs. The pause is lifted whatever comes of
            // this; what a crash or an error leaves out is found by the next round, which begins at once.
            self.rounds.held.again();
            self.rounds.stuck.again();
            if let Err(error) = self.itself().look_again(pause).await {
                tracing::warn!(error = %error, pause, "lifted; what it stopped is looked at later");
            }
        }
        Ok(Ok(lifted))
    }

    async fn begun(&self) -> Result<BTreeMap<Group, u64>, LedgerError> {
        let (now, setting) = (self.clock.now(), self.setting.clone());
        self.reads.read(move |db| admitting::begun(db, &setting, now)).await
    }

    async fn stopped_by(&self, pause: i64) -> Result<Vec<Stopped>, LedgerError> {
        let (now, setting) = (self.clock.now(), self.setting.clone());
        self.reads.read(move |db| admitting::stopped(db, &setting, now, Lifting::Pause(pause))).await
    }

    async fn stopped_below(&self, new: &NewCeiling) -> Result<Result<Vec<Stopped>, NotDone>, LedgerError> {
        let (now, setting, new) = (self.clock.now(), self.setting.clone(), new.clone());
        self.reads.read(move |db| lifting::below(db, &setting, now, &new)).await
    }

    async fn covered(&self, kind: Option<&Kind>, scope: Option<&Scope>) -> Result<Covered, LedgerError> {
        let of = (kind.map(ToString::to_string), scope.map(ToString::to_string));
        self.reads.read(move |db| views::covered(db, of)).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>, LedgerError> {
        self.reads.read(memory::pauses).await
    }

    async fn set_ceiling(
        &self,
        new: NewCeiling,
        approved: Option<&str>,
    ) -> Result<Result<(), NotDone>, LedgerError> {
        let done = match self.ask(Work::Ceiling(new, approved.map(str::to_owned))).await? {
            Answer::Ceiling(done) => done,
            other => return Err(mixed_up(&other)),
        };
        if done.is_ok() {
            // The next round looks at what it lets go on, and begins at once.
            self.rounds.held.again();
            self.rounds.stuck.again();
        }
        Ok(done)
    }

    async fn ceilings(&self) -> Result<Ceilings, LedgerError> {
        self.reads.read(memory::ceilings).await
    }

    async fn give_one_shot(&self, new: NewOneShot) -> Result<Result<OneShot, NotDone>, LedgerError> {
        match self.ask(Work::GiveOneShot(new)).await? {
            Answer::GiveOneShot(done) => Ok(*done),
            other => Err(mixed_up(&other)),
        }
    }

    async fn take_back_one_shot(&self, id: i64, by: &Actor) -> Result<bool, LedgerError> {
        match self.ask(Work::TakeBackOneShot(id, by.clone())).await? {
            Answer::TakeBackOneShot(done) => Ok(done),
            other => Err(mixed_up(&other)),
        }
    }

    async fn one_shots(&self) -> Result<Vec<OneShot>, LedgerError> {
        self.reads.read(one_shots::good).await
    }

    async fn broken_glass(&self) -> Result<Vec<OneShot>, LedgerError> {
        let now = self.clock.now();
        self.reads.read(move |db| one_shots::broken_glass(db, now)).await
    }

    async fn take_census(&self, census: Census, by: &Actor) -> Result<Result<Counted, NotDone>, LedgerError> {
        match self.ask(Work::Census(Box::new(census), by.clone())).await? {
            Answer::Census(done) => Ok(*done),
            other => Err(mixed_up(&other)),
        }
    }

    async fn pulse(&self, alive: Vec<Alive>) -> Result<(), LedgerError> {
        within("copies of consumers", alive.len(), PULSE_MAX)?;
        match self.ask(Work::Pulse(alive)).await? {
            Answer::Pulse => Ok(()),
            other => Err(mixed_up(&other)),
        }
    }

    async fn instances(&self) -> Result<BTreeMap<Instance, InstanceState>, LedgerError> {
        let (now, limits) = (self.clock.now(), self.setting.limits.clone());
        self.reads.read(move |db| find::instances(db, now, &limits)).await
    }

    async fn beacon(&self) -> Result<Beacon, LedgerError> {
        // Before the read: an age counted from it is never too short.
        let read_at = self.clock.now();
        let doing = "reading the beacon";
        let read = move |db: &Db| {
            let row = row(db, doing, "SELECT epoch, revision FROM ledger", Bind::default())?;
            Ok(Beacon {
                epoch: row.try_get(0).map_err(store(doing))?,
                revision: row.try_get(1).map_err(store(doing))?,
                read_at,
            })
        };
        self.reads.read(read).await
    }

    fn known(&self) -> Checkpoint {
        self.known.seen()
    }

    async fn checkpoint(&self) -> Result<Checkpoint, LedgerError> {
        self.checkpoint_by(false).await
    }

    async fn heartbeat(&self) -> Result<Checkpoint, LedgerError> {
        self.checkpoint_by(true).await
    }

    async fn healthy(&self) -> Result<Healthy, LedgerError> {
        let setting = self.setting.clone();
        self.reads.read(move |db| healthy::read(db, &setting)).await
    }

    async fn confront(&self, known: &Checkpoint) -> Result<Option<Review>, LedgerError> {
        known::same_ledger(known, &self.known.seen().ledger)?;
        match self.ask(Work::Confront(known.clone())).await? {
            Answer::Confront(review, mark) => {
                // If it was not behind, it fulfils all of what was known.
                self.known.adopt(known.clone());
                self.known.note(mark, None);
                Ok(review)
            }
            other => Err(mixed_up(&other)),
        }
    }

    async fn review(&self) -> Result<Option<Review>, LedgerError> {
        self.reads.read(|db| Ok(reviewing::standing(db)?.1)).await
    }

    async fn accept_review(&self, epoch: u32, by: &Actor, reason: &str) -> Result<bool, LedgerError> {
        match self.ask(Work::Accept(epoch, by.clone(), reason.to_owned())).await? {
            Answer::Accept(accepted) => Ok(accepted),
            other => Err(mixed_up(&other)),
        }
    }

    async fn health(&self) -> Result<Health, LedgerError> {
        let now = self.clock.now();
        self.reads.read(move |db| views::health(db, now)).await
    }

    async fn verify_chain(&self, id: DeletionId) -> Result<Result<(), Broken>, LedgerError> {
        self.reads.read(move |db| views::verify_chain(db, id)).await
    }

    async fn verify_chains(&self, after: Option<&str>, limit: u32) -> Result<Verified, LedgerError> {
        let after = after.map(str::to_owned);
        self.reads.read(move |db| verify::chains(db, after.as_deref(), limit)).await
    }

    async fn grown(&self, after: Option<&str>) -> Result<Grown, LedgerError> {
        let after = after.map(str::to_owned);
        self.reads.read(move |db| attesting::grown(db, after.as_deref())).await
    }

    async fn attest(
        &self,
        number: i64,
        signed: SignedCheckpoint,
        heads: Vec<Head>,
    ) -> Result<bool, LedgerError> {
        match self.ask(Work::Attest(number, signed, heads)).await? {
            Answer::Attest(kept) => Ok(kept),
            other => Err(mixed_up(&other)),
        }
    }

    async fn attested_after(&self, number: i64, limit: u32) -> Result<Vec<SignedCheckpoint>, LedgerError> {
        self.reads.read(move |db| attesting::after(db, number, limit)).await
    }

    async fn event_hashes(&self, events: Vec<(String, i64)>) -> Result<Vec<Option<Hash>>, LedgerError> {
        within("audit events", events.len(), HASHES_MAX)?;
        self.reads.read(move |db| attesting::hashes(db, &events)).await
    }

    async fn stub(&self, id: DeletionId) -> Result<Option<Stub>, LedgerError> {
        self.reads.read(move |db| archive::stub(db, id)).await
    }

    async fn stubs(&self, filter: &StubFilter) -> Result<Page<Stub>, LedgerError> {
        let filter = filter.clone();
        self.reads.read(move |db| archive::stubs(db, &filter)).await
    }
}
