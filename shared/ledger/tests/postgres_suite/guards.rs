//! What the database itself holds: who may do what, and what cannot be changed.
use std::sync::Arc;

use sexton_ledger::postgres::{PgDueReader, PgLedger};
use sexton_ledger::{DueReader, Intent, Ledger, LedgerError, NewRun, NotDone, Options};
use sexton_model::belts::Policy;
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::canary::{Came, Probe};
use sexton_model::decide::{Event, Refusal};
use sexton_model::job::{Stage, StateName};
use sexton_model::step::Outcome;
use sexton_model::time::Day;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::Barrier;

use crate::conformance::stage::{self, Stagehand};
use crate::conformance::{Fixture as _, keep_all};
use crate::database::Database;

pub async fn refused(db: &mut PgConnection, sql: &str) -> String {
    let answer = sqlx::query(AssertSqlSafe(sql.to_owned())).execute(db).await;
    answer.expect_err(sql).as_database_error().unwrap().message().to_owned()
}

#[tokio::test]
async fn the_trails_cannot_be_changed_even_by_their_owner() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    hand.doomed("web01").await;
    let mut db = database.raw().await;
    for table in ["audit", "ledger_audit", "signed_checkpoints"] {
        for sql in [format!("UPDATE {table} SET body = ''"), format!("TRUNCATE {table}")] {
            assert_eq!(refused(&mut db, &sql).await, format!("{table} is append-only"), "{sql}");
        }
    }
    assert_eq!(refused(&mut db, "DELETE FROM ledger_audit").await, "ledger_audit is append-only");
    assert_eq!(refused(&mut db, "DELETE FROM audit").await, "audit goes only once d-1 is archived");
    for table in ["records", "plans", "manifests"] {
        let sql = format!("UPDATE {table} SET body = ''");
        assert_eq!(refused(&mut db, &sql).await, format!("{table} is append-only"), "{sql}");
    }
}

/// A log-in role that is a member of `role`, for one connection.
pub async fn member_of(database: &Database, role: &str) -> (String, PgConnection) {
    let mut db = database.raw().await;
    let user = format!("sexton_test_{}", uuid::Uuid::new_v4().simple());
    for sql in [format!("CREATE ROLE {user} LOGIN"), format!("GRANT {role} TO {user}")] {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut db).await.unwrap();
    }
    let url = database.url_with(Some(&user));
    let db = PgConnection::connect(&url).await.unwrap();
    (user, db)
}

pub async fn drop_role(database: &Database, user: &str) {
    let mut db = database.raw().await;
    sqlx::query(AssertSqlSafe(format!("DROP ROLE {user}"))).execute(&mut db).await.unwrap();
}

/// All that can be read: tables, views and sequences of the schema, as the database lists them.
async fn relations(database: &Database) -> Vec<String> {
    let sql = "SELECT oid::regclass::text FROM pg_class \
         WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S', 'f') ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(&mut database.raw().await).await.unwrap()
}

#[tokio::test]
async fn the_schedulers_role_reads_its_view_and_nothing_else() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    let id = hand.doomed("web01").await;
    let announce = stage::job_id(id, sexton_model::job::Stage::Announce);
    let (user, mut db) = member_of(&database, "sexton_scheduler").await;
    let reader = PgDueReader::open(&database.url_with(Some(&user))).await.unwrap();
    while reader.due(10).await.unwrap() != [announce] {
        tokio::task::yield_now().await;
    }
    let relations = relations(&database).await;
    for known in ["jobs", "audit", "signed_checkpoints", "fence"] {
        assert!(relations.iter().any(|relation| relation == known), "{known} is not among {relations:?}");
    }
    for relation in relations.iter().filter(|relation| *relation != "due_jobs") {
        let answer = refused(&mut db, &format!("SELECT * FROM {relation}")).await;
        assert!(answer.starts_with("permission denied"), "{relation}: {answer}");
    }
    for sql in ["DELETE FROM due_jobs", "UPDATE due_jobs SET rank = 0", "CREATE TABLE mine (a integer)"] {
        assert!(refused(&mut db, sql).await.starts_with("permission denied"), "{sql}");
    }
    drop((reader, db));
    drop_role(&database, &user).await;
}

