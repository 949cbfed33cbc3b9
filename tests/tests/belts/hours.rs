//! Working hours: past the end of cancel nothing begins outside of them. In calendar days, since rehearsals have none.
use std::path::Path;
use std::time::SystemTime;

use chrono::{Datelike, Days, NaiveDate, NaiveTime, Timelike, Utc};
use chrono_tz::Tz;
use sexton_coordinator::hours::Calendar;
use sexton_ledger::NotDone;
use sexton_model::belts::Policy;
use sexton_model::belts::one_shot::Passable;
use sexton_model::belts::window::Written;
use sexton_model::decide::{Event, Refusal};
use sexton_model::deletion::RecordStatus;
use sexton_model::job::{Blocker, JobKind, JobState, Stage, StateName};
use sexton_model::{DeletionId, ResourceId, Timestamp};
use sexton_service::Config;

use super::gate::Point;
use super::system::{System, on_many_machines, ops, web01};

on_many_machines! {
    hard_waits_for_working_hours_and_says_so_once,
    what_has_begun_goes_on_outside_of_them,
    a_restore_keeps_no_hours,
    hours_that_change_meanwhile_count_at_once,
    hours_are_those_that_the_clock_of_their_zone_shows,
    a_holiday_is_no_working_day_until_another_calendar_is_there,
    an_override_lets_one_stage_of_one_deletion_begin_outside_of_them,
}

/// Whole days, of the weekday on which it is so many days from now.
fn only_in(days: u64) -> Policy {
    let then = Timestamp::from(SystemTime::now()).plus_ms(days * 86_400_000).utc();
    policy(&only_on(then.date_naive()))
}

/// The weekday of this one, and no other.
fn only_on(day: NaiveDate) -> String {
    let day = day.format("%a").to_string().to_lowercase();
    format!("days = [{day:?}]")
}

fn policy(days: &str) -> Policy {
    written(&section("UTC", days))
}

fn written(section: &str) -> Policy {
    let written: Written = toml::from_str(section).unwrap();
    Policy { windows: written.windows().unwrap(), ..Policy::default() }
}

/// What `[windows]` says for whole days of this zone.
fn section(zone: &str, days: &str) -> String {
    format!("zone = {zone:?}\nfrom = \"00:00\"\nto = \"24:00\"\n{days}\n")
}

pub fn closed() -> Policy {
    only_in(3)
}

const EVERY_DAY: &str = r#"days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]"#;

fn open() -> Policy {
    policy(EVERY_DAY)
}

async fn delete(system: &System) -> DeletionId {
    delete_named(system, web01()).await
}

async fn delete_named(system: &System, resource: ResourceId) -> DeletionId {
    let now = system.ledger.facts().await.unwrap().now;
    system.delete_named(resource, Timestamp(now.0 - 2 * 86_400_000_000)).await
}

