//! The cases of who falls asleep under a permit: the SDK has given it, and only the driver can still ask.
use serde_json::Value;
use sexton_consumer::Verdict;
use sexton_model::beacon::{FRESH_MS, NotNow};
use sexton_model::step::{Mode, Outcome, RetryClass};

use super::bench::{BUSY_PAUSE, BUSY_TRIES, Bench};
use super::fault::Fault;

/// The shortest nap after which the beacon is too old.
const NAP_MS: u64 = FRESH_MS + 1;
/// Added to the deadline of who naps: a driver's calls still have all the time they need.
const LEFT_MS: u64 = 60_000;

pub(super) async fn perform(bench: &Bench<'_>) -> Result<(), String> {
    let reference = Bench::new(bench.fixture, bench.name, bench.action).await?;
    let manifest = reference.capture().await?;
    reference.succeed(Mode::Perform, manifest.as_ref()).await?;
    let wanted = reference.world.snapshot().await;

    let manifest = bench.capture().await?;
    both(bench, Mode::Perform, manifest.as_ref(), &wanted).await
}

pub(super) async fn undo(bench: &Bench<'_>) -> Result<(), String> {
    let manifest = bench.capture().await?;
    bench.succeed(Mode::Perform, manifest.as_ref()).await?;
    both(bench, Mode::Undo, manifest.as_ref(), &bench.before).await
}

async fn both(bench: &Bench<'_>, mode: Mode, manifest: Option<&Value>, wanted: &Value) -> Result<(), String> {
    let before = bench.world.snapshot().await;
    napped(bench, mode, manifest, &before).await?;
    overslept(bench, mode, manifest, &before).await?;
    bench.pass(1_000);
    bench.succeed(mode, manifest).await?;
    bench.is(wanted, "the order that came later").await
}

/// Nobody knows any more whether there is a pause, and there is time left: nothing keeps the driver from the change but
/// that it asks. So the answer has to be that of the permit.
async fn napped(
    bench: &Bench<'_>,
    mode: Mode,
    manifest: Option<&Value>,
    before: &Value,
) -> Result<(), String> {
    let too_old = NotNow::Stale { age_ms: NAP_MS }.to_string();
    let mut busy = String::new();
    for _ in 0..BUSY_TRIES {
        bench.pass(1);
        let mut order = bench.order(mode, manifest);
        order.deadline = order.deadline.plus_ms(LEFT_MS);
        let verdict = bench.give(&order, Some(Fault::SleepUnderPermit(NAP_MS))).await;
        bench.is(before, "napping under a permit").await?;
        match verdict {
            Verdict::Answer(Outcome::Retry { class: RetryClass::Spared, reason }) => {
                if reason.contains(&too_old) {
                    return Ok(());
                }
                // As for any order: a program that another world starts at the moment may hold a lock.
                busy = reason;
                tokio::time::sleep(BUSY_PAUSE).await;
            }
            other => return Err(format!("was not told by its permit that {too_old}: {other:?}")),
        }
    }
    Err(format!("was busy all the time: {busy}"))
}

/// The deadline has passed. Of a driver that waits for something the SDK makes an end, too.
async fn overslept(
    bench: &Bench<'_>,
    mode: Mode,
    manifest: Option<&Value>,
    before: &Value,
) -> Result<(), String> {
    bench.pass(1);
    let past_ms = bench.action.deadline_ms + bench.action.longest_call_ms + 10_000;
    let order = bench.order(mode, manifest);
    let verdict = bench.give(&order, Some(Fault::SleepUnderPermit(past_ms))).await;
    bench.is(before, "sleeping past the deadline under a permit").await?;
    match verdict {
        Verdict::Answer(Outcome::Retry { .. }) => Ok(()),
        other => Err(format!("was not answered with retry: {other:?}")),
    }
}
