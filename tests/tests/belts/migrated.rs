//! Tables that are migrated while services are there: by this version under services of its own, which wait for it, and by a
//! later one under a coordinator that was not stopped first. What is promised of it stands in the README ("Upgrades").
//!
//! Of many machines only: a file is brought up to date by the one process that opens it.
use std::sync::Arc;

use sexton_coordinator::Witness;
use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{Intent, Ledger, LedgerError};
use sexton_model::ResourceId;
use sexton_model::decide::Event;
use sexton_model::deletion::RecordStatus;
use sexton_scheduler::Scheduler;
use sexton_service::{Failed, patiently};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::gate::Point;
use super::system::{System, in_time, on_many_machines, ops};

on_many_machines! {
    tables_of_0_1_0_are_brought_up_to_date_under_services_that_wait,
    a_coordinator_goes_on_under_a_later_version_that_only_adds,
    what_later_tables_refuse_is_not_done_and_goes_on_once_they_take_it,
}

/// The last migration of 0.1.0, its only one.
const OF_0_1_0: u32 = 1;

/// What a later version may add, each statement for itself as to locks: columns and tables that an earlier one need not know.
const ADDED: [&str; 7] = [
    "CREATE TABLE later (id bigint PRIMARY KEY)",
    "ALTER TABLE ledger ADD COLUMN later bigint NOT NULL DEFAULT 0",
    "ALTER TABLE resources ADD COLUMN later text",
    "ALTER TABLE deletions ADD COLUMN later text NOT NULL DEFAULT ''",
    "ALTER TABLE jobs ADD COLUMN later bigint NOT NULL DEFAULT 0",
    "ALTER TABLE audit ADD COLUMN later text NOT NULL DEFAULT ''",
    "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
     VALUES (9999, 'later', true, '', 0)",
];

fn in_a_runtime(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(test);
}

fn cancel() -> Event {
    Event::Cancel { by: ops(), reason: "kept after all".into() }
}

/// What a scheduler does as long as it runs; how many jobs it has found due.
async fn looks(scheduler: Scheduler, stop: CancellationToken) -> usize {
    let mut found = 0;
    while !stop.is_cancelled() {
        found += scheduler.tick().await.unwrap();
        tokio::time::sleep(scheduler.every).await;
    }
    found
}

/// A coordinator waits for the tables, as its process does. Once it does, two migrate at once, as coordinators do that migrate
/// at their start. The job table that it has opened.
async fn opened_by_who_waits(system: &System) -> PgLedger {
    let (url, options) = (system.database_url(), system.options());
    let (refused, never) = (Notify::new(), CancellationToken::new());
    let waits = patiently("opening the job table", &never, || async {
        let opened = PgLedger::open(&url, options.clone()).await;
        if let Err(why) = &opened {
            let why = why.to_string();
            let told = "is missing: let the owner of the tables run `sexton-coordinator migrate`";
            assert!(why.contains(told), "{why}");
            refused.notify_one();
        }
        opened.map_err(Failed::from)
    });
    let migrate = async {
        refused.notified().await;
        tokio::join!(PgLedger::migrate(&url, options.day), PgLedger::migrate(&url, options.day))
    };
    let all = async { tokio::join!(waits, migrate) };
    let (opened, (one, other)) = in_time("the tables are those of this version", all).await;
    let done = [one.unwrap(), other.unwrap()].concat();
    for wanted in ["applied migration 2 (checkpoints)", "applied migration 27 (strangers)"] {
        assert!(done.iter().any(|line| line == wanted), "{done:?}");
    }
    opened.unwrap().unwrap()
}

