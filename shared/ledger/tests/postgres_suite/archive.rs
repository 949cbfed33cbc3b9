//! What the database itself holds of the archive: who may remove what, and what others remember of it.
use std::sync::Arc;

use sexton_ledger::postgres::{PgArchive, PgLedger};
use sexton_ledger::{Archive as _, Ledger as _};
use sexton_model::Timestamp;
use sexton_model::checkpoint::Landmark;
use sexton_model::decide::Event;
use sexton_model::job::Stage;

use crate::conformance::stage::{self, Stagehand};
use crate::conformance::{keep_all, keep_receipt, over, stub};
use crate::database::Database;
use crate::guards::{drop_role, member_of, refused};

const TABLES: [&str; 9] =
    ["deletions", "records", "jobs", "holds", "waivers", "targets", "manifests", "audit", "receipts"];

/// The whole of an archiving with the rights of its role, and nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_archivers_role_removes_what_has_a_stub_and_writes_nothing_else() {
    let database = Database::new().await;
    let hand = Stagehand { ledger: database.open(stage::options()).await.unwrap(), plan: stage::plan() };
    hand.ledger
        .pulse(["hypervisor.main", "ipam.main", "dns.main", "notifier.main"].map(stage::alive).to_vec())
        .await
        .unwrap();
    let (id, other) = (over(&hand, "web01").await, over(&hand, "web02").await);
    let live = hand.doomed("web03").await;
    hand.one(live, Event::PlaceHold { by: stage::actor("legal"), reason: "lawsuit".into() }).await.unwrap();
    let (user, mut db) = member_of(&database, "sexton_archiver").await;
    let archive = PgArchive::open(&database.url_with(Some(&user)), stage::options().day).await.unwrap();

    // No part of a record goes by itself, and no record without its stub.
    for table in TABLES.iter().filter(|table| **table != "deletions") {
        let answer = refused(&mut db, &format!("DELETE FROM {table}")).await;
        assert!(answer.starts_with("permission denied"), "{table}: {answer}");
    }
    let answer = refused(&mut db, "DELETE FROM deletions").await;
    assert!(answer.contains("goes only once d-"), "{answer}");
    // A temporary table does not stand in for the real one.
    for sql in [
        "CREATE TEMPORARY TABLE stubs (deletion_id bigint)",
        "INSERT INTO pg_temp.stubs SELECT id FROM public.deletions",
    ] {
        sqlx::query(sql).execute(&mut db).await.unwrap();
    }
    let answer = refused(&mut db, "DELETE FROM deletions").await;
    assert!(answer.contains("goes only once d-"), "{answer}");
    sqlx::query("DROP TABLE pg_temp.stubs").execute(&mut db).await.unwrap();
    for sql in [
        "UPDATE deletions SET live = false",
        "UPDATE jobs SET state = 7",
        "UPDATE audit SET body = ''",
        "UPDATE stubs SET events = 1",
        "DELETE FROM stubs",
        "TRUNCATE stubs",
        "TRUNCATE deletions CASCADE",
        "INSERT INTO audit VALUES (1, 100, '', decode(repeat('00', 32), 'hex'))",
        "INSERT INTO holds VALUES (1, 1, '{}')",
        "INSERT INTO receipts SELECT * FROM receipts",
        "UPDATE receipts SET body = ''",
        "UPDATE ledger SET review = NULL",
        "DELETE FROM resources",
        "DELETE FROM plans",
    ] {
        let answer = refused(&mut db, sql).await;
        assert!(answer.starts_with("permission denied"), "{sql}: {answer}");
    }

    // The coordinators cannot remove, nor insert a stub.
    let (coordinator, mut theirs) = member_of(&database, "sexton_coordinator").await;
    let document = archive.whole(id).await.unwrap().unwrap();
    assert!(archive.archive(&stub(&document)).await.unwrap());
    for table in TABLES.iter().filter(|table| **table != "holds") {
        let answer = refused(&mut theirs, &format!("DELETE FROM {table}")).await;
        assert!(answer.starts_with("permission denied"), "{table}: {answer}");
    }
    for sql in ["INSERT INTO stubs SELECT * FROM stubs", "UPDATE stubs SET events = 1", "DELETE FROM stubs"] {
        assert!(refused(&mut theirs, sql).await.starts_with("permission denied"), "{sql}");
    }
    let ledger = PgLedger::open(&database.url_with(Some(&coordinator)), stage::options()).await.unwrap();
    assert_eq!(ledger.stub(id).await.unwrap().unwrap(), stub(&document));
    for kept in [other, live] {
        assert!(ledger.deletion(kept).await.unwrap().is_some());
    }
    assert_eq!(ledger.deletion(live).await.unwrap().unwrap().deletion.holds.len(), 1);
    drop((ledger, archive, db, theirs));
    drop_role(&database, &user).await;
    drop_role(&database, &coordinator).await;
}

