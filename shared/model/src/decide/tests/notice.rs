//! The notice: tried for days, never waived, and in the end acknowledged by a person.
use super::super::{Capacity, Change, Event, Refusal};
use super::kit::{Bench, DAY, DAY_MS, actor, cancel, plan, stage};
use crate::audit::What;
use crate::deletion::WaiverClaim;
use crate::job::{Blocker, JobState, Stage, StateName};
use crate::step::{Mode, Outcome};
use crate::time::Timestamp;

const DAYS_MS: u64 = 3 * DAY_MS;

pub(super) fn acknowledge() -> Event {
    Event::Acknowledge { by: actor("ops"), mark: String::new(), reason: "called the owner by phone".into() }
}

/// The order to tell everybody is out; it is the `last` one of its stage, or one to inspect follows.
fn telling(last: bool) -> Bench {
    let mut plan = plan();
    plan.stages[0].steps[1].notice = true;
    if !last {
        plan.stages[0].steps.reverse();
    }
    Bench::with(plan).run_to(Stage::Announce, u16::from(last), Mode::Perform)
}

/// It fails, and is tried again whenever it is time, until the job is parked. When it failed first, and how often it
/// was tried.
fn in_vain(bench: &mut Bench, outcome: &Outcome) -> (Timestamp, usize) {
    let (began, orders) = (bench.now, bench.orders.len());
    bench.answer(outcome.clone());
    while let JobState::Waiting { until, .. } = bench.job(stage(Stage::Announce)).state {
        bench.now = until;
        bench.must(&Event::Proceed { job: stage(Stage::Announce) });
        bench.answer(outcome.clone());
    }
    (began, bench.orders.len() - orders)
}

/// The same at its end.
pub(super) fn given_up(last: bool) -> Bench {
    let mut bench = telling(last);
    in_vain(&mut bench, &Outcome::spared("no route to the relay"));
    bench
}

pub(super) fn bounced() -> Event {
    Event::Bounced { by: actor("postmaster"), reason: "owner@example.org: no such box".into() }
}

/// The notice was sent, and came back; three days have passed since. Soft is due, and `held` or not yet looked at.
pub(super) fn come_back(held: bool) -> Bench {
    let mut bench = telling(true);
    bench.comply();
    bench.wait_ms(4 * DAY_MS);
    bench.must(&bounced());
    bench.wait_ms(DAYS_MS);
    if held {
        bench.must(&Event::Claim { job: stage(Stage::Soft) });
    }
    bench
}

#[test]
fn a_notice_that_comes_back_was_not_delivered() {
    let mut bench = telling(true);
    assert_eq!(bench.go(&bounced()), Err(Refusal::NotSentYet), "nobody was told yet");
    bench.comply();
    let silent = Event::Bounced { by: actor("postmaster"), reason: " ".into() };
    assert_eq!(bench.go(&silent), Err(Refusal::Missing("reason")));
    bench.wait_ms(4 * DAY_MS);
    let since = bench.now;
    let decision = bench.must(&bounced());
    assert_eq!((decision.audit.by.as_str(), decision.audit.what), ("postmaster", What::Bounced));
    // The same again is not even written down. The next address of the same notice is, and changes nothing else.
    bench.wait_ms(DAY_MS / 2);
    assert_eq!(bench.go(&bounced()), Err(Refusal::KnownToBeBack));
    let other = |n: usize| {
        let reason = format!("owner{n}@example.org: no such box");
        Event::Bounced { by: actor("postmaster"), reason }
    };
    assert!(matches!(bench.must(&other(1)).changes.as_slice(), [Change::Waived(_)]));
    assert_eq!(bench.go(&other(1)), Err(Refusal::KnownToBeBack));
    // However many there are, what is written down of them ends.
    let written = (2..1000).filter(|n| bench.go(&other(*n)).is_ok()).count();
    assert_eq!(written, 14);
    bench.wait_ms(DAY_MS / 2);
    // Soft is due by now, and does not begin, today or ever.
    for _ in 0..3 {
        let event = match bench.state(stage(Stage::Soft)) {
            StateName::Held => Event::Recheck { job: stage(Stage::Soft) },
            _ => Event::Claim { job: stage(Stage::Soft) },
        };
        drop(bench.go(&event));
        let by = Blocker::Untold { since, from: since.plus_ms(DAYS_MS) };
        let JobState::Held { by: held, .. } = &bench.job(stage(Stage::Soft)).state else { panic!() };
        assert_eq!(*held, by);
        assert_eq!(bench.go(&acknowledge()), Err(Refusal::CameBack(since.plus_ms(DAYS_MS))));
        bench.wait_ms(DAY_MS / 2);
    }
    bench.now = since.plus_ms(DAYS_MS);
    let decision = bench.must(&bench.looked(acknowledge()));
    assert_eq!(&*decision.audit.detail, "called the owner by phone");
    // The whole notice period, from the acknowledgement on.
    let due = bench.now.plus_ms(5 * DAY_MS);
    assert_eq!(bench.job(stage(Stage::Soft)).state, JobState::Scheduled { due_at: Some(due) });
    assert_eq!(bench.go(&Event::Claim { job: stage(Stage::Soft) }), Err(Refusal::NotYet(stage(Stage::Soft))));
    assert_eq!(bench.go(&acknowledge()), Err(Refusal::NothingToAcknowledge), "once");
    bench.now = due;
    bench.claim(Stage::Soft);
    assert_eq!(bench.go(&bounced()), Err(Refusal::NothingBounced), "soft has begun");
    bench.must(&cancel());
    assert_eq!(bench.go(&bounced()), Err(Refusal::NotLive(bench.deletion.status)));
}

