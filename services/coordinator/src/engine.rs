//! The handlers: plain async functions of (what arrived, ledger, bus). They own no timers and no tasks, so a
//! test or a simulator can call them in any order, repeat them, and stop between any two effects.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use sexton_bus::{Bus, Delivery, Tag};
use sexton_ledger::{Decided, Intent, Ledger, LedgerError, NotDone};
use sexton_model::canary;
use sexton_model::checkpoint::{EPOCHS_AHEAD, Landmark};
use sexton_model::decide::{Event, Lane, Refusal};
use sexton_model::{DeletionId, Fence, Instance, JobId};
use sexton_protocol::{BeaconSigner, Holder, Keyring};
use sexton_service::trace::SpanRef;

use crate::alarms::Alarmer;
use crate::alarms::route::chain;
use crate::archiver::Archiver;
use crate::attester::Attester;
use crate::canaries::Canaries;
use crate::follow::Follow;
use crate::hindrance::Hindrance;
use crate::hours;
use crate::intake;
use crate::notary;
use crate::outbox::Outbox;
use crate::plans::Plans;
use crate::watch::Batches;
use crate::witness::Witness;

mod admit;
mod asides;
mod calendar;
mod canaries;
mod censuses;
mod drills;
mod listings;
mod publish;
mod refill;
mod review;
mod surveys;

/// Most intents in one batch: larger ones make every item of them wait for the whole.
const BATCH_MAX: usize = 512;
/// Most leases, back-offs and rechecks handled in one tick.
const WAKE_MAX: u32 = 512;

pub use canaries::Heard;
pub(crate) use canaries::TEND_EVERY;
pub(crate) use censuses::TEND_EVERY as TEND_CENSUSES_EVERY;
pub(crate) use listings::AGAIN as ASK_AGAIN;
pub(crate) use surveys::TEND_EVERY as TEND_SURVEYS_EVERY;

/// What an engine needs.
pub struct Options {
    /// The job table.
    pub ledger: Arc<dyn Ledger>,
    /// The broker, as the coordinator's user.
    pub bus: Arc<dyn Bus>,
    /// Keys of every instance and of the scheduler.
    pub keyring: Arc<Keyring>,
    /// The beacon's key.
    pub signer: Arc<BeaconSigner>,
    /// Instances whose orders travel one by one.
    pub unpacked: Vec<Instance>,
    /// What is kept of the job table outside of it.
    pub witness: Arc<Witness>,
}

/// Counted since the start; for health and metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Events decided.
    pub decided: AtomicU64,
    /// Events that meant nothing any more: late, repeated, or raced.
    pub refused: AtomicU64,
    /// Orders given.
    pub ordered: AtomicU64,
    /// Messages not accepted.
    pub rejected: AtomicU64,
    /// Rejections that were not accepted themselves. They are rejected no further.
    pub disbelieved: AtomicU64,
    /// Messages that no broker confirmed; their leases repair it.
    pub unpublished: AtomicU64,
}

/// One coordinator.
pub struct Engine {
    /// The job table.
    pub ledger: Arc<dyn Ledger>,
    bus: Arc<dyn Bus>,
    keyring: Arc<Keyring>,
    outbox: Outbox,
    witness: Arc<Witness>,
    attester: Option<Attester>,
    archiver: Option<Archiver>,
    alarmer: Alarmer,
    canaries: Option<Canaries>,
    /// What says who lists which kind, if censuses are taken without anybody asking.
    lists: Option<Arc<Plans>>,
    surveys: surveys::BegunHere,
    calendar: Option<Arc<hours::Calendar>>,
    /// Records whose purge has ended: their receipts are due.
    pub receipts: notary::Due,
    /// Whether the job table was under review at the last checkpoint: then nothing is to be gained by asking it.
    reviewing: AtomicBool,
    /// The epoch of the review in which this coordinator has said which records it knows to be lost.
    numbered: AtomicU32,
    batches: OnceLock<Batches>,
    /// The deletions' traces.
    pub follow: Follow,
    /// What it has done.
    pub counters: Counters,
    /// How many jobs of a line are tried next time.
    appetite: Mutex<HashMap<(Instance, Lane), u32>>,
}

