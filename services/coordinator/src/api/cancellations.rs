//! Cancelling all of a scope, and who is restored first.
//!
//! A request takes one page, so that it may be repeated: what was cancelled before is being restored and says so, and
//! what fails fails alone. So a key of such a request has nothing noted: what is cancelled twice is cancelled once, and
//! what was made since it was first sent is left alone. The order is that of the restores: by priority, then by number.
//!
//! Priorities may be changed while it runs, and what one of them has moved behind the cursor is on no page that follows. So
//! unless one page had all of them, whatever is live at the end of that order is gone through once more by number, which
//! never changes: two passes, and nothing that was live is left untried.
use axum::extract::{Path, State};
use axum::{Extension, Json};
use sexton_api::{
    CANCEL_MAX, CancelCursor, CancelScope, Cancellation, Cancellations, Prioritize, ResourceInfo,
};
use sexton_ledger::{Intent, LedgerError, LiveRecord, Note, WITHIN_MAX};
use sexton_model::access::{Permission, Reach};
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_model::{Actor, Timestamp, undo};

use super::in_force::reasonable;
use super::problem::{Body, Denial, Refused};
use super::{Api, Asker, By, Once, Shared, resources};

pub(super) async fn cancel(
    State(api): Shared,
    asker: Asker,
    By(by): By,
    once: Once,
    Body(CancelScope { scope, reason, dry_run, after, limit }): Body<CancelScope>,
) -> Result<(Option<Extension<Denial>>, Json<Cancellations>), Refused> {
    asker.may(Permission::Cancel, Reach::Scope(&scope))?;
    reasonable(&reason)?;
    let all = match api.engine.ledger.live_within(&scope).await {
        Err(LedgerError::TooMany { .. }) => {
            let detail =
                format!("scope: more than {WITHIN_MAX} records of {scope} are live: cancel scopes below it");
            return Err(Refused::field("scope", detail));
        }
        other => other?,
    };
    let live = all.len() as u64;
    let limit = limit.unwrap_or(CANCEL_MAX).clamp(1, CANCEL_MAX);
    let (page, next) = page(all, after, dry_run, limit);
    let mut items = Vec::with_capacity(page.len());
    for one in page {
        items.push(preview(&api, one, once.first_sent()).await?);
    }
    let mut denial = None;
    if !dry_run {
        items = decide(&api, items, &by, &reason).await?;
        denial = too_late(&items).map(|why| Extension(Denial(why)));
    }
    Ok((denial, Json(Cancellations { items, live, next })))
}

/// That some go on all the same, and the first of them: to be written down.
fn too_late(items: &[Cancellation]) -> Option<String> {
    let refused = || items.iter().filter(|item| !item.cancelled && item.status == RecordStatus::Live);
    let first = refused().next()?;
    let Cancellation { deletion, resource, why, .. } = first;
    Some(format!("{} not cancelled: {deletion} of {resource}: {why}", refused().count()))
}

/// Those of the live records that come behind the cursor, in the order of restores, and where the next page begins.
fn page(
    mut all: Vec<LiveRecord>,
    after: Option<CancelCursor>,
    dry_run: bool,
    limit: usize,
) -> (Vec<LiveRecord>, Option<CancelCursor>) {
    let in_order = |one: &LiveRecord| (one.priority, one.deletion);
    // What is only shown stays live, and needs one pass: that by which nothing is forgotten.
    let after = after.or_else(|| dry_run.then_some(CancelCursor::Left { behind: None }));
    match after {
        None => all.sort_by_key(in_order),
        Some(CancelCursor::InOrder { priority, deletion }) => {
            all.retain(|one| in_order(one) > (priority, deletion));
            all.sort_by_key(in_order);
        }
        Some(CancelCursor::Left { behind }) => {
            // What comes back already was cancelled before.
            all.retain(|one| Some(one.deletion) > behind && (dry_run || one.status == RecordStatus::Live));
            all.sort_by_key(|one| one.deletion);
        }
    }
    let more = all.len() > limit;
    all.truncate(limit);
    let last = all.last().filter(|_| more);
    let next = match (after, last) {
        (Some(CancelCursor::Left { .. }), last) => {
            last.map(|one| CancelCursor::Left { behind: Some(one.deletion) })
        }
        (_, Some(one)) => Some(CancelCursor::InOrder { priority: one.priority, deletion: one.deletion }),
        (Some(CancelCursor::InOrder { .. }), None) => Some(CancelCursor::Left { behind: None }),
        // All of them were on one page.
        (None, None) => None,
    };
    all.sort_by_key(in_order);
    (all, next)
}

/// What a cancel would do to one.
async fn preview(api: &Api, one: LiveRecord, first_sent: Option<Timestamp>) -> Result<Cancellation, Refused> {
    let ledger = &api.engine.ledger;
    let mut item = Cancellation {
        deletion: one.deletion,
        resource: one.resource,
        priority: one.priority,
        status: one.status,
        cancelled: false,
        restores: Vec::new(),
        until: None,
        why: String::new(),
    };
    match ledger.deletion(one.deletion).await {
        Ok(Some(view)) => {
            let facts = ledger.facts().await?;
            let said = undo::undo(&view.deletion, facts.day, facts.now);
            item.status = view.deletion.status;
            (item.cancelled, item.restores, item.until) = (said.possible, said.steps, said.until);
            if !said.possible {
                item.why = said.words;
            }
            // Whoever asked did not mean what was made while the answer was lost.
            if first_sent.is_some_and(|sent| view.deletion.record.created_at > sent) {
                item.cancelled = false;
                item.why = "it was made after this was first asked for under its key".to_owned();
            }
        }
        Ok(None) => item.why = "it is over, and was archived".to_owned(),
        // It fails alone.
        Err(error @ LedgerError::Corrupt { .. }) => item.why = error.to_string(),
        Err(error) => return Err(error.into()),
    }
    Ok(item)
}

