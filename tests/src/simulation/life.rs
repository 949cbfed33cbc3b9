//! What people and accidents do.
use serde_json::json;
use sexton_ledger::{DeletionFilter, DeletionView, Intent, Ledger, NewDeletion};
use sexton_model::decide::Event;
use sexton_model::deletion::{Due, RecordStatus, WaiverClaim};
use sexton_model::job::JobState;
use sexton_model::resource::Resource;
use sexton_model::{Actor, DeletionId, Fence, ResourceId, canary, decide};

use super::check::{DAY_MS, Made, Violation};
use super::platform::State;
use super::script::{Covers, Happening, Item, Person, STORM_STEPS, When, Wish};
use super::tally::{AT_THE_LAST_MOMENT, GONE_IN_TIME, MADE_ANEW};
use super::world::World;

mod approvals;
mod calm;
mod canaries;
mod clocks;
mod events;
mod lifting;
mod queues;
mod requests;

/// After so many decisions more, what waits for somebody to be about to change something comes without.
const NEVER_MIND: u64 = 40;

/// What people have begun that stops something they end after so many steps more at the least.
const ENDED_AFTER: u64 = 50;
/// And so many more at the most.
const ENDED_WITHIN: usize = 1_500;
/// The digest of no set there is.
const OF_NO_SET: &str = "0";

/// Who says most things.
fn somebody() -> Actor {
    Person::Ops.actor()
}

/// Who has requested no deletion, and lets pass what stopped one.
fn another() -> Actor {
    Person::Auditor.actor()
}

impl World {
    /// Play the whole script.
    ///
    /// # Errors
    /// The invariant that does not hold.
    pub async fn play(&mut self) -> Result<(), Violation> {
        let mut items = self.script.items.clone();
        while self.step < STORM_STEPS {
            let (step, decisions, shown) = (self.step, self.checker.events, self.store.shown());
            let due = |item: &mut Item| match item.when {
                When::Step(at) => at <= step,
                When::Decisions(at) => at <= decisions,
                When::Parked(number) => self.checker.parked.contains(&self.script.machine(number)),
                When::InHand(number) => self.consumers[number].hands.any(),
                When::Changing(at) => {
                    let waited = decisions >= at + NEVER_MIND;
                    at <= decisions && (waited || self.consumers.iter().any(|one| one.hands.any()))
                }
                When::HardDue(number) => {
                    let due = self.checker.hard_due.get(&self.script.machine(number));
                    due.is_some_and(|at| *at <= shown)
                }
                When::Recycled(number) => self.checker.recycled.contains(&self.script.machine(number)),
            };
            for item in items.extract_if(.., due).collect::<Vec<_>>() {
                if self.happen(item.what).await? {
                    if matches!(item.when, When::HardDue(_)) {
                        self.dice.count(AT_THE_LAST_MOMENT);
                    }
                    items.extend(self.ends(item.what));
                }
                self.look().await?;
            }
            self.go_on().await?;
            // What waits for a record comes no more once all are over, and nothing else is to happen.
            let never = |item: &Item| matches!(item.when, When::Parked(_) | When::HardDue(_));
            let idle = items.iter().all(never) && self.requests.is_empty();
            if idle && self.step > 1_000 && self.all_over().await {
                break;
            }
        }
        if !self.checker.recycled.is_empty() {
            self.dice.count(GONE_IN_TIME);
        }
        self.calm().await?;
        self.verify().await
    }

    /// What people do later because of what they did: every hold is released one day, and every pause of a subsystem lifted.
    fn ends(&self, what: Happening) -> Option<Item> {
        let what = match what {
            Happening::Hold(number) => Happening::Release(number),
            // Whoever asked for it under a key does so of its end, and with the same luck.
            Happening::Request(Wish::Hold, number, fate) => Happening::Request(Wish::Release, number, fate),
            Happening::Pause(covers @ Covers { subsystem: Some(_), .. })
            | Happening::Request(Wish::Pause(covers @ Covers { subsystem: Some(_), .. }), ..) => {
                Happening::Lift(covers)
            }
            _ => return None,
        };
        let after = ENDED_AFTER + self.dice.below(ENDED_WITHIN) as u64;
        Some(Item { when: When::Step(self.step + after), what })
    }

