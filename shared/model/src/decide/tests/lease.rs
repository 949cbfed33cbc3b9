//! Progress, extensions, and leases that run out.
use super::super::{Capacity, Effect, Event, Refusal};
use super::kit::{Bench, ceiling, pause, place_hold, stage};
use crate::beacon::SKEW_MS;
use crate::belts::PauseSelector;
use crate::belts::ceiling::{Ceiling, Ceilings};
use crate::job::{JobState, Stage, StateName};
use crate::retry::{IN_VAIN, SILENT};
use crate::step::{Mode, Outcome};

fn progress(bench: &Bench, performer: u64) -> Event {
    let order = bench.out();
    Event::Progress { job: order.job, from: order.instance, fence: order.fence, performer }
}

fn lease_over(bench: &Bench) -> Event {
    let order = bench.out();
    Event::LeaseOver { job: order.job, fence: order.fence }
}

/// Let the lease of the order that is out run out.
fn expire(bench: &mut Bench) {
    let out = *bench.job(bench.out().job).state.out().unwrap();
    bench.now = out.lease_until;
    let event = lease_over(bench);
    bench.must(&event);
}

#[test]
fn the_lease_ends_after_the_deadline_the_longest_call_and_the_skew() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    bench.wait_ms(20_000 + 5_000 + SKEW_MS - 1);
    let event = lease_over(&bench);
    assert_eq!(bench.go(&event), Err(Refusal::NotYet(stage(Stage::Soft))));
    bench.wait_ms(1);
    let old = bench.out().fence;
    bench.must(&event);
    assert!(bench.out().fence > old, "ordered again under a new fence");
    assert!(matches!(bench.go(&event), Err(Refusal::Stale { .. })), "the old lease ran out twice");
}

#[test]
fn what_was_begun_counts_and_parks_at_its_limit() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    for attempt in 1..=3u16 {
        let event = progress(&bench, 1);
        bench.must(&event);
        expire(&mut bench);
        assert_eq!(bench.job(stage(Stage::Soft)).attempts, attempt);
    }
    assert_eq!(bench.state(stage(Stage::Soft)), StateName::Parked);
}

#[test]
fn what_nobody_began_spends_no_attempt_but_parks_in_the_end() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    for silent in 1..=5 {
        assert_eq!(bench.state(stage(Stage::Soft)), StateName::Running);
        expire(&mut bench);
        let job = bench.job(stage(Stage::Soft));
        assert_eq!((job.attempts, job.in_vain), (0, silent * SILENT));
    }
    assert_eq!(bench.state(stage(Stage::Soft)), StateName::Parked);
}

#[test]
fn an_outage_spends_nothing() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    for _ in 0..10 {
        bench.capacity = Capacity::Down;
        expire(&mut bench);
        let job = bench.job(stage(Stage::Soft));
        assert_eq!((job.state.name(), job.attempts, job.in_vain), (StateName::Ready, 0, 0));
        bench.capacity = Capacity::Free;
        bench.must(&Event::Proceed { job: stage(Stage::Soft) });
    }
}

#[test]
fn a_long_step_is_extended_for_its_first_performer_only() {
    let mut bench = Bench::at(Stage::Soft, 1, Mode::Perform);
    let began = progress(&bench, 1);
    assert!(bench.must(&began).effects.is_empty(), "it has time left");
    assert_eq!(bench.go(&began), Err(Refusal::NotYet(stage(Stage::Soft))));
    bench.wait_ms(15_000);
    let other = progress(&bench, 2);
    assert!(matches!(bench.go(&other), Err(Refusal::Stale { .. })));
    let decision = bench.must(&began);
    let [Effect::Extend { performer: 1, deadline, .. }] = decision.effects[..] else {
        panic!("{decision:?}")
    };
    assert_eq!(deadline, bench.now.plus_ms(30_000));
    assert_eq!(
        bench.job(stage(Stage::Soft)).quiet_after,
        deadline.plus_ms(SKEW_MS),
        "an undo waits for the extension too"
    );
    bench.now = deadline;
    assert!(matches!(bench.go(&began), Err(Refusal::Stale { .. })), "too late to be extended");
}

/// An extension is a message, and may be lost. Two in a row may be, and the performer still hears of a third one
/// before the deadline it knows of.
#[test]
fn two_extensions_may_be_lost() {
    let mut bench = Bench::at(Stage::Soft, 1, Mode::Perform);
    let heard = bench.out().deadline;
    let event = progress(&bench, 1);
    bench.must(&event);
    let mut given = 0;
    while bench.now.plus_ms(1_000) < heard {
        bench.wait_ms(1_000);
        given += u32::from(bench.go(&event).is_ok_and(|decision| !decision.effects.is_empty()));
    }
    assert_eq!(given, 3, "lost, lost, heard; and each is an audit event, so not at every progress");
}

