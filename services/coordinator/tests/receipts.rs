//! Receipts in the running coordinator: who gets one, when, and that losing the hint loses nothing.
#![expect(clippy::unwrap_used, reason = "a test says what it expected by failing")]
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sexton_bus::Topology;
use sexton_bus::local::Local;
use sexton_coordinator::attester::Options;
use sexton_coordinator::{Alarmer, Archiver, Attester, Engine, Witness, alarms, archiver, attester, notary};
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{
    AlarmFilter, Alarms as _, Archive as _, Intent, Ledger as _, LedgerError, Limits, NewDeletion,
    Receipts as _,
};
use sexton_model::alarm::telling::OWNER_SILENT_MS;
use sexton_model::alarm::{Alarm, AlarmKind};
use sexton_model::belts::Policy;
use sexton_model::catalogue::Catalogue;
use sexton_model::decide::Event;
use sexton_model::deletion::Due;
use sexton_model::job::Stage;
use sexton_model::plan::Plan;
use sexton_model::resource::Resource;
use sexton_model::time::Day;
use sexton_model::{DeletionId, JobId};
use sexton_protocol::{BeaconSigner, BeaconVerifier, Holder, Keyring, archive, receipt};
use sexton_testkit::job_table;
use tokio_util::sync::CancellationToken;

const PLAN: &str = "kind = \"vm\"\nversion = 1\ncriticality = \"irreplaceable\"\nrehearsal = true\n\
    [stages.announce]\noffset_days = -1\nsteps = []\n[stages.soft]\noffset_days = 0\nsteps = []\n\
    [stages.hard]\noffset_days = 1\nsteps = [{ do = \"inventory.remove\" }]\n\
    [stages.purge]\noffset_days = 2\nsteps = [{ do = \"receipt\" }]\n[stages.recycle]\noffset_days = 3\nsteps = []\n";

struct Site {
    folder: tempfile::TempDir,
    ledger: Arc<SqliteLedger>,
    signer: Arc<BeaconSigner>,
}

impl Site {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (day, limits, policy) = (Day::Rehearsal { length_ms: 1 }, Limits::default(), Policy::default());
        let options = sexton_ledger::Options { day, limits, policy };
        let ledger = SqliteLedger::open(folder.path().join("sexton.db"), options).await.unwrap();
        let signer = Arc::new(BeaconSigner::generate("audit-1", &mut rand::rng()));
        Self { folder, ledger: Arc::new(ledger), signer }
    }

    fn attester(&self) -> Attester {
        let (file, every) = (self.folder.path().join("checkpoints"), Duration::from_secs(3600));
        Attester::new(Options { file, every, signer: self.signer.clone(), known: BeaconVerifier::default() })
    }

    async fn engine(&self) -> Arc<Engine> {
        static ENGINES: AtomicU32 = AtomicU32::new(0);
        let file = self.folder.path().join(format!("{}.witness", ENGINES.fetch_add(1, Ordering::Relaxed)));
        let witness = Arc::new(Witness::open(&file, &*self.ledger, true).await.unwrap());
        let engine = Engine::new(sexton_coordinator::Options {
            ledger: self.ledger.clone(),
            bus: Arc::new(Local::with_topology(Topology::for_instances(&[]))),
            keyring: Arc::new(Keyring::generate([Holder::Scheduler], &mut rand::rng())),
            signer: self.signer.clone(),
            unpacked: vec![],
            witness,
        });
        Arc::new(engine.signing(Some(self.attester())))
    }

    async fn made(&self, name: &str) -> DeletionId {
        let text = format!(
            r#"{{"id": "vm/{name}", "scope": "lab", "identity": {{"uuid": "{name}"}}, "criticality": "reproducible"}}"#
        );
        let resource: Resource = serde_json::from_str(&text).unwrap();
        let (id, by) = (resource.id.clone(), "ops".parse::<sexton_model::Actor>().unwrap());
        assert_eq!(self.ledger.register(vec![resource], &by, true).await.unwrap(), [Ok(())]);
        let now = self.ledger.facts().await.unwrap().now;
        let due = Due { date: now.utc().date_naive(), zone: "UTC".parse().unwrap(), moment: Some(now) };
        let plan = Arc::new(Plan::parse("vm.toml", PLAN, &Catalogue::default(), true).unwrap());
        let new = NewDeletion { resource: id, due, gone_by: None, by, reason: "old".to_owned(), plan };
        self.ledger.create(vec![new]).await.unwrap().remove(0).unwrap()
    }

    /// Go through the stages, up to this one.
    async fn to(&self, engine: &Engine, id: DeletionId, last: Stage) {
        self.all_to(engine, &[id], last).await;
    }

    /// The same of several.
    async fn all_to(&self, engine: &Engine, ids: &[DeletionId], last: Stage) {
        for stage in Stage::ALL.into_iter().filter(|stage| *stage <= last) {
            let claim = |id: &DeletionId| {
                let job = JobId::of(*id, stage.index());
                Intent { deletion: *id, event: Event::Claim { job } }
            };
            let mut left = ids.to_vec();
            while !left.is_empty() {
                let done = engine.run(left.iter().map(claim).collect()).await.unwrap();
                left =
                    left.into_iter().zip(done).filter(|(_, done)| done.is_err()).map(|(id, _)| id).collect();
                tokio::task::yield_now().await;
            }
        }
    }

    /// One round over all records.
    async fn round(&self) {
        self.round_of(&notary::Due::default()).await;
    }

    /// By a coordinator that remembers this.
    async fn round_of(&self, due: &notary::Due) {
        let (attester, mut left) = (self.attester(), Some(DeletionId(0)));
        while let Some(after) = left {
            left = notary::go_on(due, &attester, &*self.ledger, after).await.unwrap();
        }
    }

    /// Change the job table behind the back of whoever has it open.
    fn alter(&self, sql: &str) {
        job_table::alter(&self.folder.path().join("sexton.db"), sql);
    }

    /// What is open.
    async fn open(&self) -> Vec<Alarm> {
        let filter = AlarmFilter { ended: false, before: None, limit: 10 };
        let page = self.ledger.alarms(filter).await.unwrap();
        page.items.into_iter().map(|view| view.standing.alarm).collect()
    }
}