    /// A machine appears, and its platform registers it, if its name is free.
    pub(super) async fn appear(&mut self, vm: &ResourceId) -> bool {
        self.uuids += 1;
        let uuid = format!("00000000-0000-4000-8000-{:012x}", self.uuids);
        let registered = self.register(vm, &uuid, false).await;
        self.truth().appear(vm, &uuid);
        registered
    }

    async fn register(&mut self, vm: &ResourceId, uuid: &str, protected: bool) -> bool {
        let scope = self.script.scope_of(vm);
        // Every run begins a month later, and no clock is ever wrong by so much.
        let rebuilt = json!({ "on": "2026-11-01", "evidence": "it was made" });
        let resource: Resource = serde_json::from_value(json!({
            "id": vm, "scope": scope, "identity": { "uuid": uuid }, "criticality": "reproducible",
            "rebuilt": rebuilt, "protected": protected,
            "attributes": {
                "dns": { "none": false }, "ipam": { "none": false }, "notifier": { "none": false },
            },
        }))
        .unwrap();
        let Some(ledger) = &self.ledger else { return false };
        ledger.register(vec![resource], &somebody(), true).await.unwrap().iter().all(Result::is_ok)
    }

    fn truth(&self) -> std::sync::MutexGuard<'_, super::platform::Truth> {
        self.truth.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The record of a machine, live or the last one.
    pub(super) async fn record_of(&self, vm: &ResourceId) -> Option<DeletionView> {
        let ledger = self.ledger.as_ref()?;
        let id = ledger.deletion_of(vm).await.unwrap()?;
        ledger.deletion(id).await.unwrap()
    }

    /// Whether it had an effect.
    async fn happen(&mut self, what: Happening) -> Result<bool, Violation> {
        let now = self.time.now();
        let done = match what {
            Happening::Delete(number, in_ms) => self.delete(number..number + 1, Person::Ops, in_ms).await,
            Happening::DeleteAll(by, in_ms) => self.delete(0..self.script.machines, by, in_ms).await,
            Happening::Cancel(number) => {
                self.tell(number, |_| Some(Event::Cancel { by: somebody(), reason: "needed".into() })).await
            }
            Happening::Hold(number) => {
                self.tell(number, |_| Some(Event::PlaceHold { by: somebody(), reason: "a dispute".into() }))
                    .await
            }
            Happening::Release(number) => self.release(number).await,
            Happening::Protect(number, protected) => {
                self.protect(&self.script.machine(number), protected).await?
            }
            Happening::Pause(covers) => self.pause(covers).await?,
            Happening::Resume => self.resume().await?,
            Happening::Lift(covers) => self.lift(covers).await?,
            Happening::Retry(number) => self.tell(number, |_| Some(Event::Retry { by: somebody() })).await,
            Happening::Waive(number, absent) => self.waive(number, absent).await,
            Happening::Request(wish, number, fate) => self.request(wish, number, fate).await,
            Happening::TakeCensus(number) => self.begin_census(number).await,
            Happening::LookAtBatch => self.look_at_oldest_batch().await?,
            Happening::Approve(by) => self.approve(by).await?,
            Happening::ChangePlans(version) => {
                self.version = version;
                true
            }
            Happening::Recreate(number) => self.recreate(number).await?,
            Happening::Start(number) => self.start(&self.script.machine(number)),
            Happening::Lock(number, locked) => self.lock(&self.script.machine(number), locked),
            Happening::AnswerCanary => self.answer_canary().await,
            Happening::Undefine(number) => self.undefine(number).await,
            Happening::KillCoordinator(number, for_ms) => {
                self.kill_coordinator(number, now.plus_ms(for_ms)).await
            }
            Happening::KillConsumer(number, for_ms) => self.kill_consumer(number, now.plus_ms(for_ms)).await,
            Happening::Freeze(number, for_ms, asleep) => {
                let one = &mut self.consumers[number];
                one.frozen.now.store(true, std::sync::atomic::Ordering::SeqCst);
                one.thaws_at = Some(now.plus_ms(for_ms));
                if asleep {
                    one.clock.miss(for_ms);
                }
                true
            }
            // Whoever sleeps, wakes up deaf, and has the clock set meanwhile by just what they slept cannot know that they did:
            // then nobody can promise anything.
            Happening::SetClock(number, _) if self.consumers[number].frozen.is() => false,
            Happening::SetTime(_, true) if self.consumers.iter().any(|one| one.frozen.is()) => false,
            Happening::SetClock(number, ahead_ms) => {
                self.consumers[number].clock.set_ahead(ahead_ms);
                true
            }
            Happening::SetTime(ahead_ms, everybody) => {
                self.set_time(ahead_ms, everybody);
                true
            }
            Happening::Drift(gains) => {
                self.store.drift(gains);
                true
            }
            Happening::DriftConsumer(number, gains) => {
                self.consumers[number].clock.drift(gains);
                true
            }
            Happening::Deaf(for_ms) => {
                for one in &self.consumers {
                    one.frozen.deafen(now.plus_ms(for_ms));
                }
                true
            }
            Happening::Purge => self.purge().await,
            Happening::LoseAll => self.lose_all().await,
            Happening::Redeliver => self.redeliver().await,
            Happening::Down(for_ms) => self.go_down(for_ms).await?,
            Happening::Reopen(for_ms) => self.reopen(for_ms).await,
            Happening::Backup => self.back_up(),
            Happening::RestoreBackup => self.restore_backup().await?,
        };
        self.quiet().await;
        // What is asked for by a request counts once it is answered.
        if done && !matches!(what, Happening::Request(..)) {
            self.dice.count(what.word());
        }
        self.say(format!("{what:?}{}", if done { "" } else { ": refused" }));
        Ok(done)
    }