/// A database that was set back gives numbers again. Whoever lived through it remembers the records of the first ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_is_given_again_after_a_step_back_is_another_record() {
    let database = Database::new().await;
    let living = database.open(stage::options()).await.unwrap();
    let hand = Stagehand { ledger: living.clone(), plan: stage::plan() };
    let all = ["hypervisor.main", "ipam.main", "dns.main", "notifier.main"];
    hand.ledger.pulse(all.map(stage::alive).to_vec()).await.unwrap();
    database.copy().await;
    let first = hand.doomed("web01").await;
    database.put_back().await;
    let other = Stagehand { ledger: database.open(stage::options()).await.unwrap(), plan: stage::plan() };
    let second = other.doomed("web02").await;
    assert_eq!(first, second, "this test is about nothing");

    let job = sexton_model::JobId::of(second, Stage::Announce.index());
    let claim = Intent { deletion: second, event: Event::Claim { job } };
    let noticed = living.run(vec![claim.clone()]).await;
    assert!(matches!(noticed, Err(LedgerError::WentBack(_))), "{noticed:?}");
    let review = living.confront(&living.known()).await.unwrap().unwrap();
    assert!(living.accept_review(review.epoch, &stage::actor("ops"), "compared").await.unwrap());
    let decided = living.run(vec![claim]).await.unwrap().remove(0).unwrap();
    let order = decided.dispatch.unwrap();
    assert_eq!(
        (order.record.resource.id.to_string(), decided.resource.to_string()),
        ("vm/web02".into(), "vm/web02".into())
    );
    let shown = living.deletion(second).await.unwrap().unwrap();
    assert_eq!(shown.deletion.record.resource.id.to_string(), "vm/web02");
}

/// PostgreSQL keeps no NUL character. What says one fails alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_stored_fails_alone() {
    let database = Database::new().await;
    let hand = Stagehand { ledger: database.open(stage::options()).await.unwrap(), plan: stage::plan() };
    let all = ["hypervisor.main", "ipam.main", "dns.main", "notifier.main"];
    hand.ledger.pulse(all.map(stage::alive).to_vec()).await.unwrap();
    let mut batch = Vec::new();
    for (name, reason) in [("web01", "bytes: \0"), ("web02", "text")] {
        let id = hand.doomed(name).await;
        let order = hand.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap().spec;
        let outcome = sexton_model::step::Outcome::failed(reason);
        let event = Event::Outcome { job: order.job, from: order.instance, fence: order.fence, outcome };
        batch.push(Intent { deletion: id, event });
    }
    let results = hand.ledger.run(batch).await.unwrap();
    assert!(matches!(&results[0], Err(NotDone::Corrupt(..))), "{:?}", results[0]);
    assert!(results[1].is_ok(), "{:?}", results[1]);
}

