//! Records that are over leave for the archive; whatever else is tried stays.
use sexton_ledger::{Ended, Intent, LedgerError, NotDone, StubFilter};
use sexton_model::archive::{Document, NotArchivable, Stub};
use sexton_model::audit::Broken;
use sexton_model::checkpoint::Landmark;
use sexton_model::decide::Event;
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::{Stage, StateName};
use sexton_model::resource::Presence as Inventory;
use sexton_model::step::Outcome;
use sexton_model::{DeletionId, Fence, Timestamp};

use super::stage::{Stagehand, actor, options, plan, resource};
use super::{Fixture, keep_all, keep_receipt};

/// A record that is over and signed, and has something of everything: targets, manifests, a waiver, a hold.
pub async fn over(on: &Stagehand, name: &str) -> DeletionId {
    let id = on.doomed(name).await;
    let order = on.play_to(id, |name, _| name == "dns.remove").await.unwrap();
    let refused = Outcome::Refused { reason: "another zone".into() };
    on.answer(&order, refused).await.unwrap();
    let waive = Event::Waive {
        by: actor("approver"),
        claim: WaiverClaim::Absent,
        mark: on.mark(id).await,
        evidence: "seen in the zone".into(),
    };
    let next = on.one(id, waive).await.unwrap().dispatch;
    on.play(next, &mut Vec::new(), |_, _| false).await;
    on.play_to(id, |_, _| false).await;
    assert_eq!(on.status(id).await, RecordStatus::Recycled);
    keep_receipt(&*on.ledger, id).await;
    keep_all(&*on.ledger).await;
    id
}

/// What would be left of it.
pub fn stub(document: &Document) -> Stub {
    let at = Timestamp(document.ended_at.0 + 86_400_000_000);
    Stub { entry: document.entry(at, [7; 32]), key_id: "audit".into(), signature: "c2lnbmVk".into() }
}

const LATER: Timestamp = Timestamp(i64::MAX);

const TABLES: [&str; 7] = [
    "SELECT count(*) FROM deletions",
    "SELECT count(*) FROM records",
    "SELECT count(*) FROM jobs",
    "SELECT count(*) FROM waivers",
    "SELECT count(*) FROM targets",
    "SELECT count(*) FROM manifests",
    "SELECT count(*) FROM audit",
];

async fn counted(fixture: &dyn Fixture) -> [i64; 7] {
    let mut counts = [0; 7];
    for (count, sql) in counts.iter_mut().zip(TABLES) {
        *count = fixture.count(sql).await;
    }
    counts
}

pub async fn what_is_over_is_archived_whole_and_leaves_its_stub(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let live = on.doomed("web02").await;
    let alone = counted(fixture).await;
    let id = over(&on, "web01").await;
    let archive = fixture.archive().await;
    let view = on.view(id).await;
    let found = archive.ended(LATER, None, 10).await.unwrap();
    let [only] = found.as_slice() else { panic!("{found:?}") };
    let ended = view.deletion.jobs.iter().filter_map(|job| job.ended_at).max().unwrap();
    assert_eq!(*only, Ended { at: ended, deletion: id });
    assert_eq!(archive.ended(ended, None, 10).await.unwrap(), [], "not before it ended");
    assert_eq!(archive.ended(LATER, Some(*only), 10).await.unwrap(), [], "nothing is behind it");

    let document = archive.whole(id).await.unwrap().unwrap();
    assert_eq!(document.check(), Ok(()));
    assert_eq!(document.read().unwrap(), view.deletion);
    assert_eq!(document.targets, view.targets);
    assert_eq!((document.manifests.len(), document.waivers.len()), (3, 1));
    assert_eq!(document.ledger, on.ledger.facts().await.unwrap().ledger);
    let trail: Vec<_> = document.trail().unwrap();
    assert_eq!(trail.len(), view.audit.len());
    assert!(trail.iter().zip(&view.audit).all(|(a, b)| *a == (b.seq, b.event.clone(), b.hash)));
    assert_eq!(archive.whole(id).await.unwrap().unwrap(), document, "made again it is the same");

    let stub = stub(&document);
    assert!(archive.archive(&stub).await.unwrap());
    assert!(!archive.archive(&stub).await.unwrap(), "once");
    assert_eq!(counted(fixture).await, alone, "all of it has gone, and nothing else");
    assert!(on.ledger.deletion(id).await.unwrap().is_none());
    assert_eq!(archive.whole(id).await.unwrap(), None);
    assert_eq!(archive.ended(LATER, None, 10).await.unwrap(), []);
    assert_eq!(on.ledger.stub(id).await.unwrap(), Some(stub.clone()));
    assert_eq!(on.ledger.stub(live).await.unwrap(), None);
    let scheduled = on.ledger.health().await.unwrap().jobs;
    assert_eq!(scheduled.into_iter().collect::<Vec<_>>(), [(StateName::Scheduled, 5)]);
    let verified = on.ledger.verify_chains(None, 1000).await.unwrap();
    assert_eq!(verified.broken, []);
    let hold = Event::PlaceHold { by: actor("ops"), reason: "wait".into() };
    assert_eq!(on.one(id, hold).await.unwrap_err(), NotDone::NoSuchDeletion(id));

    // The name was free before, and is now.
    let name = "vm/web01".parse().unwrap();
    assert_eq!(on.ledger.deletion_of(&name).await.unwrap(), Some(id));
    let there = on.ledger.resource(&name).await.unwrap().unwrap();
    assert_eq!((there.presence, there.live), (Inventory::Recycled, None));
    let anew = resource("web01", "another uuid");
    assert_eq!(on.ledger.register(vec![anew], &actor("ops"), false).await.unwrap(), [Ok(())]);
    let wanted = on.wanted(&name).await;
    let second = on.ledger.create(vec![wanted]).await.unwrap().remove(0).unwrap();
    assert_ne!(second, id);
    assert_eq!(on.ledger.deletion_of(&name).await.unwrap(), Some(second));
    stubs_are_listed(&on, &stub).await;
}

