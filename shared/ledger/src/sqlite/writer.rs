//! The one thread that writes: it drains what waits, decides all of it in one transaction, commits once, and
//! has it answered once that is synced ([`super::syncing`]).
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use sexton_model::access::Registrar;
use sexton_model::archive::Stub;
use sexton_model::attest::{Head, SignedCheckpoint};
use sexton_model::belts::ceiling::NewCeiling;
use sexton_model::belts::census::Census;
use sexton_model::belts::one_shot::{NewOneShot, OneShot};
use sexton_model::belts::pauses::TooManyPauses;
use sexton_model::belts::resource_hold::{NewHold, Which};
use sexton_model::belts::{Pause, PauseSelector};
use sexton_model::canary::{Came, Canary, Probe, Rehearsed};
use sexton_model::checkpoint::{Behind, Checkpoint, Mark, Review};
use sexton_model::deletion::Hold;
use sexton_model::drill::Drill;
use sexton_model::plan::Plan;
use sexton_model::request_key::Attempt;
use sexton_model::resource::Resource;
use sexton_model::{Actor, DeletionId, JobId, ResourceId};
use tokio::sync::{mpsc, oneshot};

use super::clock::Clock;
use super::connection::Db;
use super::decider::Decider;
use super::memory::{self, Memory, OutCounts, Staged};
use super::run::Setting;
use super::syncing::Syncer;
use super::{
    access, admitting, alarms, archive, attesting, canary, census, drill, healthy, inventory, keys, listing,
    one_shots, pausing, receipts, rehearsal, resource_holds, restores, reviewing, run, survey,
};
use crate::known::Known;
use crate::{
    Admitted, Alive, Approval, Counted, Decided, Intent, LedgerError, NewDeletion, NewReceipt, NotDone,
    Paused,
};

/// Commands that may wait: as many as there are callers at once in a busy coordinator; more of them wait in
/// their callers.
pub(super) const WAITING: usize = 256;

/// Commands in one transaction: keeps a commit, and so the longest wait for an answer, short.
const GROUP: usize = 64;

/// Intents in one transaction, unless a single batch has more: many enough for the sync of a commit not to matter, and
/// few enough for consumers to work on some answers while the next ones are written. With all that is out in one
/// transaction, whoever writes and whoever works would wait for each other in turn.
const INTENTS: usize = 512;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Work {
    Run(Arc<Vec<Intent>>),
    Register(Vec<Resource>, Registrar, Actor, bool),
    /// Writes nothing; asked of the writer because it remembers how far deletions are.
    CheckResources(Vec<Resource>, Registrar, Actor),
    Create(Vec<NewDeletion>),
    Pause(PauseSelector, Actor, String),
    /// With the digest of what is approved to begin at once; so is a ceiling.
    Resume(i64, Actor, Option<String>),
    Ceiling(NewCeiling, Option<String>),
    Census(Box<Census>, Actor),
    /// With the listing that it was made of.
    Listed(i64, Box<Census>, Actor),
    GiveOneShot(NewOneShot),
    TakeBackOneShot(i64, Actor),
    HoldResource(NewHold),
    ReleaseResource(ResourceId, Which, Actor),
    Admit(Vec<JobId>),
    Approve(Approval),
    Pulse(Vec<Alive>),
    Checkpoint {
        serves: bool,
    },
    Confront(Checkpoint),
    Accept(u32, Actor, String),
    Attest(i64, SignedCheckpoint, Vec<Head>),
    Access(access::Ask),
    Alarms(alarms::Ask),
    Canary(canary::Ask),
    /// What was read before, and what is to stand.
    Drill(Option<Box<Drill>>, Box<Drill>),
    /// Tried alone, and rolled back; then judged.
    TryCanary(i64, Arc<Plan>),
    Survey(survey::Ask),
    Listing(listing::Ask),
    Archive(Box<Stub>),
    Receipts(Vec<NewReceipt>),
    Prioritize(ResourceId, i16, Actor),
    Keys(keys::Ask),
    Compare,
}

