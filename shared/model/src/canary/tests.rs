//! What each answer to each canary means.
use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::resource::Identity;
use crate::step::{FINDING_MAX_BYTES, Presence};

const DAY_US: i64 = 86_400_000_000;

fn instance() -> Instance {
    "dns.main".parse().unwrap()
}

fn vm() -> ResourceId {
    "vm/canary01".parse().unwrap()
}

fn forged() -> Probe {
    Probe::ForgedOrder { instance: instance() }
}

fn wrong() -> Probe {
    Probe::WrongIdentity { instance: instance(), resource: vm() }
}

fn right() -> Probe {
    Probe::RightIdentity { instance: instance(), resource: vm() }
}

fn right_place() -> Probe {
    Probe::RightPlace { instance: instance(), resource: vm(), under: under() }
}

fn wrong_place() -> Probe {
    Probe::WrongPlace { instance: instance(), resource: vm() }
}

fn under() -> BTreeSet<String> {
    BTreeSet::from(["place".to_owned()])
}

fn seen(finding: Value) -> Came {
    let evidence = "seen".to_owned();
    Came::Answered(Outcome::Done { presence: Presence::Present, evidence, finding: Some(finding) })
}

fn canary(probe: Probe) -> Canary {
    Canary {
        id: 7,
        run: 2,
        by: actor(),
        probe,
        fence: Fence { epoch: 1, number: 100 },
        begun_at: Timestamp(0),
        answer_by: Timestamp(1_000),
        judged: None,
        before: None,
        elsewhere: None,
    }
}

fn judged(verdict: Verdict) -> Option<Judged> {
    Some(Judged { verdict, at: Timestamp(5), pause: None })
}

fn word(probe: &Probe, came: Came) -> &'static str {
    probe.judge(&came).map_or("again", |verdict| verdict.word())
}

#[test]
fn each_answer_to_each_canary_means_one_thing() {
    let answers = || {
        [
            Came::Answered(Outcome::done(Presence::Present, "seen")),
            Came::Answered(Outcome::refused("is not the one")),
            Came::Answered(Outcome::spared("not now")),
            Came::Answered(Outcome::failed("no answer")),
            Came::NotBelieved("the proof does not fit".into()),
            Came::Dropped("too late".into()),
            Came::Rejected("by an older consumer".into()),
        ]
    };
    for (probe, words) in [
        // Whoever reads a forged order has believed it.
        (forged(), ["ACCEPTED", "ACCEPTED", "ACCEPTED", "ACCEPTED", "holds", "ACCEPTED", "unclear"]),
        (wrong(), ["ACCEPTED", "holds", "again", "again", "unclear", "unclear", "unclear"]),
        (right(), ["holds", "unclear", "again", "again", "unclear", "unclear", "unclear"]),
        // Whoever does not say what is there cannot be asked about another place.
        (right_place(), ["unclear", "unclear", "again", "again", "unclear", "unclear", "unclear"]),
        // It has to be refused because of the place: of anything else it proves nothing.
        (wrong_place(), ["ACCEPTED", "unclear", "again", "again", "unclear", "unclear", "unclear"]),
    ] {
        assert_eq!(answers().map(|came| word(&probe, came)), words, "{probe}");
    }
}

#[test]
fn a_place_is_found_right_where_it_can_be_told_from_another() {
    for (finding, verdict) in [
        (json!({ "place": "ns1", "rrsets": ["web01"] }), "holds"),
        (json!({ "place": "ns1", "rrsets": [] }), "unclear"),
        (json!({ "place": "", "rrsets": ["web01"] }), "unclear"),
        (json!({ "rrsets": ["web01"] }), "unclear"),
        (json!({ "place": 1, "rrsets": ["web01"] }), "unclear"),
        (json!("ns1"), "unclear"),
    ] {
        assert_eq!(word(&right_place(), seen(finding.clone())), verdict, "{finding}");
    }
}

#[test]
fn another_place_is_refused_because_of_that_place() {
    let refused = |why: String| Came::Answered(Outcome::refused(why));
    let because = refused(format!("vm/canary01 is not the one: pinned at ns1{ELSEWHERE}, but this is ns1"));
    assert_eq!(word(&wrong_place(), because), "holds");
    let otherwise = refused("vm/canary01 is unexpectedly absent in ns1".to_owned());
    assert_eq!(word(&wrong_place(), otherwise), "unclear");
    assert_eq!(word(&wrong_place(), seen(json!({}))), "ACCEPTED");
}

