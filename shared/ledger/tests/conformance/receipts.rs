//! Receipts: whose are due, that they are kept once and only of what is purged, and that they leave with their record.
use sexton_ledger::{Ledger, LedgerError, NewReceipt, RECEIPTS_MAX, ReceiptsDue};
use sexton_model::DeletionId;
use sexton_model::decide::Event;
use sexton_model::job::Stage;
use sexton_model::receipt::{Proof, Receipt, SignedReceipt, draw_up};
use sexton_model::step::{Outcome, Presence};

use super::stage::{Stagehand, actor};
use super::{Fixture, keep_all, over, stub};

/// A record's receipt, of what the job table says.
pub async fn receipt(ledger: &dyn Ledger, id: DeletionId) -> Receipt {
    let view = ledger.deletion(id).await.unwrap().unwrap();
    let trail: Vec<_> = view.audit.into_iter().map(|row| (row.seq, row.event, row.hash)).collect();
    let facts = ledger.facts().await.unwrap();
    draw_up(&facts.ledger, facts.day, &view.deletion, view.targets, &trail).unwrap()
}

/// What signs is none of the job table's business.
fn signed(id: DeletionId, receipt: &Receipt) -> NewReceipt {
    let body = serde_json::to_string(receipt).unwrap();
    let signed = SignedReceipt { body, key_id: "key".into(), signature: "signature".into() };
    NewReceipt { deletion: id, rests_on: receipt.rests_on.clone(), signed }
}

/// Keep its receipt.
pub async fn keep_receipt(ledger: &dyn Ledger, id: DeletionId) {
    let new = signed(id, &receipt(ledger, id).await);
    assert_eq!(ledger.keep_receipts(vec![new]).await.unwrap(), 1);
}

async fn due(ledger: &dyn Ledger) -> Vec<DeletionId> {
    let found = ledger.receipts_due(DeletionId(0)).await.unwrap();
    assert_eq!(found.next, None);
    found.deletions
}

pub async fn a_receipt_is_due_when_purge_is_over_and_kept_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    assert_eq!(ledger.receipts_due(DeletionId(0)).await.unwrap(), ReceiptsDue::default());
    let (id, other) = (on.doomed("web01").await, on.doomed("web02").await);
    let last = on.play_to(id, |name, _| name == "hypervisor.delete_volumes").await.unwrap();
    assert_eq!(due(ledger).await, [], "its purge is under way");
    // What is under way has none, whoever says so.
    let view = on.view(id).await;
    let trail: Vec<_> = view.audit.iter().map(|row| (row.seq, row.event.clone(), row.hash)).collect();
    let early = draw_up("l", ledger.day(), &view.deletion, view.targets.clone(), &trail).unwrap_err();
    assert_eq!(early.to_string(), "purge is not over");

    on.answer(&last, Outcome::done(Presence::Absent, "0 images are left in pool a")).await.unwrap();
    assert_eq!(due(ledger).await, [id]);
    assert_eq!(ledger.receipts_due(id).await.unwrap(), ReceiptsDue::default(), "nothing is behind it");
    let drawn = receipt(ledger, id).await;
    assert!(drawn.complete, "{drawn:?}");
    let wiped = drawn.steps.iter().find(|step| step.step == "hypervisor.delete_volumes").unwrap();
    let Proof::Seen { presence, evidence, fence, event, .. } = &wiped.proof else { panic!("{wiped:?}") };
    assert_eq!((*presence, evidence.as_str()), (Presence::Absent, "0 images are left in pool a"));
    assert_eq!(*fence, last.spec.fence);
    assert_eq!(*event, drawn.rests_on.seq, "it was the last answer");
    assert_eq!(drawn.targets, on.view(id).await.targets);
    let hashes = vec![(drawn.rests_on.chain.clone(), drawn.rests_on.seq)];
    assert_eq!(ledger.event_hashes(hashes).await.unwrap(), [Some(drawn.rests_on.hash)]);

    let new = signed(id, &drawn);
    assert_eq!(ledger.receipt(id).await.unwrap(), None);
    assert_eq!(ledger.keep_receipts(vec![new.clone()]).await.unwrap(), 1);
    let again = SignedReceipt { signature: "another".into(), ..new.signed.clone() };
    assert_eq!(
        ledger.keep_receipts(vec![NewReceipt { signed: again, ..new.clone() }]).await.unwrap(),
        0,
        "once"
    );
    assert_eq!(ledger.receipt(id).await.unwrap(), Some(new.signed.clone()));
    assert_eq!(due(ledger).await, []);
    // Nor of one that is not there.
    let nobody = NewReceipt { deletion: DeletionId(4711), ..new.clone() };
    assert_eq!(ledger.keep_receipts(vec![nobody]).await.unwrap(), 0);
    // Nor of one whose purge is not over, and none with it.
    let early = NewReceipt { deletion: other, ..new.clone() };
    ledger.keep_receipts(vec![early]).await.unwrap_err();
    assert_eq!(ledger.receipt(other).await.unwrap(), None);
    let many = vec![new; RECEIPTS_MAX + 1];
    assert!(matches!(ledger.keep_receipts(many).await, Err(LedgerError::TooMany { .. })));
    // Made again later, of a chain that has grown, it says the same.
    on.play_to(id, |_, _| false).await;
    assert_eq!(receipt(ledger, id).await, drawn);
}

