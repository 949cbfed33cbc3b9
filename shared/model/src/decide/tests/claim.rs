//! Claims, and what a held or waiting job does next.
use super::super::{Capacity, Event, Refusal};
use super::kit::{Bench, actor, cancel, ceiling, pause, place_hold, plan, rescue, stage};
use crate::belts::PauseSelector;
use crate::belts::ceiling::{Ceiling, Ceilings};
use crate::belts::resource_hold::HOLDS_MAX;
use crate::job::{Blocker, JobState, Stage, StateName};
use crate::step::Mode;

fn claim(which: Stage) -> Event {
    Event::Claim { job: stage(which) }
}

/// Claiming the soft stage's job in every state.
#[test]
fn in_every_state() {
    for state in StateName::ALL {
        let mut bench = Bench::soft_in(state);
        let answer = bench.go(&claim(Stage::Soft));
        let after = bench.state(stage(Stage::Soft));
        match state {
            StateName::Scheduled | StateName::Ready => assert_eq!(after, StateName::Running, "{state}"),
            StateName::Rescued => assert!(answer.is_err()),
            other => {
                let state = other;
                let refusal = Refusal::NotInState { job: stage(Stage::Soft), state };
                assert_eq!(answer, Err(refusal), "{other}");
            }
        }
    }
}

#[test]
fn not_before_it_is_due() {
    let mut bench = Bench::new();
    bench.now.0 -= 1;
    assert_eq!(bench.go(&claim(Stage::Announce)), Err(Refusal::NotYet(stage(Stage::Announce))));
    bench.now.0 += 1;
    bench.must(&claim(Stage::Announce));
}

#[test]
fn not_before_its_turn() {
    let mut bench = Bench::new();
    for later in [Stage::Soft, Stage::Hard, Stage::Purge, Stage::Recycle] {
        let refusal = Refusal::NotInState { job: stage(later), state: StateName::Scheduled };
        assert_eq!(bench.go(&claim(later)), Err(refusal));
    }
    // Even if a due time got there too early, the order of the stages holds.
    let due_at = Some(bench.now);
    bench.deletion.jobs[1].state = JobState::Scheduled { due_at };
    assert_eq!(bench.go(&claim(Stage::Soft)), Err(Refusal::NotItsTurn(stage(Stage::Soft))));
    assert!(matches!(bench.go(&Event::Claim { job: crate::JobId(7) }), Err(Refusal::NoSuchJob(_))));
}

#[test]
fn each_belt_holds_it_and_lets_it_go() {
    type Do = fn(&mut Bench);
    let cases: [(&str, Do, Do); 4] = [
        (
            "ceiling",
            |b| b.in_force.ceilings = ceiling(Some("tenants"), Ceiling::Announce),
            |b| b.in_force.ceilings = ceiling(Some("tenants/acme"), Ceiling::Soft),
        ),
        ("hold", |b| drop(b.must(&place_hold())), |b| b.deletion.holds.clear()),
        (
            "pause",
            |b| b.in_force.pauses = vec![pause(PauseSelector::default())],
            |b| b.in_force.pauses.clear(),
        ),
        ("protected", |b| b.deletion.protected = true, |b| b.deletion.protected = false),
    ];
    for (name, hold, release) in cases {
        let mut bench = Bench::soft_in(StateName::Scheduled);
        let job = stage(Stage::Soft);
        hold(&mut bench);
        bench.must(&claim(Stage::Soft));
        assert_eq!(bench.state(job), StateName::Held, "{name}");
        assert!(bench.deletion.locking_job().is_none(), "{name}: held jobs hold no lock");
        assert_eq!(bench.go(&Event::Recheck { job }), Err(Refusal::NotYet(job)), "{name}");
        bench.wait_ms(60_000);
        assert_eq!(
            bench.go(&Event::Recheck { job }),
            Err(Refusal::NotYet(job)),
            "{name}: the same, so no event"
        );
        assert_eq!(bench.state(job), StateName::Held, "{name}: looked at again");
        bench.clone().must(&cancel());
        release(&mut bench);
        bench.must(&Event::Recheck { job });
        assert_eq!(bench.state(job), StateName::Scheduled, "{name}");
        bench.must(&claim(Stage::Soft));
        assert_eq!(bench.state(job), StateName::Running, "{name}");
    }
}

