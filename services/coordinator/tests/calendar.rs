//! The calendar of holidays is read again when it changes, and one that cannot be used changes nothing but what is told.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::{Days, NaiveDate};
use sexton_bus::local::Local;
use sexton_coordinator::{Alarmer, Engine, Hindrance, Options, Witness, alarms, hours, policy};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{AlarmFilter, Ledger, Limits};
use sexton_model::Timestamp;
use sexton_model::alarm::AlarmKind;
use sexton_model::time::Day;
use sexton_protocol::{BeaconSigner, Holder, Keyring};
use sexton_service::Config;

/// A calendar whose only holiday is this one.
fn holiday(folder: &Path, day: &str) {
    let text = format!(
        "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nSUMMARY:Inventory\r\nDTSTART;VALUE=DATE:{day}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    );
    // As whoever replaces a file should: nobody ever reads half of it.
    std::fs::write(folder.join("new.ics"), text).unwrap();
    std::fs::rename(folder.join("new.ics"), folder.join("holidays.ics")).unwrap();
}

async fn engine(folder: &Path) -> Engine {
    let text = "[windows]\nzone = \"UTC\"\nholidays = \"holidays.ics\"\n";
    let config = Config::parse(&folder.join("sexton.toml"), text, &["windows", "budgets", "census"]).unwrap();
    let policy = policy::read(&config, Timestamp::from(SystemTime::now())).unwrap();
    let options = sexton_ledger::Options { day: Day::Calendar, limits: Limits::default(), policy };
    let ledger = SqliteLedger::open(&folder.join("sexton.db"), options).await.unwrap();
    let ledger: Arc<dyn Ledger> = Arc::new(ledger);
    let witness = Witness::open(&folder.join("witness"), ledger.as_ref(), false).await.unwrap();
    let mut rng = rand::rng();
    let engine = Engine::new(Options {
        ledger,
        bus: Arc::new(Local::new()),
        keyring: Arc::new(Keyring::generate([Holder::Scheduler], &mut rng)),
        signer: Arc::new(BeaconSigner::generate("beacon", &mut rng)),
        unpacked: Vec::new(),
        witness: Arc::new(witness),
    });
    let alarmer = Alarmer::new(alarms::Options { round_ms: 0, ..alarms::Options::default() });
    engine.alarming(alarmer).with_calendar(hours::Calendar::of(&config).unwrap())
}

fn last(engine: &Engine) -> Option<NaiveDate> {
    engine.ledger.policy().windows.as_ref().and_then(|windows| windows.last_holiday())
}

async fn open(engine: &Engine) -> Vec<AlarmKind> {
    engine.alarm().await.unwrap();
    let filter = AlarmFilter { ended: false, before: None, limit: 10 };
    let page = engine.ledger.alarms(filter).await.unwrap();
    page.items.into_iter().map(|view| view.standing.alarm.kind).collect()
}

fn written(day: NaiveDate) -> String {
    day.format("%Y%m%d").to_string()
}

#[tokio::test]
async fn a_calendar_that_has_changed_counts_and_a_broken_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let today = Timestamp::from(SystemTime::now()).utc().date_naive();
    let (first, second) = (today + Days::new(30), today + Days::new(60));
    holiday(folder, &written(first));
    let engine = engine(folder).await;
    engine.tend_calendar().await.unwrap();
    assert_eq!((last(&engine), engine.hindrances()), (Some(first), Vec::new()));

    holiday(folder, &written(second));
    engine.tend_calendar().await.unwrap();
    assert_eq!(last(&engine), Some(second));
    // Another handle of the same job table goes by it, too.
    let keyed = sexton_model::request_key::Keyed {
        actor: "ops".parse().unwrap(),
        key: "k".parse().unwrap(),
        request: [1; 32],
    };
    let sexton_ledger::Held::By(attempt, _) = engine.ledger.hold_key(keyed).await.unwrap() else {
        panic!("nobody else holds it")
    };
    assert_eq!(engine.ledger.under(attempt).policy(), engine.ledger.policy());

    holiday(folder, "2026");
    for _ in 0..2 {
        engine.tend_calendar().await.unwrap();
        let [Hindrance::Calendar { why }] = &engine.hindrances()[..] else { panic!("nobody is told") };
        assert!(why.contains("holidays.ics: event \"Inventory\" (DTSTART 2026)"), "{why}");
        assert_eq!((last(&engine), open(&engine).await), (Some(second), vec![AlarmKind::Calendar]));
    }
    std::fs::remove_file(folder.join("holidays.ics")).unwrap();
    engine.tend_calendar().await.unwrap();
    assert!(engine.hindrances()[0].to_string().contains("cannot be opened"), "{:?}", engine.hindrances());
    assert_eq!(last(&engine), Some(second));

    holiday(folder, &written(first));
    engine.tend_calendar().await.unwrap();
    assert_eq!((last(&engine), engine.hindrances(), open(&engine).await), (Some(first), vec![], vec![]));
}

/// What a file looks like is no reason to go on without it: what was wrong may have been its rights, or not its own at all.
#[tokio::test]
async fn a_calendar_that_could_not_be_used_is_read_again_though_it_looks_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let today = Timestamp::from(SystemTime::now()).utc().date_naive();
    let (first, second) = (today + Days::new(30), today + Days::new(60));
    holiday(folder, &written(first));
    let engine = engine(folder).await;
    engine.tend_calendar().await.unwrap();
    assert_eq!((last(&engine), engine.hindrances()), (Some(first), vec![]));

    // As long as a date.
    let broken = "2026ABCD";
    holiday(folder, broken);
    let file = folder.join("holidays.ics");
    let looks = || {
        let found = std::fs::metadata(&file).unwrap();
        (found.modified().unwrap(), found.len(), found.ino())
    };
    let before = looks();
    engine.tend_calendar().await.unwrap();
    assert!(matches!(engine.hindrances()[..], [Hindrance::Calendar { .. }]), "{:?}", engine.hindrances());
    assert_eq!(last(&engine), Some(first));

    let repaired = std::fs::read_to_string(&file).unwrap().replace(broken, &written(second));
    std::fs::write(&file, repaired).unwrap();
    File::options().write(true).open(&file).unwrap().set_modified(before.0).unwrap();
    assert_eq!(looks(), before);
    engine.tend_calendar().await.unwrap();
    assert_eq!((last(&engine), engine.hindrances()), (Some(second), vec![]));
}