pub async fn a_receipt_rests_on_the_chain_and_is_never_changed(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    let id = on.doomed("web01").await;
    on.play_to(id, |_, _| false).await;
    let good = signed(id, &receipt(ledger, id).await);
    let mut other = good.clone();
    other.rests_on.hash[0] ^= 1;
    ledger.keep_receipts(vec![other]).await.unwrap_err();
    let mut earlier = good.clone();
    earlier.rests_on.seq -= 1;
    ledger.keep_receipts(vec![earlier]).await.unwrap_err();
    assert_eq!(ledger.receipt(id).await.unwrap(), None);
    ledger.keep_receipts(vec![good.clone()]).await.unwrap();
    for sql in [
        "UPDATE receipts SET body = 'all is well'",
        "DELETE FROM receipts",
        "INSERT INTO receipts SELECT * FROM receipts",
        "INSERT INTO receipts SELECT deletion_id + 1, seq, head, body, key_id, signature FROM receipts",
    ] {
        let answer = fixture.attempt(sql).await;
        assert!(answer.is_err(), "{sql}: {answer:?}");
    }
    assert_eq!(ledger.receipt(id).await.unwrap(), Some(good.signed));
}

pub async fn what_was_purged_is_archived_with_its_receipt(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    let id = on.doomed("web01").await;
    on.play_to(id, |_, _| false).await;
    keep_all(ledger).await;
    let archive = fixture.archive().await;
    let later = sexton_model::Timestamp(i64::MAX);
    assert_eq!(archive.ended(later, None, 10).await.unwrap(), [], "it waits for its receipt");
    let document = archive.whole(id).await.unwrap().unwrap();
    assert_eq!(document.receipt, None);
    let refused = archive.archive(&stub(&document)).await.unwrap_err();
    let why = std::error::Error::source(&refused).unwrap().to_string();
    assert!(why.contains("what was purged is archived with its receipt"), "{why}");
    assert!(ledger.deletion(id).await.unwrap().is_some());

    keep_receipt(ledger, id).await;
    let kept = ledger.receipt(id).await.unwrap();
    assert_eq!(archive.ended(later, None, 10).await.unwrap().len(), 1);
    let document = archive.whole(id).await.unwrap().unwrap();
    assert_eq!((document.check(), &document.receipt), (Ok(()), &kept));
    assert!(archive.archive(&stub(&document)).await.unwrap());
    assert_eq!(ledger.receipt(id).await.unwrap(), None, "it went with its record");
    assert_eq!(fixture.count("SELECT count(*) FROM receipts").await, 0);
    // One that was never purged needs none.
    let kept = on.doomed("web02").await;
    on.one(kept, Event::Cancel { by: actor("ops"), reason: "wanted".into() }).await.unwrap();
    keep_all(ledger).await;
    assert_eq!(due(ledger).await, []);
    let document = archive.whole(kept).await.unwrap().unwrap();
    assert!(archive.archive(&stub(&document)).await.unwrap());
    // And with a person's statement it is as good.
    let waived = over(&on, "web03").await;
    let drawn = receipt(ledger, waived).await;
    let step = drawn.steps.iter().find(|step| step.step == "dns.remove").unwrap();
    assert_eq!(step.stage, Stage::Hard);
    let Proof::Waived { by, evidence, shown: None, .. } = &step.proof else { panic!("{step:?}") };
    assert_eq!((by.as_str(), evidence.as_str()), ("approver", "seen in the zone"));
}
