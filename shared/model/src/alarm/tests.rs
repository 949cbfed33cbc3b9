//! Which alarms hold: tables.
mod glass;
pub(crate) mod not_back;
mod told;
mod undelivered;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;

use super::hold::BatchFact;
use super::*;
use crate::belts::budget::{Counted, Exceeded, Group, Limit};
use crate::belts::census::daily::Missed;
use crate::belts::census::{Lapse, Lapsed, Refusal};
use crate::belts::one_shot::{OneShot, Passable};
use crate::belts::{Pause, PauseSelector};
use crate::canary::{self, Canary, Judged, Probe, Verdict};
use crate::checkpoint::{Behind, Mark, Review};
use crate::decide::test_plan;
use crate::deletion::{Deletion, Due, Record, RecordStatus, Waiver, WaiverClaim};
use crate::id::Fence;
use crate::job::{Blocker, JobState, Stage};
use crate::time::{Day, start_of};

pub(crate) const DAY_MS: u64 = 24 * 3_600_000;

pub(crate) fn on(date: &str) -> Timestamp {
    start_of(date.parse().unwrap(), chrono_tz::Europe::Berlin)
}

/// Due on 10 December; its plan would have it gone on the 18th.
pub(crate) fn record(id: i64, criticality: &str, gone_by: Option<&str>) -> Deletion {
    let resource = json!({
        "id": format!("vm/web{id:02}"), "scope": "tenants/acme", "identity": { "uuid": "1" },
        "criticality": criticality,
    });
    let record = Record {
        resource: serde_json::from_value(resource).unwrap(),
        due: Due {
            date: "2026-12-10".parse().unwrap(),
            zone: "Europe/Berlin".parse().unwrap(),
            moment: None,
        },
        gone_by: gone_by.map(|date| date.parse().unwrap()),
        requested_by: "platform".parse().unwrap(),
        reason: "no longer needed".into(),
        created_at: on("2026-11-20"),
    };
    Deletion::draw_up(DeletionId(id), record, Arc::new(test_plan()), Day::Calendar).unwrap()
}

pub(crate) fn at(now: Timestamp) -> Moment {
    Moment { now, day: Day::Calendar, rules: Rules::default() }
}

fn set(d: &mut Deletion, stage: Stage, state: JobState) {
    let job = d.jobs.iter_mut().find(|job| job.id.slot() == stage.index()).unwrap();
    job.state = state;
}

pub(crate) fn park(d: &mut Deletion, stage: Stage, reason: &str) {
    for before in Stage::ALL.into_iter().filter(|before| *before < stage) {
        set(d, before, JobState::Done);
    }
    set(d, stage, JobState::Parked { reason: reason.into() });
}

fn kinds(d: &Deletion, parked_at: Option<Timestamp>, now: Timestamp) -> Vec<AlarmKind> {
    of_deletion(d, parked_at, &at(now)).into_iter().map(|alarm| alarm.kind).collect()
}

#[test]
fn names_are_the_ones_that_are_stored() {
    for kind in AlarmKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.word());
    }
    let words: BTreeSet<&str> = AlarmKind::ALL.iter().map(|kind| kind.word()).collect();
    assert_eq!(words.len(), AlarmKind::ALL.len());
}