#[test]
fn what_was_seen_is_kept_as_if_it_was_pinned_in_another_place() {
    let pinned = json!({ "place": "ns1", "primaries": { "lab.": "ns1" }, "rrsets": ["web01"] });
    let mut asked = canary(right_place());
    asked.keep(&seen(pinned.clone()));
    let other = json!({ "place": "ns1-sexton-canary-elsewhere", "primaries": { "lab.": "ns1" }, "rrsets": ["web01"] });
    assert_eq!(asked.elsewhere.as_ref(), Some(&other));
    let next = Canary { id: 8, ..canary(wrong_place()) };
    assert_eq!(pinned_elsewhere(&next, std::slice::from_ref(&asked)), Some(&other));
    let next_run = Canary { run: 3, ..next };
    assert_eq!(pinned_elsewhere(&next_run, std::slice::from_ref(&asked)), None);
    assert_eq!(asked.clone().told(), Canary { elsewhere: None, ..asked });
    for probe in [forged(), wrong(), right(), wrong_place()] {
        let mut asked = canary(probe);
        asked.keep(&seen(pinned.clone()));
        assert_eq!(asked.elsewhere, None, "{}", asked.probe);
    }
    // Each driver has one of the names.
    let names = BTreeSet::from(["place".to_owned(), "repository".to_owned()]);
    let other = elsewhere(&json!({ "repository": "ab12", "snapshots": ["1"] }), &names).unwrap();
    assert_eq!(other["repository"], format!("ab12{ELSEWHERE}"));
    let large = json!({ "place": "ns1", "rrsets": ["x".repeat(ELSEWHERE_MAX_BYTES)] });
    assert!(elsewhere(&large, &under()).unwrap_err().contains("more than is kept"));
    // Whatever may be pinned can be asked about.
    let around = json!({ "place": "ns1", "rrsets": [""] }).to_string().len();
    let full = json!({ "place": "ns1", "rrsets": ["x".repeat(FINDING_MAX_BYTES - around)] });
    assert_eq!(full.to_string().len(), FINDING_MAX_BYTES);
    assert!(elsewhere(&full, &under()).is_ok());
}

#[test]
fn what_a_job_table_cannot_keep_is_not_kept() {
    for odd in [json!({ "place": "ns1", "rrsets": ["a\0"] }), json!({ "place": "ns1", "a\0": ["b"] })] {
        assert!(elsewhere(&odd, &under()).unwrap_err().contains("not every job table"), "{odd}");
        assert_eq!(word(&right_place(), seen(odd)), "unclear");
    }
    let rejected = Came::NotBelieved("the proof\0 does\u{1b}[31m not\nfit".to_owned());
    let how = "the proof  does [31m not\nfit".to_owned();
    assert_eq!(forged().judge(&rejected), Some(Verdict::Holds { how }));
}

#[test]
fn only_what_holds_alarms_nobody() {
    let text = String::new;
    for (verdict, alarms) in [
        (Verdict::Holds { how: text() }, false),
        (Verdict::Accepted { how: text() }, true),
        (Verdict::Unanswered, true),
        (Verdict::Unclear { why: text() }, true),
    ] {
        assert_eq!(verdict.alarms(), alarms, "{verdict:?}");
    }
}

#[test]
fn the_first_answer_counts_unless_a_later_one_accepts() {
    let (believed, refused) = (
        Came::Answered(Outcome::refused("no such thing")),
        Came::NotBelieved("the proof does not fit".into()),
    );
    let mut asked = canary(forged());
    assert_eq!(asked.hear(&refused).map(|verdict| verdict.word()), Some("holds"));
    for known in [Verdict::Holds { how: "rejected".into() }, Verdict::Unanswered] {
        asked.judged = judged(known);
        assert_eq!(asked.hear(&refused), None);
        assert_eq!(asked.hear(&believed).map(|verdict| verdict.word()), Some("ACCEPTED"));
    }
    asked.judged = judged(Verdict::Accepted { how: "believed".into() });
    assert_eq!((asked.hear(&refused), asked.hear(&believed)), (None, None));
}

#[test]
fn nobody_answered_once_its_time_is_over() {
    let mut asked = canary(wrong());
    assert_eq!(asked.nobody_answered(1, Timestamp(999)), None);
    assert_eq!(asked.nobody_answered(1, Timestamp(1_000)), Some(Verdict::Unanswered));
    let other_epoch = asked.nobody_answered(2, Timestamp(1)).map(|verdict| verdict.word());
    assert_eq!(other_epoch, Some("unclear"), "nobody may answer any more");
    asked.judged = judged(Verdict::Holds { how: "refused".into() });
    assert_eq!(asked.nobody_answered(2, Timestamp(2_000)), None);
}

