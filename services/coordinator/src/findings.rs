//! Findings: what is there, by the last complete listing, and nobody has registered. Read from the job table by the page, and
//! judged by [`sexton_model::belts::census::findings`]; nothing is written, and nothing is made of any of them.
//!
//! Whoever is limited to scopes is read what censuses list that speak of these, and shown what is of them: of a census of a
//! scope around them that may be nothing. So a page may be empty, and not the last one.
use sexton_ledger::{Ledger, LedgerError, Mark, StrangerFilter, Strangers};
use sexton_model::access::Extent;
use sexton_model::belts::census::findings::{Asked, Finding, STRANGERS_MAX, Source};
use sexton_model::{Kind, Scope};

use crate::plans::Plans;

/// The job table's pages looked at for one page, at most. That bounds what is judged, and not how long it takes: for each of them
/// the job table goes past what is kept of other kinds and scopes, and reads the last censuses and counts all that is kept anew.
const LOOK_PAGES: usize = 16;
/// How many are read at once: whatever is asked for, some of them may be no findings.
const READ_AT_ONCE: u32 = 1000;
// More than one census has, so that whoever begins with the last census of these again has come on.
const _: () = assert!(LOOK_PAGES * READ_AT_ONCE as usize > 2 * STRANGERS_MAX);

/// What is asked for, and by whom.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// What the asker is limited to.
    pub extent: &'a Extent,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only of this scope and those below it.
    pub scope: Option<Scope>,
    /// Behind this.
    pub after: Option<Mark>,
    /// At most so many, 1 to 1000.
    pub limit: u32,
}

/// One page.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// They, ascending by the scope of their census and by id.
    pub items: Vec<Finding>,
    /// Whether there are findings by the last censuses, and why not.
    pub censuses: Vec<Source>,
    /// Behind which the next page begins.
    pub next: Option<Mark>,
}

/// Read one page.
///
/// # Errors
/// If the job table cannot be read.
pub async fn page(ledger: &dyn Ledger, plans: &Plans, wanted: Wanted<'_>) -> Result<Found, LedgerError> {
    let Wanted { extent, kind, scope, after, limit } = wanted;
    let facts = ledger.facts().await?;
    let scopes = extent.limits();
    let mut filter =
        StrangerFilter { kind: kind.clone(), scope: scope.clone(), scopes, after, limit: READ_AT_ONCE };
    let most = limit as usize;
    let mut items: Vec<Finding> = Vec::new();
    let mut looked = 0;
    let (censuses, more) = loop {
        let Strangers { known, views, more } = ledger.strangers(&filter).await?;
        let (kind, scope) = (kind.as_ref(), scope.as_ref());
        let judge = known.judge(Asked { extent, kind, scope, day: facts.day, now: facts.now });
        if let Some(last) = views.last() {
            filter.after = Some(Mark::behind(&last.kept));
        }
        items.extend(views.into_iter().filter_map(|view| {
            let plan = plans.of_kind(&view.kept.stranger.id.kind).map(|plan| plan.version);
            judge.finding(view.kept, view.registered, plan)
        }));
        looked += 1;
        if !more || items.len() >= most || looked >= LOOK_PAGES {
            break (judge.sources(), more);
        }
    };
    let more = more || items.len() > most;
    let full = items.len() >= most;
    items.truncate(most);
    let shown = items.last().map(|last| Mark {
        scope: last.census_scope.clone(),
        kind: last.resource.kind.clone(),
        name: Some(last.resource.name.clone()),
    });
    let next = if full { shown } else { filter.after.map(|looked| beyond(looked, shown, extent)) };
    Ok(Found { items, censuses, next: next.filter(|_| more) })
}

/// Where the next page begins if nothing is left to show of all that was `looked` at. What is not shown is named to nobody who
/// is limited: for them it begins with the last census once more, of which they are told anyway, or behind what was `shown` of it.
fn beyond(looked: Mark, shown: Option<Mark>, extent: &Extent) -> Mark {
    if extent.is_everywhere() {
        return looked;
    }
    let of_it = shown.filter(|shown| shown.scope == looked.scope && shown.kind == looked.kind);
    of_it.unwrap_or(Mark { name: None, ..looked })
}