/// Cancel those of which the preview says that it is possible; the decision counts.
async fn decide(
    api: &Api,
    items: Vec<Cancellation>,
    by: &Actor,
    reason: &str,
) -> Result<Vec<Cancellation>, Refused> {
    let cancel = |item: &Cancellation| Intent {
        deletion: item.deletion,
        event: Event::Cancel { by: by.clone(), reason: reason.to_owned() },
    };
    let batch: Vec<Intent> = items.iter().filter(|item| item.cancelled).map(cancel).collect();
    // A caller who hangs up between decision and publishing does not end it there: the request is a task of its own (`once`).
    let mut results = api.engine.run(batch).await?.into_iter();
    let settled = |mut item: Cancellation| {
        if !item.cancelled {
            return item;
        }
        match results.next() {
            Some(Ok(decided)) => item.status = decided.status,
            Some(Err(why)) => (item.cancelled, item.why) = (false, why.to_string()),
            None => (item.cancelled, item.why) = (false, "it was not answered".to_owned()),
        }
        item
    };
    Ok(items.into_iter().map(settled).collect())
}

pub(super) async fn prioritize(
    State(api): Shared,
    By(by): By,
    once: Once,
    Path((kind, name)): Path<(String, String)>,
    Body(Prioritize { priority }): Body<Prioritize>,
) -> Result<Json<ResourceInfo>, Refused> {
    let id = resources::id_of(&kind, &name)?;
    if once.noted(|note| (note == Note::Prioritized).then_some(()))?.is_none() {
        once.ledger.prioritize(&id, priority, &by).await??;
        api.engine.noted();
    }
    resources::show(State(api), Path((kind, name))).await
}

#[cfg(test)]
mod tests {
    use sexton_model::DeletionId;

    use super::*;

    fn live(number: i64, priority: i16) -> LiveRecord {
        LiveRecord {
            deletion: DeletionId(number),
            resource: format!("vm/web{number:02}").parse().unwrap(),
            status: RecordStatus::Live,
            priority,
        }
    }

    /// Which records each page has, if what is cancelled comes back and one change is made behind each page.
    fn pages(
        mut all: Vec<LiveRecord>,
        dry_run: bool,
        change: impl Fn(&mut Vec<LiveRecord>),
    ) -> Vec<Vec<i64>> {
        let (mut after, mut pages) = (None, Vec::new());
        loop {
            let (page, next) = page(all.clone(), after, dry_run, 2);
            // The first one is too late.
            let cancelled =
                |one: &LiveRecord| !dry_run && one.deletion != DeletionId(1) && page.contains(one);
            let comes_back = |one: LiveRecord| match cancelled(&one) {
                true => LiveRecord { status: RecordStatus::Restoring, ..one },
                false => one,
            };
            all = all.into_iter().map(comes_back).collect();
            pages.push(page.iter().map(|one| one.deletion.0).collect());
            change(&mut all);
            assert!(pages.len() < 10, "{pages:?}");
            match next {
                Some(next) => after = Some(next),
                None => return pages,
            }
        }
    }

    #[test]
    fn what_goes_on_all_the_same_is_written_down() {
        let item = |number: i64, cancelled: bool, status: RecordStatus| {
            let LiveRecord { deletion, resource, priority, .. } = live(number, 0);
            let why = if cancelled { "" } else { "hard has begun" }.to_owned();
            let restores = Vec::new();
            Cancellation { deletion, resource, priority, status, cancelled, restores, until: None, why }
        };
        let comes_back = || item(2, false, RecordStatus::Restoring);
        assert_eq!(too_late(&[item(1, true, RecordStatus::Restoring), comes_back()]), None);
        let late = [comes_back(), item(3, false, RecordStatus::Live), item(4, false, RecordStatus::Live)];
        assert_eq!(too_late(&late).unwrap(), "2 not cancelled: d-3 of vm/web03: hard has begun");
    }

    #[test]
    fn whatever_changes_meanwhile_nothing_that_is_live_is_forgotten() {
        let all = || vec![live(1, 0), live(2, 0), live(3, -5), live(4, 7), live(5, 9)];
        let nothing = |_: &mut Vec<LiveRecord>| ();
        // What is too late is tried again, and stays.
        let ordered = [vec![3, 1], vec![2, 4], vec![5], vec![1]];
        assert_eq!(pages(all(), false, nothing), ordered);
        let first = |all: &mut Vec<LiveRecord>| all.iter_mut().for_each(|one| one.priority = -9);
        assert_eq!(pages(all(), false, first), [vec![3, 1], vec![], vec![1, 2], vec![4, 5]]);
        let last = |all: &mut Vec<LiveRecord>| all[2].priority = 100;
        assert_eq!(pages(all(), false, last), [vec![3, 1], vec![2, 4], vec![5, 3], vec![1]]);
        // What is only shown goes by number.
        assert_eq!(pages(all(), true, first), [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(pages(vec![live(1, 0), live(2, -1)], false, nothing), [vec![2, 1]], "one page has all");
        assert_eq!(pages(Vec::new(), false, nothing), [Vec::<i64>::new()]);
    }
}
