//! Nothing is deleted without a statement: what, by its kind and name, and on which day of whose calendar. Each of these is refused
//! by whichever coordinator is asked, and leaves nothing.
use chrono::{Datelike, Days, NaiveDate, Utc};
use serde_json::{Value, json};
use sexton_ledger::DeletionFilter;
use sexton_model::job::{JobState, Stage};
use sexton_model::{DeletionId, ResourceId, Timestamp};

use super::access::{NONE, deletion};
use super::budgets::policy;
use super::system::{System, TRUSTED, ask, on_many_machines, web01};

on_many_machines! {
    without_a_date_or_a_kind_there_is_no_record,
    days_are_those_of_the_records_own_calendar_when_the_clocks_change,
}

/// How many jobs there are, in whatever state.
async fn jobs(system: &System) -> u64 {
    system.ledger.health().await.unwrap().jobs.values().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_date_or_a_kind_there_is_no_record() {
    let mut system = System::start().await;
    let urls = [system.serve_inventory().await, system.serve_beside().await];
    let create = async |nth: usize, body: &Value| {
        ask(&urls[nth % urls.len()], TRUSTED, "POST", "/v1/deletions", body).await
    };
    let before = system.world();
    let good = deletion("vm/web01");
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body
    };
    let undated = json!({ "resource": "vm/web01", "reason": "a test" });
    for nth in [0, 1] {
        for (body, field, why) in [
            (undated.clone(), "", "missing field `on`"),
            (with("on", Value::Null), "on", "expected a string"),
            (with("on", json!("")), "on", "YYYY-MM-DD"),
            (with("resource", json!("web01")), "resource", "KIND/NAME, such as vm/web01"),
            (with("resource", Value::Null), "resource", "expected a string"),
        ] {
            let refused = create(nth, &body).await;
            assert_eq!((refused.status, &refused.body["field"]), (422, &json!(field)), "{body}: {refused:?}");
            assert!(refused.detail().contains(why), "{body}: {refused:?}");
        }
    }
    system.two_beacons().await;
    let filter = DeletionFilter { limit: 100, ..DeletionFilter::default() };
    assert!(system.ledger.deletions(&filter).await.unwrap().items.is_empty());
    assert_eq!((jobs(&system).await, system.ledger.deletion_of(&web01()).await.unwrap()), (0, None));
    let view = system.ledger.resource(&web01()).await.unwrap().unwrap();
    assert!(view.live.is_none() && system.monitoring.changes().is_empty(), "{view:?}");
    assert_eq!(system.world(), before);

    // That they are refused proves something only if the good one is not.
    let made = create(0, &good).await;
    assert_eq!((made.status, jobs(&system).await), (201, Stage::ALL.len() as u64), "{made:?}");
}

/// The last Sunday of a month of 31 days: on it the clocks of Berlin are set.
fn last_sunday(year: i32, month: u32) -> NaiveDate {
    let last = NaiveDate::from_ymd_opt(year, month, 31).unwrap();
    last - Days::new(u64::from(last.weekday().num_days_from_sunday()))
}

/// Five minutes after midnight in Berlin on that day, where it is so many hours ahead.
fn begin_of(day: NaiveDate, ahead: i64) -> Timestamp {
    let by_the_clock = Timestamp::from(day.and_hms_opt(0, 5, 0).unwrap().and_utc());
    Timestamp(by_the_clock.0 - ahead * 3_600_000_000)
}

/// Of two records, the day before the clocks are set, in spring and in autumn. Announce and soft are due on their date, the rest a
/// day after each other. As each stage comes its moment is moved to now: those behind it stay on their days.
#[tokio::test(flavor = "multi_thread")]
async fn days_are_those_of_the_records_own_calendar_when_the_clocks_change() {
    let mut system = System::start_in_calendar_days(policy("none = true")).await;
    let other: ResourceId = "vm/web02".parse().unwrap();
    system.build(&other);
    system.register_named(&other, false).await;
    let url = system.serve_inventory().await;
    let year = Utc::now().year() + 1;
    let mut records = Vec::new();
    // Berlin is an hour ahead in winter, and two in summer. The clocks are set after the begin of that day.
    for (resource, month, [until, after]) in [(web01(), 3, [1, 2]), (other, 10, [2, 1])] {
        let sunday = last_sunday(year, month);
        let on = sunday - Days::new(1);
        let body =
            json!({ "resource": resource, "on": on, "zone": "Europe/Berlin", "reason": "no longer needed" });
        let made = ask(&url, TRUSTED, "POST", "/v1/deletions", &body).await;
        assert_eq!(made.status, 201, "{made:?}");
        let id: DeletionId = serde_json::from_value(made.body["deletion"].clone()).unwrap();
        let due = [
            begin_of(on, until),
            begin_of(on, until),
            begin_of(sunday, until),
            begin_of(sunday + Days::new(1), after),
            begin_of(sunday + Days::new(2), after),
        ];
        let shown = ask(&url, TRUSTED, "GET", &format!("/v1/deletions/{id}"), &NONE).await.body;
        let said: Vec<Value> =
            shown["jobs"].as_array().unwrap().iter().map(|job| job["due_at"].clone()).collect();
        assert_eq!(said, due.map(|at| json!(at)), "{resource}: {shown}");
        records.push((id, due));
    }
    for (stage, nth) in Stage::ALL.into_iter().zip(0_usize..) {
        for (id, due) in &records {
            let waits = |state: &JobState| matches!(state, JobState::Scheduled { due_at: Some(_) });
            let job = system.until_job(*id, stage, waits).await;
            assert_eq!(job.state, JobState::Scheduled { due_at: Some(due[nth]) }, "{id}: {stage}");
        }
        if stage == Stage::Recycle {
            // Nothing of it is left but its name.
            return;
        }
        system.stop_coordinator().await;
        let now = system.ledger.facts().await.unwrap().now;
        system.execute(&format!("UPDATE jobs SET due_at = {} WHERE due_at > {}", now.0, now.0));
        system = system.restarted().await;
        for (id, _) in &records {
            system.until_job(*id, stage, |state| *state == JobState::Done).await;
        }
    }
}