pub async fn what_is_not_signed_yet_stays(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("web01").await;
    keep_all(&*on.ledger).await;
    on.one(id, Event::Cancel { by: actor("ops"), reason: "still needed".into() }).await.unwrap();
    let archive = fixture.archive().await;
    assert_eq!(on.status(id).await, RecordStatus::Cancelled);
    assert_eq!(archive.ended(LATER, None, 10).await.unwrap(), [], "its last event is not signed");
    let stub = stub(&archive.whole(id).await.unwrap().unwrap());
    archive.archive(&stub).await.unwrap_err();
    assert!(on.ledger.deletion(id).await.unwrap().is_some());
    keep_all(&*on.ledger).await;
    assert_eq!(archive.ended(LATER, None, 10).await.unwrap().len(), 1);
    assert!(archive.archive(&stub).await.unwrap());
    // What was signed is still compared with: the end of its chain.
    let (chain, last) = (id.to_string(), stub.entry.events);
    let events = vec![(chain.clone(), last), (chain, last - 1)];
    assert_eq!(on.ledger.event_hashes(events).await.unwrap(), [Some(stub.entry.head), None]);
}

async fn stubs_are_listed(on: &Stagehand, stub: &Stub) {
    let all = StubFilter { limit: 1, ..StubFilter::default() };
    let page = on.ledger.stubs(&all).await.unwrap();
    assert_eq!((page.items.as_slice(), page.next), (&[stub.clone()][..], None));
    for (filter, count) in [
        (StubFilter { status: Some(RecordStatus::Recycled), ..all.clone() }, 1),
        (StubFilter { status: Some(RecordStatus::Cancelled), ..all.clone() }, 0),
        (StubFilter { kind: Some("vm".parse().unwrap()), ..all.clone() }, 1),
        (StubFilter { kind: Some("v".parse().unwrap()), ..all.clone() }, 0),
        (StubFilter { after: Some(stub.entry.deletion.to_string()), ..all.clone() }, 0),
    ] {
        assert_eq!(on.ledger.stubs(&filter).await.unwrap().items.len(), count, "{filter:?}");
    }
}

pub async fn what_is_not_over_or_not_as_its_stub_says_stays(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (id, live) = (over(&on, "web01").await, on.doomed("web02").await);
    let archive = fixture.archive().await;
    let before = counted(fixture).await;
    let running = archive.whole(live).await.unwrap().unwrap();
    assert_eq!(running.check(), Err(NotArchivable::Live(RecordStatus::Live)));
    let document = archive.whole(id).await.unwrap().unwrap();
    let good = stub(&document);
    type Change = fn(&mut Stub);
    let changes: [Change; 6] = [
        |s| s.entry.head[0] ^= 1,
        |s| s.entry.events -= 1,
        |s| s.entry.status = RecordStatus::Rescued,
        |s| s.entry.ended_at.0 -= 1,
        |s| s.entry.archived_at = s.entry.ended_at,
        |s| s.entry.resource = "vm/web02".parse().unwrap(),
    ];
    let wrong = changes.map(|change| {
        let mut stub = good.clone();
        change(&mut stub);
        stub
    });
    let of_live = Stub {
        entry: sexton_model::archive::Entry { status: RecordStatus::Recycled, ..stub(&running).entry },
        ..good.clone()
    };
    for stub in wrong.iter().chain([&stub(&running), &of_live]) {
        assert!(archive.archive(stub).await.is_err(), "{stub:?}");
        assert_eq!(counted(fixture).await, before, "{stub:?}");
        assert_eq!(on.ledger.stub(stub.entry.deletion).await.unwrap(), None, "{stub:?}");
    }
    // What has changed since it was read.
    fixture.change_event(id, 2).await;
    let changed = archive.whole(id).await.unwrap().unwrap();
    assert_eq!(changed.check(), Err(NotArchivable::Broken(Broken::Changed { seq: 2 })));
    assert_eq!(counted(fixture).await, before);
}

