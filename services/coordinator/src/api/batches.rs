//! Batches that exceed a budget: looked at, and approved.
use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use sexton_api::{ApproveRequest, Approved, BatchDetails, BatchInfo, BatchMember, MEMBERS_SHOWN};
use sexton_ledger::{Approval, BatchRow, BatchView, Facts, LedgerError, Member, Note};
use sexton_model::belts::Pause;
use sexton_model::belts::budget::{self, Group};
use sexton_model::belts::ceiling::Ceilings;
use sexton_model::{DeletionId, Timestamp, undo};

use super::in_force::reasonable;
use super::problem::{Body, Refused};
use super::{Api, Asker, By, Once, Shared};

pub(super) async fn list(State(api): Shared, asker: Asker) -> Result<Json<Vec<BatchInfo>>, Refused> {
    Ok(Json(waiting(&api, &asker).await?))
}

pub(super) async fn waiting(api: &Api, asker: &Asker) -> Result<Vec<BatchInfo>, Refused> {
    let batches = api.engine.ledger.batches().await?;
    let crowds = crowds(&batches);
    let (pauses, ceilings) = stops(api).await?;
    let seen = batches.into_iter().filter(|row| asker.extent().contains(&row.group.scope));
    Ok(seen.map(|row| info(row, &crowds, (pauses.as_slice(), &ceilings))).collect())
}

/// What may keep a batch where it is beside its budget.
async fn stops(api: &Api) -> Result<(Vec<Pause>, Ceilings), Refused> {
    Ok((api.engine.ledger.pauses().await?, api.engine.ledger.ceilings().await?))
}

pub(super) async fn show(
    State(api): Shared,
    Path(batch): Path<String>,
) -> Result<Json<BatchDetails>, Refused> {
    let batch = number(&batch)?;
    let view = api.engine.ledger.batch(batch).await?;
    let view = view.ok_or_else(|| Refused::absent(format_args!("batch {batch} that waits")))?;
    Ok(Json(details(&api, view).await?))
}

pub(super) async fn approve(
    State(api): Shared,
    By(by): By,
    once: Once,
    Path(batch): Path<String>,
    Body(ApproveRequest { digest, reason }): Body<ApproveRequest>,
) -> Result<Json<Approved>, Refused> {
    let batch = number(&batch)?;
    if let Some(members) =
        once.noted(|note| if let Note::Approved(members) = note { Some(members) } else { None })?
    {
        return Ok(Json(Approved { batch, members }));
    }
    reasonable(&reason)?;
    let approval = Approval { batch, digest, by, reason };
    let members = api.engine.approve_by(&*once.ledger, approval).await??;
    api.engine.noted();
    Ok(Json(Approved { batch, members: members as u64 }))
}

fn number(batch: &str) -> Result<i64, Refused> {
    batch.parse().map_err(|_| Refused::field("batch", format!("batch {batch:?}: expected a number")))
}

fn crowds(batches: &[BatchRow]) -> BTreeSet<Group> {
    budget::crowds(batches.iter().map(|row| (&row.group, row.waiting, &row.exceeded)))
}

fn info(row: BatchRow, crowds: &BTreeSet<Group>, (pauses, ceilings): (&[Pause], &Ceilings)) -> BatchInfo {
    let BatchRow { batch, group, frozen_at, exceeded, waiting } = row;
    let (needs_approval, why) = (crowds.contains(&group), exceeded.to_string());
    let stopped_by = budget::stopped_by(&group, pauses, ceilings);
    BatchInfo { batch, group, since: frozen_at, waiting, needs_approval, why, stopped_by }
}

/// What whoever looks at a batch, or a crowd, has to know of each: they may find one that does not belong in it.
#[derive(Default)]
pub(super) struct Looked {
    /// What a cancel would restore, in a sentence.
    pub(super) undo: String,
    /// Until when that is certain.
    pub(super) cancel_until: Option<Timestamp>,
    /// Why nobody is told of it, if nobody is.
    pub(super) unannounced: Option<String>,
}

pub(super) async fn looked(api: &Api, deletion: DeletionId, facts: &Facts) -> Result<Looked, Refused> {
    match api.engine.ledger.deletion(deletion).await {
        Ok(Some(found)) => {
            let said = undo::undo(&found.deletion, facts.day, facts.now);
            let unannounced = found.deletion.plan.untold();
            Ok(Looked { undo: said.words, cancel_until: said.until, unannounced })
        }
        Ok(None) => {
            let undo = "nothing any more: it is over, and was archived".to_owned();
            Ok(Looked { undo, ..Looked::default() })
        }
        // It fails alone.
        Err(error @ LedgerError::Corrupt { .. }) => {
            Ok(Looked { undo: error.to_string(), ..Looked::default() })
        }
        Err(error) => Err(error.into()),
    }
}

/// With what a cancel of each member would restore.
async fn details(api: &Api, view: BatchView) -> Result<BatchDetails, Refused> {
    let digest = view.digest();
    let facts = api.engine.ledger.facts().await?;
    let crowds = crowds(&api.engine.ledger.batches().await?);
    let mut members = Vec::with_capacity(view.members.len().min(MEMBERS_SHOWN));
    for member in view.members.into_iter().take(MEMBERS_SHOWN) {
        let deletion = member.job.deletion();
        let Looked { undo, cancel_until, unannounced } = looked(api, deletion, &facts).await?;
        let Member { resource, requested_by, .. } = member;
        members.push(BatchMember { deletion, resource, requested_by, undo, cancel_until, unannounced });
    }
    let (pauses, ceilings) = stops(api).await?;
    Ok(BatchDetails { digest, members, info: info(view.row, &crowds, (pauses.as_slice(), &ceilings)) })
}