    /// The platform says that a machine must never be deleted, or that it may be.
    ///
    /// # Errors
    /// If that leaves no event, or several.
    async fn protect(&mut self, vm: &ResourceId, protected: bool) -> Result<bool, Violation> {
        let Some(ledger) = self.ledger.clone() else { return Ok(false) };
        let Some(there) = self.ledger_resource(vm).await else { return Ok(false) };
        let Some(uuid) = there.identity.get("uuid") else { return Ok(false) };
        let chain = vm.to_string();
        let before = events::of(&ledger, &chain).await;
        let done = self.register(vm, uuid, protected).await;
        let many = match (done, there.protected == protected) {
            (true, false) => 1..=1,
            // What says nothing new leaves none, but for the name of one that is gone.
            (true, true) => 0..=1,
            (false, _) => 0..=0,
        };
        events::left(&ledger, (chain.as_str(), before), many, "protection that is changed").await?;
        Ok(done)
    }

    /// A date by which something is announced in so many milliseconds.
    fn due(&self, in_ms: u64) -> Due {
        let moment = self.store.shown().plus_ms(in_ms).plus_ms(DAY_MS);
        Due { date: moment.utc().date_naive(), zone: "UTC".parse().unwrap(), moment: Some(moment) }
    }

    /// State that these machines are to go, all in one request.
    async fn delete(&mut self, numbers: std::ops::Range<usize>, by: Person, in_ms: u64) -> bool {
        let Some(ledger) = self.ledger.clone() else { return false };
        let due = self.due(in_ms);
        let vms: Vec<ResourceId> = numbers.map(|number| self.script.machine(number)).collect();
        let new = vms.iter().map(|vm| NewDeletion {
            resource: vm.clone(),
            due,
            gone_by: None,
            by: by.actor(),
            reason: "no longer needed".into(),
            plan: self.plan(vm),
        });
        let made = ledger.create(new.collect()).await.unwrap();
        let mut any = false;
        for (vm, id) in vms.iter().zip(made) {
            if let Ok(id) = id {
                let as_it_was = self.truth().of(vm);
                let plan = self.plan(vm);
                self.checker.created(id, vm, Made { as_it_was, plan, by });
                any = true;
            }
        }
        any
    }

    /// A person says something about the record of a machine.
    async fn tell(&mut self, number: usize, event: impl Fn(&DeletionView) -> Option<Event>) -> bool {
        let Some(view) = self.record_of(&self.script.machine(number)).await else { return false };
        let Some(event) = event(&view) else { return false };
        self.ask(Intent { deletion: view.deletion.id, event }).await
    }