/// What it answers, in the same order.
#[derive(Debug)]
pub(super) enum Answer {
    Run(Vec<Result<Decided, NotDone>>),
    Register(Vec<Result<(), NotDone>>),
    CheckResources(Vec<Result<(), NotDone>>),
    Create(Vec<Result<DeletionId, NotDone>>),
    Pause(Result<Paused, TooManyPauses>),
    Resume(Result<Option<Pause>, NotDone>),
    Ceiling(Result<(), NotDone>),
    Census(Box<Result<Counted, NotDone>>),
    Listed(Option<Box<Result<Counted, NotDone>>>),
    GiveOneShot(Box<Result<OneShot, NotDone>>),
    TakeBackOneShot(bool),
    HoldResource(Box<Result<Hold, NotDone>>),
    ReleaseResource(resource_holds::Released),
    Admit(Admitted),
    Approve(Result<Vec<JobId>, NotDone>),
    Pulse,
    Checkpoint(Result<(Mark, i64), Behind>),
    Confront(Option<Review>, Mark),
    Accept(bool),
    Attest(bool),
    Access(access::Done),
    Alarms(alarms::Done),
    Canary(canary::Done),
    Drill(bool),
    TryCanary(Option<Box<Canary>>),
    Survey(survey::Done),
    Listing(listing::Done),
    Archive(bool),
    Receipts(u64),
    Prioritize(Result<(), NotDone>),
    Keys(keys::Done),
    Compare(Result<(), String>),
}

type Reply = oneshot::Sender<Result<Answer, LedgerError>>;

/// One command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) work: Work,
    /// The attempt at a request whose change it is.
    pub(super) attempt: Option<Attempt>,
    pub(super) reply: Reply,
}

/// Everything the writer owns.
pub(super) struct Writer {
    pub(super) db: Db,
    pub(super) decider: Decider,
    pub(super) memory: Memory,
    pub(super) clock: Arc<Clock>,
    pub(super) setting: Setting,
    /// Orders out as of the last commit, for whoever asks for free credit.
    pub(super) out: Arc<Mutex<OutCounts>>,
    /// What was committed, for whoever asks what is known.
    pub(super) known: Arc<Known>,
    /// Who makes it durable, and answers.
    pub(super) syncer: Syncer,
    /// Locked: no other process writes this file.
    pub(super) lock: File,
}

impl Writer {
    /// Write until every handle is gone, or what is written cannot be made durable.
    pub(super) fn work(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut waiting = Vec::with_capacity(GROUP);
        while commands.blocking_recv_many(&mut waiting, GROUP) > 0 {
            self.answer(waiting.drain(..));
            if self.syncer.check().is_err() {
                break;
            }
        }
        // The log is gone with the connection.
        if self.syncer.end() {
            self.db.close();
            drop(self.lock);
        } else {
            // Closed, SQLite would copy out of the log what the system may have lost of it, unseen: only whoever reads it
            // from its beginning compares the checksums. Until this process ends nobody does.
            std::mem::forget((self.db, self.lock));
        }
    }

    /// One transaction for many; if it fails, one for each, so that only the bad one fails.
    fn answer(&mut self, commands: impl Iterator<Item = Command>) {
        let mut todo = groups(commands);
        while let Some(group) = todo.pop_front() {
            match self.transaction(&group) {
                Ok(answers) => {
                    let numbers = (self.memory.written_fence, self.memory.raised);
                    self.syncer.answer(group, answers, numbers);
                }
                Err(error) => {
                    self.syncer.nothing();
                    self.memory.forget();
                    if group.len() > 1 {
                        tracing::warn!(%error, commands = group.len(), "a group failed, each is tried alone");
                        for command in group.into_iter().rev() {
                            todo.push_front(vec![command]);
                        }
                    } else if let Some(command) = group.into_iter().next() {
                        command.reply.send(Err(error)).ok();
                    }
                }
            }
        }
    }

    fn transaction(&mut self, group: &[Command]) -> Result<Vec<Answer>, LedgerError> {
        self.syncer.check()?;
        if let [Command { work: Work::TryCanary(id, plan), .. }] = group {
            return Ok(vec![Answer::TryCanary(self.try_canary(*id, plan)?)]);
        }
        self.commit(|db, memory, staged, with| all(db, memory, staged, with, group))
    }