/// The whole of a deletion, a cancel and a pause with the rights of the role that coordinators have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_coordinators_role_works_and_cannot_touch_the_trail() {
    let database = Database::new().await;
    PgLedger::migrate(&database.url(), stage::options().day).await.unwrap();
    let (user, mut db) = member_of(&database, "sexton_coordinator").await;
    let ledger = PgLedger::open(&database.url_with(Some(&user)), stage::options()).await.unwrap();
    let hand = Stagehand { ledger: std::sync::Arc::new(ledger), plan: stage::plan() };
    let all = ["hypervisor.main", "ipam.main", "dns.main", "notifier.main"];
    hand.ledger.pulse(all.map(stage::alive).to_vec()).await.unwrap();
    let (whole, back) = (hand.doomed("web01").await, hand.doomed("web02").await);
    assert!(hand.play_to(whole, |_, _| false).await.is_none());
    hand.play_to(back, |name, _| name == "dns.withdraw").await.unwrap();
    let hold = Event::PlaceHold { by: stage::actor("ops"), reason: "wait".into() };
    let hold = hand.one(back, hold).await.unwrap().audit_seq;
    hand.one(back, Event::ReleaseHold { hold, by: stage::actor("ops") }).await.unwrap();
    hand.one(back, Event::Cancel { by: stage::actor("ops"), reason: "kept".into() }).await.unwrap();
    let covers = sexton_model::belts::PauseSelector::default();
    let paused = hand.ledger.pause(covers, &stage::actor("ops"), "look").await.unwrap();
    assert!(hand.ledger.resume(paused.pause.id, &stage::actor("ops"), None).await.unwrap().unwrap());
    hand.ceiling(Some("tenants"), Some(Ceiling::Hard)).await.unwrap();
    hand.ceiling(Some("tenants"), None).await.unwrap();
    let mut known = hand.ledger.checkpoint().await.unwrap();
    known.mark.number += 1000;
    let review = hand.ledger.confront(&known).await.unwrap().unwrap();
    assert!(hand.ledger.accept_review(review.epoch, &stage::actor("ops"), "a trial").await.unwrap());
    hand.ledger.health().await.unwrap();
    alarms(&*hand.ledger).await;
    assert_eq!(hand.ledger.verify_chains(None, 1000).await.unwrap().broken, []);
    keep_all(&*hand.ledger).await;
    // Some chains grow on: what was noted of them is updated.
    let covers = sexton_model::belts::PauseSelector::default();
    let paused = hand.ledger.pause(covers, &stage::actor("ops"), "again").await.unwrap();
    assert!(hand.ledger.resume(paused.pause.id, &stage::actor("ops"), None).await.unwrap().unwrap());
    keep_all(&*hand.ledger).await;
    assert_eq!(hand.view(whole).await.deletion.status, sexton_model::deletion::RecordStatus::Recycled);
    for sql in [
        "UPDATE audit SET body = ''",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "UPDATE ledger_audit SET body = ''",
        "DELETE FROM ledger_audit",
        "TRUNCATE ledger_audit",
        "UPDATE signed_checkpoints SET body = ''",
        "DELETE FROM signed_checkpoints",
        "TRUNCATE signed_checkpoints",
        "DELETE FROM attested",
        "DELETE FROM jobs",
        "UPDATE records SET body = ''",
        "CREATE TABLE mine (a integer)",
    ] {
        assert!(refused(&mut db, sql).await.starts_with("permission denied"), "{sql}");
    }
    for sql in ["ALTER TABLE audit DISABLE TRIGGER ALL", "DROP TABLE audit"] {
        assert!(refused(&mut db, sql).await.starts_with("must be owner"), "{sql}");
    }
    drop((hand, db));
    drop_role(&database, &user).await;
}

/// All that a coordinator does about alarms and digests.
async fn alarms(ledger: &dyn Ledger) {
    let since = ledger.begin_alarm_round(1).await.unwrap().unwrap();
    let alarm = sexton_model::alarm::hold::orders_stopped("here", 60);
    for hold in [vec![alarm], Vec::new()] {
        let found = sexton_ledger::Found { since, hold, ..Default::default() };
        ledger.note_alarms(found).await.unwrap();
    }
    assert!(ledger.claim_telling("alarm/1", "mail", 0, 1).await.unwrap());
    let told = Ok(sexton_model::alarm::Phase::Raised);
    assert!(ledger.note_telling("alarm/1", "mail", 1, told).await.unwrap());
    ledger.acknowledge_alarm(1, &stage::actor("ops"), "seen").await.unwrap();
    ledger.watched(None).await.unwrap();
    ledger.ahead(7, None).await.unwrap();
    ledger.held(None).await.unwrap();
    assert!(ledger.keep_digest("2026-12-01".parse().unwrap(), "{}").await.unwrap());
}