#[test]
fn what_is_known_is_the_last_that_came() {
    let mut asked = canary(forged());
    assert_eq!(asked.standing(), None);
    asked.before = judged(Verdict::Unanswered);
    assert_eq!(asked.standing().map(|judged| judged.verdict.word()), Some("unanswered"));
    asked.judged = judged(Verdict::Holds { how: "rejected".into() });
    assert_eq!(asked.standing().map(|judged| judged.verdict.word()), Some("holds"));
}

#[test]
fn one_that_is_accepted_pauses_everything_once() {
    let asked = canary(forged());
    let accepted = Verdict::Accepted { how: "it was believed".into() };
    let reason = asked.pauses(&accepted, &[]).unwrap();
    assert_eq!(reason, "forged order to dns.main (canary 7) was accepted: it was believed");
    for verdict in
        [Verdict::Holds { how: String::new() }, Verdict::Unanswered, Verdict::Unclear { why: String::new() }]
    {
        assert_eq!(asked.pauses(&verdict, &[]), None, "{verdict:?}");
    }
    let pause = |by: Actor, covers| Pause { id: 1, covers, by, reason: String::new(), since: Timestamp(0) };
    let narrow = PauseSelector { kind: Some("vm".parse().unwrap()), ..PauseSelector::default() };
    // Somebody else's may be lifted by whoever knows nothing of this.
    for other in [pause("ops".parse().unwrap(), PauseSelector::default()), pause(actor(), narrow)] {
        assert!(asked.pauses(&accepted, &[other]).is_some());
    }
    assert_eq!(asked.pauses(&accepted, &[pause(actor(), PauseSelector::default())]), None);
}

#[test]
fn a_run_is_due_a_day_after_the_last_one_and_none_is_made_up_for() {
    let last = Some(Timestamp(0));
    assert!(due(None, Timestamp(0), Day::Calendar));
    assert!(!due(last, Timestamp(DAY_US - 1), Day::Calendar));
    assert!(due(last, Timestamp(DAY_US), Day::Calendar));
    // After ten days it is one run: the next is due a day after that.
    assert!(!due(Some(Timestamp(10 * DAY_US)), Timestamp(10 * DAY_US + 1), Day::Calendar));
    let short = Day::Rehearsal { length_ms: 200 };
    assert!(!due(last, Timestamp(59_999_999), short), "a rehearsal's day is over at once");
    assert!(due(last, Timestamp(60_000_000), short));
}

#[test]
fn a_run_that_has_begun_since_it_was_asked_for_is_that_one() {
    let at = |us| Some(Timestamp(us));
    assert!(began_since(at(5), at(5)) && began_since(at(6), at(5)));
    assert!(!began_since(at(4), at(5)), "it was another one");
    assert!(!began_since(at(5), None), "nobody has asked for it before");
    assert!(!began_since(None, at(5)));
}

#[test]
fn another_identity_has_the_same_form() {
    let of = |name: &str, value: &str| {
        Identity::try_from(BTreeMap::from([(name.to_owned(), value.to_owned())])).unwrap()
    };
    for (value, differs) in [
        ("6f0c1d8e-1111-4a7b-9c55-0a4f0e2b7c01", "6f0c1d8e-1111-4a7b-9c55-0a4f0e2b7c02"),
        ("6f0c1d8e-1111-4a7b-9c55-0a4f0e2b7c0f", "6f0c1d8e-1111-4a7b-9c55-0a4f0e2b7c0a"),
        ("52:54:00:AB:CD:EF", "52:54:00:AB:CD:EA"),
        ("192.0.2.19", "192.0.2.10"),
        ("serial-f", "serial-g"),
        ("web01.example.org.", "web01.example.orh."),
        ("zzz", "zza"),
    ] {
        let other = another(&of("it", value)).unwrap();
        assert_eq!(other.get("it"), Some(differs));
    }
    assert_eq!(another(&of("it", "…")), None, "there is nothing to change");
    let two =
        Identity::try_from(BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())])).unwrap();
    let other = another(&two).unwrap();
    assert_eq!((other.get("a"), other.get("b")), (Some("2"), Some("3")));
}

#[test]
fn its_deletion_can_be_written_and_its_jobs_numbered() {
    assert_eq!(DELETION.to_string().parse(), Ok(DELETION));
    assert_eq!(JobId::of(DELETION, 7).deletion(), DELETION);
}

