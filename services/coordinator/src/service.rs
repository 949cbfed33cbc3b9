//! The loops: what calls the handlers, and when. Everything here may be stopped at any line.
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sexton_bus::{Acker, Bus, BusError, Queue, Subscription, Tag};
use sexton_ledger::LedgerError;
use sexton_model::DeletionId;
use sexton_model::request_key::SWEPT_MAX;
use sexton_service::wind_down;
use tokio::sync::Notify;
use tokio::task::JoinError;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::engine::{Engine, TEND_CENSUSES_EVERY, TEND_EVERY, TEND_SURVEYS_EVERY};
use crate::{archiver, attester, notary};

/// Messages taken from a queue before any is acked: several batches, so that the next ones arrive while one is
/// decided.
const PREFETCH: u16 = 1024;
/// Messages in one batch. A message is a pack of up to 16, and the job table takes up to 1024 intents at once; half of
/// them, so that some are decoded and published while others are decided and written.
const BATCH_MESSAGES: usize = 32;
/// How long a batch waits to fill: milliseconds cost latency, a transaction per message costs throughput.
const LINGER: Duration = Duration::from_millis(3);
/// Loops that settle reports: while one waits for the job table, the other decodes and publishes. More would only
/// make the batches smaller.
const SETTLERS: usize = 2;
/// How often leases, back-offs and rechecks are looked at.
const WAKE_EVERY: Duration = Duration::from_millis(200);
/// How often free credit is given out even if nobody said that some came free.
const REFILL_EVERY: Duration = Duration::from_millis(200);
/// The beacon's rhythm.
const BEACON_EVERY: Duration = Duration::from_secs(1);
/// Batches that wait fit again with the budget's parts of a day, minutes in all but rehearsals.
const ADMIT_EVERY: Duration = Duration::from_secs(2);
/// How often the log says for whom jobs wait in vain, and why nothing is ordered: often enough to be seen, too rarely
/// to fill a disk.
const WARN_EVERY: Duration = Duration::from_secs(30);
/// How often a checkpoint is written: how much of the past a machine that loses power may forget.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How long the last round over the audit trail may take at a shutdown. What is not signed then is signed at the next
/// start.
const LAST_ROUND: Duration = Duration::from_secs(3);
/// How long loops may take that were cut off. They end at the next thing that they wait for; one whose thread stands still, as
/// on a file system that does not answer, does not come to it.
const CUT_OFF: Duration = Duration::from_secs(1);
/// How often records that ended long ago are looked for. They have waited for days.
const ARCHIVE_EVERY: Duration = Duration::from_secs(3600);
/// How often keys of requests are forgotten that were kept long enough: that is days, so it does not matter.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Pause after the ledger, or the broker that is to show what was rejected, could not be reached.
const AFTER_ERROR: Duration = Duration::from_millis(500);

/// Why a coordinator ended although nobody asked it to.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// A queue cannot be opened.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// A loop died: a defect. What it did stands still until another coordinator is started.
    #[error("a loop of the coordinator died")]
    Died(#[source] JoinError),
    /// The job table will not answer this process any more.
    #[error("the job table is lost to this process")]
    Lost(#[source] LedgerError),
}

/// Run a coordinator until `shutdown`.
///
/// # Errors
/// If a queue cannot be opened, if a loop died, or if the job table is lost to this process; in these cases `shutdown` is
/// cancelled.
pub async fn run(engine: Arc<Engine>, bus: Arc<dyn Bus>, shutdown: CancellationToken) -> Result<(), Ended> {
    let queues = tokio::select! {
        biased;
        // Nothing was begun that would have to be ended.
        () = shutdown.cancelled() => return Ok(()),
        queues = subscribe(bus.as_ref()) => queues?,
    };
    let freed = Arc::new(Notify::new());
    let mut tasks = tokio::task::JoinSet::new();
    for (queue, what) in queues {
        tasks.spawn(consume(engine.clone(), queue, what, freed.clone(), shutdown.clone()));
    }
    tasks.spawn(refill(engine.clone(), freed, shutdown.clone()));
    tasks.spawn(wake(engine.clone(), shutdown.clone()));
    tasks.spawn(admit(engine.clone(), shutdown.clone()));
    tasks.spawn(warn(engine.clone(), shutdown.clone()));
    tasks.spawn(checkpoint(engine.clone(), shutdown.clone()));
    tasks.spawn(attest(engine.clone(), shutdown.clone()));
    tasks.spawn(archive(engine.clone(), shutdown.clone()));
    tasks.spawn(receipts(engine.clone(), shutdown.clone()));
    tasks.spawn(forget(engine.clone(), shutdown.clone()));
    tasks.spawn(alarms(engine.clone(), shutdown.clone()));
    tasks.spawn(canaries(engine.clone(), shutdown.clone()));
    tasks.spawn(censuses(engine.clone(), shutdown.clone()));
    tasks.spawn(surveys(engine.clone(), shutdown.clone()));
    tasks.spawn(beacon(engine.clone(), shutdown.clone()));
    let mut died = None;
    let lost = Arc::new(OnceLock::new());
    tasks.spawn(watch_ledger(engine.clone(), lost.clone(), shutdown.clone()));
    let all_ended = async {
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                // A loop that died would leave its queue standing; better to end whole and be started again.
                tracing::error!(%error, "a loop of the coordinator ended");
                shutdown.cancel();
                died.get_or_insert(error);
            }
        }
    };
    if wind_down(&shutdown, all_ended).await.is_none() {
        tracing::warn!(loops = tasks.len(), "told to stop, and something takes longer: it is cut off");
        if tokio::time::timeout(CUT_OFF, tasks.shutdown()).await.is_err() {
            tracing::warn!(loops = tasks.len(), "something stands still, and is left behind");
        }
    }
    // After everybody else, so that what they have decided last is signed, too.
    if tokio::time::timeout(LAST_ROUND, round(&engine, &CancellationToken::new())).await.is_err() {
        tracing::warn!("what has grown of the audit trail is signed at the next start");
    }
    let lost = Arc::into_inner(lost).and_then(OnceLock::into_inner);
    died.map(Ended::Died).or(lost.map(Ended::Lost)).map_or(Ok(()), Err)
}