pub fn unfit<T>(answer: Result<T, LedgerError>) -> String {
    match answer {
        Err(LedgerError::Unfit(reason)) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test]
async fn migrating_says_what_it_did_and_opening_asks_for_it() {
    let database = Database::new().await;
    let day = stage::options().day;
    let reason = unfit(PgLedger::open(&database.url(), stage::options()).await);
    assert!(reason.contains("migration 1 (job table) is missing"), "{reason}");
    assert!(reason.contains("sexton-coordinator migrate"), "{reason}");
    let done = PgLedger::migrate(&database.url(), day).await.unwrap();
    assert_eq!(done.first().map(String::as_str), Some("applied migration 1 (job table)"));
    assert!(done.iter().any(|line| line.starts_with("founded the ledger")), "{done:?}");
    assert_eq!(PgLedger::migrate(&database.url(), day).await.unwrap(), Vec::<String>::new(), "again");
    PgLedger::open(&database.url(), stage::options()).await.unwrap();
    let mut db = database.raw().await;
    for (sql, expected) in [
        ("UPDATE _sqlx_migrations SET success = false WHERE version = 2", "was begun and has failed"),
        ("UPDATE _sqlx_migrations SET success = true, checksum = '' WHERE version = 2", "with another text"),
        ("DELETE FROM _sqlx_migrations WHERE version = 2", "migration 2 (checkpoints) is missing"),
    ] {
        sqlx::query(sql).execute(&mut db).await.unwrap();
        let reason = unfit(PgLedger::open(&database.url(), stage::options()).await);
        assert!(reason.contains(expected), "{reason}");
    }
}

#[tokio::test]
async fn a_database_of_a_later_version_is_refused() {
    let database = Database::new().await;
    PgLedger::migrate(&database.url(), stage::options().day).await.unwrap();
    let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 VALUES (9999, 'later', true, '', 0)";
    sqlx::query(later).execute(&mut database.raw().await).await.unwrap();
    let reason = unfit(PgLedger::open(&database.url(), stage::options()).await);
    assert!(reason.contains("migration 9999 is of a later version"), "{reason}");
}

#[tokio::test]
async fn a_ledger_that_is_not_durable_or_of_another_day_is_refused() {
    let database = Database::new().await;
    PgLedger::migrate(&database.url(), stage::options().day).await.unwrap();
    let real = Options { day: Day::Calendar, limits: stage::options().limits, policy: Policy::default() };
    for reason in [
        unfit(PgLedger::open(&database.url(), real.clone()).await.map(drop)),
        unfit(PgLedger::migrate(&database.url(), real.day).await.map(drop)),
    ] {
        assert!(reason.contains("a rehearsal never mixes"), "{reason}");
    }
    let url = database.url();
    let careless =
        format!("{url}{}options[synchronous_commit]=off", if url.contains('?') { '&' } else { '?' });
    for reason in [
        unfit(PgLedger::open(&careless, stage::options()).await.map(drop)),
        unfit(PgLedger::migrate(&careless, stage::options().day).await.map(drop)),
    ] {
        assert!(reason.contains("synchronous_commit is off"), "{reason}");
    }
}

/// An asynchronous replica takes over behind a living coordinator, and lacks the last decision.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_behind_a_living_coordinator_is_noticed_by_the_next_batch() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    let (id, other) = (hand.doomed("web01").await, hand.doomed("web02").await);
    let order = hand.claim(id, Stage::Announce).await.unwrap().dispatch.unwrap();
    hand.ledger.checkpoint().await.unwrap();
    database.copy().await;
    let last = hand.answer(&order, stage::right_answer(&order)).await.unwrap().dispatch.unwrap();
    database.put_back().await;
    // A sequence may be ahead of what was committed; what was decided is missing all the same.
    let ahead = "SELECT setval('fence', 1000000)";
    sqlx::query(ahead).execute(&mut database.raw().await).await.unwrap();
    let claim = Event::Claim { job: stage::job_id(other, Stage::Announce) };
    let claim = Intent { deletion: other, event: claim };
    let behind = match hand.ledger.run(vec![claim.clone()]).await {
        Err(LedgerError::WentBack(behind)) => behind,
        other => panic!("{other:?}"),
    };
    assert_eq!(behind.missing.len(), 1);
    assert!(matches!(hand.ledger.checkpoint().await, Err(LedgerError::WentBack(_))));
    assert_eq!(hand.state(other, Stage::Announce).await, StateName::Scheduled);
    let review = hand.ledger.confront(&hand.ledger.known()).await.unwrap().unwrap();
    let under = hand.ledger.run(vec![claim.clone()]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(under, NotDone::Refused(Refusal::UnderReview(review.epoch)));
    assert!(hand.ledger.accept_review(review.epoch, &stage::actor("ops"), "looked").await.unwrap());
    let again = hand.ledger.run(vec![claim]).await.unwrap().remove(0).unwrap().dispatch.unwrap();
    assert!(again.spec.fence > last.spec.fence);
    hand.ledger.checkpoint().await.unwrap();
}

/// The same of a decision that is no record's. The next batch goes by the number alone; whoever looks further finds it missing although
/// another coordinator has written checkpoints since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ceiling_that_a_failover_has_lost_is_noticed_although_others_have_gone_on() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    let id = hand.doomed("web01").await;
    hand.ledger.checkpoint().await.unwrap();
    database.copy().await;
    hand.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    database.put_back().await;
    let known = hand.ledger.known();
    let claim = Event::Claim { job: stage::job_id(id, Stage::Announce) };
    let claim = Intent { deletion: id, event: claim };
    let behind = match hand.ledger.run(vec![claim.clone()]).await {
        Err(LedgerError::WentBack(behind)) => behind,
        other => panic!("{other:?}"),
    };
    assert!(behind.found.number < behind.known.number, "{behind}");
    // What stops something is taken, and hides nothing of what is lost.
    for scope in ["tenants", "tenants/acme"] {
        hand.ceiling(Some(scope), Some(Ceiling::Observe)).await.unwrap();
    }
    assert_eq!(hand.ledger.known(), known);
    let others = "UPDATE ledger SET checkpoints = checkpoints + 1000";
    sqlx::query(others).execute(&mut database.raw().await).await.unwrap();
    let behind = match hand.ledger.checkpoint().await {
        Err(LedgerError::WentBack(behind)) => behind,
        other => panic!("{other:?}"),
    };
    assert_eq!((&behind.decision, behind.missing.len()), (&known.decision, 0));
    assert_eq!(known.decision.as_ref().map(|lost| lost.chain.as_str()), Some("pauses"));
    // And by whoever knows no more than what was written down of it.
    let other: Arc<dyn Ledger> = Arc::new(PgLedger::open(&database.url(), stage::options()).await.unwrap());
    let review = other.confront(&known).await.unwrap().expect("it is noticed");
    assert_eq!(review.behind.decision, known.decision);
    let under = other.run(vec![claim]).await.unwrap().remove(0).unwrap_err();
    assert_eq!(under, NotDone::Refused(Refusal::UnderReview(review.epoch)));
}

