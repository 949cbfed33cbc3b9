//! The diagram against the function: an arrow too many or too few fails.
use std::collections::BTreeSet;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::super::{Capacity, Event};
use super::kit::{Bench, actor, cancel, pause, plan, stage};
use super::random::{event, ops, plans};
use crate::belts::PauseSelector;
use crate::deletion::WaiverClaim;
use crate::job::{JobState, Stage, StateName};
use crate::step::{Mode, Outcome};

/// From, to, by what.
type Arrow = (String, String, String);

const DIAGRAM: &str = include_str!("../states.mmd");

/// How many random histories are walked: each arrow is found many times over.
const WALKS: usize = 9_000;

fn drawn() -> BTreeSet<Arrow> {
    let mut arrows = BTreeSet::new();
    for line in DIAGRAM.lines().skip(1).map(str::trim).filter(|l| l.contains("-->")) {
        let (from, rest) = line.split_once(" --> ").expect("FROM --> TO");
        let (to, labels) = rest.split_once(" : ").unwrap_or((rest, ""));
        for label in labels.split(", ") {
            let new = arrows.insert((from.to_owned(), to.to_owned(), label.to_owned()));
            assert!(new, "drawn twice: {line}");
        }
    }
    arrows
}

fn word(event: &Event) -> &'static str {
    match event {
        Event::Claim { .. } => "claim",
        Event::Proceed { .. } => "proceed",
        Event::Recheck { .. } => "recheck",
        Event::Outcome { .. } => "outcome",
        Event::Progress { .. } => "progress",
        Event::LeaseOver { .. } => "lease over",
        Event::Cancel { .. } => "cancel",
        Event::PlaceHold { .. } => "place hold",
        Event::ReleaseHold { .. } => "release hold",
        Event::Park { .. } => "park",
        Event::Retry { .. } => "retry",
        Event::Waive { .. } => "waive",
        Event::Acknowledge { .. } => "acknowledge",
        Event::Bounced { .. } => "bounced",
        Event::Rescue { .. } => "rescue",
    }
}

/// What an event did to the jobs. A restore is new, a stage is drawn up with its record; what a stage's end
/// does to the next one has a label of its own.
fn seen(before: &Bench, after: &Bench, event: &Event, arrows: &mut BTreeSet<Arrow>) {
    for job in &after.deletion.jobs {
        let to = job.state.name().to_string();
        let arrow = match before.deletion.job(job.id) {
            None => ("[*]".to_owned(), to, "restore".to_owned()),
            Some(old) if old == job => continue,
            Some(old) => {
                let none = old.state == JobState::Scheduled { due_at: None };
                let next = none && job.state.name() == StateName::Scheduled;
                let label = if next { "predecessor done" } else { word(event) };
                (old.state.name().to_string(), to, label.to_owned())
            }
        };
        arrows.insert(arrow);
    }
}

/// A recycle with steps of its own, the last of them the coordinator's, for which it is in line. Something was waived
/// as "may remain" before.
fn recycle_in_line() -> Bench {
    let mut plan = plan();
    plan.stages[4].steps = plan.stages[3].steps[1..].to_vec();
    let mut bench = Bench::with(plan);
    for which in Stage::ALL {
        bench.claim(which);
        while bench.state(stage(which)) == StateName::Running {
            if (which, bench.out().step) == (Stage::Hard, 0) {
                bench.answer(Outcome::refused("not mine"));
                let (by, claim) = (actor("ops"), WaiverClaim::MayRemain);
                bench.must(&Event::Waive { by, claim, mark: bench.mark(), evidence: "seen".into() });
                continue;
            }
            if which == Stage::Recycle {
                bench.in_force.pauses = vec![pause(PauseSelector::default())];
            }
            bench.comply();
        }
    }
    bench.in_force.pauses.clear();
    assert_eq!(bench.state(stage(Stage::Recycle)), StateName::Ready);
    bench
}

