//! The health: as people read it.
use sexton_api::{HealthInfo, WindowsInfo};
use sexton_model::Timestamp;
use sexton_model::belts::ceiling::{Ceiling, Ceilings, ScopeCeiling};
use sexton_model::belts::healthy::Length;
use sexton_model::time::rehearsal_notice;

use super::{pauses, review};
use crate::output::{counted, moment, table};
use crate::{alarms, batches, canaries};

/// How it is going.
pub fn health(health: &HealthInfo) -> String {
    let mut text = format!("ledger {} epoch {}, {}\n", health.ledger, health.epoch, moment(Some(health.now)));
    if let Some(length) = health.rehearsal_day_ms {
        text += &(rehearsal_notice(length) + "\n");
    }
    if let Some(open) = &health.review {
        text += &review(open);
    }
    if let Some(stale_s) = health.witness_stale_s {
        text += &format!(
            "NOTHING IS ORDERED by the coordinator that answers: its witness could not be kept for {stale_s} s (is its \
             disk full?)\n"
        );
    }
    if let Some(why) = &health.checkpoints {
        text += &format!("THE AUDIT TRAIL IS NOT SIGNED any more by the coordinator that answers: {why}\n");
    }
    text += &alarms::summary(&health.alarms);
    if let Some(windows) = &health.windows {
        text += &hours(windows);
    }
    if let Some(outage) = &health.outage {
        text += &format!(
            "nobody could have cancelled from {} to {} UTC ({}): graces that were under way end as much later\n",
            moment(Some(outage.began)),
            moment(Some(outage.ended)),
            Length(outage.ended.ms_since(outage.began)),
        );
    }
    if !health.pauses.is_empty() {
        text += &format!("PAUSED\n{}\n", pauses(&health.pauses));
    }
    if let Some(why) = &health.canaries_off {
        text += &format!("NO CANARIES ARE SENT: {why}\n");
    }
    for lack in &health.canaries_lack {
        text += &format!("{lack}\n");
    }
    if !health.canaries.is_empty() {
        text += &format!("CANARIES\n{}\n", canaries::lines(&health.canaries));
    }
    for lack in health.censuses_lack.iter().chain(&health.unprotected) {
        text += &format!("{lack}\n");
    }
    text += &limits(&health.ceilings);
    if !health.batches.is_empty() {
        text += &format!("MORE THAN A BUDGET LETS BEGIN\n{}\n", batches::list(&health.batches));
    }
    if !health.broken_glass.is_empty() {
        text += &format!("THE GLASS WAS BROKEN\n{}\n", batches::overrides(&health.broken_glass));
    }
    if let Some(budgets) = &health.budgets {
        text += &format!("of each kind, {budgets}\n");
    }
    if let Some(oldest) = health.oldest_due {
        text += &format!("oldest due job waits since {}\n", moment(Some(oldest)));
    }
    text += &match health.jobs.values().all(|n| *n == 0) {
        true => "no jobs".to_owned(),
        false => table(["state", "jobs"], health.jobs.iter().map(|(s, n)| [s.to_string(), n.to_string()])),
    };
    for i in health.instances.iter().filter(|i| !i.known) {
        text += &format!("\nNO KEY of {}: records that need it are refused", i.instance);
    }
    for i in health.instances.iter().filter(|i| i.down && i.waiting > 0) {
        let since = i.pulse_at.map_or("ever".to_owned(), |at| format!("since {} UTC", moment(Some(at))));
        let wait = if i.waiting == 1 { "waits" } else { "wait" };
        text += &format!("\nNO PULSE {since} from {}: {} {wait}", i.instance, counted(i.waiting, "job"));
    }
    text += "\n";
    text + &table(
        ["instance", "last pulse", "", "orders out", "jobs waiting"],
        health.instances.iter().map(|i| {
            [
                i.instance.to_string(),
                i.pulse_at.map_or("never".to_owned(), |at| ago(health.now, at)),
                match (i.known, i.down) {
                    (false, _) => "no key",
                    (true, true) => "down",
                    (true, false) => "",
                }
                .to_owned(),
                i.orders_out.to_string(),
                i.waiting.to_string(),
            ]
        }),
    )
}

fn hours(windows: &WindowsInfo) -> String {
    let now = match windows.opens {
        None => "open now".to_owned(),
        Some(at) => format!("closed, opens {} UTC", moment(Some(at))),
    };
    let mut text = format!("hard, purge and recycle begin {}: {now}", windows.hours);
    match (&windows.outlived, windows.holidays_until) {
        (Some(why), _) => text += &format!("\nHOLIDAYS ARE NOT KNOWN any more: {why}"),
        (None, Some(last)) => text += &format!("; holidays are known until {last}"),
        (None, None) => text += "; no holidays are known",
    }
    if let Some(why) = &windows.broken {
        text += &format!(
            "\nTHE CALENDAR OF HOLIDAYS CANNOT BE USED, so what was read before still counts: {why}"
        );
    }
    text + "\n"
}

/// How far deletions may go, in a line: nothing to say if all may go all the way.
fn limits(said: &[ScopeCeiling]) -> String {
    let ceilings: Ceilings = said.iter().cloned().collect();
    let (height, below) = (
        ceilings.everywhere(),
        said.iter().filter(|c| c.scope.is_some() && c.ceiling < Ceiling::Purge).count(),
    );
    let others = match said.iter().filter(|c| c.scope.is_some()).count() {
        0 => String::new(),
        1 => "; 1 scope has its own: sexton ceiling".to_owned(),
        n => format!("; {n} scopes have their own: sexton ceiling"),
    };
    match height {
        Ceiling::Purge if below == 0 => String::new(),
        Ceiling::Observe => format!("deletions of every scope are only OBSERVED{others}\n"),
        height => format!("deletions of every scope go as far as {height}{others}\n"),
    }
}

fn ago(now: Timestamp, then: Timestamp) -> String {
    format!("{:.1} s ago", now.ms_since(then) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Timestamp = Timestamp(1_796_083_200_000_000);

    #[test]
    fn working_hours_are_told_in_a_line() {
        let info = |opens, holidays_until: Option<&str>, outlived: Option<&str>| WindowsInfo {
            hours: "tue, wed 09:00 to 15:00 Europe/Berlin".into(),
            opens,
            holidays_until: holidays_until.map(|day| day.parse().unwrap()),
            outlived: outlived.map(str::to_owned),
            broken: None,
        };
        let begin = "hard, purge and recycle begin tue, wed 09:00 to 15:00 Europe/Berlin: ";
        for (info, said) in [
            (info(None, None, None), "open now; no holidays are known\n"),
            (info(None, Some("2026-12-26"), None), "open now; holidays are known until 2026-12-26\n"),
            (
                info(Some(AT), Some("2025-12-26"), Some("it ended")),
                &format!(
                    "closed, opens {} UTC\nHOLIDAYS ARE NOT KNOWN any more: it ended\n",
                    moment(Some(AT))
                ),
            ),
            (
                WindowsInfo { broken: Some("a.ics: no".into()), ..info(None, None, None) },
                "open now; no holidays are known\nTHE CALENDAR OF HOLIDAYS CANNOT BE USED, so what was read before still \
                 counts: a.ics: no\n",
            ),
        ] {
            assert_eq!(hours(&info), format!("{begin}{said}"));
        }
    }
}