/// A batch of which everything is refused is not committed. Were its fence taken for seen, a ledger that never gives it would seem to
/// have gone back in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_known_of_a_batch_that_was_refused() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    let id = hand.doomed("web01").await;
    assert!(hand.claim(id, Stage::Announce).await.unwrap().dispatch.is_some());
    let known = hand.ledger.known();
    let again = Event::Claim { job: stage::job_id(id, Stage::Announce) };
    assert!(hand.one(id, again).await.is_err(), "it has begun");
    assert_eq!(hand.ledger.known(), known);
    database.compare().await.unwrap();
}

/// What stops something is taken by a job table of another name, too. Nothing of that one is known of the one that was here: behind its
/// later epoch nobody would miss what that one loses, and by its numbers it would seem to have gone back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_known_of_another_job_table_though_it_is_paused() {
    let database = Database::new().await;
    let hand = Stagehand::of_many_scopes(&database).await;
    let ops = stage::actor("ops");
    let forged = |instance: &str| (Probe::ForgedOrder { instance: instance.parse().unwrap() }, None);
    let probes = ["dns.main", "ipam.main"].map(forged).to_vec();
    let run = NewRun { asked_by: None, within_ms: 3_600_000, probes };
    let sent = hand.ledger.begin_canaries(run).await.unwrap().unwrap();
    let believed = Came::Answered(Outcome::refused("there is no such thing"));
    let hear = async |nth: usize| {
        let heard = hand.ledger.hear_canary(sent[nth].id, &believed).await.unwrap().unwrap();
        heard.judged.and_then(|judged| judged.pause).expect("it pauses everything")
    };
    let before = hand.ledger.known().mark;
    let pause = hear(0).await;
    let known = hand.ledger.known();
    assert!(known.mark.number > before.number && known.mark.revision > before.revision, "{known:?}");
    assert_eq!(known.decision.as_ref().map(|last| last.chain.as_str()), Some("pauses"));
    assert!(hand.ledger.resume(pause, &ops, None).await.unwrap().unwrap());

    let known = hand.ledger.known();
    let another = "UPDATE ledger SET ledger = 'another', epoch = epoch + 1, revision = revision + 100";
    sqlx::query(another).execute(&mut database.raw().await).await.unwrap();
    let counted = hand.without("a", 4, true).await.unwrap();
    assert!(counted.paused.is_some(), "{counted:?}");
    assert_eq!(hand.ledger.known(), known, "by a census");
    hear(1).await;
    assert_eq!(hand.ledger.known(), known, "by a canary");
    let covers = sexton_model::belts::PauseSelector::default();
    hand.ledger.pause(covers, &ops, "stop").await.unwrap();
    assert_eq!(hand.ledger.known(), known, "by somebody");
    assert_eq!(hand.ledger.pauses().await.unwrap().len(), 3, "all of it stands");
    let answer = hand.ledger.checkpoint().await;
    assert!(matches!(answer, Err(LedgerError::Unfit(_))), "{answer:?}");
}