pub fn by_hours(state: &JobState) -> bool {
    matches!(state, JobState::Held { by: Blocker::Window { .. }, .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn hard_waits_for_working_hours_and_says_so_once() {
    let system = System::start_in_calendar_days(closed()).await;
    let id = delete(&system).await;
    let job = system.until_job(id, Stage::Hard, |state| state.name() == StateName::Held).await;
    let JobState::Held { by: Blocker::Window { opens, .. }, .. } = job.state else { panic!("{job:?}") };
    let now = system.ledger.facts().await.unwrap().now;
    assert!((2 * 86_400_000..=3 * 86_400_000).contains(&opens.ms_since(now)), "{now} {opens}");
    assert_eq!(system.job(id, JobKind::Stage(Stage::Soft)).await.state, JobState::Done);
    let (world, trail) = (system.world(), system.view(id).await.audit.len());
    system.two_beacons().await;
    let again = system.tell(id, Event::Recheck { job: job.id }).await;
    assert!(matches!(again, Err(NotDone::Refused(Refusal::NotYet(_)))), "{again:?}");
    assert_eq!((system.world(), system.view(id).await.audit.len()), (world, trail));

    let system = system.restarted_with(open()).await;
    system.until_over(id, RecordStatus::Recycled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_begun_goes_on_outside_of_them() {
    let system = System::start_in_calendar_days(open()).await;
    system.monitoring.close("remove_target", Point::Look);
    let id = delete(&system).await;
    system.monitoring.reached().await;
    let placed = system.tell(id, Event::PlaceHold { by: ops(), reason: "lawsuit".into() }).await.unwrap();
    system.monitoring.open();
    system.until_job(id, Stage::Hard, |state| matches!(state, JobState::Ready { .. })).await;

    let system = system.restarted_with(closed()).await;
    system.tell(id, Event::ReleaseHold { hold: placed.audit_seq, by: ops() }).await.unwrap();
    system.until_job(id, Stage::Hard, |state| *state == JobState::Done).await;
    system.until_job(id, Stage::Purge, by_hours).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_keeps_no_hours() {
    let system = System::start_in_calendar_days(closed()).await;
    let before = system.world();
    let id = delete(&system).await;
    system.until_job(id, Stage::Hard, by_hours).await;
    assert_ne!(system.world(), before);
    system.tell(id, Event::Cancel { by: ops(), reason: "kept after all".into() }).await.unwrap();
    system.until_over(id, RecordStatus::Cancelled).await;
    assert_eq!(system.world(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_change_meanwhile_count_at_once() {
    let system = System::start_in_calendar_days(open()).await;
    system.backup.close("final", Point::Look);
    let id = delete(&system).await;
    system.backup.reached().await;
    system.ledger.keep_hours(closed().windows.unwrap());
    system.backup.open();
    system.until_job(id, Stage::Hard, by_hours).await;
}

/// Where it is another day than in UTC. Whoever went by UTC would let it begin outside of these hours, and hold it inside.
#[tokio::test(flavor = "multi_thread")]
async fn hours_are_those_that_the_clock_of_their_zone_shows() {
    let now = Timestamp::from(SystemTime::now()).utc();
    // Fourteen hours ahead it is tomorrow, eleven behind yesterday; either way for an hour more at least.
    let zone = if now.hour() >= 10 { "Pacific/Kiritimati" } else { "Pacific/Pago_Pago" };
    let there: Tz = zone.parse().unwrap();
    let (in_utc, local) = (now.date_naive(), now.with_timezone(&there).date_naive());
    assert_ne!(in_utc.weekday(), local.weekday());
    let on = |day: NaiveDate| written(&section(zone, &only_on(day)));

    let system = System::start_in_calendar_days(on(in_utc)).await;
    let id = delete(&system).await;
    let job = system.until_job(id, Stage::Hard, by_hours).await;
    let JobState::Held { by: Blocker::Window { opens, hours, .. }, .. } = &job.state else {
        panic!("{job:?}")
    };
    let next = local.iter_days().skip(1).find(|day| day.weekday() == in_utc.weekday()).unwrap();
    let midnight = next.and_time(NaiveTime::MIN).and_local_timezone(there).unwrap();
    assert_eq!(*opens, Timestamp::from(midnight.with_timezone(&Utc)), "{hours}");
    assert!(hours.ends_with(zone), "{hours}");
    let world = system.world();
    system.two_beacons().await;
    assert_eq!(system.job(id, JobKind::Stage(Stage::Hard)).await.state, job.state);
    assert_eq!(system.world(), world);

    let system = system.restarted_with(on(local)).await;
    system.until_over(id, RecordStatus::Recycled).await;
}

/// A calendar of these holidays. It takes the place of the one before as a whole: nobody ever reads half of it.
fn holidays(folder: &Path, days: [NaiveDate; 2]) {
    let event = |day: NaiveDate| {
        let day = day.format("%Y%m%d");
        format!("BEGIN:VEVENT\r\nSUMMARY:Inventory\r\nDTSTART;VALUE=DATE:{day}\r\nEND:VEVENT\r\n")
    };
    let text = format!("BEGIN:VCALENDAR\r\n{}END:VCALENDAR\r\n", days.map(event).concat());
    std::fs::write(folder.join("new.ics"), text).unwrap();
    std::fs::rename(folder.join("new.ics"), folder.join("holidays.ics")).unwrap();
}

/// Every day is one of work, but for this one and the next: midnight may pass meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_holiday_is_no_working_day_until_another_calendar_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let now = Timestamp::from(SystemTime::now());
    let in_days = |days: u64| now.utc().date_naive() + Days::new(days);
    holidays(folder.path(), [in_days(0), in_days(1)]);
    let text = format!("[windows]\nholidays = \"holidays.ics\"\n{}", section("UTC", EVERY_DAY));
    let config = Config::parse(&folder.path().join("sexton.toml"), &text, &["windows"]).unwrap();
    let policy = sexton_coordinator::policy::read(&config, now).unwrap();
    let mut system = System::start_in_calendar_days(policy).await;
    system.stop_coordinator().await;
    system.coordinate_by(Calendar::of(&config).unwrap().unwrap());
    system.start_coordinator();
    let id = delete(&system).await;
    let job = system.until_job(id, Stage::Hard, by_hours).await;
    let JobState::Held { by: Blocker::Window { opens, hours, .. }, .. } = &job.state else {
        panic!("{job:?}")
    };
    assert_eq!(opens.utc().date_naive(), in_days(2));
    assert!(hours.ends_with("not on holidays"), "{hours}");
    system.until_answered(id, "not on holidays").await;
    let world = system.world();
    system.two_beacons().await;
    assert!(by_hours(&system.job(id, JobKind::Stage(Stage::Hard)).await.state));
    assert_eq!(system.world(), world);

    holidays(folder.path(), [in_days(30), in_days(31)]);
    system.engine.tend_calendar().await.unwrap();
    system.until_over(id, RecordStatus::Recycled).await;
}

/// Of two that wait, one may pass the hours, and the other one another belt. Neither passes them any further.
#[tokio::test(flavor = "multi_thread")]
async fn an_override_lets_one_stage_of_one_deletion_begin_outside_of_them() {
    let system = System::start_in_calendar_days(closed()).await;
    let other: ResourceId = "vm/web02".parse().unwrap();
    system.build(&other);
    system.register_named(&other, false).await;
    let (passes, waits) = (delete(&system).await, delete_named(&system, other).await);
    for id in [passes, waits] {
        system.until_job(id, Stage::Hard, by_hours).await;
    }
    system.let_pass(waits, Stage::Hard, Passable::Ceiling).await;
    system.let_pass(passes, Stage::Hard, Passable::Window).await;
    system.until_job(passes, Stage::Hard, |state| *state == JobState::Done).await;
    system.until_answered(passes, "boss overrode the window (2): it has to be tonight").await;
    let purge = system.until_job(passes, Stage::Purge, by_hours).await;
    system.two_beacons().await;
    assert_eq!(system.job(passes, JobKind::Stage(Stage::Purge)).await, purge, "once");
    let job = system.job(waits, JobKind::Stage(Stage::Hard)).await;
    assert!(by_hours(&job.state), "{job:?}");
    assert_eq!(job.cursor, 0, "not one step");
}