#[test]
fn a_date_that_has_passed_alarms_whatever_the_reason() {
    let mut d = record(1, "reproducible", Some("2026-12-20"));
    let (before, after) = (Timestamp(on("2026-12-21").0 - 1), on("2026-12-21"));
    assert_eq!(kinds(&d, None, before), [], "it has until the end of that day");
    for state in [
        JobState::Scheduled { due_at: Some(after) },
        JobState::Held { due_at: after, by: Blocker::Hold { what: "legal: kept".into() } },
        JobState::Held { due_at: after, by: Blocker::Pause { pause: 1, what: "ops: stop".into() } },
        JobState::Ready { since: after, blocked: None },
        JobState::Waiting { until: after, reason: "no answer".into() },
        JobState::Parked { reason: "ops: I look at it".into() },
    ] {
        set(&mut d, Stage::Announce, state.clone());
        assert_eq!(kinds(&d, None, after), [AlarmKind::MissedGoneBy], "{state:?}");
    }
    let alarm = of_deletion(&d, None, &at(after)).remove(0);
    assert!(alarm.text.contains("gone by 2026-12-20") && alarm.text.contains("I look at it"), "{alarm:?}");
    assert_eq!((alarm.key().as_str(), alarm.scope.unwrap().as_str()), ("missed_gone_by/d-1", "tenants/acme"));
    d.status = RecordStatus::Restoring;
    assert_eq!(kinds(&d, None, after), [], "whoever cancels does not want it gone");
}

#[test]
fn what_is_gone_alarms_no_more_unless_something_may_remain() {
    let mut d = record(1, "credential", Some("2026-12-20"));
    let late = on("2027-02-01");
    assert_eq!(kinds(&d, None, late), [AlarmKind::MissedGoneBy, AlarmKind::OverdueCredential]);
    for stage in [Stage::Announce, Stage::Soft, Stage::Hard] {
        set(&mut d, stage, JobState::Done);
        assert_eq!(kinds(&d, None, late).len(), 2, "{stage}");
    }
    set(&mut d, Stage::Purge, JobState::Done);
    assert_eq!(kinds(&d, None, late), []);
    d.waivers.push(Waiver {
        slot: Stage::Hard.index(),
        step: 0,
        claim: WaiverClaim::MayRemain,
        by: "ops".parse().unwrap(),
        evidence: "the server is gone".into(),
        at: late,
        untouched: false,
        shown: None,
    });
    assert!(!d.may_remain().is_empty());
    assert_eq!(kinds(&d, None, late).len(), 2, "a key that may be good is not gone");
}

#[test]
fn a_credential_is_overdue_when_its_plan_would_have_had_it_gone() {
    let d = record(1, "credential", None);
    let overdue = on("2026-12-19");
    assert_eq!(kinds(&d, None, Timestamp(overdue.0 - 1)), []);
    assert_eq!(kinds(&d, None, overdue), [AlarmKind::OverdueCredential]);
    assert_eq!(kinds(&record(1, "reproducible", None), None, on("2027-12-01")), [], "others may wait");
    // Or later, if that is configured.
    let rules = Rules { credential_days: 30, ..Rules::default() };
    let then = |date: &str| of_deletion(&d, None, &Moment { rules, ..at(on(date)) }).len();
    assert_eq!((then("2027-01-08"), then("2027-01-09")), (0, 1));
}

#[test]
fn a_refusal_alarms_at_once_and_what_is_parked_after_a_day() {
    let mut d = record(1, "reproducible", None);
    let (step, now) = (d.plan.stage(Stage::Soft).steps[0].name.clone(), on("2026-12-10"));
    let ago = |ms: u64| Some(Timestamp(now.0 - i64::try_from(ms * 1000).unwrap()));
    park(&mut d, Stage::Soft, &crate::step::refusal(&step, "another uuid is there"));
    assert_eq!(kinds(&d, ago(0), now), [AlarmKind::Refused]);
    assert_eq!(kinds(&d, ago(DAY_MS), now), [AlarmKind::Refused], "once");
    park(&mut d, Stage::Soft, "another.step refused: it says so");
    assert_eq!(kinds(&d, ago(0), now), [], "that is not what its own step was answered");
    assert_eq!(kinds(&d, ago(DAY_MS - 1), now), []);
    assert_eq!(kinds(&d, ago(DAY_MS), now), [AlarmKind::Parked]);
    assert_eq!(kinds(&d, None, now), [], "nobody knows since when");
}

