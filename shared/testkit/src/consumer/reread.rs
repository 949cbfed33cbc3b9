//! The cases of targets that are read again before later stages.
use std::collections::BTreeSet;

use serde_json::{Map, Value};
use sexton_consumer::Verdict;
use sexton_model::canary;
use sexton_model::job::Stage;
use sexton_model::step::{Outcome, Presence, RetryClass};

use super::CannotBe;
use super::bench::{Bench, refused};

/// The stages before which targets are read again.
const LATER: [Stage; 3] = [Stage::Soft, Stage::Hard, Stage::Purge];
/// Tries of an order that is answered with "busy".
const TRIES: usize = 10;

pub(super) async fn nothing_new(bench: Bench<'_>) -> Result<(), String> {
    let bench = bench.pinned().await?;
    for stage in LATER {
        for _ in 0..2 {
            let (presence, new) = read(&bench, stage).await?;
            if presence != Presence::Present || !new.is_empty() {
                return Err(format!(
                    "before {stage} nothing had changed, and yet it says {presence:?} {new:?}"
                ));
            }
            bench.unchanged("reading targets again").await?;
        }
    }
    Ok(())
}

pub(super) async fn another(bench: Bench<'_>) -> Result<(), String> {
    let bench = bench.pinned().await?;
    bench.world.other_identity().await;
    let other = bench.world.snapshot().await;
    for stage in LATER {
        refused(&bench.give(&bench.reread(stage), None).await)?;
        bench.is(&other, "a refusal").await?;
    }
    Ok(())
}

pub(super) async fn gone(bench: Bench<'_>) -> Result<(), String> {
    let bench = bench.pinned().await?;
    bench.world.make_absent().await;
    let without = bench.world.snapshot().await;
    match bench.give(&bench.reread(Stage::Soft), None).await {
        Verdict::Answer(Outcome::Done {
            presence: Presence::Absent | Presence::Unknown, evidence, ..
        }) => {
            return Err(format!("unexpectedly absent before hard, and it says: {evidence}"));
        }
        _ => bench.is(&without, "looking before soft").await?,
    }
    for stage in [Stage::Hard, Stage::Purge] {
        let (_, new) = read(&bench, stage).await?;
        if !new.is_empty() {
            return Err(format!("it is gone, and yet there appeared {new:?}"));
        }
        bench.is(&without, "reading targets again").await?;
    }
    Ok(())
}

pub(super) async fn elsewhere(bench: Bench<'_>) -> Result<Option<CannotBe>, String> {
    let bench = bench.pinned().await?;
    if let Err(why) = bench.world.lose_place().await {
        return Ok(Some(why));
    }
    let lost = bench.world.snapshot().await;
    for stage in LATER {
        match bench.give(&bench.reread(stage), None).await {
            Verdict::Answer(Outcome::Done { evidence, .. }) => return Err(format!("it says: {evidence}")),
            _ => bench.is(&lost, "looking in another place").await?,
        }
    }
    Ok(None)
}

/// What is said to be pinned in another place, and is so by that place's name alone, is refused because of it: as the canary of
/// a wrong place asks for it each day.
pub(super) async fn named_elsewhere(bench: Bench<'_>, under: &BTreeSet<String>) -> Result<(), String> {
    let mut bench = bench.pinned().await?;
    let pinned = bench.template.targets.take().unwrap_or_default();
    bench.template.targets = Some(canary::elsewhere(&pinned, under)?);
    for stage in LATER {
        refused_elsewhere(&bench, stage).await?;
        bench.unchanged("a refusal").await?;
    }
    Ok(())
}

async fn refused_elsewhere(bench: &Bench<'_>, stage: Stage) -> Result<(), String> {
    for _ in 0..TRIES {
        match bench.give(&bench.reread(stage), None).await {
            Verdict::Answer(Outcome::Refused { reason }) if reason.contains(canary::ELSEWHERE) => {
                return Ok(());
            }
            Verdict::Answer(Outcome::Retry { class: RetryClass::Spared, .. }) => {}
            other => {
                return Err(format!("before {stage} it was not refused because of its place: {other:?}"));
            }
        }
    }
    Err(format!("before {stage} the subsystem was busy all the time"))
}

/// Pinned is as much as if all that is there had come into being afterwards.
pub(super) async fn something_new(bench: Bench<'_>) -> Result<(), String> {
    let mut bench = bench.pinned().await?;
    let whole = bench.template.targets.take().unwrap_or_default();
    bench.template.targets = Some(emptied(&whole));
    for stage in LATER {
        let (_, new) = read(&bench, stage).await?;
        if new.is_empty() {
            return Err(format!("pinned were {}, and of {whole} nothing had appeared", emptied(&whole)));
        }
        bench.unchanged("reading targets again").await?;
    }
    Ok(())
}

/// What would have been pinned in the same place if nothing had been there.
fn emptied(targets: &Value) -> Value {
    match targets {
        Value::Bool(_) => Value::Bool(false),
        Value::Array(_) => Value::Array(Vec::new()),
        Value::Object(table) => table.iter().map(|(key, value)| (key.clone(), emptied(value))).collect(),
        Value::Null | Value::Number(_) | Value::String(_) => targets.clone(),
    }
}

/// What was answered: whether it is there, and what has appeared.
async fn read(bench: &Bench<'_>, stage: Stage) -> Result<(Presence, Map<String, Value>), String> {
    for _ in 0..TRIES {
        match bench.give(&bench.reread(stage), None).await {
            Verdict::Answer(Outcome::Done { presence, finding: Some(Value::Object(new)), .. }) => {
                return Ok((presence, new));
            }
            Verdict::Answer(Outcome::Retry { class: RetryClass::Spared, .. }) => {}
            other => return Err(format!("before {stage} the targets could not be read again: {other:?}")),
        }
    }
    Err(format!("before {stage} the subsystem was busy all the time"))
}
