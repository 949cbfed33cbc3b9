//! Canaries: one run at a time, each judged once, and one that is accepted pauses in the same transaction.
use sexton_ledger::NewRun;
use sexton_model::belts::PauseSelector;
use sexton_model::canary::{Came, Canary, Probe, Verdict, actor as canary_actor};
use sexton_model::step::Outcome;

use super::Fixture;
use super::stage::{Stagehand, actor, options};

/// Longer than any of this takes.
const LONG_MS: u64 = 3_600_000;

fn forged(instance: &str) -> Probe {
    Probe::ForgedOrder { instance: instance.parse().unwrap() }
}

fn run(asked_by: Option<&str>, within_ms: u64) -> NewRun {
    let gone = Probe::WrongIdentity {
        instance: "dns.main".parse().unwrap(),
        resource: "vm/canary01".parse().unwrap(),
    };
    let unclear = Verdict::Unclear { why: "vm/canary01 is not registered".into() };
    let probes = vec![(forged("dns.main"), None), (forged("ipam.main"), None), (gone, Some(unclear))];
    NewRun { asked_by: asked_by.map(actor), within_ms, probes }
}

fn words(canaries: &[Canary]) -> Vec<&'static str> {
    canaries
        .iter()
        .map(|canary| canary.judged.as_ref().map_or("open", |judged| judged.verdict.word()))
        .collect()
}

pub async fn a_run_of_canaries_is_begun_once_and_each_is_judged_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    assert_eq!(on.ledger.canaries().await.unwrap(), []);
    let first = on.ledger.begin_canaries(run(None, LONG_MS)).await.unwrap().unwrap();
    assert_eq!(words(&first), ["open", "open", "unclear"]);
    assert!(first.is_sorted_by_key(|canary| canary.fence) && first[0].fence < first[1].fence, "{first:?}");
    assert_eq!(on.ledger.canaries().await.unwrap(), first);
    for by in [None, Some("ops")] {
        assert_eq!(on.ledger.begin_canaries(run(by, LONG_MS)).await.unwrap(), None, "one is open");
    }
    let rejected = Came::NotBelieved("the proof does not fit".into());
    for canary in &first[..2] {
        let heard = on.ledger.hear_canary(canary.id, &rejected).await.unwrap().unwrap();
        assert_eq!(words(&[heard]), ["holds"]);
        assert_eq!(on.ledger.hear_canary(canary.id, &rejected).await.unwrap(), None, "it comes twice");
    }
    assert_eq!(on.ledger.hear_canary(99, &rejected).await.unwrap(), None);
    assert_eq!(words(&on.ledger.canaries().await.unwrap()), ["holds", "holds", "unclear"]);
    assert_eq!(on.ledger.begin_canaries(run(None, LONG_MS)).await.unwrap(), None, "it is not due");
    assert_eq!(on.ledger.pauses().await.unwrap(), []);

    // What was found outlives the process, and stands until something newer is.
    drop(on);
    let on = Stagehand::with(fixture, options()).await;
    let second = on.ledger.begin_canaries(run(Some("ops"), LONG_MS)).await.unwrap().unwrap();
    assert!(
        second[0].run == 2 && second[0].id > first[2].id && second[0].fence > first[2].fence,
        "{second:?}"
    );
    assert_eq!((words(&second), second[0].by.as_str()), (vec!["open", "open", "unclear"], "ops"));
    assert_eq!(second[0].standing().map(|judged| judged.verdict.word()), Some("holds"));
    let checked = on.ledger.verify_chains(None, 10).await.unwrap();
    assert_eq!(checked.broken, []);
}

pub async fn a_canary_that_is_accepted_pauses_everything_with_its_verdict(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let before = on.ledger.beacon().await.unwrap().revision;
    let sent = on.ledger.begin_canaries(run(None, LONG_MS)).await.unwrap().unwrap();
    let rejected = Came::NotBelieved("the proof does not fit".into());
    on.ledger.hear_canary(sent[0].id, &rejected).await.unwrap().unwrap();
    // Another copy of that consumer believes it, after the first has not.
    let believed = Came::Answered(Outcome::refused("there is no such thing"));
    let accepted = on.ledger.hear_canary(sent[0].id, &believed).await.unwrap().unwrap();
    let judged = accepted.judged.clone().unwrap();
    assert_eq!((judged.verdict.word(), judged.pause), ("ACCEPTED", Some(1)));
    let pauses = on.ledger.pauses().await.unwrap();
    let [pause] = pauses.as_slice() else { panic!("{pauses:?}") };
    assert_eq!((&pause.covers, &pause.by), (&PauseSelector::default(), &canary_actor()));
    assert!(pause.reason.starts_with("forged order to dns.main (canary 1) was accepted"), "{}", pause.reason);
    assert!(on.ledger.beacon().await.unwrap().revision > before, "consumers hear of it");

    let second = on.ledger.hear_canary(sent[1].id, &believed).await.unwrap().unwrap();
    assert_eq!(second.judged.map(|judged| (judged.verdict.word(), judged.pause)), Some(("ACCEPTED", None)));
    assert_eq!(on.ledger.pauses().await.unwrap().len(), 1, "everything is paused already");
    assert_eq!(on.ledger.hear_canary(sent[0].id, &rejected).await.unwrap(), None, "it stays so");
    assert!(on.ledger.resume(1, &actor("ops")).await.unwrap());
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn a_canary_that_nobody_answers_is_told_once(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let sent = on.ledger.begin_canaries(run(None, 1)).await.unwrap().unwrap();
    on.until(sent[0].answer_by).await;
    let missed = on.ledger.miss_canaries().await.unwrap();
    assert_eq!(words(&missed), ["unanswered", "unanswered"]);
    assert_eq!(on.ledger.miss_canaries().await.unwrap(), []);
    assert_eq!(words(&on.ledger.canaries().await.unwrap()), ["unanswered", "unanswered", "unclear"]);
    assert_eq!(on.ledger.pauses().await.unwrap(), []);

    // While there is time nothing is told.
    on.ledger.begin_canaries(run(Some("ops"), LONG_MS)).await.unwrap().unwrap();
    assert_eq!(on.ledger.miss_canaries().await.unwrap(), []);
}