    /// Do it in one transaction, and take over what it leaves once that is committed.
    fn commit<T>(
        &mut self,
        work: impl FnOnce(&Db, &mut Memory, &mut Staged, With<'_>) -> Result<T, LedgerError>,
    ) -> Result<T, LedgerError> {
        let mut staged = self.memory.stage(self.clock.now());
        let (memory, with) = (&mut self.memory, (&self.setting, &self.decider, &*self.known));
        // What was loaded for a transaction that fails is dropped with `staged`.
        let done = self.db.transaction("BEGIN IMMEDIATE", || {
            let done = work(&self.db, memory, &mut staged, with)?;
            staged.write_counts(&self.db)?;
            memory.write_fences(&self.db)?;
            self.syncer.committing();
            Ok(done)
        })?;
        self.memory.take_over(staged);
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.memory.out);
        Ok(done)
    }
}

impl Writer {
    /// Try a canary that is open, leave nothing of that, and have it judged. Nobody writes in between, so nobody else has
    /// tried it since it was found open.
    fn try_canary(&mut self, id: i64, plan: &Arc<Plan>) -> Result<Option<Box<Canary>>, LedgerError> {
        let Some(probe) = canary::open(&self.db, id)? else { return Ok(None) };
        let came = Came::Rehearsed(self.rehearse(&probe, plan)?);
        let judged = self.commit(|db, memory, staged, _| canary::hear(db, memory, staged, (id, &came)))?;
        Ok(judged.map(Box::new))
    }

    /// Try something, and leave nothing of it: neither in the file nor in memory.
    fn rehearse(&mut self, probe: &Probe, plan: &Arc<Plan>) -> Result<Rehearsed, LedgerError> {
        let mut staged = self.memory.stage(self.clock.now());
        let (memory, setting) = (&mut self.memory, &self.setting);
        let tried = self.db.rehearsal("BEGIN IMMEDIATE", || {
            rehearsal::carry_out(&self.db, memory, &mut staged, (setting, probe, plan))
        });
        self.memory.forget();
        tried
    }
}

/// What the commands of a transaction are carried out with.
type With<'a> = (&'a Setting, &'a Decider, &'a Known);

/// Do everything in order; neighbouring batches together, so that one is decided while another is written.
fn all(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    with: With<'_>,
    group: &[Command],
) -> Result<Vec<Answer>, LedgerError> {
    let (setting, decider, _) = with;
    let mut answers = Vec::with_capacity(group.len());
    let mut batches: Vec<&Arc<Vec<Intent>>> = Vec::new();
    for command in group {
        // A batch whose change is noted is one of a single intent, and few are.
        if let (Work::Run(batch), None) = (&command.work, &command.attempt) {
            batches.push(batch);
            continue;
        }
        let before = run::run(db, memory, staged, (setting, decider), &std::mem::take(&mut batches))?;
        answers.extend(before.into_iter().map(Answer::Run));
        let answer = one(db, memory, staged, with, &command.work)?;
        if reviewing::takes_no_fence(&answer) {
            staged.raised = Some(reviewing::raise(db)?);
        }
        keys::note(db, command.attempt.as_ref(), &answer)?;
        answers.push(answer);
    }
    let rest = run::run(db, memory, staged, (setting, decider), &batches)?;
    answers.extend(rest.into_iter().map(Answer::Run));
    Ok(answers)
}

