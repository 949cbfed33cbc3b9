//! Signed checkpoints: what has grown, who may keep one, and what they are compared with.
use sexton_ledger::{HASHES_MAX, Ledger, LedgerError};
use sexton_model::attest::{HEADS_MAX, Head, Newest, Sequence, Shrunk, SignedCheckpoint};
use sexton_model::audit::link;
use sexton_model::belts::PauseSelector;
use sexton_model::decide::Event;

use super::Fixture;
use super::stage::{Stagehand, actor, options, resource};

/// All that is kept: in order, and each following from the one before it.
pub async fn kept(ledger: &dyn Ledger) -> (Sequence, Newest) {
    let (mut sequence, mut newest) = (Sequence::default(), Newest::default());
    loop {
        let some = ledger.attested_after(sequence.number(), 2).await.unwrap();
        if some.is_empty() {
            return (sequence, newest);
        }
        for one in some {
            let shrunk = newest.see(sequence.see(&one.body).unwrap());
            assert_eq!(shrunk, []);
        }
    }
}

/// Keep the next one, with these heads. What signs is none of the job table's business.
pub async fn keep(ledger: &dyn Ledger, sequence: &Sequence, heads: Vec<Head>) -> bool {
    let facts = ledger.facts().await.unwrap();
    let next = sequence.next(facts.ledger, facts.epoch, facts.now, heads.clone());
    let body = serde_json::to_string(&next).unwrap();
    let signed = SignedCheckpoint { body, key_id: "key".into(), signature: "signature".into() };
    ledger.attest(next.number, signed, heads).await.unwrap()
}