/// The kit's plan with a step of dns at the end of hard, too, and run until this stage is due.
fn up_to(which: Stage) -> Bench {
    let mut plan = plan();
    let forget = plan.stage(Stage::Purge).steps[1].clone();
    plan.stages[usize::from(Stage::Hard.index())].steps.push(forget);
    let mut bench = Bench::with(plan);
    for before in Stage::ALL.into_iter().filter(|stage| *stage < which) {
        bench.complete(before);
    }
    bench
}

/// Begun, it would stand before that step with its lock, and a cancel, or a rescue, would come too late.
#[test]
fn a_pause_of_a_later_step_holds_a_stage_that_has_not_begun() {
    let dns = || pause(PauseSelector { subsystem: Some("dns".parse().unwrap()), ..PauseSelector::default() });
    for (which, way_back) in [(Stage::Hard, cancel()), (Stage::Purge, rescue())] {
        let (mut bench, job) = (up_to(which), stage(which));
        bench.in_force.pauses = vec![dns()];
        bench.claim(which);
        let state = bench.job(job).state.clone();
        assert!(matches!(state, JobState::Held { by: Blocker::Pause { .. }, .. }), "{which}: {state:?}");
        assert_eq!(bench.go(&Event::Recheck { job }), Err(Refusal::NotYet(job)), "{which}");
        bench.clone().must(&way_back);
        bench.in_force.pauses.clear();
        bench.must(&Event::Recheck { job });
        bench.must(&claim(which));

        // What has begun goes on as far as it may.
        bench.in_force.pauses = vec![dns()];
        while bench.state(job) == StateName::Running {
            assert_eq!(bench.out().instance.subsystem.as_str(), "hypervisor", "{which}");
            bench.comply();
        }
        let state = bench.job(job).state.clone();
        let blocked = matches!(state, JobState::Ready { blocked: Some(Blocker::Pause { .. }), .. });
        assert!(blocked, "{which}: {state:?}");
    }
}

/// Who is down, and needed later, keeps a stage from beginning. Who is gone does not: only where they are needed
/// can a person let that step pass.
#[test]
fn a_stage_does_not_begin_while_a_later_step_has_nobody() {
    for (which, way_back) in [(Stage::Hard, cancel()), (Stage::Purge, rescue())] {
        let (mut bench, job) = (up_to(which), stage(which));
        bench.elsewhere = Capacity::Down;
        bench.claim(which);
        let state = bench.job(job).state.clone();
        let JobState::Held { by: Blocker::Consumer { instance }, .. } = &state else { panic!("{state:?}") };
        assert_eq!(instance.to_string(), "dns.main", "{which}");
        assert_eq!(bench.go(&Event::Recheck { job }), Err(Refusal::NotYet(job)), "{which}");
        bench.clone().must(&way_back);
        for capacity in [Capacity::Free, Capacity::Full, Capacity::Gone] {
            let mut bench = bench.clone();
            bench.elsewhere = capacity;
            bench.must(&Event::Recheck { job });
            bench.must(&claim(which));
            assert_eq!(bench.state(job), StateName::Running, "{which}, {capacity:?}");
            bench.elsewhere = Capacity::Down;
            while bench.state(job) == StateName::Running {
                bench.comply();
            }
            let state = bench.job(job).state.clone();
            assert!(
                matches!(state, JobState::Ready { blocked: None, .. }),
                "what has begun goes on: {state:?}"
            );
        }
    }
}

/// Nothing is touched by it, and whoever can be told is told.
#[test]
fn announcing_begins_although_a_later_step_has_nobody() {
    let mut plan = plan();
    let forget = plan.stage(Stage::Purge).steps[1].clone();
    plan.stages[usize::from(Stage::Announce.index())].steps.push(forget);
    let mut bench = Bench::with(plan);
    bench.elsewhere = Capacity::Down;
    bench.claim(Stage::Announce);
    assert_eq!(bench.state(stage(Stage::Announce)), StateName::Running);
}