/// Whoever goes on with a job table that does not answer any more looks alive, and is of no use: better to end.
async fn watch_ledger(engine: Arc<Engine>, lost: Arc<OnceLock<LedgerError>>, shutdown: CancellationToken) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        error = engine.ledger.lost() => {
            tracing::error!(%error, "the job table is lost to this process, which ends");
            lost.set(error).ok();
            shutdown.cancel();
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum What {
    Reports,
    StageDue,
    Pulses,
    Rejections,
}

/// All that a coordinator reads, before it begins with any of it.
async fn subscribe(bus: &dyn Bus) -> Result<Vec<(Box<dyn Subscription>, What)>, BusError> {
    let mut queues = Vec::new();
    for _ in 0..SETTLERS {
        queues.push((bus.consume(&Queue::Outcomes, PREFETCH).await?, What::Reports));
    }
    queues.push((bus.consume(&Queue::StageDue, 64).await?, What::StageDue));
    queues.push((bus.consume(&Queue::Pulses, 256).await?, What::Pulses));
    queues.push((bus.consume(&Queue::Canaries, 256).await?, What::Rejections));
    Ok(queues)
}

async fn consume(
    engine: Arc<Engine>,
    mut from: Box<dyn Subscription>,
    what: What,
    freed: Arc<Notify>,
    shutdown: CancellationToken,
) {
    loop {
        let deliveries = tokio::select! {
            () = shutdown.cancelled() => return,
            deliveries = from.next_batch(BATCH_MESSAGES, LINGER) => deliveries,
        };
        if deliveries.is_empty() {
            continue;
        }
        let done = match what {
            What::Reports => engine.on_reports(&deliveries).await,
            What::StageDue => engine.on_stage_due(&deliveries).await,
            What::Pulses => engine.on_pulses(&deliveries).await,
            What::Rejections => engine.on_rejections(&deliveries).await.map(|()| Vec::new()),
        };
        let tags: Vec<Tag> = deliveries.into_iter().map(|d| d.tag).collect();
        match done {
            Ok(again) => {
                from.ack(tags.into_iter().filter(|tag| !again.contains(tag)).collect()).await;
                put_back_later(from.acker(), again);
                freed.notify_one();
            }
            Err(error) => {
                complain("messages are put back", &error);
                from.nack(tags).await;
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

/// What nobody was shown to be rejected comes again after a pause, for which nobody else waits. There are never more of them
/// than are prefetched; if this is stopped first, the end of the subscription puts them back.
fn put_back_later(acker: Acker, tags: Vec<Tag>) {
    if !tags.is_empty() {
        tokio::spawn(async move {
            tokio::time::sleep(AFTER_ERROR).await;
            acker.nack(tags).await;
        });
    }
}

async fn refill(engine: Arc<Engine>, freed: Arc<Notify>, shutdown: CancellationToken) {
    let mut tick = interval(REFILL_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
            () = freed.notified() => {}
        }
        match engine.refill().await {
            // One round takes a bounded number of jobs: as long as some went on there may be more.
            Ok(went_on) if went_on > 0 => freed.notify_one(),
            Ok(_) => {}
            Err(error) => {
                complain("free credit is given out later", &error);
                tokio::time::sleep(AFTER_ERROR).await;
            }
        }
    }
}

async fn wake(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut tick = interval(WAKE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        loop {
            match engine.wake().await {
                Ok(true) if !shutdown.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    complain("leases are looked at later", &error);
                    break;
                }
            }
        }
    }
}

async fn admit(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut tick = interval(ADMIT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = engine.admit_what_waits().await {
            complain("batches that fit by now are let go later", &error);
        }
    }
}

async fn warn(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut tick = interval(WARN_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, before anybody can have pulsed.
    tick.tick().await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        engine.warn_of_hindrances();
        if let Err(error) = engine.warn_of_the_missing().await {
            complain("nobody knows who is missing", &error);
        }
        if let Err(error) = engine.tend_calendar().await {
            complain("nobody knows whether the calendar of holidays has changed, or is over", &error);
        }
    }
}

/// Forget what was sent under keys long ago, a bounded piece at a time, and surveys that are old.
async fn forget(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut tick = interval(FORGET_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = engine.ledger.forget_surveys().await {
            complain("surveys are forgotten later", &error);
        }
        loop {
            match engine.ledger.forget_keys().await {
                Ok(gone) if gone >= u64::from(SWEPT_MAX) && !shutdown.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    complain("keys of requests are forgotten later", &error);
                    break;
                }
            }
        }
    }
}

async fn alarms(engine: Arc<Engine>, shutdown: CancellationToken) {
    let alarmer = engine.alarmer();
    if let Some(why) = alarmer.lacks() {
        tracing::warn!("{why}");
    }
    let mut tick = interval(alarmer.every());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // A route may take a minute: whoever is stopped leaves what it tells to its lease.
        let done = tokio::select! {
            () = shutdown.cancelled() => return,
            done = async { tick.tick().await; engine.alarm().await } => done,
        };
        if let Err(error) = done {
            complain("alarms are looked for, and told, later", &error);
        }
    }
}

async fn checkpoint(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut tick = interval(CHECKPOINT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = engine.checkpoint().await {
            complain("the witness is not up to date", &error);
        }
    }
}

async fn attest(engine: Arc<Engine>, shutdown: CancellationToken) {
    let Some(attester) = engine.attester() else { return };
    let mut tick = interval(attester.every());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // The first one comes at once: whoever was killed has left something unsigned.
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        round(&engine, &shutdown).await;
    }
}