/// All chains that have grown, by the page.
async fn grown(ledger: &dyn Ledger) -> Vec<(String, i64)> {
    let (mut all, mut after) = (Vec::new(), None::<String>);
    loop {
        let page = ledger.grown(after.as_deref()).await.unwrap();
        assert_eq!(page.shrunk, []);
        assert!(page.heads.len() <= HEADS_MAX);
        all.extend(page.heads.into_iter().map(|head| (head.chain, head.seq)));
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

/// Keep all that has grown.
pub async fn keep_all(ledger: &dyn Ledger) {
    let mut after = None::<String>;
    loop {
        let (sequence, _) = kept(ledger).await;
        let page = ledger.grown(after.as_deref()).await.unwrap();
        assert!(page.heads.is_empty() || keep(ledger, &sequence, page.heads).await);
        after = page.next;
        if after.is_none() {
            return;
        }
    }
}

fn named(chains: &[(&str, i64)]) -> Vec<(String, i64)> {
    chains.iter().map(|(chain, seq)| ((*chain).to_owned(), *seq)).collect()
}

pub async fn what_has_grown_is_signed_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    assert_eq!(grown(ledger).await, [], "no chain has an event");
    let first = on.doomed("one").await;
    on.register("two").await;
    on.ledger.pause(PauseSelector::default(), &actor("ops"), "stop").await.unwrap();
    let chain = first.to_string();
    assert_eq!(grown(ledger).await, named(&[("pauses", 1), ("vm/one", 1), ("vm/two", 1), (&chain, 1)]));
    keep_all(ledger).await;
    assert_eq!(grown(ledger).await, []);
    on.one(first, Event::PlaceHold { by: actor("legal"), reason: "lawsuit".into() }).await.unwrap();
    assert_eq!(grown(ledger).await, named(&[(&chain, 2)]));
    // What is signed is what is stored.
    keep_all(ledger).await;
    let (sequence, newest) = kept(ledger).await;
    let heads: Vec<Head> = newest.into_heads().collect();
    assert_eq!((sequence.number(), heads.len()), (3, 4));
    let events = heads.iter().map(|head| (head.chain.clone(), head.seq)).collect();
    let stored = on.ledger.event_hashes(events).await.unwrap();
    assert_eq!(stored, heads.iter().map(|head| Some(head.hash)).collect::<Vec<_>>());
}

pub async fn a_number_is_kept_once_and_none_is_left_out(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let ledger = &*on.ledger;
    on.register("one").await;
    let empty = Sequence::default();
    let one = ledger.grown(None).await.unwrap().heads;
    assert!(keep(ledger, &empty, one.clone()).await);
    let (first, _) = kept(ledger).await;
    on.register("two").await;
    let two = ledger.grown(None).await.unwrap().heads;
    assert!(!keep(ledger, &empty, two.clone()).await, "that number is taken");
    let body = serde_json::to_string(&first.next("x".into(), 1, on.now().await, two.clone())).unwrap();
    let signed = SignedCheckpoint { body, key_id: "key".into(), signature: "signature".into() };
    assert!(!ledger.attest(3, signed.clone(), two.clone()).await.unwrap(), "number 2 is missing");
    assert!(!ledger.attest(0, signed, two.clone()).await.unwrap());
    // A head that another one holds already was read too early.
    let stale = [two.clone(), one].concat();
    assert!(!keep(ledger, &first, stale).await);
    assert_eq!(kept(ledger).await.0.number(), 1, "nothing of it is written");
    assert_eq!(grown(ledger).await, named(&[("vm/two", 1)]));
    assert!(keep(ledger, &first, two).await);
    assert_eq!(kept(ledger).await.0.number(), 2);
    drop(on);
    let again = fixture.open(options()).await;
    assert_eq!(kept(&*again).await.0.number(), 2);
}

pub async fn a_chain_that_became_shorter_is_told(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    on.register("one").await;
    on.register("two").await;
    keep_all(&*on.ledger).await;
    fixture.execute("UPDATE resources SET audit_seq = 0 WHERE id = 'vm/one'").await;
    let page = on.ledger.grown(None).await.unwrap();
    let shrunk = Shrunk { chain: "vm/one".into(), before: 1, found: 0 };
    assert_eq!((page.heads, page.shrunk), (vec![], vec![shrunk]));
    fixture.execute("UPDATE resources SET audit_seq = 1 WHERE id = 'vm/one'").await;
}

/// However few of them have grown, a page looks at a bounded number of chains; and goes on behind them.
pub async fn what_has_grown_has_pages(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let name = |n: usize| format!("vm{n:04}");
    let many: Vec<_> = (0..4100).map(|n| resource(&name(n), &name(n))).collect();
    assert!(on.ledger.register(many, &actor("ops"), true).await.unwrap().iter().all(Result::is_ok));
    let all = grown(&*on.ledger).await;
    assert_eq!(all.len(), 4100);
    assert!(all.is_sorted(), "ascending, each once");
    let first = on.ledger.grown(None).await.unwrap();
    assert_eq!((first.heads.len(), first.next.as_deref()), (998, Some("vm/vm0997")));
    keep_all(&*on.ledger).await;
    assert_eq!(kept(&*on.ledger).await.0.number(), 5);
    on.register("vm4101").await;
    let page = on.ledger.grown(None).await.unwrap();
    assert_eq!((page.heads.len(), page.next.as_deref()), (0, Some("vm/vm4095")));
    let page = on.ledger.grown(page.next.as_deref()).await.unwrap();
    assert_eq!((page.heads.len(), page.next.as_deref()), (1, Some("deletions")));
    assert_eq!(on.ledger.grown(page.next.as_deref()).await.unwrap().next, None);
}

/// A page goes on behind the last one in whatever order they were registered.
pub async fn what_has_grown_is_found_in_whatever_order_it_came(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let name = |n: usize| format!("vm{:04}", (n * 769) % 2100);
    let many: Vec<_> = (0..2100).map(|n| resource(&name(n), &name(n))).collect();
    for some in many.chunks(300) {
        assert!(
            on.ledger.register(some.to_vec(), &actor("ops"), true).await.unwrap().iter().all(Result::is_ok)
        );
    }
    let mut all = grown(&*on.ledger).await;
    all.sort();
    let mut expected: Vec<_> = (0..2100).map(|n| (format!("vm/vm{n:04}"), 1)).collect();
    expected.sort();
    assert_eq!(all, expected, "each once");
    keep_all(&*on.ledger).await;
    assert_eq!(grown(&*on.ledger).await, []);
}

/// Whoever may write the database changes an event, and computes the whole chain anew.
pub async fn a_rewritten_chain_holds_and_is_found_by_what_was_signed(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("one").await;
    let other = on.doomed("two").await;
    on.one(id, Event::PlaceHold { by: actor("mallory"), reason: "none".into() }).await.unwrap();
    on.one(id, Event::PlaceHold { by: actor("legal"), reason: "lawsuit".into() }).await.unwrap();
    keep_all(&*on.ledger).await;
    let trail = on.view(id).await.audit;
    drop(on);
    let mut previous = trail[0].hash;
    let mut rewritten = Vec::new();
    for row in &trail[1..] {
        let body = serde_json::to_string(&row.event).unwrap();
        if rewritten.is_empty() {
            assert_eq!(link(&previous, row.seq, body.as_bytes()), row.hash, "this test is about nothing");
        }
        let body = body.replace("mallory", "alice");
        previous = link(&previous, row.seq, body.as_bytes());
        rewritten.push((row.seq, body, previous));
    }
    fixture.rewrite(id, &rewritten).await;

    let ledger = fixture.open(options()).await;
    assert_eq!(ledger.verify_chain(id).await.unwrap(), Ok(()), "it holds");
    assert_eq!(ledger.verify_chains(None, 1000).await.unwrap().broken, []);
    assert_eq!(grown(&*ledger).await, [], "it is no longer than before");
    let heads: Vec<Head> = kept(&*ledger).await.1.into_heads().collect();
    let events: Vec<_> = heads.iter().map(|head| (head.chain.clone(), head.seq)).collect();
    let stored = ledger.event_hashes(events).await.unwrap();
    let differ: Vec<_> =
        heads.iter().zip(stored).filter(|(head, stored)| Some(head.hash) != *stored).collect();
    assert_eq!(differ.iter().map(|(head, _)| head.chain.clone()).collect::<Vec<_>>(), [id.to_string()]);
    assert!(heads.iter().any(|head| head.chain == other.to_string()));
}

pub async fn hashes_are_told_in_order(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let id = on.doomed("one").await;
    let hash = on.view(id).await.audit[0].hash;
    let asked = named(&[
        ("vm/none", 1),
        (&id.to_string(), 1),
        (&id.to_string(), 2),
        ("d-999", 1),
        ("", 1),
        ("vm/one", 1),
    ]);
    let answer = on.ledger.event_hashes(asked).await.unwrap();
    assert_eq!(answer[..5], [None, Some(hash), None, None, None]);
    assert!(answer[5].is_some());
    assert_eq!(on.ledger.event_hashes(vec![]).await.unwrap(), []);
    let many = vec![("vm/one".to_owned(), 1); HASHES_MAX];
    assert_eq!(on.ledger.event_hashes(many.clone()).await.unwrap().len(), HASHES_MAX);
    let refused = on.ledger.event_hashes([many, named(&[("vm/one", 1)])].concat()).await.unwrap_err();
    assert!(matches!(refused, LedgerError::TooMany { found, .. } if found == HASHES_MAX + 1), "{refused}");
}
