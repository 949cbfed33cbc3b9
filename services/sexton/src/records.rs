//! Listing records, and following them.
use std::time::Duration;

use sexton_api::{Client, DeletionLine, ListQuery, PAGE_MAX, Page};
use sexton_model::deletion::RecordStatus;

use crate::arguments::{Format, ListArguments};
use crate::outage::Outage;
use crate::output::{moment, say, table, write};
use crate::show;

/// How often `watch` looks again.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// List records, newest first.
pub async fn list(client: &Client, format: Format, which: ListArguments) -> anyhow::Result<()> {
    let query = ListQuery {
        status: which.status,
        state: which.state,
        scope: which.scope,
        kind: which.kind,
        after: None,
        limit: None,
    };
    let page = pages(client, query, which.limit as usize).await?;
    write(format, &page, |page| {
        let more = page.next.as_ref().map_or("", |_| "\n(there are more: raise --limit)");
        lines(&page.items) + more
    })
}

/// List those that were archived.
pub async fn list_archived(client: &Client, format: Format, which: ListArguments) -> anyhow::Result<()> {
    let limit = which.limit as usize;
    let mut query = ListQuery { status: which.status, kind: which.kind, ..ListQuery::default() };
    let mut all = Page { items: Vec::new(), next: None };
    while all.items.len() < limit {
        query.limit = Some(u32::try_from((limit - all.items.len()).min(PAGE_MAX as usize))?);
        let page = client.all_archived(&query).await?;
        all.items.extend(page.items);
        all.next = page.next;
        if all.next.is_none() {
            break;
        }
        query.after.clone_from(&all.next);
    }
    write(format, &all, |page| {
        let more = page.next.as_ref().map_or("", |_| "\n(there are more: raise --limit)");
        show::all_archived(&page.items) + more
    })
}

/// Up to `limit` records, page by page, as one.
async fn pages(client: &Client, mut query: ListQuery, limit: usize) -> anyhow::Result<Page<DeletionLine>> {
    let mut all = Page { items: Vec::new(), next: None };
    loop {
        let left = (limit - all.items.len()).min(PAGE_MAX as usize);
        query.limit = Some(u32::try_from(left)?);
        let page = client.deletions(&query).await?;
        all.items.extend(page.items.into_iter().take(left));
        all.next = page.next;
        if all.next.is_none() || all.items.len() >= limit {
            return Ok(all);
        }
        query.after.clone_from(&all.next);
    }
}

fn lines(items: &[DeletionLine]) -> String {
    table(
        [
            "record",
            "resource",
            "scope",
            "status",
            "at",
            "state",
            "due (UTC)",
            "cancel (UTC, at least)",
            "why",
        ],
        items.iter().map(|d| {
            [
                d.id.to_string(),
                d.resource.to_string(),
                d.scope.to_string(),
                d.status.word().to_owned(),
                d.job.map(|j| j.to_string()).unwrap_or_default(),
                d.state.map(|s| s.to_string()).unwrap_or_default(),
                moment(d.due_at),
                cancel(d),
                d.why.clone(),
            ]
        }),
    )
}

/// What a cancel would restore, and until when; nothing if none would be taken.
fn cancel(line: &DeletionLine) -> String {
    if !line.cancel {
        return String::new();
    }
    let until = line.cancel_until.map(|at| format!("until {}: ", moment(Some(at)))).unwrap_or_default();
    until + &line.undo
}

/// Follow one record, or all live ones, until they are over.
pub async fn watch(client: &Client, format: Format, what: Option<String>) -> anyhow::Result<()> {
    let mut last = String::new();
    let mut outage = Outage::default();
    loop {
        if let Some((text, same, over)) = outage.outlast(look(client, format, what.as_deref()).await)? {
            if same != last {
                if !say(&text)? {
                    return Ok(());
                }
                last = same;
            }
            if over {
                return Ok(());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

/// What `watch` sees: as it is shown, without what moves by itself, and whether there is nothing left to see.
async fn look(client: &Client, format: Format, what: Option<&str>) -> anyhow::Result<(String, String, bool)> {
    Ok(match what {
        Some(what) => {
            let info = client.deletion(what).await?;
            let text = match format {
                Format::Json => serde_json::to_string(&info)?,
                Format::Table => show::deletion(&info, false),
            };
            (text, serde_json::to_string(&show::without_estimates(&info))?, !info.status.live())
        }
        None => {
            let mut live = Vec::new();
            for status in [RecordStatus::Restoring, RecordStatus::Live] {
                let query = ListQuery { status: Some(status), ..ListQuery::default() };
                live.extend(pages(client, query, usize::MAX).await?.items);
            }
            let text = match format {
                Format::Json => serde_json::to_string(&live)?,
                Format::Table => lines(&live),
            };
            // As of one record: a date that moves with the clock alone is no change.
            for line in &mut live {
                line.cancel_until = None;
            }
            (text, serde_json::to_string(&live)?, live.is_empty())
        }
    })
}