    /// Whoever has placed the first one takes it back: another may have asked for the deletion themselves.
    async fn release(&mut self, number: usize) -> bool {
        self.tell(number, |view| {
            let hold = view.deletion.holds.first()?;
            Some(Event::ReleaseHold { hold: hold.id, by: hold.origin.clone() })
        })
        .await
    }

    /// A person looks what there is, and says so: only then it is true.
    async fn waive(&mut self, number: usize, absent: bool) -> bool {
        let Some(view) = self.record_of(&self.script.machine(number)).await else { return false };
        let d = &view.deletion;
        let parked = d.jobs.iter().find(|job| matches!(job.state, JobState::Parked { .. }));
        let Some(job) = parked else { return false };
        let sexton_model::job::JobKind::Stage(stage) = job.kind else { return false };
        let steps = &d.plan.stage(stage).steps;
        let Some(deed) =
            steps.get(usize::from(job.cursor)).and_then(|step| super::platform::deed_of(&step.name))
        else {
            return false;
        };
        let ours = |thing: &&'static str| {
            let is = self.truth().thing(&d.record.resource.id, thing);
            is.state != State::Gone && d.record.resource.identity.get("uuid") == Some(&is.owner)
        };
        let there = deed.things.iter().any(ours);
        if absent && there {
            return false;
        }
        let claim = if absent { WaiverClaim::Absent } else { WaiverClaim::MayRemain };
        let mark = decide::mark(d).unwrap_or_default();
        let event = Event::Waive { by: another(), claim, mark, evidence: "looked".into() };
        self.ask(Intent { deletion: d.id, event }).await
    }

    async fn pause(&mut self, covers: Covers) -> Result<bool, Violation> {
        let Some(ledger) = self.ledger.clone() else { return Ok(false) };
        let before = events::of(&ledger, events::PAUSES).await;
        let paused = ledger.pause(covers.selector(), &somebody(), "look").await.unwrap();
        self.checker.pauses.placed(&paused.pause, self.time.now());
        events::left(&ledger, (events::PAUSES, before), 1..=1, "a pause").await?;
        Ok(true)
    }

    /// Another machine in the place of this one. If its record is live, nobody may register it. What was made anew after it was
    /// recycled is a machine like any other: of it everything is asked.
    async fn recreate(&mut self, number: usize) -> Result<bool, Violation> {
        let vm = self.script.machine(number);
        let stood = self.record_of(&vm).await.map(|view| view.deletion.status);
        let live = stood.is_some_and(RecordStatus::live);
        let registered = self.appear(&vm).await;
        if registered && stood == Some(RecordStatus::Recycled) {
            self.dice.count(MADE_ANEW);
            self.checker.made_anew(&vm);
            self.truth().forget_deceptions(&vm);
        } else {
            self.checker.disturbed.insert(vm.clone());
        }
        self.checker.warrants.replaced(&vm, registered);
        if registered && live {
            let what = format!("another {vm} was registered while its record was live");
            return Err(Violation { invariant: "I8", what });
        }
        Ok(registered)
    }

    fn start(&mut self, vm: &ResourceId) -> bool {
        let mut truth = self.truth();
        if truth.thing(vm, "definition").state == State::Gone {
            return false;
        }
        let Some(power) = truth.things.get_mut(&(vm.clone(), "power")) else { return false };
        power.state = State::On;
        truth.wrote(vm);
        drop(truth);
        self.checker.disturbed.insert(vm.clone());
        self.checker.warrants.started(vm);
        true
    }

    fn lock(&self, vm: &ResourceId, locked: bool) -> bool {
        let mut truth = self.truth();
        if locked { truth.locked.insert(vm.clone()) } else { truth.locked.remove(vm) }
    }

    /// Somebody removes the definition that a machine's record waits for.
    async fn undefine(&self, number: usize) -> bool {
        let Some(view) = self.record_of(&self.script.machine(number)).await else { return false };
        let d = &view.deletion;
        let parked = d.jobs.iter().find(|job| matches!(job.state, JobState::Parked { .. }));
        let step = parked.and_then(|job| d.step_at(job)).map(|(_, _, step)| step.name.as_str());
        step == Some("hypervisor.undefine") && self.truth().undefine(&d.record.resource)
    }

    fn back_up(&mut self) -> bool {
        if self.ledger.is_none() {
            return false;
        }
        // Nothing is being written: everything waits for the world.
        for end in ["", "-wal"] {
            let file = beside(&self.file(), end);
            if file.exists() {
                std::fs::copy(&file, beside(&file, ".copy")).unwrap();
            }
        }
        self.checker.backed_up();
        true
    }

    /// The copy is put in the job table's place. Whether there was one.
    ///
    /// # Errors
    /// If orders were given that it knows nothing of, and nobody notices.
    async fn restore_backup(&mut self) -> Result<bool, Violation> {
        let file = self.file();
        if !beside(&file, ".copy").exists() || self.ledger.is_none() {
            return Ok(false);
        }
        let now = self.time.now();
        self.close_ledger(now).await;
        for end in ["", "-wal", "-shm"] {
            std::fs::remove_file(beside(&file, end)).ok();
        }
        for end in ["", "-wal"] {
            let copy = beside(&beside(&file, end), ".copy");
            if copy.exists() {
                std::fs::copy(&copy, beside(&file, end)).unwrap();
            }
        }
        self.open_ledger().await;
        let ledger = self.ledger.clone().unwrap();
        let there = ledger.known().mark;
        let last = Fence { epoch: there.epoch, number: there.fence };
        self.start_all_coordinators().await;
        let facts = ledger.facts().await.unwrap();
        self.checker.reviewed = ledger.review().await.unwrap().is_some();
        let given = self.last_given();
        if given > last && !(self.checker.reviewed && facts.epoch > given.epoch) {
            let what = format!("it knows of {last}, {given} was given, and the epoch is {}", facts.epoch);
            return Err(Violation { invariant: "I15", what });
        }
        let pauses = ledger.pauses().await.unwrap();
        self.checker.pauses.are(&pauses, now);
        self.checker.went_back(facts.epoch, now);
        // Whatever was looked at is another job table's.
        (self.looked, self.seen) = (0, None);
        // The last record of a machine comes last.
        for view in self.all().await.into_iter().rev() {
            self.checker.adopt(&view);
        }
        Ok(true)
    }

    /// The highest order of a record that was ever published. Whether it knows of canaries is no matter: they change nothing.
    fn last_given(&self) -> Fence {
        let orders = self.traffic.orders.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = orders.values().rev().find(|order| order.deletion != canary::DELETION);
        last.map(|order| order.fence).unwrap_or_default()
    }

    /// What the job table's writer remembers stands in the table.
    async fn compare(&self) -> Result<(), Violation> {
        let Some(ledger) = &self.ledger else { return Ok(()) };
        ledger.compare().await.unwrap().map_err(|what| Violation { invariant: "memory", what })
    }

    /// All records, as they stand.
    pub(super) async fn all(&self) -> Vec<DeletionView> {
        let Some(ledger) = &self.ledger else { return Vec::new() };
        let filter = DeletionFilter { limit: 1000, ..DeletionFilter::default() };
        let ids: Vec<DeletionId> =
            ledger.deletions(&filter).await.unwrap().items.into_iter().map(|row| row.id).collect();
        let mut all = Vec::new();
        for id in ids {
            all.extend(ledger.deletion(id).await.unwrap());
        }
        all
    }

    async fn all_over(&self) -> bool {
        let Some(ledger) = &self.ledger else { return false };
        for status in [RecordStatus::Live, RecordStatus::Restoring] {
            let filter = DeletionFilter { status: Some(status), limit: 1, ..DeletionFilter::default() };
            if !ledger.deletions(&filter).await.unwrap().items.is_empty() {
                return false;
            }
        }
        true
    }

    async fn ledger_resource(&self, vm: &ResourceId) -> Option<Resource> {
        self.ledger.as_ref()?.resource(vm).await.unwrap().map(|view| view.resource)
    }
}

fn beside(file: &std::path::Path, end: &str) -> std::path::PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(end);
    name.into()
}
