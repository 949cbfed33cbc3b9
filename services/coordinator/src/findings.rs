//! Findings: what is there, by the last complete listing, and nobody has registered. Read from the job table by the page, and
//! judged by [`sexton_model::belts::census::findings`]; nothing is written, and nothing is made of any of them.
use sexton_ledger::{Ledger, LedgerError, StrangerFilter, Strangers};
use sexton_model::access::Extent;
use sexton_model::belts::census::findings::{Asked, Finding, Source};
use sexton_model::{Kind, ResourceId, Scope};

use crate::plans::Plans;

/// The job table's pages looked at for one page: whoever is limited to one scope of many is asked to name it.
const LOOK_PAGES: usize = 16;
/// How many are read at once: whatever is asked for, some of them may be no findings.
const READ_AT_ONCE: u32 = 1000;

/// What is asked for, and by whom.
#[derive(Debug, Clone)]
pub struct Wanted<'a> {
    /// What the asker is limited to.
    pub extent: &'a Extent,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only of this scope and those below it.
    pub scope: Option<Scope>,
    /// Behind this one, of the census of that scope.
    pub after: Option<(Scope, ResourceId)>,
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
    pub next: Option<(Scope, ResourceId)>,
}

/// Read one page. Nothing if there was none to show among very many of other scopes.
///
/// # Errors
/// If the job table cannot be read.
pub async fn page(
    ledger: &dyn Ledger,
    plans: &Plans,
    wanted: Wanted<'_>,
) -> Result<Option<Found>, LedgerError> {
    let Wanted { extent, kind, scope, after, limit } = wanted;
    let facts = ledger.facts().await?;
    let mut filter = StrangerFilter { kind: kind.clone(), scope: scope.clone(), after, limit: READ_AT_ONCE };
    let most = limit as usize;
    let mut items: Vec<Finding> = Vec::new();
    let mut looked = 0;
    let (censuses, more) = loop {
        let Strangers { known, views, more } = ledger.strangers(&filter).await?;
        let (kind, scope) = (kind.as_ref(), scope.as_ref());
        let judge = known.judge(Asked { extent, kind, scope, day: facts.day, now: facts.now });
        if let Some(last) = views.last() {
            filter.after = Some((last.kept.listed_in.clone(), last.kept.stranger.id.clone()));
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
    items.truncate(most);
    let shown = items.last().map(|last| (last.census_scope.clone(), last.resource.clone()));
    // What is not shown is named to nobody who is limited.
    let next = shown.or(filter.after.filter(|_| extent.is_everywhere())).filter(|_| more);
    if more && next.is_none() {
        return Ok(None);
    }
    Ok(Some(Found { items, censuses, next }))
}