/// Not everybody could be told since then: it stands at its notice, and is tried again.
pub(crate) fn untold(d: &mut Deletion, since: Timestamp) {
    // The plan of these tests tells nobody by itself.
    let announce = &mut Arc::make_mut(&mut d.plan).stages[usize::from(Stage::Announce.index())];
    announce.steps.last_mut().unwrap().notice = true;
    let step = announce.steps.len() - 1;
    let job = d.jobs.iter_mut().find(|job| job.id.slot() == Stage::Announce.index()).unwrap();
    job.cursor = u16::try_from(step).unwrap();
    job.state = JobState::Waiting { until: since, reason: "the relay is full".into() };
    d.waivers.push(Waiver {
        slot: Stage::Announce.index(),
        step: job.cursor,
        claim: WaiverClaim::Untold,
        by: "coordinator".parse().unwrap(),
        evidence: "no route to the relay".into(),
        at: since,
        untouched: false,
        shown: None,
    });
}

fn batch(number: i64, scope: &str, waiting: u64, most: u64) -> BatchFact {
    let group = Group { scope: scope.parse().unwrap(), kind: "vm".parse().unwrap(), stage: Stage::Announce };
    let limit = Limit { counted: Counted::Everywhere, most, days: 1, uncounted: false };
    BatchFact {
        batch: number,
        group,
        frozen_at: Timestamp(0),
        exceeded: Exceeded { members: waiting, used: 0, before: 0, limit },
        waiting,
    }
}

fn pause(id: i64, by: &str, scope: Option<&str>) -> Pause {
    let scope = scope.map(|scope| scope.parse().unwrap());
    let covers = PauseSelector { scope, ..PauseSelector::default() };
    Pause { id, covers, by: by.parse().unwrap(), reason: "3 are gone".into(), since: Timestamp(0) }
}

/// Of a kind everywhere.
fn pause_of_all(id: i64, by: &str) -> Pause {
    let covers = PauseSelector { kind: Some("vm".parse().unwrap()), ..PauseSelector::default() };
    Pause { covers, ..pause(id, by, None) }
}

fn one_shot(id: i64, break_glass: bool, until: i64) -> OneShot {
    OneShot {
        id,
        deletion: DeletionId(1),
        stage: Stage::Hard,
        belt: Passable::Window,
        by: "eva".parse().unwrap(),
        reason: "fire".into(),
        since: Timestamp(0),
        until: Timestamp(until),
        break_glass,
        taken_back: None,
    }
}

#[test]
fn what_holds_for_all_alarms() {
    let mark = Mark::default();
    let known = Mark { number: 9, ..mark };
    let behind = Behind { known, found: mark, missing: Vec::new(), decision: None };
    let facts = Facts {
        batches: vec![batch(1, "tenants/acme", 6, 5), batch(2, "tenants/b", 5, 5)],
        pauses: vec![
            pause(1, "coordinator", Some("tenants/acme")),
            pause(2, "ops", Some("tenants/acme")),
            pause_of_all(3, "coordinator"),
            pause_of_all(4, "ops"),
        ],
        one_shots: vec![one_shot(1, true, 11), one_shot(2, false, 11), one_shot(3, true, 10)],
        undone: [(DeletionId(1), "everything".to_owned())].into(),
        review: Some(Review { epoch: 2, since: Timestamp(0), behind }),
        canaries: Vec::new(),
        drills: Vec::new(),
        lapses: Vec::new(),
    };
    let mut holding = Holding::default();
    facts.alarms(Timestamp(10), &mut holding);
    let all = holding.finish();
    let keys: Vec<String> = all.iter().map(Alarm::key).collect();
    let expected = [
        "review/ledger",
        "foreign_deletions/pause/3",
        "foreign_deletions/pause/1",
        "broken_glass/override/1",
        "frozen_batch/batch/1",
    ];
    assert_eq!(
        keys, expected,
        "the worst first; a batch that will fit, and what people pause, is nobody's alarm"
    );
    assert!(all[3].todo.ends_with(" if not; what can be undone: everything"), "{}", all[3].todo);
    let mut nothing = Holding::default();
    Facts::default().alarms(Timestamp(10), &mut nothing);
    assert_eq!(nothing.finish(), []);
}