/// Of one coordinator: each has a name of its own.
fn alarmer(name: &str) -> Alarmer {
    Alarmer::new(alarms::Options { name: name.to_owned(), ..alarms::Options::default() })
}

#[tokio::test]
async fn whose_purge_ends_gets_its_receipt_and_a_lost_hint_loses_nothing() {
    let site = Site::new().await;
    let engine = site.engine().await;
    let (one, two) = (site.made("one").await, site.made("two").await);
    site.to(&engine, one, Stage::Hard).await;
    assert!(!notary::sign_noted(&engine.receipts, &site.attester(), &*site.ledger).await.unwrap());
    site.round().await;
    assert_eq!(site.ledger.receipt(one).await.unwrap(), None, "its purge is not over");
    site.to(&engine, two, Stage::Purge).await;
    assert!(!notary::sign_noted(&engine.receipts, &site.attester(), &*site.ledger).await.unwrap());
    let kept = site.ledger.receipt(two).await.unwrap().unwrap();
    let opened = receipt::open(&kept, &site.signer.verifier()).unwrap();
    assert_eq!((&opened.signed, &opened.sound), (&Ok(()), &Ok(())));
    assert_eq!((opened.receipt.deletion, opened.receipt.steps.len()), (two, 2));
    let ledger = site.ledger.facts().await.unwrap().ledger;
    assert_eq!((opened.receipt.ledger, opened.receipt.complete), (ledger, true));
    assert_eq!(opened.receipt.rehearsal_day_ms, Some(1), "whoever reads it knows what its graces were");

    // Another coordinator ended this one, and died.
    let other = site.engine().await;
    let third = site.made("three").await;
    site.to(&other, third, Stage::Purge).await;
    drop(other);
    assert!(!notary::sign_noted(&engine.receipts, &site.attester(), &*site.ledger).await.unwrap());
    assert_eq!(site.ledger.receipt(third).await.unwrap(), None);
    site.round().await;
    let signed = site.ledger.receipt(third).await.unwrap().unwrap();
    site.round().await;
    assert_eq!(site.ledger.receipt(third).await.unwrap().unwrap(), signed, "once");
    assert_eq!(site.ledger.receipt(two).await.unwrap().unwrap(), kept);
    assert_eq!(site.ledger.receipt(one).await.unwrap(), None);
}

