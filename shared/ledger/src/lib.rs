//! The job table: one trait, two footings (PostgreSQL, SQLite). The only crate that knows SQL.
//!
//! Contract: the table is the truth. Every change of a deletion goes through [`Ledger::run`], which locks the
//! deletions of the batch in ascending order, reads them *after* the locks, lets
//! [`sexton_model::decide::decide`] decide one event after the other, and writes all changes with their audit
//! events in the same transaction. No transaction spans other I/O. Within a batch one bad item fails alone.
//!
//! What finders ([`DueReader::due`], [`Ledger::to_wake`]) return are hints: whoever acts on them goes through
//! `run`, which looks again.
mod access;
mod alarms;
mod archive;
pub mod batch;
mod bounds;
mod budget;
mod canary;
mod census;
mod chains;
mod claims;
mod drill;
mod error;
mod exclusive;
mod findings;
mod fit;
mod groups;
mod grown;
mod healthy;
mod intent;
mod keys;
mod known;
mod limits;
mod listing;
mod policy;
pub mod postgres;
mod pulse;
mod receipts;
mod recent;
mod rehearsal;
mod restores;
mod round;
pub mod row;
pub mod rules;
pub mod sqlite;
mod survey;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use sexton_model::access::Registrar;
use sexton_model::archive::Stub;
use sexton_model::attest::{Head, SignedCheckpoint};
use sexton_model::audit::Hash;
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
use sexton_model::plan::Plan;
use sexton_model::resource::Resource;
use sexton_model::time::Day;
use sexton_model::{Actor, DeletionId, Instance, JobId, Kind, ResourceId, Scope, Timestamp};

pub use access::{ACCESS_MAX, Access, Revocation};
pub use alarms::{
    ALARMS_PAGE, AlarmFilter, AlarmSeen, AlarmView, Alarms, Found, HELD_READ, HeldJobs, Noted, WATCHED_MAX,
    WatchedFrom, WatchedPage, WatchedRecord, telling_of_alarm, telling_of_digest,
};
pub use archive::{Archive, Ended, StubFilter};
pub use bounds::{ANNOUNCED_MAX, CREATE_MAX, HASHES_MAX, PULSE_MAX, REGISTER_MAX, RUN_MAX};
pub use budget::{Admitted, Approval, BatchRow, BatchView, Member, Stopped};
pub use canary::{Canaries, NewRun};
pub use census::{CensusFilter, Censuses, Counted};
pub use drill::Drills;
pub use error::{LedgerError, NotDone};
pub use findings::{Findings, Mark, StrangerFilter, StrangerView, Strangers};
pub use intent::{Decided, Dispatch, Intent};
pub use keys::{Held, Keys, Note};
pub use limits::Limits;
pub use listing::Listings;
pub use pulse::{Alive, Pulsed};
pub use receipts::{NewReceipt, RECEIPTS_MAX, Receipts, ReceiptsDue};
pub use restores::{LiveRecord, Restores, WITHIN_MAX};
pub use survey::{Begun, Surveys};
pub use view::{
    AuditRow, DeletionFilter, DeletionRow, DeletionView, Facts, Grown, Health, InstanceState, Page,
    ResourceFilter, ResourceView, Verified, WAITING_MAX,
};

/// A record to be made.
#[derive(Debug, Clone)]
pub struct NewDeletion {
    /// What is to go.
    pub resource: ResourceId,
    /// When.
    pub due: sexton_model::deletion::Due,
    /// By when it must be gone, if that matters; shown with the record.
    pub gone_by: Option<chrono::NaiveDate>,
    /// Who asks.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// The plan of the resource's kind.
    pub plan: Arc<Plan>,
}

/// What a pause did.
#[derive(Debug, Clone)]
pub struct Paused {
    /// The pause that is in force now.
    pub pause: Pause,
    /// Orders that are still out under it.
    pub orders_out: u64,
}

