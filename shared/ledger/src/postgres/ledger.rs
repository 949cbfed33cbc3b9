//! What [`Ledger`] asks; what belongs to one matter has its trait beside it.
use std::collections::BTreeMap;
use std::sync::Arc;

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
use sqlx::Row as _;

use super::error::doing;
use super::{
    PgLedger, SNAPSHOT, admit, archive, attest, census, claims, create, due, find, groups, healthy, lifting,
    one_shots, pause, resource_holds, resources, review, run, verify, views,
};
use crate::bounds::{CREATE_MAX, HASHES_MAX, PULSE_MAX, REGISTER_MAX, RUN_MAX, within};
use crate::{
    Admitted, Alive, Approval, BatchRow, BatchView, Counted, Decided, DeletionFilter, DeletionRow,
    DeletionView, DueReader, Facts, Grown, Health, InstanceState, Intent, Ledger, LedgerError, NewDeletion,
    NotDone, Page, Paused, ResourceFilter, ResourceView, Stopped, StubFilter, Verified,
};

const BEACON: &str =
    "SELECT epoch, revision, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM ledger";

#[async_trait]
impl DueReader for PgLedger {
    async fn due(&self, limit: u32) -> Result<Vec<JobId>, LedgerError> {
        due::due(&self.pool, limit).await
    }
}

#[async_trait]
impl Ledger for PgLedger {
    fn day(&self) -> Day {
        self.options.day
    }

    fn policy(&self) -> Arc<Policy> {
        self.policy.get()
    }

    fn keep_hours(&self, windows: Windows) {
        self.policy.keep_hours(windows);
    }