/// A transaction that is dropped between its statements leaves nothing behind in the pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_cancelled_leave_no_lock_behind() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    let id = hand.doomed("web01").await;
    for micros in (0..4000).step_by(40) {
        let event = sexton_model::decide::Event::PlaceHold { by: stage::actor("ops"), reason: "wait".into() };
        let call = hand.one(id, event);
        let _ = tokio::time::timeout(std::time::Duration::from_micros(micros), call).await;
    }
    // Takes the gate alone: it would wait for ever for a connection that went back with a transaction.
    let covers = sexton_model::belts::PauseSelector::default();
    hand.ledger.pause(covers, &stage::actor("ops"), "look").await.unwrap();
    assert_eq!(hand.ledger.verify_chain(id).await.unwrap(), Ok(()));
}

/// Two that lock in opposite orders are counted: without this, that none were counted says nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_locks_in_another_order_is_counted() {
    let database = Database::new().await;
    assert_eq!(database.deadlocks().await, 0);
    let barrier = Arc::new(Barrier::new(2));
    let mut tasks = Vec::new();
    for order in [[1_i64, 2], [2, 1]] {
        let (mut db, barrier) = (database.raw().await, barrier.clone());
        tasks.push(tokio::spawn(async move {
            for sql in ["SET deadlock_timeout = '10ms'", "BEGIN"] {
                sqlx::query(sql).execute(&mut db).await.unwrap();
            }
            let lock = "SELECT pg_advisory_xact_lock($1)";
            sqlx::query(lock).bind(order[0]).execute(&mut db).await.unwrap();
            barrier.wait().await;
            let met = sqlx::query(lock).bind(order[1]).execute(&mut db).await.is_err();
            db.close().await.unwrap();
            usize::from(met)
        }));
    }
    let mut met = 0;
    for task in tasks {
        met += task.await.unwrap();
    }
    assert_eq!((met, database.deadlocks().await), (1, 1));
}