fn walked() -> BTreeSet<Arrow> {
    let mut arrows = BTreeSet::new();
    arrows.insert(("[*]".into(), "scheduled".into(), "record made".into()));
    for state in StateName::ALL.into_iter().filter(|s| s.over()) {
        arrows.insert((state.to_string(), "[*]".into(), String::new()));
    }
    // Too rare for chance: a recycle that was stopped between two steps finds at its end that something may remain.
    let bench = recycle_in_line();
    let job = stage(Stage::Recycle);
    for event in [Event::Claim { job }, Event::Proceed { job }] {
        let mut after = bench.clone();
        after.must(&event);
        seen(&bench, &after, &event, &mut arrows);
    }
    let mut bench = bench;
    let by = || actor("ops");
    for event in [Event::Park { by: by(), reason: "look first".into() }, Event::Retry { by: by() }] {
        let before = bench.clone();
        bench.must(&event);
        seen(&before, &bench, &event, &mut arrows);
    }
    // Too rare for chance: a stage that was stopped before a last step of the coordinator's own is claimed anew.
    let mut bench = Bench::at(Stage::Purge, 1, Mode::Perform);
    bench.in_force.pauses = vec![pause(PauseSelector::default())];
    bench.comply();
    bench.in_force.pauses.clear();
    let (before, again) = (bench.clone(), Event::Claim { job: stage(Stage::Purge) });
    bench.must(&again);
    seen(&before, &bench, &again, &mut arrows);
    // Too rare for chance: what follows on a notice that a person's acknowledgement replaces.
    for (last, capacity) in [(true, Capacity::Free), (false, Capacity::Free), (false, Capacity::Full)] {
        let mut bench = super::notice::given_up(last);
        bench.capacity = capacity;
        let (before, told) = (bench.clone(), bench.looked(super::notice::acknowledge()));
        bench.must(&told);
        seen(&before, &bench, &told, &mut arrows);
    }
    for held in [true, false] {
        let mut bench = super::notice::come_back(held);
        let (before, told) = (bench.clone(), bench.looked(super::notice::acknowledge()));
        bench.must(&told);
        seen(&before, &bench, &told, &mut arrows);
    }
    // Too rare for chance: a restore that waits for the stages' last deadline is parked, and tried again before it.
    let mut bench = Bench::at(Stage::Soft, 0, Mode::Perform);
    bench.must(&cancel());
    bench.comply();
    for event in [Event::Park { by: by(), reason: "look first".into() }, Event::Retry { by: by() }] {
        let before = bench.clone();
        bench.must(&event);
        seen(&before, &bench, &event, &mut arrows);
    }
    let mut runner = TestRunner::deterministic();
    let histories = (plans(), ops());
    for _ in 0..WALKS {
        let (plan, ops) = histories.new_tree(&mut runner).expect("a history").current();
        let mut bench = Bench::with(plan);
        for op in &ops {
            let Some(event) = event(&mut bench, op) else { continue };
            let before = bench.clone();
            if bench.go(&event).is_ok() {
                seen(&before, &bench, &event, &mut arrows);
            }
        }
    }
    arrows
}

#[test]
fn the_diagram_is_what_the_function_does() {
    let (drawn, walked) = (drawn(), walked());
    let show = |a: &BTreeSet<Arrow>, b: &BTreeSet<Arrow>| {
        a.difference(b).map(|(from, to, by)| format!("\n    {from} --> {to} : {by}")).collect::<String>()
    };
    let (missing, superfluous) = (show(&walked, &drawn), show(&drawn, &walked));
    assert!(
        missing.is_empty() && superfluous.is_empty(),
        "not drawn, but done: {missing}\ndrawn, but never done: {superfluous}"
    );
}

#[test]
fn every_state_is_drawn_by_its_name() {
    for (from, to, _) in drawn() {
        for name in [from, to].iter().filter(|n| *n != "[*]") {
            assert!(StateName::ALL.iter().any(|s| s.word() == name), "{name} is no state");
        }
    }
}