#[test]
fn what_comes_back_after_an_acknowledgement_counts_again_and_a_late_date_stays() {
    let mut bench = come_back(false);
    bench.must(&bench.looked(acknowledge()));
    let since = bench.now;
    bench.must(&bounced());
    assert_eq!(bench.go(&acknowledge()), Err(Refusal::CameBack(since.plus_ms(DAYS_MS))));
    bench.wait_ms(DAYS_MS);
    bench.must(&bench.looked(acknowledge()));
    let due = bench.now.plus_ms(5 * DAY_MS);
    assert_eq!(bench.job(stage(Stage::Soft)).state, JobState::Scheduled { due_at: Some(due) });
    // One that a person had moved behind that stays there.
    let mut bench = come_back(false);
    let far = bench.now.plus_ms(90 * DAY_MS);
    let soft = bench.deletion.jobs.iter_mut().find(|job| job.id == stage(Stage::Soft)).unwrap();
    soft.state = JobState::Scheduled { due_at: Some(far) };
    bench.must(&bench.looked(acknowledge()));
    assert_eq!(bench.job(stage(Stage::Soft)).state, JobState::Scheduled { due_at: Some(far) });
    // Without a notice in the plan nothing comes back.
    let mut silent = Bench::new();
    silent.complete(Stage::Announce);
    assert_eq!(silent.go(&bounced()), Err(Refusal::NothingBounced));
}

#[test]
fn a_notice_is_tried_for_three_days_whatever_fails() {
    for outcome in [Outcome::spared("no route to the relay"), Outcome::failed("the box is full")] {
        let mut bench = telling(true);
        bench.deletion.plan.stages[0].steps.iter().for_each(|step| assert!(step.max_attempts < 20));
        let (began, tried) = in_vain(&mut bench, &outcome);
        assert_eq!(bench.now, began.plus_ms(DAYS_MS), "{outcome:?}");
        assert!((60..200).contains(&tried), "{tried} times, about each hour of its day");
        let JobState::Parked { reason } = &bench.job(stage(Stage::Announce)).state else { panic!() };
        assert!(reason.contains("not everybody could be told since 20") && reason.contains("acknowledge"));
        let stated: Vec<_> = bench.deletion.waivers.iter().map(|w| (w.claim, w.at, w.by.as_str())).collect();
        assert_eq!(stated, [(WaiverClaim::Untold, began, "coordinator")], "once");
        assert!(!bench.deletion.claimed(Stage::Soft));
        // A person may try it again, but then it has three days behind it.
        bench.must(&Event::Retry { by: actor("ops") });
        bench.answer(outcome);
        assert_eq!(bench.state(stage(Stage::Announce)), StateName::Parked);
    }
}

#[test]
fn what_waits_says_since_when_and_a_mail_that_arrives_starts_the_clock() {
    let mut bench = telling(true);
    bench.answer(Outcome::spared("no route to the relay"));
    let began = bench.now;
    bench.wait_ms(DAY_MS * 2);
    bench.must(&Event::Proceed { job: stage(Stage::Announce) });
    bench.answer(Outcome::spared("still none"));
    let JobState::Waiting { reason, .. } = &bench.job(stage(Stage::Announce)).state else { panic!() };
    assert_eq!(*reason, format!("not everybody could be told since {began}: still none"));
    bench.wait_ms(DAY_MS / 2);
    bench.must(&Event::Proceed { job: stage(Stage::Announce) });
    bench.comply();
    assert_eq!(
        bench.job(stage(Stage::Soft)).state,
        JobState::Scheduled { due_at: Some(bench.now.plus_ms(5 * DAY_MS)) }
    );
}

