//! Canaries: one run at a time, each judged once, and one that is accepted pauses in the same transaction.
use std::collections::BTreeSet;

use serde_json::json;
use sexton_ledger::NewRun;
use sexton_model::Fence;
use sexton_model::belts::PauseSelector;
use sexton_model::belts::ceiling::Ceiling;
use sexton_model::canary::{
    Came, Canary, Probe, Rehearsed, Verdict, actor as canary_actor, pinned_elsewhere,
};
use sexton_model::decide::Event;
use sexton_model::job::{JobKind, JobState, Stage};
use sexton_model::step::{Outcome, Presence};

use super::Fixture;
use super::budgets::policy;
use super::stage::{Stagehand, actor, job_id, options};

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
    let number = on.ledger.known().mark.number;
    let accepted = on.ledger.hear_canary(sent[0].id, &believed).await.unwrap().unwrap();
    let paused = on.ledger.known().mark.number;
    assert!(paused > number, "it is missed if the job table goes back");
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
    assert_eq!(on.ledger.known().mark.number, paused);
    assert_eq!(on.ledger.hear_canary(sent[0].id, &rejected).await.unwrap(), None, "it stays so");
    assert!(on.ledger.resume(1, &actor("ops"), None).await.unwrap().unwrap());
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

pub async fn an_acceptance_counts_after_a_newer_run_was_begun(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let rejected = Came::NotBelieved("the proof does not fit".into());
    let first = on.ledger.begin_canaries(run(None, LONG_MS)).await.unwrap().unwrap();
    for canary in &first[..2] {
        on.ledger.hear_canary(canary.id, &rejected).await.unwrap().unwrap();
    }
    let second = on.ledger.begin_canaries(run(Some("ops"), LONG_MS)).await.unwrap().unwrap();
    let found = on.ledger.canary_of(first[0].fence).await.unwrap().unwrap();
    assert_eq!((found.id, found.run), (first[0].id, 1));
    let never = Fence { number: first[0].fence.number, epoch: 99 };
    assert_eq!(on.ledger.canary_of(never).await.unwrap(), None);
    // Another copy of its consumer believes the older order.
    let believed = Came::Answered(Outcome::refused("there is no such thing"));
    let accepted = on.ledger.hear_canary(found.id, &believed).await.unwrap().unwrap();
    assert_eq!(accepted.judged.and_then(|judged| judged.pause), Some(1));
    // What stands knows it, too, whatever comes of the newer order; the other one is still open.
    assert_eq!(words(&on.ledger.canaries().await.unwrap()), ["ACCEPTED", "open", "unclear"]);
    assert_eq!(on.ledger.hear_canary(second[0].id, &rejected).await.unwrap(), None);
    let standing = on.ledger.canaries().await.unwrap().remove(0).judged.unwrap();
    assert!(standing.verdict.text().starts_with("in run 1: "), "{standing:?}");
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn what_the_right_place_shows_is_kept_for_the_wrong_one(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let of = || ("dns.main".parse().unwrap(), "vm/canary01".parse().unwrap());
    let ((instance, resource), (other, about)) = (of(), of());
    let right = Probe::RightPlace { instance, resource, under: BTreeSet::from(["place".to_owned()]) };
    let wrong = Probe::WrongPlace { instance: other, resource: about };
    let probes = vec![(right, None), (wrong, None)];
    let new = || NewRun { asked_by: Some(actor("ops")), within_ms: LONG_MS, probes: probes.clone() };
    let sent = on.ledger.begin_canaries(new()).await.unwrap().unwrap();
    assert_eq!(pinned_elsewhere(&sent[1], &sent), None);
    let seen = |finding| {
        let (presence, evidence) = (Presence::Present, "seen".to_owned());
        Came::Answered(Outcome::Done { presence, evidence, finding: Some(finding) })
    };
    let here = seen(json!({ "place": "ns1", "rrsets": ["web01"] }));
    let heard = on.ledger.hear_canary(sent[0].id, &here).await.unwrap().unwrap();
    let other = json!({ "place": "ns1-sexton-canary-elsewhere", "rrsets": ["web01"] });
    assert_eq!((words(std::slice::from_ref(&heard)), heard.elsewhere), (vec!["holds"], Some(other.clone())));
    // Whichever coordinator goes on.
    drop(on);
    let on = Stagehand::with(fixture, options()).await;
    let run = on.ledger.canaries().await.unwrap();
    assert_eq!(pinned_elsewhere(&run[1], &run), Some(&other));
    let accepted = on.ledger.hear_canary(run[1].id, &seen(json!({}))).await.unwrap().unwrap();
    assert_eq!(
        accepted.judged.map(|judged| (judged.verdict.word(), judged.pause)),
        Some(("ACCEPTED", Some(1)))
    );
    // Another run has to see it anew.
    let next = on.ledger.begin_canaries(new()).await.unwrap().unwrap();
    assert_eq!(pinned_elsewhere(&next[1], &next), None);
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

/// Whoever answers in characters that PostgreSQL has no text for keeps nobody else waiting.
pub async fn whatever_is_said_to_a_canary_can_be_written_down(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let right = Probe::RightPlace {
        instance: "dns.main".parse().unwrap(),
        resource: "vm/canary01".parse().unwrap(),
        under: BTreeSet::from(["place".to_owned()]),
    };
    let probes = vec![(right, None), (forged("dns.main"), None), (forged("ipam.main"), None)];
    let new = NewRun { asked_by: Some(actor("ops")), within_ms: LONG_MS, probes };
    let sent = on.ledger.begin_canaries(new).await.unwrap().unwrap();
    let odd = Came::Answered(Outcome::Done {
        presence: Presence::Present,
        evidence: "seen\0".to_owned(),
        finding: Some(json!({ "place": "ns1", "rrsets": ["web\0"] })),
    });
    let heard = on.ledger.hear_canary(sent[0].id, &odd).await.unwrap().unwrap();
    assert_eq!((words(std::slice::from_ref(&heard)), heard.elsewhere), (vec!["unclear"], None));
    let rejected = Came::NotBelieved("the proof\0 does not fit".into());
    on.ledger.hear_canary(sent[1].id, &rejected).await.unwrap().unwrap();
    // One that pauses everything says so in a text of its own.
    on.ledger.hear_canary(sent[2].id, &odd).await.unwrap().unwrap();
    assert_eq!(words(&on.ledger.canaries().await.unwrap()), ["unclear", "holds", "ACCEPTED"]);
    for canary in &sent {
        assert_eq!(on.ledger.canary_of(canary.fence).await.unwrap().map(|found| found.id), Some(canary.id));
    }
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn what_would_prove_nothing_is_not_waited_for(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let of = || ("dns.main".parse().unwrap(), "vm/canary01".parse().unwrap());
    let ((instance, resource), (other, about)) = (of(), of());
    let right = Probe::RightIdentity { instance, resource };
    let wrong = Probe::WrongIdentity { instance: other, resource: about };
    let probes = vec![(right, None), (wrong, None)];
    let new = NewRun { asked_by: Some(actor("ops")), within_ms: LONG_MS, probes };
    let sent = on.ledger.begin_canaries(new).await.unwrap().unwrap();
    assert_eq!(on.ledger.miss_canaries().await.unwrap(), []);
    let refused = Came::Answered(Outcome::refused("there is no such thing"));
    on.ledger.hear_canary(sent[0].id, &refused).await.unwrap().unwrap();
    let missed = on.ledger.miss_canaries().await.unwrap();
    assert_eq!((missed[0].id, words(&missed)), (sent[1].id, vec!["unclear"]));
    assert_eq!(on.ledger.miss_canaries().await.unwrap(), []);
    assert_eq!(words(&on.ledger.canaries().await.unwrap()), ["unclear", "unclear"]);
    assert_eq!(on.ledger.pauses().await.unwrap(), []);
}

impl Stagehand {
    /// A run of these, each of which is tried in the job table.
    pub async fn to_be_tried(&self, probes: &[Probe]) -> Vec<Canary> {
        let probes = probes.iter().map(|probe| (probe.clone(), None)).collect();
        let new = NewRun { asked_by: Some(actor("ops")), within_ms: LONG_MS, probes };
        self.ledger.begin_canaries(new).await.unwrap().unwrap()
    }

    /// Try one that is open.
    pub async fn tried(&self, canary: &Canary) -> Verdict {
        let judged = self.ledger.try_canary(canary.id, &self.plan).await.unwrap().unwrap();
        assert_eq!((judged.id, &judged.probe), (canary.id, &canary.probe));
        judged.judged.unwrap().verdict
    }
}

/// That a machine is protected.
pub fn shielded() -> Probe {
    Probe::Protected { of: "vm".parse().unwrap() }
}

fn over(stage: Stage) -> Probe {
    Probe::OverBudget { of: "vm".parse().unwrap(), stage }
}

/// The first two grow by one with each verdict.
const EVERYTHING: [&str; 16] = [
    "SELECT count(*) FROM ledger_audit",
    "SELECT max(pause_seq) FROM ledger",
    "SELECT count(*) FROM resources",
    "SELECT count(*) FROM deletions",
    "SELECT count(*) FROM records",
    "SELECT count(*) FROM plans",
    "SELECT count(*) FROM jobs",
    "SELECT count(*) FROM jobs WHERE held",
    "SELECT count(*) FROM audit",
    "SELECT count(*) FROM admissions",
    "SELECT count(*) FROM admitted",
    "SELECT count(*) FROM batches",
    "SELECT count(*) FROM batch_members",
    "SELECT count(*) FROM canaries",
    "SELECT count(*) FROM pauses",
    "SELECT max(revision) FROM ledger",
];

/// All that there is, but for what so many verdicts have left.
async fn everything_but(fixture: &dyn Fixture, verdicts: i64) -> Vec<i64> {
    let mut counts = Vec::new();
    for sql in EVERYTHING {
        counts.push(fixture.count(sql).await);
    }
    for count in &mut counts[..2] {
        *count -= verdicts;
    }
    counts
}

pub async fn what_the_job_table_must_refuse_is_tried_and_leaves_nothing(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    let there = on.doomed("web01").await;
    let tried = [shielded(), over(Stage::Announce), over(Stage::Hard), over(Stage::Purge)];
    let canaries = on.to_be_tried(&tried).await;
    let (before, view) = (everything_but(fixture, 0).await, on.view(there).await);
    for (verdicts, canary) in (1..).zip(&canaries) {
        let (probe, verdict) = (&canary.probe, on.tried(canary).await);
        let Verdict::Holds { how } = &verdict else { panic!("{probe}: {verdict:?}") };
        let by = if probe.word() == "protected" { "protected" } else { "may in a day" };
        assert!(how.contains(by), "{probe}: {how}");
        assert_eq!(everything_but(fixture, verdicts).await, before, "{probe}");
    }
    // Neither a pause nor a scope that is only observed is what stops it.
    let paused = on.ledger.pause(PauseSelector::default(), &actor("ops"), "nothing goes on").await.unwrap();
    on.ceiling(None, Some(Ceiling::Observe)).await.unwrap();
    let canaries = on.to_be_tried(&tried).await;
    let before = everything_but(fixture, 0).await;
    for (verdicts, canary) in (1..).zip(&canaries) {
        let verdict = on.tried(canary).await;
        assert!(matches!(verdict, Verdict::Holds { .. }), "{}: {verdict:?}", canary.probe);
        assert_eq!(everything_but(fixture, verdicts).await, before, "{}", canary.probe);
    }
    assert!(on.ledger.resume(paused.pause.id, &actor("ops"), None).await.unwrap().unwrap());
    for ceiling in Ceiling::ALL.into_iter().skip(1) {
        on.ceiling(None, Some(ceiling)).await.unwrap();
    }
    assert_eq!(on.view(there).await.deletion, view.deletion);
    assert_eq!(fixture.compare().await, Ok(()));
    // Numbers that were given in a rehearsal may be given again: nothing remembered is in their way.
    let next = on.doomed("web02").await;
    assert_eq!(on.view(next).await.deletion.record.resource.id.to_string(), "vm/web02");
    let announce = job_id(next, Stage::Announce);
    let JobState::Scheduled { due_at: Some(due) } = on.job(next, JobKind::Stage(Stage::Announce)).await.state
    else {
        panic!()
    };
    on.until(due).await;
    assert_eq!(on.ledger.admit(vec![announce]).await.unwrap().frozen, [], "its budget was not spent");
    let order = on.one(next, Event::Claim { job: announce }).await.unwrap().dispatch.unwrap();
    assert_eq!(order.record.resource.id.to_string(), "vm/web02");
    assert_eq!(fixture.compare().await, Ok(()));
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

pub async fn what_cannot_be_tried_is_told(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    // Its name is somebody else's: another identity.
    on.register("sexton-canary-1").await;
    let sent = on.to_be_tried(&[shielded()]).await;
    let verdict = on.tried(&sent[0]).await;
    assert!(matches!(&verdict, Verdict::Unclear { why } if why.contains("another identity")), "{verdict:?}");
    assert_eq!(on.ledger.pauses().await.unwrap(), []);
    // And one that goes through pauses everything.
    let passed = Came::Rehearsed(Rehearsed::Passed("a record for what is protected was made".into()));
    let heard = on.ledger.hear_canary(sent[0].id, &passed).await.unwrap().unwrap();
    assert_eq!(heard.judged.and_then(|judged| judged.pause), Some(1));
    let reason = on.ledger.pauses().await.unwrap().remove(0).reason;
    assert!(reason.starts_with("protected to the job table about a vm (canary 1) was accepted"), "{reason}");
}

pub async fn a_belt_that_is_broken_is_found_by_its_canary(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    let before = on.ledger.beacon().await.unwrap().revision;
    let sent = on.to_be_tried(&[shielded(), over(Stage::Hard)]).await;
    fixture.break_belts().await;
    for canary in &sent {
        let verdict = on.tried(canary).await;
        assert!(matches!(verdict, Verdict::Accepted { .. }), "{}: {verdict:?}", canary.probe);
    }
    let judged = on.ledger.canaries().await.unwrap();
    assert_eq!(words(&judged), ["ACCEPTED", "ACCEPTED"]);
    // The first one pauses everything, with its verdict.
    let pauses = on.ledger.pauses().await.unwrap();
    let [pause] = pauses.as_slice() else { panic!("{pauses:?}") };
    assert_eq!((&pause.covers, &pause.by), (&PauseSelector::default(), &canary_actor()));
    assert!(pause.reason.starts_with("protected to the job table about a vm"), "{}", pause.reason);
    let led_to: Vec<_> =
        judged.into_iter().map(|canary| canary.judged.and_then(|judged| judged.pause)).collect();
    assert_eq!(led_to, [Some(pause.id), None]);
    assert!(on.ledger.beacon().await.unwrap().revision > before, "consumers hear of it");
    assert_eq!(fixture.count("SELECT count(*) FROM deletions").await, 0, "nothing of it is left");
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}

/// Whoever began the run may be configured otherwise.
pub async fn who_counts_nothing_finds_no_budget_broken(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("none = true")).await;
    let sent = on.to_be_tried(&[over(Stage::Hard)]).await;
    let verdict = on.tried(&sent[0]).await;
    let unclear = matches!(&verdict, Verdict::Unclear { why } if why.contains("no budget for hard"));
    assert!(unclear, "{verdict:?}");
    assert_eq!(on.ledger.pauses().await.unwrap(), []);
    drop(on);
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    let sent = on.to_be_tried(&[over(Stage::Hard)]).await;
    let verdict = on.tried(&sent[0]).await;
    assert!(matches!(verdict, Verdict::Holds { .. }), "{verdict:?}");
}

pub async fn a_trial_that_fails_leaves_its_canary_open(fixture: &dyn Fixture) {
    let on = Stagehand::with(fixture, policy("a_day = 2")).await;
    let sent = on.to_be_tried(&[over(Stage::Hard)]).await;
    let tried = async || on.ledger.try_canary(sent[0].id, &on.plan).await;
    fixture.execute("ALTER TABLE admitted RENAME TO elsewhere").await;
    for _ in 0..2 {
        tried().await.unwrap_err();
        assert_eq!(on.ledger.canaries().await.unwrap(), sent, "it is as open as before");
    }
    assert_eq!(on.ledger.pauses().await.unwrap(), []);
    fixture.execute("ALTER TABLE elsewhere RENAME TO admitted").await;
    let verdict = on.tried(&sent[0]).await;
    assert!(matches!(verdict, Verdict::Holds { .. }), "{verdict:?}");
    // What is judged is not tried any more, whatever would come of that.
    fixture.execute("ALTER TABLE admitted RENAME TO elsewhere").await;
    assert_eq!(tried().await.unwrap(), None);
    fixture.execute("ALTER TABLE elsewhere RENAME TO admitted").await;
    assert_eq!(words(&on.ledger.canaries().await.unwrap()), ["holds"]);
}

pub async fn of_two_that_try_a_canary_at_once_one_does(fixture: &dyn Fixture) {
    let on = Stagehand::new(fixture).await;
    let sent = on.to_be_tried(&[shielded()]).await;
    let before = everything_but(fixture, 0).await;
    let tried = async || on.ledger.try_canary(sent[0].id, &on.plan).await.unwrap();
    let (one, two) = tokio::join!(tried(), tried());
    assert!(one.is_some() != two.is_some(), "{one:?} and {two:?}");
    assert_eq!(words(&on.ledger.canaries().await.unwrap()), ["holds"]);
    assert_eq!(everything_but(fixture, 1).await, before, "it is judged once");
    assert_eq!(on.ledger.try_canary(99, &on.plan).await.unwrap(), None, "there is no such canary");
    assert_eq!(on.ledger.verify_chains(None, 10).await.unwrap().broken, []);
}
