//! What is stated is stated of what was looked at, and of nothing that stands there a moment later.
use std::collections::BTreeSet;

use super::super::{Event, Refusal, mark};
use super::kit::{Bench, actor, stage};
use super::notice::{acknowledge, come_back, given_up};
use crate::deletion::{Deletion, WaiverClaim};
use crate::id::DeletionId;
use crate::job::{JobKind, JobState, Stage, StateName};
use crate::step::{Mode, Outcome};

fn waive(claim: WaiverClaim) -> Event {
    Event::Waive { by: actor("ops"), claim, mark: String::new(), evidence: "seen".into() }
}

/// What is there has another mark than what was named: nothing is decided.
fn refused(bench: &mut Bench, events: &[Event]) {
    let (mark, before) = (bench.mark(), bench.deletion.clone());
    for event in events {
        assert_eq!(bench.go(event), Err(Refusal::OtherThings { mark: mark.clone() }), "{event:?}");
    }
    assert_eq!(bench.deletion, before);
}

/// I6: of two people who have looked at the same step one has it let pass, and the next one is parked at once. Its address is
/// not given away because the other one has seen that the machine is gone.
#[test]
fn a_waiver_is_about_the_step_that_was_looked_at_alone() {
    for claim in [WaiverClaim::Absent, WaiverClaim::MayRemain] {
        let mut bench = Bench::at(Stage::Hard, 0, Mode::Perform);
        bench.answer(Outcome::refused("not mine"));
        let late = bench.looked(waive(claim));
        bench.must(&bench.looked(waive(WaiverClaim::Absent)));
        assert_eq!(bench.state(stage(Stage::Hard)), StateName::Running, "the next one is ordered");
        bench.answer(Outcome::refused("not mine"));
        assert_eq!(bench.state(stage(Stage::Hard)), StateName::Parked);
        // Nor is anything let pass of which nobody says what he has looked at.
        refused(&mut bench, &[late, waive(claim)]);
        assert_eq!(bench.deletion.waivers.len(), 1);
        bench.must(&bench.looked(waive(claim)));
    }
}

/// Somebody has tried it again meanwhile, and it is parked for another reason.
#[test]
fn a_waiver_is_about_the_reason_that_was_looked_at_alone() {
    let mut bench = Bench::at(Stage::Purge, 0, Mode::Perform);
    bench.answer(Outcome::refused("no host defines it"));
    let late = bench.looked(waive(WaiverClaim::Absent));
    bench.must(&Event::Retry { by: actor("ops") });
    bench.answer(Outcome::refused("it is in use"));
    refused(&mut bench, std::slice::from_ref(&late));
    // Once it is parked for the same reason again, it is what was looked at.
    bench.must(&Event::Retry { by: actor("ops") });
    bench.answer(Outcome::refused("no host defines it"));
    bench.must(&late);
}

/// Whoever has called one of them has not called another, of whom it was said since that the notice came back.
#[test]
fn an_acknowledgement_is_about_those_that_were_looked_at_alone() {
    let mut back = come_back(true);
    let late = back.looked(acknowledge());
    let reason = "deputy@example.org: no such box".into();
    back.must(&Event::Bounced { by: actor("postmaster"), reason });
    refused(&mut back, &[late, acknowledge()]);
    back.must(&back.looked(acknowledge()));
    assert_eq!(mark(&back.deletion), None, "nobody is left");

    let mut untold = given_up(true);
    let late = untold.looked(acknowledge());
    untold.must(&Event::Retry { by: actor("ops") });
    untold.answer(Outcome::spared("the box of the deputy is full"));
    refused(&mut untold, &[late, acknowledge()]);
    untold.must(&untold.looked(acknowledge()));
}

#[test]
fn a_mark_is_of_one_record_one_stage_one_step_and_one_reason() {
    let parked = |which: Stage, cursor: u16, reason: &str| -> Deletion {
        let mut bench = Bench::new();
        let job = bench.deletion.jobs.iter_mut().find(|job| job.kind == JobKind::Stage(which)).unwrap();
        (job.cursor, job.state) = (cursor, JobState::Parked { reason: reason.to_owned() });
        bench.deletion
    };
    let one = parked(Stage::Hard, 0, "refused");
    let mut of_another = one.clone();
    of_another.id = DeletionId(2);
    let all = [
        one.clone(),
        of_another,
        parked(Stage::Purge, 0, "refused"),
        parked(Stage::Hard, 1, "refused"),
        parked(Stage::Hard, 0, "not seen to be gone"),
        come_back(true).deletion,
    ];
    let marks: BTreeSet<_> = all.iter().map(|deletion| mark(deletion).unwrap()).collect();
    assert_eq!(marks.len(), all.len(), "{marks:?}");
    assert_eq!(mark(&one), mark(&one.clone()));
    assert_eq!(mark(&Bench::new().deletion), None);
}