impl Engine {
    /// A coordinator on this ledger and bus.
    pub fn new(options: Options) -> Self {
        let outbox =
            Outbox { keyring: options.keyring.clone(), signer: options.signer, unpacked: options.unpacked };
        Self {
            ledger: options.ledger,
            bus: options.bus,
            keyring: options.keyring,
            outbox,
            witness: options.witness,
            attester: None,
            archiver: None,
            alarmer: Alarmer::default(),
            canaries: None,
            lists: None,
            surveys: surveys::BegunHere::default(),
            calendar: None,
            receipts: notary::Due::default(),
            reviewing: AtomicBool::new(false),
            numbered: AtomicU32::new(0),
            batches: OnceLock::new(),
            follow: Follow::default(),
            counters: Counters::default(),
            appetite: Mutex::default(),
        }
    }

    /// Sign the audit trail's heads, too, if there is something that does.
    pub fn signing(self, attester: Option<Attester>) -> Self {
        Self { attester, ..self }
    }

    /// What signs the audit trail's heads.
    pub fn attester(&self) -> Option<&Attester> {
        self.attester.as_ref()
    }

    /// Archive what ended long ago, too, if there is something that does.
    pub fn archiving(self, archiver: Option<Archiver>) -> Self {
        Self { archiver, ..self }
    }

    /// What archives, if that is configured.
    pub fn archiver(&self) -> Option<&Archiver> {
        self.archiver.as_ref()
    }

    /// Tell alarms so, rather than only keep and log them.
    pub fn alarming(self, alarmer: Alarmer) -> Self {
        Self { alarmer, ..self }
    }

    /// What finds and tells alarms.
    pub fn alarmer(&self) -> &Alarmer {
        &self.alarmer
    }

    /// Read this calendar of holidays again when it has changed.
    pub fn with_calendar(self, calendar: Option<hours::Calendar>) -> Self {
        Self { calendar: calendar.map(Arc::new), ..self }
    }

    /// Look for alarms, and tell what is to be told.
    ///
    /// # Errors
    /// The first error of the job table; the next tick tries again.
    pub async fn alarm(&self) -> Result<(), LedgerError> {
        let told = self.alarmer.tick(&*self.ledger, &self.hindrances()).await;
        let lacking = self.alarmer.say_lacking(&*self.ledger, &self.receipts).await;
        told.and(lacking)
    }

    /// Instances that have a key: no other can ever answer an order.
    pub fn known(&self) -> impl Iterator<Item = &Instance> {
        self.keyring.holders().filter_map(|holder| match holder {
            Holder::Instance(instance) => Some(instance),
            Holder::Scheduler => None,
        })
    }

    /// Say in the log which instances are down although jobs wait for them.
    ///
    /// # Errors
    /// If the ledger cannot be read; the next tick tries again.
    pub async fn warn_of_the_missing(&self) -> Result<(), LedgerError> {
        for (instance, state) in self.ledger.instances().await? {
            if state.down && state.waiting > 0 {
                let last = state.pulse_at.map(|at| at.to_string()).unwrap_or_else(|| "never".to_owned());
                let key = self.known().any(|known| *known == instance);
                tracing::warn!(%instance, last_pulse = last, waiting = state.waiting, key, "jobs wait for a consumer");
            }
        }
        Ok(())
    }

    /// Measure batches from now on. Once.
    pub(crate) fn measure(&self, batches: Batches) {
        let _ = self.batches.set(batches);
    }

    /// Decide and then publish what was decided. The results, in order.
    ///
    /// # Errors
    /// If the ledger did not do it; then nothing was decided and nothing is published, but for earlier parts of a batch
    /// that has more than 512 intents: those are decided and published.
    pub async fn run(&self, batch: Vec<Intent>) -> Result<Vec<Result<Decided, NotDone>>, LedgerError> {
        self.run_because(batch, Vec::new()).await
    }