/// Whoever pauses, holds or protects stops a long step at its next deadline, and that is no failure of it. A
/// restore goes on.
#[test]
fn a_belt_ends_a_long_step_at_its_deadline() {
    type Do = fn(&mut Bench);
    let belts: [(&str, Do); 4] = [
        ("ceiling", |b| b.in_force.ceilings = ceiling(None, Ceiling::Announce)),
        ("hold", |b| drop(b.must(&place_hold()))),
        ("pause", |b| b.in_force.pauses = vec![pause(PauseSelector::default())]),
        ("protected", |b| b.deletion.protected = true),
    ];
    for (name, stop) in belts {
        let mut bench = Bench::at(Stage::Soft, 1, Mode::Perform);
        let (job, deadline) = (bench.out().job, bench.out().deadline);
        stop(&mut bench);
        bench.wait_ms(20_000);
        let event = progress(&bench, 1);
        assert!(bench.must(&event).effects.is_empty(), "{name}: extended");
        assert_eq!(bench.go(&event), Err(Refusal::NotYet(job)), "{name}");
        bench.now = deadline;
        bench.answer(Outcome::failed("stopped at its deadline"));
        assert_eq!(bench.job(job).attempts, 0, "{name}: spent an attempt");
        let JobState::Waiting { until, .. } = bench.job(job).state else {
            panic!("{name}: it does not wait")
        };
        bench.now = until;
        bench.must(&Event::Proceed { job });
        assert!(matches!(bench.job(job).state, JobState::Ready { blocked: Some(_), .. }), "{name}");
    }
    let mut bench = Bench::at(Stage::Soft, 2, Mode::Perform);
    bench.must(&super::kit::cancel());
    // The restore waits for what a slow clock may still begin.
    bench.now = bench.out().deadline.plus_ms(crate::beacon::SKEW_MS);
    bench.comply();
    assert_eq!(bench.out().mode, Mode::Undo);
    bench.in_force.pauses = vec![pause(PauseSelector::default())];
    bench.in_force.ceilings = Ceilings::default();
    bench.wait_ms(20_000);
    let event = progress(&bench, 1);
    assert!(matches!(bench.must(&event).effects[..], [Effect::Extend { .. }]), "a belt stopped a restore");
}

#[test]
fn a_short_step_is_never_extended() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    bench.wait_ms(15_000);
    let event = progress(&bench, 1);
    assert!(bench.must(&event).effects.is_empty());
    assert_eq!(bench.go(&event), Err(Refusal::NotYet(stage(Stage::Soft))));
}

#[test]
fn progress_and_leases_in_every_state() {
    for state in StateName::ALL {
        let bench = Bench::soft_in(state);
        let out = bench.deletion.jobs.iter().find_map(|j| j.state.out().copied());
        let running = bench.deletion.jobs.iter().any(|j| j.state.name() == StateName::Running);
        assert_eq!(bench.clone().go(&progress(&bench, 1)).is_ok(), running, "{state}: progress");
        let mut late = bench.clone();
        late.now = out.map_or(bench.now, |out| out.lease_until);
        assert_eq!(late.go(&lease_over(&bench)).is_ok(), out.is_some(), "{state}: lease over");
    }
}

/// Whoever was silent and answers again is asked again soon, whatever they answer: a beacon that was too old when they went on
/// is fresh a second later.
#[test]
fn who_answers_after_silence_is_asked_again_within_seconds() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    for _ in 0..3 {
        expire(&mut bench);
    }
    bench.answer(Outcome::spared("not begun: the last beacon is 15536 ms old, more than 5000"));
    let JobState::Waiting { until, .. } = bench.job(stage(Stage::Soft)).state else {
        panic!("{:?}", bench.job(stage(Stage::Soft)).state)
    };
    let ms = until.ms_since(bench.now);
    assert!(ms < 3_000, "after {ms} ms");
}

/// A consumer that puts an order off for ever (a clock that is wrong, a lock that nobody removes) is asked ever more
/// rarely, and in the end a person is.
#[test]
fn what_is_put_off_for_ever_parks_in_the_end() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    let (job, began) = (stage(Stage::Soft), bench.now);
    let mut orders = 0;
    while let Some(event) = (bench.state(job) == StateName::Running)
        .then(|| bench.answer_event(Outcome::spared("locked by somebody else")))
    {
        bench.must(&event);
        orders += 1;
        if let JobState::Waiting { until, .. } = bench.job(job).state {
            bench.now = until;
            bench.must(&Event::Proceed { job });
        }
    }
    let JobState::Parked { reason } = &bench.job(job).state else { panic!("{:?}", bench.job(job).state) };
    assert!(reason.contains("locked by somebody else"), "{reason}");
    assert_eq!((orders, bench.job(job).attempts), (IN_VAIN, 0));
    let hours = bench.now.ms_since(began) / 3_600_000;
    assert!((20..36).contains(&hours), "after {hours} hours");
}

/// Whoever answers others is busy, or lost one order: that parks after a day, not after five rounds. Whoever answers
/// nothing at all takes orders and dies.
#[test]
fn consumers_that_answer_others_are_busy_not_dead() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    let job = stage(Stage::Soft);
    for round in 1..IN_VAIN {
        // Just as this one was given.
        bench.answered = Some(bench.now);
        expire(&mut bench);
        assert_eq!((bench.state(job), bench.job(job).in_vain), (StateName::Running, round));
    }
    bench.answered = Some(bench.now);
    expire(&mut bench);
    assert_eq!(bench.state(job), StateName::Parked, "it does not go round for ever either");

    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    bench.answered = Some(bench.now);
    bench.wait_ms(1);
    for _ in 0..6 {
        if bench.state(job) == StateName::Running {
            expire(&mut bench);
        }
    }
    assert_eq!(bench.state(job), StateName::Parked, "nothing since");
}