    async fn facts(&self) -> Result<Facts, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading the ledger"))?;
        let standing = review::standing(&mut db).await?;
        Ok(Facts {
            ledger: standing.ledger,
            epoch: standing.mark.epoch,
            day: self.options.day,
            now: find::clock(&mut db).await?,
            decided: standing.mark.fence > 0,
        })
    }

    async fn run(&self, batch: Vec<Intent>) -> Result<Vec<Result<Decided, NotDone>>, LedgerError> {
        within("intents", batch.len(), RUN_MAX)?;
        run::run(self, batch).await
    }

    async fn next_for(
        &self,
        instance: Option<&Instance>,
        lane: Lane,
        limit: u32,
    ) -> Result<Vec<JobId>, LedgerError> {
        due::next_for(&self.pool, instance, lane, limit).await
    }

    async fn free_credit(&self) -> Result<BTreeMap<(Instance, Lane), u32>, LedgerError> {
        find::free_credit(self).await
    }

    async fn to_wake(&self, limit: u32) -> Result<Vec<Intent>, LedgerError> {
        find::to_wake(self, limit).await
    }

    async fn register_with(
        &self,
        registrar: &Registrar,
        resources: Vec<Resource>,
        by: &Actor,
        whole: bool,
    ) -> Result<Vec<Result<(), NotDone>>, LedgerError> {
        within("resources", resources.len(), REGISTER_MAX)?;
        resources::register(self, (&resources, registrar), by, whole).await
    }

    async fn check_resources(
        &self,
        registrar: &Registrar,
        resources: Vec<Resource>,
        by: &Actor,
    ) -> Result<Vec<Result<(), NotDone>>, LedgerError> {
        within("resources", resources.len(), REGISTER_MAX)?;
        resources::check(self, (&resources, registrar), by).await
    }

    async fn uncontested(&self, resource: &Resource) -> Result<Result<(), NotDone>, LedgerError> {
        claims::uncontested(&self.pool, self.policy.get(), resource).await
    }

    async fn create(&self, new: Vec<NewDeletion>) -> Result<Vec<Result<DeletionId, NotDone>>, LedgerError> {
        within("records", new.len(), CREATE_MAX)?;
        create::create(self, new).await
    }

    async fn resource(&self, id: &ResourceId) -> Result<Option<ResourceView>, LedgerError> {
        resources::resource(self, id).await
    }

    async fn resources(&self, filter: &ResourceFilter) -> Result<Page<ResourceView>, LedgerError> {
        resources::resources(self, filter).await
    }

    async fn hold_resource(&self, new: NewHold) -> Result<Result<Hold, NotDone>, LedgerError> {
        resource_holds::place(self, &new).await
    }

    async fn release_resource(
        &self,
        resource: &ResourceId,
        which: Which,
        by: &Actor,
    ) -> Result<Result<Vec<Hold>, NotDone>, LedgerError> {
        let (released, live) = match resource_holds::release(self, (resource, &which, by)).await? {
            Ok(released) => released,
            Err(why) => return Ok(Err(why)),
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
        groups::of_resource(self, resource).await
    }

    async fn deletion(&self, id: DeletionId) -> Result<Option<DeletionView>, LedgerError> {
        views::deletion(self, id).await
    }

    async fn deletion_of(&self, resource: &ResourceId) -> Result<Option<DeletionId>, LedgerError> {
        views::deletion_of(self, resource).await
    }

    async fn deletions(&self, filter: &DeletionFilter) -> Result<Page<DeletionRow>, LedgerError> {
        views::deletions(self, filter).await
    }

    async fn admit(&self, jobs: Vec<JobId>) -> Result<Admitted, LedgerError> {
        within("jobs", jobs.len(), RUN_MAX)?;
        admit::admit(self, &jobs).await
    }

    async fn announced(
        &self,
        kind: &Kind,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(DeletionId, Scope, Timestamp)>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading what is announced"))?;
        admit::announced(&mut db, kind, (from, to)).await
    }

    async fn batches(&self) -> Result<Vec<BatchRow>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading batches"))?;
        admit::waiting(&mut db).await
    }

    async fn batch(&self, batch: i64) -> Result<Option<BatchView>, LedgerError> {
        let mut tx = self.pool.begin_with(SNAPSHOT).await.map_err(doing("reading a batch"))?;
        admit::view(&mut tx, batch).await
    }

    async fn approve(&self, approval: Approval) -> Result<Result<Vec<JobId>, NotDone>, LedgerError> {
        admit::approve(self, &approval).await
    }

    async fn pause(&self, covers: PauseSelector, by: &Actor, reason: &str) -> Result<Paused, LedgerError> {
        pause::pause(self, covers, by, reason).await
    }

    async fn resume(
        &self,
        pause: i64,
        by: &Actor,
        approved: Option<&str>,
    ) -> Result<Result<bool, NotDone>, LedgerError> {
        pause::resume(self, (pause, by), approved).await
    }

    async fn set_ceiling(
        &self,
        new: NewCeiling,
        approved: Option<&str>,
    ) -> Result<Result<(), NotDone>, LedgerError> {
        pause::set_ceiling(self, &new, approved).await
    }

    async fn ceilings(&self) -> Result<Ceilings, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading ceilings"))?;
        pause::ceilings(&mut db).await
    }

    async fn begun(&self) -> Result<BTreeMap<Group, u64>, LedgerError> {
        admit::begun(self).await
    }

    async fn stopped_by(&self, pause: i64) -> Result<Vec<Stopped>, LedgerError> {
        lifting::by_pause(self, pause).await
    }

    async fn stopped_below(&self, new: &NewCeiling) -> Result<Result<Vec<Stopped>, NotDone>, LedgerError> {
        lifting::below(self, new).await
    }

    async fn covered(&self, kind: Option<&Kind>, scope: Option<&Scope>) -> Result<Covered, LedgerError> {
        resources::covered(&self.pool, kind, scope).await
    }

    async fn pauses(&self) -> Result<Vec<Pause>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading pauses"))?;
        pause::pauses(&mut db).await
    }

    async fn give_one_shot(&self, new: NewOneShot) -> Result<Result<OneShot, NotDone>, LedgerError> {
        one_shots::give(self, new).await
    }

    async fn take_back_one_shot(&self, id: i64, by: &Actor) -> Result<bool, LedgerError> {
        one_shots::take_back(self, id, by).await
    }

    async fn one_shots(&self) -> Result<Vec<OneShot>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading overrides"))?;
        one_shots::good(&mut db).await
    }

    async fn broken_glass(&self) -> Result<Vec<OneShot>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading overrides"))?;
        one_shots::broken_glass(&mut db).await
    }

    async fn take_census(&self, census: Census, by: &Actor) -> Result<Result<Counted, NotDone>, LedgerError> {
        census::take(self, &census, by).await
    }

    async fn pulse(&self, alive: Vec<Alive>) -> Result<(), LedgerError> {
        within("copies of consumers", alive.len(), PULSE_MAX)?;
        find::pulse(self, &alive).await
    }

    async fn instances(&self) -> Result<BTreeMap<Instance, InstanceState>, LedgerError> {
        find::instances(self).await
    }

    async fn beacon(&self) -> Result<Beacon, LedgerError> {
        let part = || doing("reading the ledger");
        let row = sqlx::query(BEACON).fetch_one(&self.pool).await.map_err(part())?;
        Ok(Beacon {
            epoch: u32::try_from(row.try_get::<i32, _>(0).map_err(part())?).unwrap_or(0),
            revision: row.try_get(1).map_err(part())?,
            read_at: Timestamp(row.try_get(2).map_err(part())?),
        })
    }

    fn known(&self) -> Checkpoint {
        self.known.seen()
    }

    async fn checkpoint(&self) -> Result<Checkpoint, LedgerError> {
        review::checkpoint(self, false).await
    }

    async fn heartbeat(&self) -> Result<Checkpoint, LedgerError> {
        review::checkpoint(self, true).await
    }

    async fn healthy(&self) -> Result<Healthy, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading heartbeats"))?;
        healthy::known(&mut db, self).await
    }

    async fn confront(&self, known: &Checkpoint) -> Result<Option<Review>, LedgerError> {
        review::confront(self, known).await
    }

    async fn review(&self) -> Result<Option<Review>, LedgerError> {
        review::review(self).await
    }

    async fn accept_review(&self, epoch: u32, by: &Actor, reason: &str) -> Result<bool, LedgerError> {
        review::accept(self, epoch, by, reason).await
    }

    async fn health(&self) -> Result<Health, LedgerError> {
        find::health(self).await
    }

    async fn verify_chain(&self, id: DeletionId) -> Result<Result<(), Broken>, LedgerError> {
        views::verify_chain(self, id).await
    }

    async fn verify_chains(&self, after: Option<&str>, limit: u32) -> Result<Verified, LedgerError> {
        verify::chains(self, after, limit).await
    }

    async fn grown(&self, after: Option<&str>) -> Result<Grown, LedgerError> {
        attest::grown(self, after).await
    }

    async fn attest(
        &self,
        number: i64,
        signed: SignedCheckpoint,
        heads: Vec<Head>,
    ) -> Result<bool, LedgerError> {
        attest::attest(self, number, &signed, &heads).await
    }

    async fn attested_after(&self, number: i64, limit: u32) -> Result<Vec<SignedCheckpoint>, LedgerError> {
        attest::after(self, number, limit).await
    }

    async fn event_hashes(&self, events: Vec<(String, i64)>) -> Result<Vec<Option<Hash>>, LedgerError> {
        within("audit events", events.len(), HASHES_MAX)?;
        attest::hashes(self, &events).await
    }

    async fn stub(&self, id: DeletionId) -> Result<Option<Stub>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading a stub"))?;
        archive::stub(&mut db, id).await
    }

    async fn stubs(&self, filter: &StubFilter) -> Result<Page<Stub>, LedgerError> {
        let mut db = self.pool.acquire().await.map_err(doing("reading stubs"))?;
        archive::stubs(&mut db, filter).await
    }
}