    /// The same, with the spans that led to the intents, in order, as far as they are known.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_because(
        &self,
        batch: Vec<Intent>,
        causes: Vec<Option<SpanRef>>,
    ) -> Result<Vec<Result<Decided, NotDone>>, LedgerError> {
        self.run_by(&*self.ledger, batch, causes).await
    }

    /// The same, by this handle of the job table: for the one change of an attempt at a request.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_by(
        &self,
        ledger: &dyn Ledger,
        batch: Vec<Intent>,
        causes: Vec<Option<SpanRef>>,
    ) -> Result<Vec<Result<Decided, NotDone>>, LedgerError> {
        let mut results = Vec::with_capacity(batch.len());
        let mut rest = batch.into_iter().peekable();
        let mut causes = causes.into_iter();
        while rest.peek().is_some() {
            let part: Vec<Intent> = rest.by_ref().take(BATCH_MAX).collect();
            let followed = self.follow.batch(&*self.ledger, &part, causes.by_ref().take(part.len())).await;
            let (size, began) = (part.len(), Instant::now());
            let done = ledger.run(part).await?;
            if let Some(batches) = self.batches.get() {
                batches.decided(size, began.elapsed());
            }
            let unwritable = self.publish(&done, followed).await;
            if let Err(error) = self.settle_unwritable(unwritable).await {
                // The batch itself is decided and published. What could not be settled runs into its lease.
                tracing::error!(%error, "orders that cannot be written down are settled later");
            }
            results.extend(done);
        }
        Ok(results)
    }

    /// Why nothing is ordered, or signed, although everything answers.
    pub fn hindrances(&self) -> Vec<Hindrance> {
        let review = self.reviewing.load(Ordering::Relaxed).then_some(Hindrance::Review);
        let witness = self.witness.stale().map(|stale| Hindrance::Witness { stale });
        let trouble = self.attester.as_ref().and_then(Attester::trouble);
        let checkpoints = trouble.map(|why| Hindrance::Checkpoints { why });
        let broken = self.calendar.as_ref().and_then(|calendar| calendar.broken());
        let calendar = broken.map(|why| Hindrance::Calendar { why });
        review.into_iter().chain(witness).chain(checkpoints).chain(calendar).collect()
    }

    /// Say in the log why nothing is ordered, or signed, if so.
    pub fn warn_of_hindrances(&self) {
        for hindrance in self.hindrances() {
            tracing::error!(why = %hindrance, "{}", hindrance.consequence());
        }
    }

    /// Outcomes and progress arrived. Once this returns `Ok`, they may be acked, but for those that it names: they were not
    /// accepted, and nobody was shown that yet; or they are answers to orders of no record, and could not be written down. They
    /// are to be delivered again.
    ///
    /// # Errors
    /// If the ledger did not do it; then all are to be delivered again.
    pub async fn on_reports(&self, deliveries: &[Delivery]) -> Result<Vec<Tag>, LedgerError> {
        let mut bad = Vec::new();
        let mut intents = Vec::with_capacity(deliveries.len());
        let mut causes = Vec::new();
        let mut heard = Vec::new();
        let mut asides = BTreeSet::new();
        for delivery in deliveries {
            match intake::reports(&self.keyring, delivery) {
                Ok(found) => {
                    for (intent, cause) in found {
                        // No deletion has that number, so no decision is made about it.
                        if intent.deletion == canary::DELETION {
                            heard.extend(Heard::of(&intent.event));
                            asides.insert(delivery.tag);
                            continue;
                        }
                        intents.push(intent);
                        causes.push(cause);
                    }
                }
                Err(why) => bad.push((delivery, why)),
            }
        }
        // First: a canary that was accepted pauses everything, whatever becomes of the others. And no record waits because an
        // answer to something else cannot be written down.
        let unheard = self.hear_asides(heard).await.err();
        let answered: Vec<Option<(DeletionId, Fence)>> = intents.iter().map(answered).collect();
        let results = self.run_because(intents, causes).await?;
        let mut doubted = BTreeSet::new();
        for (result, answered) in results.iter().zip(answered) {
            if let Err(
                NotDone::NoSuchDeletion(_)
                | NotDone::Refused(Refusal::NeverGiven { .. } | Refusal::Stale { .. }),
            ) = result
            {
                doubted.extend(answered);
            }
        }
        for (deletion, fence) in doubted {
            self.doubt(deletion, fence).await?;
        }
        let mut again = self.reject("sexton.outcomes", bad).await;
        if let Some(error) = unheard {
            let why = chain(&error);
            tracing::error!(why, "answers to orders of no record are put back");
            again.extend(asides);
        }
        Ok(again)
    }

    /// An order is answered that is not out. Mostly the answer came late or twice; but if the job table has never given
    /// that order, a later state of it must have.
    async fn doubt(&self, deletion: DeletionId, fence: Fence) -> Result<(), LedgerError> {
        let mut known = self.ledger.known();
        if fence.epoch < known.mark.epoch {
            // Of an epoch that was reviewed, or is about to be.
            return Ok(());
        }
        if fence.epoch > known.mark.epoch.saturating_add(EPOCHS_AHEAD) {
            tracing::error!(%fence, "a consumer answers under an epoch that cannot be");
            return Ok(());
        }
        // Evidence is what stands in the trail. Counters are none: they are ahead of what was committed, and overtake
        // what was lost.
        let view = match self.ledger.deletion(deletion).await {
            // Evidence of neither; and put back, its answer would come again and again, with everybody else's.
            Err(error @ LedgerError::Corrupt { .. }) => {
                tracing::error!(%deletion, %fence, %error, "a trail cannot be read: whether this order was given is not known");
                return Ok(());
            }
            other => other?,
        };
        let given = match view {
            Some(view) => view.audit.iter().any(|row| row.event.ordered == Some(fence)),
            // Its trail is in the archive. Whether it knows of that order is not looked up: it ended long ago, and what
            // is in the archive has not gone back.
            None => self.ledger.stub(deletion).await?.is_some(),
        };
        if given {
            return Ok(());
        }
        known.mark.epoch = fence.epoch;
        known.landmarks = vec![Landmark::never_given(deletion, fence)];
        self.ledger.confront(&known).await.map(|_| ())
    }

    /// Write a checkpoint, with the heartbeat of whoever serves the API, and keep it outside the job table. If the table turns out to be an older one, it is put
    /// under review.
    ///
    /// # Errors
    /// If the ledger or the witness cannot be written; the next tick tries again.
    pub async fn checkpoint(&self) -> Result<(), LedgerError> {
        let known = match self.ledger.heartbeat().await {
            Err(LedgerError::WentBack(_)) => {
                self.ledger.confront(&self.ledger.known()).await?;
                self.ledger.heartbeat().await?
            }
            other => other?,
        };
        self.notice_review().await?;
        let witness = self.witness.clone();
        // A sync takes as long as the disk takes.
        let kept = tokio::task::spawn_blocking(move || witness.keep(&known)).await;
        let kept = kept.map_err(std::io::Error::other).and_then(|kept| kept);
        if let Err(error) = kept {
            // Not an error of the job table. What follows from it is told by `Witness::stale`.
            tracing::error!(%error, "the witness could not be kept");
        }
        Ok(())
    }

    /// The scheduler found jobs due. What it names is to be delivered again, as of [`Self::on_reports`].
    ///
    /// # Errors
    /// If the ledger did not do it; the scheduler will find them again.
    pub async fn on_stage_due(&self, deliveries: &[Delivery]) -> Result<Vec<Tag>, LedgerError> {
        let (mut found, mut bad) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            match intake::stage_due(&self.keyring, delivery) {
                Ok(jobs) => found.extend(jobs),
                Err(why) => bad.push((delivery, why)),
            }
        }
        self.claim(found).await?;
        Ok(self.reject("sexton.stage-due", bad).await)
    }

    /// Consumers are alive. What it names is to be delivered again, as of [`Self::on_reports`].
    ///
    /// # Errors
    /// If the ledger did not do it; the next pulse is not far.
    pub async fn on_pulses(&self, deliveries: &[Delivery]) -> Result<Vec<Tag>, LedgerError> {
        let (mut alive, mut bad) = (Vec::new(), Vec::new());
        for delivery in deliveries {
            match intake::pulse(&self.keyring, delivery) {
                Ok(copies) => alive.extend(copies),
                Err(why) => bad.push((delivery, why)),
            }
        }
        // The last word of each copy counts.
        let last: BTreeMap<_, _> =
            alive.into_iter().map(|one| ((one.instance.clone(), one.copy.clone()), one)).collect();
        let alive: Vec<_> = last.into_values().collect();
        if !alive.is_empty() {
            self.ledger.pulse(alive).await?;
        }
        Ok(self.reject("sexton.pulses", bad).await)
    }

    /// Leases that ran out, back-offs that are over, held jobs to look at again. Returns whether there may be
    /// more.
    ///
    /// # Errors
    /// If the ledger did not do it; the next tick tries again.
    pub async fn wake(&self) -> Result<bool, LedgerError> {
        if self.reviewing.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let due = self.ledger.to_wake(WAKE_MAX).await?;
        let full = due.len() >= WAKE_MAX as usize;
        let results = self.run(due).await?;
        Ok(full && results.iter().any(Result::is_ok))
    }
}

/// The order that an event says something about.
fn answered(intent: &Intent) -> Option<(DeletionId, Fence)> {
    match &intent.event {
        Event::Outcome { fence, .. } | Event::Progress { fence, .. } => Some((intent.deletion, *fence)),
        Event::Claim { .. }
        | Event::Proceed { .. }
        | Event::Recheck { .. }
        | Event::LeaseOver { .. }
        | Event::Cancel { .. }
        | Event::PlaceHold { .. }
        | Event::ReleaseHold { .. }
        | Event::Park { .. }
        | Event::Retry { .. }
        | Event::Waive { .. }
        | Event::Acknowledge { .. }
        | Event::Bounced { .. }
        | Event::Rescue { .. } => None,
    }
}

fn claim(job: JobId) -> Intent {
    Intent { deletion: job.deletion(), event: Event::Claim { job } }
}