pub async fn rows_go_only_whole_and_with_their_stub(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let (id, other) = (over(&on, "web01").await, over(&on, "web02").await);
    let archive = fixture.archive().await;
    let before = counted(fixture).await;
    assert!(before.iter().all(|count| *count > 0), "this test is about nothing: {before:?}");
    for sql in [
        "DELETE FROM deletions",
        "DELETE FROM records",
        "DELETE FROM jobs",
        "DELETE FROM waivers",
        "DELETE FROM targets",
        "DELETE FROM manifests",
        "DELETE FROM audit",
        "DELETE FROM receipts",
    ] {
        let answer = fixture.attempt(sql).await;
        assert!(answer.is_err(), "{sql}: {answer:?}");
    }
    assert_eq!(counted(fixture).await, before);
    let document = archive.whole(id).await.unwrap().unwrap();
    assert!(archive.archive(&stub(&document)).await.unwrap());
    // One that is archived is no leave to remove another.
    for sql in [
        "DELETE FROM audit",
        "DELETE FROM deletions",
        "UPDATE stubs SET events = 1",
        "DELETE FROM stubs",
        "INSERT INTO stubs SELECT * FROM stubs",
    ] {
        let answer = fixture.attempt(sql).await;
        assert!(answer.is_err(), "{sql}: {answer:?}");
    }
    assert_eq!(on.ledger.verify_chain(other).await.unwrap(), Ok(()));
    assert!(on.ledger.deletion(other).await.unwrap().is_some());
}

/// What was decided on a record that is archived since is not missing.
pub async fn an_archived_decision_is_no_step_back(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let due = on.doomed("web02").await;
    let id = over(&on, "web01").await;
    let known = on.ledger.known();
    let archive = fixture.archive().await;
    let document = archive.whole(id).await.unwrap().unwrap();
    assert!(archive.archive(&stub(&document)).await.unwrap());
    on.ledger.checkpoint().await.unwrap();
    assert_eq!(on.ledger.confront(&known).await.unwrap(), None);
    on.claim(due, Stage::Announce).await.unwrap();
    // An order has no number in the chain: that it was given is not confirmed by the stub.
    let mut never = on.ledger.known();
    let fence = Fence { epoch: 1, number: 1 << 40 };
    never.landmarks = vec![Landmark::never_given(id, fence)];
    assert!(on.ledger.confront(&never).await.unwrap().is_some());
}

pub async fn nothing_is_archived_under_review(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = over(&on, "web01").await;
    let archive = fixture.archive().await;
    let stub = stub(&archive.whole(id).await.unwrap().unwrap());
    let mut later = on.ledger.known();
    later.mark.number += 1000;
    let review = on.ledger.confront(&later).await.unwrap().unwrap();
    archive.archive(&stub).await.unwrap_err();
    assert!(on.ledger.deletion(id).await.unwrap().is_some());
    assert!(on.ledger.accept_review(review.epoch, &actor("ops"), "compared").await.unwrap());
    assert!(archive.archive(&stub).await.unwrap());
}

/// A ledger that was set back behind the archiving makes the same document of the record again.
pub async fn what_was_put_back_makes_the_same_document(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = over(&on, "web01").await;
    fixture.copy().await;
    let archive = fixture.archive().await;
    let document = archive.whole(id).await.unwrap().unwrap();
    assert!(archive.archive(&stub(&document)).await.unwrap());
    drop((on, archive));
    fixture.put_back().await;
    let on = Stagehand { ledger: fixture.open(options()).await, plan: plan() };
    let archive = fixture.archive().await;
    assert_eq!(on.ledger.stub(id).await.unwrap(), None);
    assert_eq!(archive.whole(id).await.unwrap().unwrap(), document);
    assert!(archive.archive(&stub(&document)).await.unwrap());
}

/// Two that archive the same at once; and one that is told to go on while it is archived.
pub async fn it_is_archived_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let archive = fixture.archive().await;
    for name in ["web01", "web02", "web03"] {
        let id = over(&on, name).await;
        let stub = stub(&archive.whole(id).await.unwrap().unwrap());
        let release = Event::ReleaseHold { hold: 1, by: actor("ops") };
        let (one, two, told) = tokio::join!(
            archive.archive(&stub),
            archive.archive(&stub),
            on.ledger.run(vec![Intent { deletion: id, event: release }]),
        );
        let done: Vec<Result<bool, LedgerError>> = vec![one, two];
        assert_eq!(done.iter().filter(|done| matches!(done, Ok(true))).count(), 1, "{done:?}");
        assert!(done.iter().all(Result::is_ok), "{done:?}");
        assert!(told.unwrap().remove(0).is_err());
    }
}