fn one(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, decider, known): With<'_>,
    work: &Work,
) -> Result<Answer, LedgerError> {
    Ok(match work {
        Work::Run(batch) => {
            let mut results = run::run(db, memory, staged, (setting, decider), &[batch])?;
            Answer::Run(results.pop().unwrap_or_default())
        }
        Work::Register(resources, registrar, by, whole) => Answer::Register(inventory::register(
            db,
            memory,
            staged,
            Some(&setting.policy.get()),
            (resources, registrar, by, *whole),
        )?),
        Work::CheckResources(resources, registrar, by) => Answer::CheckResources(inventory::check(
            db,
            memory,
            staged,
            (resources, registrar, by, &setting.policy.get()),
        )?),
        Work::Create(new) => Answer::Create(inventory::create(db, staged, setting, new)?),
        Work::Pause(covers, by, reason) => {
            Answer::Pause(pausing::asked_for(db, memory, staged, (covers, by, reason))?)
        }
        Work::Resume(pause, by, approved) => {
            let lifting = (setting, *pause, by, approved.as_deref());
            Answer::Resume(pausing::resume(db, memory, staged, lifting)?)
        }
        Work::Ceiling(new, approved) => {
            let lifting = (setting, new, approved.as_deref());
            Answer::Ceiling(pausing::set_ceiling(db, memory, staged, lifting)?)
        }
        Work::Census(taken, by) => {
            Answer::Census(Box::new(census::take(db, memory, staged, (setting, taken, by))?))
        }
        Work::Listed(id, taken, by) => {
            let judged = census::take_listed(db, memory, staged, (setting, *id, taken, by))?;
            Answer::Listed(judged.map(Box::new))
        }
        Work::GiveOneShot(new) => {
            Answer::GiveOneShot(Box::new(one_shots::give(db, memory, staged, (setting, new))?))
        }
        Work::TakeBackOneShot(id, by) => {
            Answer::TakeBackOneShot(one_shots::take_back(db, memory, staged, (*id, by))?)
        }
        Work::HoldResource(new) => {
            Answer::HoldResource(Box::new(resource_holds::place(db, memory, staged, new)?))
        }
        Work::ReleaseResource(resource, which, by) => {
            Answer::ReleaseResource(resource_holds::release(db, memory, staged, (resource, which, by))?)
        }
        Work::Admit(jobs) => Answer::Admit(admitting::admit(db, staged, setting, jobs)?),
        Work::Approve(approval) => Answer::Approve(admitting::approve(db, staged, setting, approval)?),
        Work::Pulse(alive) => {
            pausing::pulse(db, memory, staged, (alive, setting.limits.down_after_us()))?;
            Answer::Pulse
        }
        Work::Checkpoint { serves } => {
            let written = reviewing::checkpoint(db, staged, &known.seen())?;
            if *serves && written.is_ok() {
                healthy::beat(db, memory, staged, setting)?;
            }
            Answer::Checkpoint(written)
        }
        Work::Confront(seen) => {
            let (review, mark) = reviewing::confront(db, memory, staged, seen)?;
            Answer::Confront(review, mark)
        }
        Work::Accept(epoch, by, reason) => {
            Answer::Accept(reviewing::accept(db, memory, staged, (*epoch, by, reason))?)
        }
        Work::Attest(number, signed, heads) => Answer::Attest(attesting::attest(db, *number, signed, heads)?),
        Work::Access(ask) => Answer::Access(access::carry_out(db, staged.now, ask)?),
        Work::Alarms(ask) => Answer::Alarms(alarms::carry_out(db, staged.now, ask)?),
        Work::Canary(ask) => Answer::Canary(canary::carry_out(db, memory, staged, (setting, ask))?),
        Work::Drill(before, new) => Answer::Drill(drill::keep(db, staged, (before.as_deref(), new))?),
        // In a group of its own (`groups`), which `Writer::transaction` rolls back.
        Work::TryCanary(..) => {
            return Err(LedgerError::Unfit("a rehearsal was about to be committed with other work".into()));
        }
        Work::Survey(ask) => Answer::Survey(survey::carry_out(db, memory, staged, ask)?),
        Work::Listing(ask) => Answer::Listing(listing::carry_out(db, memory, staged, ask)?),
        Work::Archive(stub) => Answer::Archive(archive::archive(db, memory, staged, stub)?),
        Work::Receipts(new) => Answer::Receipts(receipts::keep(db, new)?),
        Work::Prioritize(resource, priority, by) => {
            Answer::Prioritize(restores::prioritize(db, memory, staged, (resource, *priority, by))?)
        }
        Work::Keys(ask) => Answer::Keys(keys::carry_out(db, staged.now, ask)?),
        Work::Compare => {
            staged.write_counts(db)?;
            Answer::Compare(memory::compare(db, memory, staged, setting)?)
        }
    })
}

/// What goes into one transaction each, in order.
fn groups(commands: impl Iterator<Item = Command>) -> VecDeque<Vec<Command>> {
    let mut groups = VecDeque::new();
    let (mut group, mut intents) = (Vec::new(), 0);
    for command in commands {
        let more = if let Work::Run(batch) = &command.work { batch.len() } else { 0 };
        // What is rolled back is alone.
        let alone = matches!(command.work, Work::TryCanary(..));
        if !group.is_empty() && (alone || intents + more > INTENTS) {
            groups.push_back(std::mem::take(&mut group));
            intents = 0;
        }
        intents += if alone { INTENTS + 1 } else { more };
        group.push(command);
    }
    groups.push_back(group);
    groups
}