#[test]
fn an_acknowledgement_replaces_it_only_after_three_days_and_starts_the_clock() {
    let mut bench = telling(true);
    assert_eq!(bench.go(&acknowledge()), Err(Refusal::NothingToAcknowledge), "it did not fail");
    let began = bench.now;
    bench.answer(Outcome::refused("no such relay"));
    let from = began.plus_ms(DAYS_MS);
    assert_eq!(bench.state(stage(Stage::Announce)), StateName::Parked);
    bench.now = Timestamp(from.0 - 1);
    assert_eq!(bench.go(&acknowledge()), Err(Refusal::StillTried(from)));
    bench.now = from.plus_ms(DAY_MS);
    let own = Event::Acknowledge { by: actor("platform"), mark: String::new(), reason: "I told them".into() };
    assert!(matches!(bench.go(&own), Err(Refusal::Requested { .. })), "who requested it");
    let silent = Event::Acknowledge { by: actor("ops"), mark: String::new(), reason: " ".into() };
    assert_eq!(bench.go(&silent), Err(Refusal::Missing("reason")));
    let decision = bench.must(&bench.looked(acknowledge()));
    assert_eq!((decision.audit.by.as_str(), &*decision.audit.detail), ("ops", "called the owner by phone"));
    assert_eq!(decision.audit.step.as_deref(), Some("hypervisor.tell"));
    assert!(decision.changes.iter().any(|c| matches!(c, Change::Waived(w) if w.claim == WaiverClaim::Told)));
    // Not from when it was to be told.
    let due = bench.deletion.due_after(Stage::Soft, bench.now, DAY);
    assert_eq!(due, bench.now.plus_ms(5 * DAY_MS));
    assert_eq!(bench.job(stage(Stage::Soft)).state, JobState::Scheduled { due_at: Some(due) });
    assert_eq!(bench.go(&acknowledge()), Err(Refusal::NothingToAcknowledge), "once");
    // Some may have got it, so a cancel takes it back.
    assert_eq!(bench.deletion.undo_list().len(), 1);
    bench.must(&cancel());
    assert_eq!(bench.go(&acknowledge()), Err(Refusal::NotLive(bench.deletion.status)));
}

#[test]
fn nothing_else_is_acknowledged_and_no_notice_is_waived() {
    let waive =
        |claim| Event::Waive { by: actor("ops"), claim, mark: String::new(), evidence: "seen".into() };
    let mut bench = given_up(true);
    for claim in [
        WaiverClaim::Absent,
        WaiverClaim::MayRemain,
        WaiverClaim::Belongs,
        WaiverClaim::Told,
        WaiverClaim::Untold,
    ] {
        assert_eq!(bench.go(&waive(claim)), Err(Refusal::NotWaived), "{claim:?}");
    }
    let mut soft = Bench::soft_in(StateName::Parked);
    soft.wait_ms(10 * DAY_MS);
    assert_eq!(soft.go(&acknowledge()), Err(Refusal::NothingToAcknowledge));
    for claim in [WaiverClaim::Told, WaiverClaim::Untold] {
        assert_eq!(soft.go(&waive(claim)), Err(Refusal::NotWaived), "nobody may state it of other steps");
    }
    // A step that tells people in a later stage starts no clock.
    let mut plan = plan();
    plan.stages[1].steps[0].notice = true;
    let mut late = Bench::with(plan).run_to(Stage::Soft, 0, Mode::Perform);
    late.answer(Outcome::refused("no such relay"));
    assert!(late.deletion.waivers.is_empty());
    late.must(&late.looked(waive(WaiverClaim::Absent)));
}

/// The linter refuses such a plan, and a record keeps the copy that it was made with.
#[test]
fn a_notice_is_not_waived_with_what_it_depends_on() {
    let mut plan = plan();
    let looked = plan.stages[0].steps[0].name.clone();
    let notice = &mut plan.stages[0].steps[1];
    (notice.notice, notice.after) = (true, vec![looked]);
    let mut bench = Bench::with(plan).run_to(Stage::Announce, 0, Mode::Inspect);
    bench.answer(Outcome::refused("no such address"));
    let (by, evidence) = (actor("ops"), "a typing error".to_owned());
    let waive = Event::Waive { by, claim: WaiverClaim::MayRemain, mark: bench.mark(), evidence };
    bench.capacity = Capacity::Full;
    bench.must(&waive);
    let announce = bench.job(stage(Stage::Announce));
    let next = bench.deletion.wanted(announce).map(|(step, _)| step.name.as_str());
    assert_eq!(next, Some("hypervisor.tell"), "whoever tells people is waited for");
    bench.capacity = Capacity::Free;
    bench.must(&Event::Proceed { job: stage(Stage::Announce) });
    // Without whom to tell it fails, and people have three days to tell them otherwise.
    let since = bench.now;
    bench.answer(Outcome::refused("nobody is pinned"));
    assert_eq!(bench.state(stage(Stage::Announce)), StateName::Parked);
    let again = bench.looked(waive);
    assert_eq!(bench.go(&again), Err(Refusal::NotWaived));
    let told = bench.looked(acknowledge());
    assert_eq!(bench.go(&told), Err(Refusal::StillTried(since.plus_ms(DAYS_MS))));
    assert!(!bench.deletion.claimed(Stage::Soft));
    bench.wait_ms(DAYS_MS);
    bench.must(&told);
    let due = bench.now.plus_ms(5 * DAY_MS);
    assert_eq!(bench.job(stage(Stage::Soft)).state, JobState::Scheduled { due_at: Some(due) });
}