/// Reads what is due, and nothing else: all that the scheduler sees of the ledger.
#[async_trait]
pub trait DueReader: Send + Sync + 'static {
    /// Stages that may be claimed now, those in line first, then the oldest due: at most `limit` (1 to 4096) per
    /// instance. Touches only what is due. Restores that are in line have their turn by priority ([`Ledger::next_for`]),
    /// and nobody is to wake them out of it.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn due(&self, limit: u32) -> Result<Vec<JobId>, LedgerError>;
}

/// The job table.
#[async_trait]
pub trait Ledger:
    DueReader
    + Access
    + Alarms
    + Canaries
    + Censuses
    + Drills
    + Findings
    + Keys
    + Listings
    + Receipts
    + Restores
    + Surveys
{
    /// What this ledger is, and its clock.
    async fn facts(&self) -> Result<Facts, LedgerError>;

    /// Why it will not answer any more, once that is so: its process has to be started anew. A store that may answer again
    /// waits for ever.
    async fn lost(&self) -> LedgerError {
        std::future::pending().await
    }

    /// What a day is in it, without asking the store: it keeps for ever what it was created with.
    fn day(&self) -> Day;

    /// The policy that it decides by now.
    fn policy(&self) -> Arc<Policy>;

    /// Go by these working hours from now on: this process alone, and all of its handles. What they hold is looked at
    /// again when the older ones would have opened, or within a day.
    fn keep_hours(&self, windows: Windows);

    /// Decide a batch of at most [`RUN_MAX`] intents; results in its order.
    ///
    /// # Errors
    /// [`LedgerError::TooMany`] if there are more: then nothing is decided. [`LedgerError::WentBack`] if the ledger is
    /// older than what is known. Else the store did not do it.
    async fn run(&self, batch: Vec<Intent>) -> Result<Vec<Result<Decided, NotDone>>, LedgerError>;

    /// Jobs in line or due for one instance (`None`: those that need nobody but the coordinator), at most
    /// `limit`: what freed credit is given to. Restores come from both lanes' own lines, in the order of their
    /// resources' priority as it is now.
    async fn next_for(
        &self,
        instance: Option<&Instance>,
        lane: Lane,
        limit: u32,
    ) -> Result<Vec<JobId>, LedgerError>;

    /// Free credit per instance and lane, from the table; instances that are down have none.
    async fn free_credit(&self) -> Result<BTreeMap<(Instance, Lane), u32>, LedgerError>;

    /// Jobs whose lease, back-off or recheck is over: the event that is to be tried, at most `limit`.
    async fn to_wake(&self, limit: u32) -> Result<Vec<Intent>, LedgerError>;

    /// Register or update at most [`REGISTER_MAX`] resources, whatever they state. All or nothing if `whole`,
    /// else each for itself; results in order.
    ///
    /// # Errors
    /// [`LedgerError::TooMany`] if there are more: then nothing is written. Else the store did not do it.
    async fn register(
        &self,
        resources: Vec<Resource>,
        by: &Actor,
        whole: bool,
    ) -> Result<Vec<Result<(), NotDone>>, LedgerError> {
        self.register_with(&Registrar::Trusted, resources, by, whole).await
    }

    /// The same as far as whoever registers them may, which is judged by what is found in the transaction that does it.
    ///
    /// # Errors
    /// As [`Self::register`].
    async fn register_with(
        &self,
        registrar: &Registrar,
        resources: Vec<Resource>,
        by: &Actor,
        whole: bool,
    ) -> Result<Vec<Result<(), NotDone>>, LedgerError>;

    /// What [`Self::register_with`] would say of each, each for itself, as the job table is now. Nothing is written.
    ///
    /// # Errors
    /// As [`Self::register`].
    async fn check_resources(
        &self,
        registrar: &Registrar,
        resources: Vec<Resource>,
        by: &Actor,
    ) -> Result<Vec<Result<(), NotDone>>, LedgerError>;

    /// Make at most [`CREATE_MAX`] records; results in order, each for itself.
    ///
    /// # Errors
    /// As [`Self::register`].
    async fn create(&self, new: Vec<NewDeletion>) -> Result<Vec<Result<DeletionId, NotDone>>, LedgerError>;

    /// Whether a record could be made for a resource as it is stated, beside all that claim the same
    /// ([`sexton_model::claims`]), as the job table is now.
    ///
    /// # Errors
    /// If the store cannot be read. That none could is the inner result.
    async fn uncontested(&self, resource: &Resource) -> Result<Result<(), NotDone>, LedgerError>;

    /// One resource with its live record, if it has one.
    async fn resource(&self, id: &ResourceId) -> Result<Option<ResourceView>, LedgerError>;

    /// Resources, ascending by id.
    async fn resources(&self, filter: &ResourceFilter) -> Result<Page<ResourceView>, LedgerError>;

    /// Hold a resource, whether or not it has a record. In force when this returns: no transaction that dispatches
    /// overlaps it.
    ///
    /// # Errors
    /// If the store did not do it. That it may not be held so is the inner result.
    async fn hold_resource(&self, new: NewHold) -> Result<Result<Hold, NotDone>, LedgerError>;

    /// Release holds of a resource; what they stopped is looked at again at once. Those that were released.
    ///
    /// # Errors
    /// If the store did not do it. That they are not released by `by` is the inner result.
    async fn release_resource(
        &self,
        resource: &ResourceId,
        which: Which,
        by: &Actor,
    ) -> Result<Result<Vec<Hold>, NotDone>, LedgerError>;

    /// The redundancy groups that a resource states to belong to, with all of their members.
    async fn groups_of(&self, resource: &ResourceId) -> Result<Groups, LedgerError>;

    /// Everything about one deletion, with its audit trail.
    async fn deletion(&self, id: DeletionId) -> Result<Option<DeletionView>, LedgerError>;

    /// The live record of a resource, else its latest one, which may be archived.
    async fn deletion_of(&self, resource: &ResourceId) -> Result<Option<DeletionId>, LedgerError>;

    /// Deletions, newest first.
    async fn deletions(&self, filter: &DeletionFilter) -> Result<Page<DeletionRow>, LedgerError>;

    /// Admit what is due with these jobs (at most [`RUN_MAX`]), or freeze it as batches: all that is due of each of their
    /// groups, under one lock; a batch has those, too, that nothing holds any more and nobody has looked at yet. Batches that
    /// fit by now are let go, also if no job is named.
    ///
    /// # Errors
    /// As [`Self::register`].
    async fn admit(&self, jobs: Vec<JobId>) -> Result<Admitted, LedgerError>;

    /// Announcements of one kind that are due then and have not begun, by their record, scope and moment: at most
    /// [`ANNOUNCED_MAX`] of them, and one more for whoever has to know that there are more. Of what is held the moment is
    /// now: it has been due, and begins no earlier.
    async fn announced(
        &self,
        kind: &Kind,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<(DeletionId, Scope, Timestamp)>, LedgerError>;

    /// What was admitted within the span of the budgets, and still counts.
    async fn begun(&self) -> Result<BTreeMap<Group, u64>, LedgerError>;

    /// Batches that wait, the oldest first.
    async fn batches(&self) -> Result<Vec<BatchRow>, LedgerError>;

    /// One that waits, with all its members.
    async fn batch(&self, batch: i64) -> Result<Option<BatchView>, LedgerError>;

    /// Let a batch go, beside the budget: once, for some days, and for exactly the set that was looked at. Its members
    /// are to be looked at again.
    ///
    /// # Errors
    /// If the store did not do it. That it may not be approved so is the inner result.
    async fn approve(&self, approval: Approval) -> Result<Result<Vec<JobId>, NotDone>, LedgerError>;

    /// Pause. In force when this returns: no transaction that dispatches overlaps it.
    ///
    /// # Errors
    /// [`LedgerError::Pauses`] if as many are in force as may be, unless everything is to be paused
    /// ([`sexton_model::belts::pauses::room`]). Else the store did not do it.
    async fn pause(&self, covers: PauseSelector, by: &Actor, reason: &str) -> Result<Paused, LedgerError>;

    /// Lift a pause; what it stopped is looked at again at once. `false` if there is none of that number. `approved`: the
    /// digest of the crowds that `by` has looked at, and lets begin at once ([`Stopped::digest`]); it is compared with all that
    /// the pause holds when it is lifted.
    ///
    /// # Errors
    /// If the store did not do it. That somebody has to approve what would begin is the inner result.
    async fn resume(
        &self,
        pause: i64,
        by: &Actor,
        approved: Option<&str>,
    ) -> Result<Result<bool, NotDone>, LedgerError>;

    /// What would go on if a pause were lifted, as far as it stops it now and nothing else would.
    async fn stopped_by(&self, pause: i64) -> Result<Vec<Stopped>, LedgerError>;

    /// What would go on if this ceiling were set, as far as ceilings stop it now and nothing else would.
    ///
    /// # Errors
    /// If the store cannot be read. That it may not be set so is the inner result.
    async fn stopped_below(&self, new: &NewCeiling) -> Result<Result<Vec<Stopped>, NotDone>, LedgerError>;

    /// How much there is of a kind, and in a scope and those below it; of none that is given all. It is counted:
    /// not for what is asked often.
    async fn covered(&self, kind: Option<&Kind>, scope: Option<&Scope>) -> Result<Covered, LedgerError>;

    /// Pauses in force.
    async fn pauses(&self) -> Result<Vec<Pause>, LedgerError>;

    /// Set a ceiling, or take it back. In force when this returns: no transaction that dispatches overlaps it. What it
    /// lets go on is looked at soon. `approved`: as in [`Self::resume`], of what it lets go on.
    ///
    /// # Errors
    /// If the store did not do it. That it may not be set so, or only with an approval, is the inner result.
    async fn set_ceiling(
        &self,
        new: NewCeiling,
        approved: Option<&str>,
    ) -> Result<Result<(), NotDone>, LedgerError>;

    /// How far deletions may go.
    async fn ceilings(&self) -> Result<Ceilings, LedgerError>;

    /// Take a census: believed if it is complete. It says how many there are, and finds what does not fit the
    /// inventory; nothing is deleted because it lacks something. If many are gone that are not being removed here,
    /// its scope is paused, also if it is not believed only because it lists too few.
    ///
    /// # Errors
    /// If the store did not do it. What it lacks is the inner result.
    async fn take_census(&self, census: Census, by: &Actor) -> Result<Result<Counted, NotDone>, LedgerError>;

    /// Let one stage of one deletion pass one belt.
    ///
    /// # Errors
    /// If the store did not do it. That it may not pass is the inner result.
    async fn give_one_shot(&self, new: NewOneShot) -> Result<Result<OneShot, NotDone>, LedgerError>;

    /// Take an override back. In force when this returns, for what has not begun and between two steps of what has.
    /// `false` if there is none of that number.
    async fn take_back_one_shot(&self, id: i64, by: &Actor) -> Result<bool, LedgerError>;

    /// Overrides: those that are good, and those of the last week.
    async fn one_shots(&self) -> Result<Vec<OneShot>, LedgerError>;

    /// Those for which the glass was broken; also those that were taken back, as long as they would have been good. At most
    /// [`BROKEN_GLASS_MAX`](sexton_model::belts::one_shot::BROKEN_GLASS_MAX), the ones that are good before all others.
    ///
    /// # Errors
    /// If the store cannot be read.
    async fn broken_glass(&self) -> Result<Vec<OneShot>, LedgerError>;

    /// These copies of consumers are alive: at most [`PULSE_MAX`].
    ///
    /// # Errors
    /// As [`Self::register`].
    async fn pulse(&self, alive: Vec<Alive>) -> Result<(), LedgerError>;

    /// Every instance that ever pulsed or that a job waits for. Touches only what is due.
    async fn instances(&self) -> Result<BTreeMap<Instance, InstanceState>, LedgerError>;

    /// What the beacon says: a fresh read.
    async fn beacon(&self) -> Result<Beacon, LedgerError>;

    /// What this process has seen of the ledger so far: all that it has decided and that is committed. No I/O.
    fn known(&self) -> Checkpoint;

    /// Write a checkpoint, and return all that is known with it. It is durable when this returns, and so is
    /// everything it says.
    ///
    /// # Errors
    /// [`LedgerError::WentBack`] if the ledger is older than what is known; then nothing is written.
    async fn checkpoint(&self) -> Result<Checkpoint, LedgerError>;

    /// The same, with a heartbeat: whoever calls it serves the API, so people can cancel now.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    async fn heartbeat(&self) -> Result<Checkpoint, LedgerError>;

    /// When people could have cancelled, as far as heartbeats tell.
    async fn healthy(&self) -> Result<Healthy, LedgerError>;

    /// Compare the ledger with what was `known` of it (which from then on every batch is compared with). If it
    /// is behind, it enters a new epoch in which nothing is dispatched before the review that is returned is
    /// accepted. A review that is open anyway is returned, too.
    ///
    /// # Errors
    /// [`LedgerError::Unfit`] if `known` is about another ledger.
    async fn confront(&self, known: &Checkpoint) -> Result<Option<Review>, LedgerError>;

    /// The review that has to be accepted before anything is dispatched.
    async fn review(&self) -> Result<Option<Review>, LedgerError>;

    /// Accept the ledger as it is: from now on it dispatches again. `false` if no review of that epoch is open.
    async fn accept_review(&self, epoch: u32, by: &Actor, reason: &str) -> Result<bool, LedgerError>;

    /// Jobs by state, oldest due, parked, instances and their pulses.
    async fn health(&self) -> Result<Health, LedgerError>;

    /// Check the audit chain of a deletion against its head.
    async fn verify_chain(
        &self,
        id: DeletionId,
    ) -> Result<Result<(), sexton_model::audit::Broken>, LedgerError>;

    /// Check up to `limit` (1 to 1000) chains against their heads: those of pauses and reviews and of tokens and refusals, then those of
    /// resources, then those of deletions. `after` is the `next` of the call before. Fewer if they have more than
    /// 50,000 events together; events are read one by one.
    async fn verify_chains(&self, after: Option<&str>, limit: u32) -> Result<Verified, LedgerError>;

    /// Chains whose heads no signed checkpoint holds yet, in the order of [`Self::verify_chains`], but resources in any that the
    /// job table keeps to: at most a thousand, among some four thousand that are looked at. `after` is the `next` of the call before.
    async fn grown(&self, after: Option<&str>) -> Result<Grown, LedgerError>;

    /// Keep a signed checkpoint, and that these heads stand in it. `false` if it is not the next number, or one of the
    /// chains has come as far in another one: somebody else was faster, and nothing is written. Whoever makes one
    /// therefore reads the last one first, and what has grown afterwards.
    async fn attest(
        &self,
        number: i64,
        signed: SignedCheckpoint,
        heads: Vec<Head>,
    ) -> Result<bool, LedgerError>;

    /// Signed checkpoints behind this number, ascending, at most `limit` (1 to 64).
    async fn attested_after(&self, number: i64, limit: u32) -> Result<Vec<SignedCheckpoint>, LedgerError>;

    /// The hashes that are stored for these events (chain, number), in order; none for one that is not there. At most
    /// [`HASHES_MAX`].
    ///
    /// # Errors
    /// [`LedgerError::TooMany`]. Else the store cannot be read.
    async fn event_hashes(&self, events: Vec<(String, i64)>) -> Result<Vec<Option<Hash>>, LedgerError>;
    /// What stays of a record that was archived.
    async fn stub(&self, id: DeletionId) -> Result<Option<Stub>, LedgerError>;

    /// Stubs, newest record first.
    async fn stubs(&self, filter: &StubFilter) -> Result<Page<Stub>, LedgerError>;
}

/// How a ledger is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// What a day is, if the ledger is created by this; an existing one must have been created with the same.
    pub day: Day,
    /// Credit and pulse limits.
    pub limits: Limits,
    /// What the configuration says of deletions. Every process on one ledger should say the same; the one that decides counts.
    pub policy: Policy,
}