/// Nothing of a scope that nobody has raised, and of any other no stage above its ceiling.
#[test]
fn no_stage_above_the_ceiling_begins() {
    for height in Ceiling::ALL {
        for which in Stage::ALL {
            let mut bench = Bench::new();
            for before in Stage::ALL.into_iter().filter(|stage| *stage < which) {
                bench.complete(before);
            }
            bench.in_force.ceilings = match height {
                Ceiling::Observe => Ceilings::default(),
                _ => ceiling(Some("tenants"), height),
            };
            let decision = bench.claim(which);
            let may = Ceiling::needed_for(which) <= height;
            assert_eq!(bench.state(stage(which)) == StateName::Held, !may, "{which} under {height}");
            let JobState::Held { by, .. } = &bench.job(stage(which)).state else { continue };
            assert!(decision.effects.is_empty(), "{which} under {height}");
            let of = if height == Ceiling::Observe { "every scope" } else { "tenants" };
            let said = by.to_string();
            assert!(said.contains(&format!("would begin {which}: deletions of {of} ")), "{said}");
        }
    }
}

#[test]
fn a_release_of_the_last_hold_makes_it_due_at_once() {
    let mut bench = Bench::soft_in(StateName::Scheduled);
    bench.must(&place_hold());
    bench.must(&place_hold());
    bench.must(&claim(Stage::Soft));
    let ids: Vec<_> = bench.deletion.holds.iter().map(|h| h.id).collect();
    assert_ne!(ids[0], ids[1]);
    let release = |hold| Event::ReleaseHold { hold, by: actor("legal") };
    bench.must(&release(ids[0]));
    assert_eq!(bench.state(stage(Stage::Soft)), StateName::Held, "the other one still stands");
    assert_eq!(bench.go(&release(ids[0])), Err(Refusal::NoSuchHold(ids[0])));
    bench.must(&release(ids[1]));
    assert_eq!(bench.state(stage(Stage::Soft)), StateName::Scheduled);
}

#[test]
fn a_record_has_so_many_holds_and_no_more() {
    let mut bench = Bench::soft_in(StateName::Scheduled);
    for _ in 0..HOLDS_MAX {
        bench.must(&place_hold());
    }
    assert_eq!(bench.go(&place_hold()), Err(Refusal::TooManyHolds));
    let hold = bench.deletion.holds[0].id;
    bench.must(&Event::ReleaseHold { hold, by: actor("legal") });
    bench.must(&place_hold());
}

#[test]
fn not_without_credit() {
    for capacity in [Capacity::Full, Capacity::Down] {
        let mut bench = Bench::soft_in(StateName::Scheduled);
        bench.capacity = capacity;
        assert!(matches!(bench.go(&claim(Stage::Soft)), Err(Refusal::NoCredit(_))), "{capacity:?}");
    }
}

#[test]
fn a_belt_between_two_steps_keeps_the_lock_and_gives_no_order() {
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    bench.must(&place_hold());
    bench.comply();
    let job = stage(Stage::Soft);
    assert!(matches!(bench.job(job).state, JobState::Ready { blocked: Some(Blocker::Hold { .. }), .. }));
    assert_eq!(bench.go(&Event::Proceed { job }), Err(Refusal::NotYet(job)));
    let hold = bench.deletion.holds[0].id;
    bench.must(&Event::ReleaseHold { hold, by: actor("legal") });
    bench.must(&Event::Proceed { job });
    assert_eq!(bench.state(job), StateName::Running);
}

/// Proceeding in every state.
#[test]
fn proceed_only_when_in_line_or_rested() {
    for state in StateName::ALL {
        let mut bench = Bench::soft_in(state);
        let job = stage(Stage::Soft);
        let before = bench.state(job);
        if state == StateName::Waiting {
            assert_eq!(bench.go(&Event::Proceed { job }), Err(Refusal::NotYet(job)));
            bench.wait_ms(2_000);
        }
        let answer = bench.go(&Event::Proceed { job });
        match state {
            StateName::Ready | StateName::Waiting => assert_eq!(bench.state(job), StateName::Running),
            _ => assert_eq!(answer, Err(Refusal::NotInState { job, state: before }), "{state}"),
        }
    }
}