/// Not even the tables' owner empties them, whole or in part.
#[tokio::test]
async fn tables_of_records_cannot_be_emptied() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    hand.doomed("web01").await;
    let mut db = database.raw().await;
    for table in ["audit", "records", "jobs", "waivers", "targets", "manifests", "stubs", "receipts"] {
        let answer = refused(&mut db, &format!("TRUNCATE {table}")).await;
        assert_eq!(answer, format!("{table} is append-only"));
    }
    refused(&mut db, "TRUNCATE deletions CASCADE").await;
}

/// What a stub does not reach, or says otherwise, is missing as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_that_no_stub_confirms_is_missing() {
    let database = Database::new().await;
    let hand = Stagehand::with(&database, stage::options()).await;
    let id = over(&hand, "web01").await;
    let archive = PgArchive::open(&database.url(), stage::options().day).await.unwrap();
    let document = archive.whole(id).await.unwrap().unwrap();
    let last = document.events.last().unwrap().clone();
    assert!(archive.archive(&stub(&document)).await.unwrap());
    let hex = |hash: &[u8; 32]| sexton_model::audit::hex(hash);
    let confirmed = [
        Landmark { deletion: id, seq: last.seq, hash: hex(&last.hash) },
        Landmark { deletion: id, seq: 1, hash: hex(&document.events[0].hash) },
    ];
    let mut known = hand.ledger.known();
    known.landmarks = confirmed.to_vec();
    assert_eq!(hand.ledger.confront(&known).await.unwrap(), None);
    for missing in [
        Landmark { deletion: id, seq: last.seq + 1, hash: hex(&last.hash) },
        Landmark { deletion: id, seq: last.seq, hash: hex(&document.events[0].hash) },
        Landmark { deletion: sexton_model::DeletionId(id.0 + 1), seq: 1, hash: hex(&last.hash) },
    ] {
        known.mark = hand.ledger.known().mark;
        known.landmarks = vec![missing.clone()];
        let review = hand.ledger.confront(&known).await.unwrap().unwrap();
        assert_eq!(review.behind.missing, [missing]);
        assert!(hand.ledger.accept_review(review.epoch, &stage::actor("ops"), "looked").await.unwrap());
    }
}

/// Another coordinator remembers a record as live that was ended and archived behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_remember_of_an_archived_record_means_nothing() {
    let database = Database::new().await;
    PgLedger::migrate(&database.url(), stage::options().day).await.unwrap();
    let other = Arc::new(PgLedger::open(&database.url(), stage::options()).await.unwrap());
    let hand = Stagehand::with(&database, stage::options()).await;
    let theirs = Stagehand { ledger: other.clone(), plan: stage::plan() };
    let id = hand.doomed("web01").await;
    let order = theirs.claim(id, Stage::Announce).await.unwrap().dispatch;
    hand.play(order, &mut Vec::new(), |_, _| false).await;
    hand.play_to(id, |_, _| false).await;
    keep_receipt(&*hand.ledger, id).await;
    keep_all(&*hand.ledger).await;
    let archive = PgArchive::open(&database.url(), stage::options().day).await.unwrap();
    let document = archive.whole(id).await.unwrap().unwrap();
    assert!(archive.archive(&stub(&document)).await.unwrap());
    assert_eq!(other.compare().await.unwrap(), Ok(()));
    other.checkpoint().await.unwrap();
    let late = theirs.one(id, Event::Claim { job: stage::job_id(id, Stage::Announce) }).await;
    assert_eq!(late.unwrap_err(), sexton_ledger::NotDone::NoSuchDeletion(id));
    assert_eq!(archive.ended(Timestamp::MAX, None, 10).await.unwrap(), []);
}