/// The loop of a running coordinator, which nobody told anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_coordinator_signs_what_it_finds() {
    let site = Site::new().await;
    let id = site.made("one").await;
    site.to(&*site.engine().await, id, Stage::Purge).await;
    assert_eq!(site.ledger.receipt(id).await.unwrap(), None);
    let (engine, shutdown) = (site.engine().await, CancellationToken::new());
    let bus = Arc::new(Local::with_topology(Topology::for_instances(&[])));
    let running = tokio::spawn(sexton_coordinator::run(engine.clone(), bus, shutdown.clone()));
    let signed = async |id: DeletionId| {
        while site.ledger.receipt(id).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), signed(id)).await.unwrap();
    // The next round is an hour away: this one is signed because its end was noted.
    let next = site.made("two").await;
    tokio::time::timeout(Duration::from_secs(30), signed(next)).await.unwrap();
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn under_review_nothing_is_signed() {
    let site = Site::new().await;
    let (id, engine) = (site.made("one").await, site.engine().await);
    site.to(&engine, id, Stage::Purge).await;
    let mut later = site.ledger.known();
    later.mark.number += 1000;
    let review = site.ledger.confront(&later).await.unwrap().unwrap();
    site.round().await;
    assert!(!notary::sign_noted(&engine.receipts, &site.attester(), &*site.ledger).await.unwrap());
    assert_eq!(site.ledger.receipt(id).await.unwrap(), None);
    assert!(site.ledger.accept_review(review.epoch, &"ops".parse().unwrap(), "compared").await.unwrap());
    site.round().await;
    assert!(site.ledger.receipt(id).await.unwrap().is_some());
}

#[tokio::test]
async fn the_archives_file_holds_it() {
    let site = Site::new().await;
    let (id, engine) = (site.made("one").await, site.engine().await);
    site.to(&engine, id, Stage::Recycle).await;
    let folder = site.folder.path().join("archive");
    std::fs::create_dir(&folder).unwrap();
    let attester = site.attester();
    let mut left = Some(attester::Round::default());
    while let Some(round) = left {
        left = attester.go_on(&*site.ledger, round).await;
    }
    let (signer, known) = (site.signer.clone(), BeaconVerifier::default());
    let options = archiver::Options {
        store: site.ledger.clone(),
        folder: folder.clone(),
        after_days: 1,
        signer,
        known,
    };
    let archiver = Archiver::new(options);
    while site.ledger.ended(sexton_model::Timestamp::MAX, None, 1).await.unwrap().is_empty() {
        archiver.go_on(&*site.ledger, archiver::Round::default()).await.unwrap();
        assert!(site.ledger.stub(id).await.unwrap().is_none(), "it leaves with its receipt only");
        site.round().await;
    }
    let kept = site.ledger.receipt(id).await.unwrap();
    let name = site.ledger.whole(id).await.unwrap().unwrap().file_name();
    while site.ledger.stub(id).await.unwrap().is_none() {
        archiver.go_on(&*site.ledger, archiver::Round::default()).await.unwrap();
    }
    let opened = archive::open(&std::fs::read(folder.join(name)).unwrap(), &site.signer.verifier()).unwrap();
    assert_eq!((opened.document.receipt, opened.signed), (kept, Ok(())));
    assert_eq!(site.ledger.receipt(id).await.unwrap(), None, "its row is gone with the record");
}