/// One record is over, of one an order is out, of one nothing has begun. Consumers run throughout, and a scheduler looks.
fn tables_of_0_1_0_are_brought_up_to_date_under_services_that_wait() {
    in_a_runtime(async {
        let mut system = System::not_started_on_a_plan_of_0_1_0().await;
        system.start_everything().await;
        let [gone, waiting]: [ResourceId; 2] = ["vm/db01", "vm/mail01"].map(|id| id.parse().unwrap());
        for id in [&gone, &waiting] {
            system.build(id);
            system.register_named(id, false).await;
        }
        let (before, now) = (system.world(), system.ledger.facts().await.unwrap().now);
        let over = system.delete_named(gone, now).await;
        system.until_over(over, RecordStatus::Recycled).await;
        let told_of_it = system.view(over).await.audit.len();
        system.backup.close("final", Point::Look);
        let midway = system.delete().await;
        system.backup.reached().await;
        assert_ne!(system.world(), before);
        system.stop_coordinator().await;
        let waiting = system.delete_named(waiting, now).await;
        system.set_tables_back(OF_0_1_0);

        let stop = CancellationToken::new();
        let scheduler = tokio::spawn(looks(system.scheduler().await, stop.clone()));
        let ledger: Arc<dyn Ledger> = Arc::new(opened_by_who_waits(&system).await);
        // 0.1.0 kept no witness: a person has to say that this is the latest job table there is.
        let file = system.folder().join("witness.of-today");
        let missing = Witness::open(&file, &*ledger, false).await.err().unwrap();
        assert!(format!("{missing:#}").contains("start it once with --new-witness"), "{missing:#}");
        let witness = Witness::open(&file, &*ledger, true).await.unwrap();
        system.coordinate_with(ledger, witness);
        system.start_coordinator();

        system.tell(midway, cancel()).await.unwrap();
        system.backup.open();
        system.until_over(midway, RecordStatus::Cancelled).await;
        assert_eq!(system.world(), before, "what was captured before is put back");
        system.until_over(waiting, RecordStatus::Recycled).await;
        let of_the_one_that_is_over = system.view(over).await;
        assert_eq!(of_the_one_that_is_over.deletion.status, RecordStatus::Recycled);
        assert_eq!(of_the_one_that_is_over.audit.len(), told_of_it);
        for id in [over, midway, waiting] {
            assert!(system.ledger.verify_chain(id).await.unwrap().is_ok(), "{id}");
        }
        stop.cancel();
        assert!(scheduler.await.unwrap() > 0, "nothing was found due");
    });
}

/// Whoever starts meanwhile is told to be the later version.
fn a_coordinator_goes_on_under_a_later_version_that_only_adds() {
    in_a_runtime(async {
        let system = System::start().await;
        let other: ResourceId = "vm/db01".parse().unwrap();
        system.build(&other);
        system.register_named(&other, false).await;
        system.backup.close("final", Point::Look);
        let midway = system.delete().await;
        system.backup.reached().await;
        for statement in ADDED {
            system.execute(statement);
        }
        let refused = PgLedger::open(&system.database_url(), system.options()).await.err().unwrap();
        let told = "migration 9999 is of a later version than this program: use that one";
        assert!(refused.to_string().contains(told), "{refused}");

        system.backup.open();
        let now = system.ledger.facts().await.unwrap().now;
        let made_since = system.delete_named(other, now).await;
        for id in [midway, made_since] {
            system.until_over(id, RecordStatus::Recycled).await;
            assert!(system.ledger.verify_chain(id).await.unwrap().is_ok(), "{id}");
        }
    });
}

/// They want something with each event of the audit trail that this version does not know to say.
fn what_later_tables_refuse_is_not_done_and_goes_on_once_they_take_it() {
    in_a_runtime(async {
        let system = System::start().await;
        system.backup.close("final", Point::Look);
        let id = system.delete().await;
        system.backup.reached().await;
        for statement in ADDED {
            system.execute(statement);
        }
        system.execute("ALTER TABLE audit ALTER COLUMN later DROP DEFAULT");
        let before = system.view(id).await;
        system.backup.open();
        // Whatever comes of the order, and whoever asks: nothing can be decided without its event, so nothing is.
        for _ in 0..2 {
            let asked = vec![Intent { deletion: id, event: cancel() }];
            let refused = system.engine.run(asked).await.err().unwrap();
            assert!(matches!(refused, LedgerError::Store { .. }), "{refused}");
            system.two_beacons().await;
        }
        let after = system.view(id).await;
        assert_eq!(after.deletion.jobs, before.deletion.jobs);
        assert_eq!(after.audit.len(), before.audit.len());

        system.execute("ALTER TABLE audit ALTER COLUMN later SET DEFAULT ''");
        system.until_over(id, RecordStatus::Recycled).await;
        assert!(system.ledger.verify_chain(id).await.unwrap().is_ok());
    });
}