/// Sign until nothing has grown.
async fn round(engine: &Engine, shutdown: &CancellationToken) {
    let Some(attester) = engine.attester() else { return };
    let mut left = Some(attester::Round::default());
    while let Some(round) = left.take().filter(|_| !shutdown.is_cancelled()) {
        left = attester.go_on(&*engine.ledger, round).await;
    }
}

/// Sign receipts as purges end; and, as often as heads are signed, look for those that were missed.
async fn receipts(engine: Arc<Engine>, shutdown: CancellationToken) {
    let Some(attester) = engine.attester() else { return };
    let mut tick = interval(attester.every());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // The first round comes at once: whoever was killed has left something unsigned.
        let mut left = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => Some(DeletionId(0)),
            () = engine.receipts.some.notified() => None,
        };
        loop {
            match notary::sign_noted(&engine.receipts, attester, &*engine.ledger).await {
                Ok(true) if !shutdown.is_cancelled() => {}
                Ok(_) => break,
                Err(error) => {
                    complain("receipts are signed later", &error);
                    break;
                }
            }
        }
        while let Some(after) = left.take().filter(|_| !shutdown.is_cancelled()) {
            match notary::go_on(&engine.receipts, attester, &*engine.ledger, after).await {
                Ok(next) => left = next,
                Err(error) => complain("receipts are signed later", &error),
            }
        }
    }
}

async fn archive(engine: Arc<Engine>, shutdown: CancellationToken) {
    let Some(archiver) = engine.archiver() else { return };
    let mut tick = interval(ARCHIVE_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        let mut left = Some(archiver::Round::default());
        while let Some(round) = left.take().filter(|_| !shutdown.is_cancelled()) {
            match archiver.go_on(&*engine.ledger, round).await {
                Ok(next) => left = next,
                Err(error) => complain("nothing is archived for now", &error),
            }
        }
    }
}

async fn canaries(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut tick = interval(TEND_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, before consumers that are started with this can have heard a beacon.
    tick.tick().await;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = engine.tend_canaries().await {
            complain("canaries are looked after later", &error);
        }
        if let Err(error) = engine.tend_drills().await {
            complain("drills are looked after later", &error);
        }
    }
}

async fn censuses(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut tick = interval(TEND_CENSUSES_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once, before consumers that are started with this can have heard a beacon.
    tick.tick().await;
    loop {
        // Whoever is stopped leaves what was begun to the others: all of it stands in the job table.
        let done = tokio::select! {
            () = shutdown.cancelled() => return,
            done = async { tick.tick().await; engine.tend_censuses().await } => done,
        };
        if let Err(error) = done {
            complain("censuses are taken later", &error);
        }
    }
}

async fn surveys(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut tick = interval(TEND_SURVEYS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = engine.tend_surveys().await {
            complain("surveys are sent again later", &error);
        }
    }
}

async fn beacon(engine: Arc<Engine>, shutdown: CancellationToken) {
    let mut tick = interval(BEACON_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = engine.beacon().await {
            complain("no beacon: consumers will stop", &error);
        }
    }
}

fn complain(consequence: &str, error: &LedgerError) {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    tracing::error!(%error, source, consequence, "the job table did not answer");
}