#[tokio::test]
async fn what_has_no_receipt_is_an_alarm_until_it_has_one() {
    let site = Site::new().await;
    let (sound, broken, engine) = (site.made("one").await, site.made("two").await, site.engine().await);
    for id in [sound, broken] {
        site.to(&engine, id, Stage::Purge).await;
    }
    site.alter("DROP TRIGGER audit_keeps_events");
    let rewrite = |from: &str, to: &str| {
        site.alter(&format!(
            "UPDATE audit SET body = replace(body, '{from}', '{to}') WHERE deletion_id = {} AND seq = 1",
            broken.0
        ));
    };
    rewrite("\"by\":\"", "\"by\":\"x");
    let (one, due) = (alarmer("one"), notary::Due::default());
    site.round_of(&due).await;
    assert!(site.ledger.receipt(sound).await.unwrap().is_some(), "the other one has its own");
    assert_eq!(due.lacking().unwrap().into_keys().collect::<Vec<_>>(), [broken]);
    one.say_lacking(&*site.ledger, &due).await.unwrap();
    let [alarm] = site.open().await.try_into().unwrap();
    assert_eq!((alarm.kind, alarm.key()), (AlarmKind::NoReceipt, format!("no_receipt/{broken}")));
    let said = format!("{broken} is purged and has no receipt: its audit chain is broken");
    assert!(alarm.text.starts_with(&said), "{alarm:?}");

    // Started anew, it does not know yet; and what it says of itself ends nothing of that.
    let (again, anew) = (alarmer("one"), notary::Due::default());
    assert_eq!(anew.lacking(), None);
    again.say_lacking(&*site.ledger, &anew).await.unwrap();
    again.tick(&*site.ledger, &[]).await.unwrap();
    assert_eq!(site.open().await, std::slice::from_ref(&alarm));
    site.round_of(&anew).await;
    again.say_lacking(&*site.ledger, &anew).await.unwrap();
    // Whoever finds the same finds one.
    let (another, theirs) = (alarmer("another"), notary::Due::default());
    site.round_of(&theirs).await;
    another.say_lacking(&*site.ledger, &theirs).await.unwrap();
    assert_eq!(site.open().await, [alarm]);

    // It is put right, and another one signs it.
    rewrite("\"by\":\"x", "\"by\":\"");
    site.round_of(&theirs).await;
    assert!(site.ledger.receipt(broken).await.unwrap().is_some());
    another.say_lacking(&*site.ledger, &theirs).await.unwrap();
    site.round_of(&anew).await;
    again.say_lacking(&*site.ledger, &anew).await.unwrap();
    assert_eq!(site.open().await, []);
}

/// Whoever has told of it is gone, and cannot say that another one has signed it since.
#[tokio::test]
async fn what_a_coordinator_that_is_gone_has_told_ends_once_another_one_has_signed_it() {
    let site = Site::new().await;
    let (signed, broken, engine) = (site.made("one").await, site.made("two").await, site.engine().await);
    for id in [signed, broken] {
        site.to(&engine, id, Stage::Purge).await;
    }
    site.alter("DROP TRIGGER audit_keeps_events");
    let rewrite = |from: &str, to: &str, of: &str| {
        let rewritten = format!("UPDATE audit SET body = replace(body, '{from}', '{to}')");
        site.alter(&format!("{rewritten} WHERE seq = 1 AND deletion_id IN ({of})"));
    };
    rewrite("\"by\":\"", "\"by\":\"x", &format!("{}, {}", signed.0, broken.0));
    let due = notary::Due::default();
    site.round_of(&due).await;
    alarmer("gone").say_lacking(&*site.ledger, &due).await.unwrap();
    assert_eq!(site.open().await.len(), 2);
    site.alter(&format!("UPDATE alarms SET seen_at = seen_at - {}", OWNER_SILENT_MS * 1000));
    let looks = async || {
        site.alter("UPDATE alarm_rounds SET begun_at = 0");
        alarmer("another").tick(&*site.ledger, &[]).await.unwrap();
        site.open().await.iter().map(Alarm::key).collect::<Vec<_>>()
    };
    assert_eq!(looks().await.len(), 2, "neither has one");
    rewrite("\"by\":\"x", "\"by\":\"", &signed.0.to_string());
    site.round().await;
    assert!(site.ledger.receipt(signed).await.unwrap().is_some());
    assert_eq!(looks().await, [format!("no_receipt/{broken}")]);
}