/// Of five hundred that were marked one by one each is a batch of its own.
#[test]
fn many_batches_of_one_group_are_one_alarm() {
    let singles = |count: i64| -> Vec<BatchFact> {
        (1..=count).map(|number| batch(number, "tenants/acme", 1, 5)).collect()
    };
    let alarms = |batches: Vec<BatchFact>| {
        let mut holding = Holding::default();
        Facts { batches, ..Facts::default() }.alarms(Timestamp(10), &mut holding);
        holding.finish()
    };
    assert_eq!(alarms(singles(5)), [], "tomorrow they fit");
    let [alarm] = &alarms(singles(6))[..] else { panic!("one") };
    assert_eq!(alarm.key(), "frozen_batch/batch/1");
    assert!(alarm.text.starts_with("6 of vm in tenants/acme wait before announce: "), "{}", alarm.text);
}

fn canary(id: i64, instance: &str, verdict: Option<Verdict>) -> Canary {
    let at = Timestamp(5);
    Canary {
        id,
        run: 1,
        by: canary::actor(),
        before: None,
        elsewhere: None,
        probe: Probe::ForgedOrder { instance: instance.parse().unwrap() },
        fence: Fence { epoch: 1, number: id },
        begun_at: at,
        answer_by: at,
        judged: verdict.map(|verdict| Judged { verdict, at, pause: None }),
    }
}

#[test]
fn a_census_that_is_refused_or_does_not_come_alarms_for_its_kind_and_scope() {
    let lapse =
        |kind: &str, why| Lapse { kind: kind.parse().unwrap(), scope: "tenants/acme".parse().unwrap(), why };
    let (by, credential) = ("platform".parse().unwrap(), "census-ro".to_owned());
    let why = "listed: nothing is listed".to_owned();
    let (tried_at, failing_since) = (None, None);
    let refusal = Refusal {
        at: Timestamp(5),
        by,
        credential,
        listed: 0,
        why,
        missing: 0,
        missing_named: BTreeSet::new(),
        newly_missing: 0,
        not_taken: false,
        tried_at,
        failing_since,
    };
    let missed = Missed {
        kind: "volume".parse().unwrap(),
        scope: "tenants/acme".parse().unwrap(),
        every_hours: 24,
        since: Some(Timestamp(0)),
        last: Some(refusal.clone()),
        alarms: true,
    };
    let lapses = vec![
        lapse("image", Lapsed::Refused(refusal)),
        lapse("vm", Lapsed::Silent { since: Timestamp(0) }),
        lapse("volume", Lapsed::Missed(missed)),
    ];
    let mut holding = Holding::default();
    Facts { lapses, ..Facts::default() }.alarms(Timestamp(10), &mut holding);
    let alarms = holding.finish();
    let keys: Vec<String> = alarms.iter().map(Alarm::key).collect();
    let expected = ["image", "vm", "volume"].map(|kind| format!("census/kind/{kind}/tenants/acme"));
    assert_eq!(keys, expected);
    assert!(alarms[0].text.contains("nothing is listed (by platform"), "{}", alarms[0].text);
    assert!(alarms[1].text.contains("believed for more than a day"), "{}", alarms[1].text);
    let missed = "no complete census of volume in tenants/acme, which [census] take has every 24 h: the last one was at";
    assert!(alarms[2].text.starts_with(missed), "{}", alarms[2].text);
    assert!(alarms.iter().all(|alarm| alarm.scope.is_some() && alarm.severity == Severity::Warning));
}

