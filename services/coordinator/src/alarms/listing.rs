//! Alarms by the page, also for whoever is limited to scopes.
//!
//! Contract: whoever is limited is shown none of the others, nor their numbers: what is left out is read over. No request reads
//! more than [`LOOK_PAGES`] pages of the job table for that, whatever it finds. So a page may be empty, and not the last one.
use sexton_ledger::{ALARMS_PAGE, AlarmFilter, AlarmView, Ledger, LedgerError, Page};
use sexton_model::access::Extent;
use sexton_model::alarm::Standing;

/// The job table's pages looked at for one page: of what it keeps of alarms that are over (`ENDED_KEPT`) about a third.
const LOOK_PAGES: usize = 16;

/// What is asked for, and by whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Which scopes whoever asks sees.
    pub(crate) extent: &'a Extent,
    /// Those that have ended, too.
    pub(crate) ended: bool,
    /// Before this number.
    pub(crate) before: Option<i64>,
    /// At most so many, 1 to [`ALARMS_PAGE`].
    pub(crate) limit: u32,
}

/// Whether whoever sees `extent` sees it: of what is of no scope only whoever is limited to none.
pub(crate) fn seen_by(extent: &Extent, standing: &Standing) -> bool {
    extent.is_everywhere() || standing.alarm.scope.as_ref().is_some_and(|scope| extent.contains(scope))
}

/// Read one page, the newest first.
///
/// # Errors
/// If the job table cannot be read.
pub(crate) async fn page(ledger: &dyn Ledger, wanted: Wanted<'_>) -> Result<Page<AlarmView>, LedgerError> {
    let at_once = if wanted.extent.is_everywhere() { wanted.limit } else { ALARMS_PAGE };
    read(ledger, wanted, at_once).await
}

/// The same, with so many alarms in each page of the job table.
async fn read(ledger: &dyn Ledger, wanted: Wanted<'_>, at_once: u32) -> Result<Page<AlarmView>, LedgerError> {
    let Wanted { extent, ended, before, limit } = wanted;
    let most = limit as usize;
    let mut filter = AlarmFilter { ended, before, limit: at_once };
    let mut items = Vec::new();
    let mut looked = 0;
    // Before which number there are more that were not looked at.
    let ahead = loop {
        let page = ledger.alarms(filter).await?;
        looked += 1;
        filter.before = page.next.as_deref().and_then(|next| next.parse::<i64>().ok());
        items.extend(page.items.into_iter().filter(|view| seen_by(extent, &view.standing)));
        if filter.before.is_none() || items.len() >= most || looked == LOOK_PAGES {
            break filter.before;
        }
    };
    let more = ahead.is_some() || items.len() > most;
    let full = items.len() >= most;
    items.truncate(most);
    let shown = items.last().map(|view| view.standing.id);
    let next = if full { shown } else { ahead.map(|ahead| beyond(ahead, shown, at_once)) };
    Ok(Page { items, next: next.filter(|_| more).map(|id| id.to_string()) })
}

