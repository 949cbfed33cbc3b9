//! Alarms: listed, and acknowledged.
use std::collections::BTreeMap;

use sexton_api::{AlarmInfo, AlarmQuery, AlarmsInfo, Client, Page, ToldInfo};

use crate::arguments::Format;
use crate::output::{counted, moment, table, write};

/// List them, the newest first.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn list(client: &Client, format: Format, (all, limit): (bool, u32)) -> anyhow::Result<()> {
    let mut page = client.alarms(&AlarmQuery { all, after: None, limit: Some(limit) }).await?;
    // Whoever is limited to scopes may be answered with less than there is: one request looks through so many, and no more.
    loop {
        let missing = limit.saturating_sub(u32::try_from(page.items.len()).unwrap_or(u32::MAX));
        let after = page.next.as_deref().and_then(|next| next.parse::<i64>().ok());
        let Some(after) = after.filter(|_| missing > 0) else { break };
        let more = client.alarms(&AlarmQuery { all, after: Some(after), limit: Some(missing) }).await?;
        page.items.extend(more.items);
        page.next = more.next;
    }
    write(format, &page, show)
}

/// Say that one has seen it.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn acknowledge(client: &Client, format: Format, id: i64, reason: &str) -> anyhow::Result<()> {
    let alarm = client.acknowledge_alarm(id, reason).await?;
    write(format, &alarm, |_| {
        format!("alarm {id} is seen: it is told no more for a week, and stays open as long as it holds")
    })
}

fn show(page: &Page<AlarmInfo>) -> String {
    if page.items.is_empty() {
        return "no alarm holds".to_owned();
    }
    let lines = page.items.iter().map(|info| {
        let one = &info.standing;
        let seen = one.acknowledged.as_ref().map(|seen| format!("{}: {}", seen.by, seen.reason));
        [
            one.id.to_string(),
            one.alarm.severity.to_string(),
            one.alarm.kind.to_string(),
            one.alarm.subject.to_string(),
            moment(Some(one.raised_at)),
            moment(one.ended_at),
            told(&info.told),
            seen.unwrap_or_default(),
            format!("{}\n→ {}", one.alarm.text, one.alarm.todo),
        ]
    });
    let heading = [
        "alarm",
        "",
        "kind",
        "of",
        "since (UTC)",
        "until (UTC)",
        "told by",
        "seen by",
        "what, and what to do",
    ];
    let more = page.next.as_ref().map_or("", |_| "\n(there are more: raise --limit)");
    table(heading, lines) + more
}

fn told(told: &BTreeMap<String, ToldInfo>) -> String {
    let one = |(route, told): (&String, &ToldInfo)| match (&told.at, &told.error) {
        (_, Some(error)) => format!("{route}: FAILS ({error})"),
        (Some(_), None) => route.clone(),
        (None, None) => format!("{route}: under way"),
    };
    if told.is_empty() { "nobody".to_owned() } else { told.iter().map(one).collect::<Vec<_>>().join(", ") }
}

/// How many are open, and whether anybody hears of them: lines for `sexton health`.
pub fn summary(info: &AlarmsInfo) -> String {
    let mut text = String::new();
    if info.open > 0 {
        let open = counted(info.open, "alarm");
        text += &format!(
            "ALARMS: {open} open, {} critical, {} seen by nobody. sexton alarms\n",
            info.critical, info.unseen
        );
    }
    if let Some(lacks) = &info.lacks {
        text += &format!("NO SECOND ROUTE: {lacks}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_says_how_many_alarms_there_are_and_who_hears_of_them() {
        assert_eq!(summary(&AlarmsInfo::default()), "");
        let info = AlarmsInfo {
            open: 2,
            critical: 1,
            unseen: 2,
            routes: vec!["mail".into()],
            lacks: Some("alarms have no second route beside mail".into()),
        };
        assert_eq!(
            summary(&info),
            "ALARMS: 2 alarms open, 1 critical, 2 seen by nobody. sexton alarms\n\
             NO SECOND ROUTE: alarms have no second route beside mail\n"
        );
    }

    #[test]
    fn a_route_that_fails_is_seen() {
        let one = |at, failures, error: Option<&str>| ToldInfo {
            phase: None,
            at,
            failures,
            error: error.map(str::to_owned),
        };
        let at = Some(sexton_model::Timestamp(1));
        let all = BTreeMap::from([
            ("command".to_owned(), one(at, 0, None)),
            ("mail".to_owned(), one(None, 0, None)),
            ("webhook".to_owned(), one(at, 3, Some("no answer"))),
        ]);
        assert_eq!(told(&all), "command, mail: under way, webhook: FAILS (no answer)");
        assert_eq!(told(&BTreeMap::new()), "nobody");
    }
}