/// It fails alone: others are said, and ended, and what is found besides is raised.
#[tokio::test]
async fn a_receipt_that_cannot_be_read_keeps_no_other_alarm_from_being_raised_or_ended() {
    let site = Site::new().await;
    let (spoilt, signed, broken) = (site.made("one").await, site.made("two").await, site.made("three").await);
    let engine = site.engine().await;
    for id in [spoilt, signed, broken] {
        site.to(&engine, id, Stage::Purge).await;
    }
    site.alter("DROP TRIGGER audit_keeps_events");
    let rewrite = |from: &str, to: &str, of: &[DeletionId]| {
        let of: Vec<String> = of.iter().map(|id| id.0.to_string()).collect();
        let rewritten = format!("UPDATE audit SET body = replace(body, '{from}', '{to}')");
        site.alter(&format!("{rewritten} WHERE seq = 1 AND deletion_id IN ({})", of.join(", ")));
    };
    rewrite("\"by\":\"", "\"by\":\"x", &[spoilt, signed, broken]);
    let due = notary::Due::default();
    site.round_of(&due).await;
    alarmer("gone").say_lacking(&*site.ledger, &due).await.unwrap();
    assert_eq!(site.open().await.len(), 3);
    rewrite("\"by\":\"x", "\"by\":\"", &[spoilt, signed]);
    site.round().await;
    // Of a type that nobody writes.
    site.alter(&format!(
        "CREATE TEMP TABLE kept AS SELECT * FROM receipts; DROP TABLE receipts; \
         CREATE TABLE receipts (deletion_id, seq, head, body, key_id, signature); \
         INSERT INTO receipts SELECT * FROM kept; UPDATE receipts SET body = x'ff' WHERE deletion_id = {}",
        spoilt.0
    ));
    let unread = site.ledger.receipt(spoilt).await;
    assert!(matches!(unread, Err(LedgerError::Store { .. })), "{unread:?}");

    // Who goes on with what was found before.
    alarmer("one").say_lacking(&*site.ledger, &due).await.unwrap();
    assert_eq!(due.lacking().unwrap().into_keys().collect::<Vec<_>>(), [spoilt, broken]);
    // Who looks for all, and finds something else, too.
    let mut later = site.ledger.known();
    later.mark.number += 1000;
    site.ledger.confront(&later).await.unwrap().unwrap();
    site.alter(&format!("UPDATE alarms SET seen_at = seen_at - {}", OWNER_SILENT_MS * 1000));
    site.alter("UPDATE alarm_rounds SET begun_at = 0");
    alarmer("another").tick(&*site.ledger, &[]).await.unwrap();
    let open = site.open().await;
    let (lacking, others): (Vec<&Alarm>, Vec<&Alarm>) =
        open.iter().partition(|alarm| alarm.kind == AlarmKind::NoReceipt);
    assert_eq!(others.iter().map(|alarm| alarm.kind).collect::<Vec<_>>(), [AlarmKind::Review]);
    let keys: BTreeSet<String> = lacking.into_iter().map(Alarm::key).collect();
    assert_eq!(keys, BTreeSet::from([spoilt, broken].map(|id| format!("no_receipt/{id}"))));
}

/// What nobody asks about is settled by the round.
#[tokio::test]
async fn of_many_purges_without_a_receipt_it_is_asked_of_a_hundred_each_time() {
    let (site, mut ids) = (Site::new().await, Vec::new());
    for number in 0..101 {
        ids.push(site.made(&format!("vm{number:03}")).await);
    }
    site.all_to(&*site.engine().await, &ids, Stage::Purge).await;
    site.alter("DROP TRIGGER audit_keeps_events");
    let rewrite = |from: &str, to: &str| {
        site.alter(&format!("UPDATE audit SET body = replace(body, '{from}', '{to}') WHERE seq = 1"));
    };
    rewrite("\"by\":\"", "\"by\":\"x");
    let due = notary::Due::default();
    site.round_of(&due).await;
    assert_eq!(due.lacking().unwrap().into_keys().collect::<Vec<_>>(), ids);
    alarmer("one").say_lacking(&*site.ledger, &due).await.unwrap();
    let keys = async || site.open().await.iter().map(Alarm::key).collect::<Vec<_>>();
    assert_eq!(keys().await, ["no_receipt/scope/lab"]);

    // It is put right, another one has signed all of them, and nobody has said anything for a while.
    rewrite("\"by\":\"x", "\"by\":\"");
    site.round().await;
    alarmer("one").say_lacking(&*site.ledger, &due).await.unwrap();
    let last = ids.pop().unwrap();
    assert_eq!(due.lacking().unwrap().into_keys().collect::<Vec<_>>(), [last]);
    assert_eq!(keys().await, [format!("no_receipt/{last}")]);
    site.round_of(&due).await;
    alarmer("one").say_lacking(&*site.ledger, &due).await.unwrap();
    assert_eq!((due.lacking().unwrap().len(), keys().await.len()), (0, 0));
}