#[test]
fn a_wrong_identity_is_sent_once_something_has_come_of_the_right_one() {
    let of = |probe: Probe, id: i64| Canary { id, ..canary(probe) };
    let run = vec![of(forged(), 1), of(right(), 2), of(wrong(), 3)];
    let ids = |run: &[Canary]| to_send(run).into_iter().map(|canary| canary.id).collect::<Vec<_>>();
    assert_eq!(ids(&run), [1, 2]);
    assert!(follows(&run[2], &run[1]) && !follows(&run[1], &run[2]) && !follows(&run[0], &run[1]));
    let mut heard = run;
    heard[1].judged = judged(Verdict::Unclear { why: "refused as it is".into() });
    assert_eq!(ids(&heard), [1], "it would prove nothing");
    heard[1].judged = judged(Verdict::Holds { how: "found".into() });
    assert_eq!(ids(&heard), [1, 3]);
    heard[2].judged = judged(Verdict::Unanswered);
    assert_eq!(ids(&heard), [1]);
}

#[test]
fn those_about_one_resource_are_sent_to_an_instance_one_after_the_other() {
    let of = |probe: Probe, id: i64| Canary { id, ..canary(probe) };
    let other = Probe::RightPlace { instance: "ipam.main".parse().unwrap(), resource: vm(), under: under() };
    let mut run =
        vec![of(right(), 1), of(wrong(), 2), of(right_place(), 3), of(wrong_place(), 4), of(other, 5)];
    let ids = |run: &[Canary]| to_send(run).into_iter().map(|canary| canary.id).collect::<Vec<_>>();
    assert_eq!(ids(&run), [1, 5]);
    // What can never be sent keeps nobody waiting.
    run[0].judged = judged(Verdict::Unclear { why: "refused as it is".into() });
    assert_eq!(ids(&run), [3, 5]);
    run[0].judged = judged(Verdict::Holds { how: "found".into() });
    assert_eq!(ids(&run), [2, 5]);
    run[1].judged = judged(Verdict::Accepted { how: "found".into() });
    assert_eq!(ids(&run), [3, 5]);
    run[2].judged = judged(Verdict::Unclear { why: "it pins nothing there".into() });
    assert_eq!(ids(&run), [5], "it would prove nothing");
    let known = |run: &[Canary]| unheard(&run[3], run, 1, Timestamp(1));
    let Some(Verdict::Unclear { why }) = known(&run) else { panic!("it is waited for") };
    assert_eq!(why, "it is not asked: the right place does not hold");
    assert_eq!(unheard(&run[4], &run, 1, Timestamp(1)), None, "there is time");
    assert_eq!(unheard(&run[4], &run, 1, Timestamp(1_000)), Some(Verdict::Unanswered));
    run[2].judged = judged(Verdict::Holds { how: "seen".into() });
    assert_eq!((ids(&run), known(&run)), (vec![4, 5], None));
    assert!(follows(&run[3], &run[2]) && !follows(&run[4], &run[2]));
}

#[test]
fn a_resource_that_has_no_room_in_a_run_is_told_of() {
    let about = |resources: usize, each: usize| {
        let one = |n: usize| {
            let resource: ResourceId = format!("vm/canary{n}").parse().unwrap();
            vec![(Probe::RightIdentity { instance: instance(), resource }, None); each]
        };
        (0..resources).map(one).collect::<Vec<_>>()
    };
    let whole = fitting(100, about(30, 30));
    assert!(whole.len() == 900 && whole.iter().all(|(_, verdict)| verdict.is_none()));
    let cut = fitting(101, about(30, 30));
    let told = |of: &(Probe, Option<Verdict>)| matches!(&of.1, Some(Verdict::Unclear { why }) if why.contains("fewer"));
    assert_eq!((cut.len(), cut.iter().filter(|of| told(of)).count()), (871, 1));
    let last: ResourceId = "vm/canary29".parse().unwrap();
    assert_eq!(cut.last().and_then(|(probe, _)| probe.resource()), Some(&last));
    // However many there are, each is told of.
    let many = fitting(100, about(300, 30));
    let named: BTreeSet<_> = many.iter().filter_map(|(probe, _)| probe.resource()).collect();
    assert_eq!((many.len() <= CANARIES_MAX - 100, named.len()), (true, 300));
    assert!(fitting(CANARIES_MAX + 1, about(2, 4)).is_empty() && fitting(0, vec![Vec::new()]).is_empty());
}

#[test]
fn it_is_read_as_it_was_written() {
    for probe in [forged(), wrong(), right(), right_place(), wrong_place()] {
        let elsewhere = Some(json!({ "place": "another" }));
        let written = Canary { judged: judged(Verdict::Unanswered), elsewhere, ..canary(probe) };
        let text = serde_json::to_string(&written).unwrap();
        assert_eq!(serde_json::from_str::<Canary>(&text).unwrap(), written, "{text}");
    }
}
