//! The cases of what only looks, and of what is captured for an undo: each may be asked for again.
use std::fmt::Debug;

use sexton_model::step::{Mode, RetryClass};

use super::bench::{Bench, retried};
use super::cases::take_back;
use super::fault::Fault;

/// What keeps a look from being answered.
const LOST: [Fault; 3] = [Fault::BeforeEffect, Fault::AfterEffect, Fault::PanicAfterEffect];

pub(super) async fn twice(bench: &Bench<'_>) -> Result<(), String> {
    let first = bench.done(bench.mode(), None).await?;
    bench.unchanged("looking").await?;
    same(&first, &bench.done(bench.mode(), None).await?)?;
    bench.unchanged("looking once more").await
}

pub(super) async fn again(bench: &Bench<'_>) -> Result<(), String> {
    let first = bench.done(bench.mode(), None).await?;
    for fault in LOST {
        lost(bench, bench.mode(), fault).await?;
        same(&first, &bench.done(bench.mode(), None).await?)?;
        bench.unchanged("looking again").await?;
    }
    Ok(())
}

/// Whichever of them is the one that counts, an undo by it is exact.
pub(super) async fn captured_again(bench: &Bench<'_>) -> Result<(), String> {
    let first = bench.capture().await?;
    let mut last = first.clone();
    for fault in LOST {
        lost(bench, Mode::Capture, fault).await?;
        last = bench.capture().await?;
        same(&first, &last)?;
    }
    bench.succeed(Mode::Perform, last.as_ref()).await?;
    take_back(bench, last.as_ref()).await
}

/// It may show what was done by then, or be refused; the job table keeps the first manifest.
pub(super) async fn captured_late(bench: &Bench<'_>) -> Result<(), String> {
    let manifest = bench.capture().await?;
    let order = bench.order(Mode::Perform, manifest.as_ref());
    retried(&bench.give(&order, Some(Fault::AfterEffect)).await, RetryClass::Failed)?;
    bench.give(&bench.order(Mode::Capture, None), None).await;
    bench.succeed(Mode::Perform, manifest.as_ref()).await?;
    let done = bench.world.snapshot().await;
    bench.give(&bench.order(Mode::Capture, None), None).await;
    bench.is(&done, "a capture after the effect").await?;
    take_back(bench, manifest.as_ref()).await
}

/// One that is not answered.
async fn lost(bench: &Bench<'_>, mode: Mode, fault: Fault) -> Result<(), String> {
    let verdict = bench.give(&bench.order(mode, None), Some(fault)).await;
    retried(&verdict, RetryClass::Failed)?;
    bench.unchanged("a look that was not answered").await?;
    bench.pass(1_000);
    Ok(())
}

fn same<T: PartialEq + Debug>(first: &T, again: &T) -> Result<(), String> {
    if first == again {
        return Ok(());
    }
    Err(format!("nothing has changed, and yet it saw {first:?} at first, and then {again:?}"))
}