/// Before which number the next page begins if there was nothing left to show of all that is not before `ahead`. Its number is
/// that of somebody else's alarm: said is a round one behind it, of those that a page of the job table has apart, or the
/// last one that was shown.
fn beyond(ahead: i64, shown: Option<i64>, at_once: u32) -> i64 {
    let step = i64::from(at_once);
    let round = ahead - ahead.rem_euclid(step) + step;
    shown.map_or(round, |shown| shown.min(round))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use sexton_ledger::sqlite::SqliteLedger;
    use sexton_ledger::{Found, Limits, Options};
    use sexton_model::alarm::{Alarm, AlarmKind, Subject};
    use sexton_model::belts::Policy;
    use sexton_model::time::Day;

    use super::*;

    /// One page of the job table has so many here.
    const AT_ONCE: u32 = 2;

    fn alarm(number: usize, scope: &str) -> Alarm {
        let subject = Subject::Resource { resource: format!("vm/web{number}").parse().unwrap() };
        let scope = Some(scope.parse().unwrap());
        Alarm::new(AlarmKind::Drill, scope, subject, "it is not there", "look")
    }

    /// Alarms of these scopes, of which the first one has the number 1, and so on.
    async fn raised(folder: &Path, scopes: &[&str]) -> Arc<dyn Ledger> {
        let options = Options { day: Day::Calendar, limits: Limits::default(), policy: Policy::default() };
        let ledger: Arc<dyn Ledger> =
            Arc::new(SqliteLedger::open(&folder.join("sexton.db"), options).await.unwrap());
        for (number, scope) in scopes.iter().enumerate() {
            let since = ledger.facts().await.unwrap().now;
            // Each is found by a process of its own, so that the one before it goes on to hold.
            let (owner, hold) = (format!("c{number}"), vec![alarm(number, scope)]);
            let found = Found { owner, since, hold, ..Found::default() };
            assert_eq!(ledger.note_alarms(found).await.unwrap().raised.len(), 1);
        }
        ledger
    }

    fn limited() -> Extent {
        Extent::Scopes(["mine".parse().unwrap()].into())
    }

    async fn shown(ledger: &dyn Ledger, wanted: Wanted<'_>) -> (Vec<i64>, Option<String>) {
        let page = read(ledger, wanted, AT_ONCE).await.unwrap();
        (page.items.iter().map(|view| view.standing.id).collect(), page.next)
    }

    #[tokio::test]
    async fn whoever_is_limited_is_read_so_much_at_once_and_goes_on_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        // The first is theirs, and behind it are more of others than one request looks at: numbers 2 to 36.
        let mut scopes = vec!["mine"];
        scopes.resize(36, "theirs");
        let ledger = raised(folder.path(), &scopes).await;
        let extent = limited();
        let wanted = Wanted { extent: &extent, ended: true, before: None, limit: 10 };
        // 36 to 5 were looked at; no number of theirs is said but a round one.
        assert_eq!(shown(&*ledger, wanted).await, (vec![], Some("6".to_owned())));
        assert_eq!(shown(&*ledger, Wanted { before: Some(6), ..wanted }).await, (vec![1], None));
        let all = Wanted { extent: &Extent::Everywhere, limit: 2, ..wanted };
        assert_eq!(shown(&*ledger, all).await, (vec![36, 35], Some("35".to_owned())));
    }

    #[tokio::test]
    async fn what_is_shown_is_shown_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut scopes = vec!["theirs"; 40];
        for mine in [2, 6, 38, 39] {
            scopes[mine - 1] = "mine";
        }
        let ledger = raised(folder.path(), &scopes).await;
        let extent = limited();
        for limit in [1, 2, 3, 10] {
            let mut wanted = Wanted { extent: &extent, ended: true, before: None, limit };
            let mut all = Vec::new();
            // Each page begins further on than the one before: there are no more of them than alarms.
            for _ in 0..scopes.len() {
                let (ids, next) = shown(&*ledger, wanted).await;
                assert!(ids.len() <= limit as usize, "{ids:?}");
                all.extend(ids);
                let Some(next) = next else { break };
                let next: i64 = next.parse().unwrap();
                assert!(wanted.before.is_none_or(|before| next < before), "{next} behind {wanted:?}");
                wanted.before = Some(next);
            }
            assert_eq!(all, [39, 38, 6, 2], "by {limit}");
        }
    }

    #[test]
    fn where_it_goes_on_names_nothing_that_is_not_shown() {
        for (ahead, shown, next) in [
            (34_001, None, 35_000),
            (34_999, None, 35_000),
            (34_000, None, 35_000),
            (34_001, Some(34_500), 34_500),
            (34_001, Some(49_000), 35_000),
        ] {
            assert_eq!(beyond(ahead, shown, ALARMS_PAGE), next, "{ahead} {shown:?}");
        }
    }
}