#[test]
fn a_canary_alarms_unless_it_was_refused() {
    let canaries = vec![
        canary(1, "dns.main", Some(Verdict::Holds { how: "rejected".into() })),
        canary(2, "ipam.main", None),
        canary(3, "backup.main", Some(Verdict::Unanswered)),
        canary(4, "backup.main", Some(Verdict::Unclear { why: "of an older version".into() })),
        canary(5, "hypervisor.main", Some(Verdict::Accepted { how: "done".into() })),
    ];
    let mut holding = Holding::default();
    Facts { canaries, ..Facts::default() }.alarms(Timestamp(10), &mut holding);
    let alarms = holding.finish();
    let keys: Vec<String> = alarms.iter().map(Alarm::key).collect();
    assert_eq!(
        keys,
        ["canary_accepted/instance/hypervisor.main", "canary_unproved/instance/backup.main"],
        "the worst first, and each consumer once"
    );
    assert_eq!(alarms[0].severity, Severity::Critical);
    assert!(alarms[0].text.contains("rejected as not authentic: ACCEPTED, done"), "{}", alarms[0].text);
}

fn alarm(kind: AlarmKind, id: i64, scope: &str, text: &str) -> Alarm {
    let resource = format!("vm/web{id:02}").parse().unwrap();
    let subject = Subject::Deletion { deletion: DeletionId(id), resource };
    Alarm::new(kind, Some(scope.parse().unwrap()), subject, text, "look")
}

#[test]
fn many_of_one_kind_in_one_scope_are_told_as_one() {
    let most = i64::try_from(TOGETHER).unwrap();
    let of = |count: i64| {
        let mut holding = Holding::default();
        (1..=count).for_each(|id| holding.add(alarm(AlarmKind::Parked, id, "a", "x")));
        holding.add(alarm(AlarmKind::Parked, 9999, "b", "x"));
        holding.finish()
    };
    assert_eq!(of(most).len(), TOGETHER + 1);
    let many = of(most + 1);
    assert_eq!(many.iter().map(Alarm::key).collect::<Vec<_>>(), ["parked/scope/a", "parked/d-9999"]);
    assert!(
        many[0]
            .text
            .starts_with("21 deletions have been parked for more than a day in a: d-1 (vm/web01), d-2"),
        "{}",
        many[0].text
    );
    assert!(many[0].text.ends_with("and 16 more"), "{}", many[0].text);
}

#[test]
fn there_are_never_more_than_so_many_and_the_last_one_says_so() {
    let mut holding = Holding::default();
    for scope in 0..OPEN_MAX + 10 {
        holding.add(alarm(AlarmKind::Parked, 1, &format!("s{scope}"), "x"));
    }
    holding.add(alarm(AlarmKind::Refused, 2, "z", "x"));
    let all = holding.finish();
    assert_eq!(all.len(), OPEN_MAX);
    assert_eq!(all[0].kind, AlarmKind::Refused, "the worst is not left out");
    let last = all.last().unwrap();
    assert_eq!(last.kind, AlarmKind::TooMany);
    assert!(last.text.starts_with("12 more alarms hold"), "{}", last.text);
}

#[test]
fn what_can_be_undone_and_until_when_is_said_with_what_to_do() {
    let mut d = record(1, "reproducible", None);
    park(&mut d, Stage::Soft, "hypervisor.stop: no answer");
    let todo = |now: Timestamp| -> String {
        let alarms = of_deletion(&d, Some(on("2026-12-10")), &at(now));
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        alarms[0].todo.clone()
    };
    let first = todo(on("2026-12-12"));
    assert!(first.contains("what can be undone: everything: "), "{first}");
    assert!(first.contains("; at least until 2026-12-"), "{first}");
    // Its hard stage moves with the clock; an alarm that was another text each time would be written each time.
    assert_eq!(first, todo(on("2026-12-12").plus_ms(10 * 60_000)));
    assert_ne!(first, todo(on("2026-12-14")));
}
