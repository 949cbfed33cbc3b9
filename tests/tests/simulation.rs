//! Some seeds of the simulator, so that every change meets them; `scripts/simulate` plays more.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use sexton_model::deletion::RecordStatus;
use sexton_model::job::Stage;
use sexton_tests::simulation::allowed::Allowed;
use sexton_tests::simulation::script::{Covers, Fate, Happening, Item, Person, Script, When, Wish};
use sexton_tests::simulation::weather::{Trouble, Weather};
use sexton_tests::simulation::{PANIC, Played, play, shrink, tally, template};

/// Seeds of any sort; each takes a second or two.
const SEEDS: u64 = 24;
/// Seeds of one test about one sort of them.
const SORTED: usize = 6;
/// What fails is made shorter for so long, which leaves time to tell what is left of it.
const SHRINKING: Duration = Duration::from_secs(180);
/// Seeds that are played at once.
const AT_ONCE: usize = 2;

fn holds(script: &Script, template: &Path) -> Played {
    let played = play(script, Some(template));
    if played.violation.is_some() {
        let (least, played) = shrink(script, Some(template), SHRINKING);
        let history = played.history.join("\n");
        let again = |script: &Script| script.again().unwrap_or("in this test alone".to_owned());
        let (whole, again) = (again(script), again(&least));
        let violation = played.violation.map_or("not again".to_owned(), |violation| violation.to_string());
        panic!("{least}{history}\nVIOLATED {violation}\nagain: {again}\nwhole: {whole}");
    }
    played
}

/// The invariants hold in these runs.
fn all_hold(scripts: impl IntoIterator<Item = Script>) -> Vec<Played> {
    let folder = tempfile::tempdir().unwrap();
    let template = template(folder.path());
    let scripts = Mutex::new(scripts.into_iter().collect::<Vec<_>>().into_iter());
    let next = || scripts.lock().unwrap().next();
    let some = || {
        let mut played = Vec::new();
        while let Some(script) = next() {
            played.push(holds(&script, &template));
        }
        played
    };
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(some)).collect();
        players.into_iter().flat_map(|player| player.join().unwrap()).collect()
    })
}

/// Each of these has happened in one of these runs.
fn came(played: &[Played], all: impl Iterator<Item = &'static str>) {
    let many = |what: &str| played.iter().filter_map(|one| one.happened.get(what)).sum::<u64>();
    let never: Vec<&str> = all.filter(|&what| many(what) == 0).collect();
    assert!(never.is_empty(), "never came: {never:?}");
}

#[test]
fn the_invariants_hold_in_the_first_seeds_and_every_trouble_comes() {
    let played = all_hold((1..=SEEDS).map(Script::of));
    let mut ended: BTreeMap<RecordStatus, u64> = BTreeMap::new();
    for (status, many) in played.iter().flat_map(|one| &one.ended) {
        *ended.entry(*status).or_default() += many;
    }
    let many = |status| ended.get(&status).copied().unwrap_or_default();
    assert!(many(RecordStatus::Recycled) >= SEEDS / 4, "hardly anything was deleted: {ended:?}");
    assert!(many(RecordStatus::Cancelled) >= SEEDS / 6, "hardly anything was cancelled: {ended:?}");
    came(&played, tally::usual());
}

/// The first seeds of this sort, behind those that are played in any case.
fn first(many: usize, sort: impl Fn(&Script) -> bool) -> impl Iterator<Item = Script> {
    (1 + SEEDS..).map(Script::of).filter(sort).take(many)
}

#[test]
fn over_a_budget_nothing_begins_before_somebody_approves_it() {
    let played = all_hold(first(SORTED, |script| script.allowed.is_some() && !script.counts()));
    let frozen: u64 = played.iter().map(|one| one.frozen).sum();
    let approved: u64 = played.iter().map(|one| one.approved).sum();
    assert!(frozen > 0 && approved > 0, "{frozen} batches were frozen, {approved} approved");
    came(&played, tally::with_budgets());
}

#[test]
fn what_is_not_the_truth_opens_no_budget() {
    let played = all_hold(first(SORTED, Script::counts));
    came(&played, tally::with_censuses());
}

#[test]
fn no_canary_is_accepted() {
    let played = all_hold(first(SORTED, |script| script.canaries));
    let held: u64 = played.iter().map(|one| one.canaries).sum();
    assert!(held > 0, "none was answered");
}

/// One machine in fair weather, and this.
fn made(items: &[(When, Happening)]) -> Script {
    let items = items.iter().map(|&(when, what)| Item { when, what });
    Script {
        machines: 1,
        kinds: 1,
        scopes: 1,
        allowed: None,
        canaries: items.clone().any(|item| item.what == Happening::AnswerCanary),
        weather: Weather::FAIR.with(Trouble::Stop, 300),
        items: items.collect(),
        ..Script::of(1)
    }
}

#[test]
fn what_has_no_haste_is_done_beside_everything_else() {
    let asked = (When::Step(0), Happening::Request(Wish::Delete(0), 0, Fate::Dies(5)));
    // Before somebody has counted nothing begins, and nobody asks for that.
    let allowed = Allowed { percent: Some(60), ..one_of(vec![Stage::Hard]) };
    let fair = Script { tends: true, machines: 2, allowed: Some(allowed), ..made(&[asked]) };
    let played = all_hold(std::iter::once(fair).chain(first(2, |script| script.tends)));
    came(&played, tally::tending());
}

/// One machine of each scope may begin these stages within a day, and two of all.
fn one_of(stages: Vec<Stage>) -> Allowed {
    Allowed { each: 1, everywhere: 2, days: 1, stages, scopes: Vec::new(), percent: None }
}

#[test]
fn what_takes_something_else_before_it_comes_in_runs_that_were_made_for_it() {
    let begin = (When::Step(0), Happening::Delete(0, 0));
    let used = (When::Decisions(5), Happening::Lock(0, true));
    let (parked, recycled) = (When::Parked(0), When::Recycled(0));
    // Longer than any lease but those of what takes long in purge; one half of the machines that consumers run on sleep.
    let stopped = (0..14).map(|n| (When::InHand(n), Happening::Freeze(n, 110_000, n % 2 == 0)));
    let all = (When::Step(0), Happening::DeleteAll(Person::Ops, 0));
    let stopped: Vec<_> = [all].into_iter().chain(stopped).collect();
    let emptied: Vec<_> = (10..50).map(|n| (When::Step(n * 17), Happening::Purge)).collect();
    let one = Covers { subsystem: Some("notifier"), ..Covers::EVERYTHING };
    let pauses = [
        (When::Step(100), Happening::Pause(Covers::EVERYTHING)),
        // It is lifted before that of everything, which stands all the same.
        (When::Step(120), Happening::Pause(one)),
        (When::Step(2_000), Happening::Resume),
    ];
    let lost: Vec<_> = (10..50).map(|n| (When::Step(n * 17), Happening::LoseAll)).collect();
    // Where one may begin three are due, and announcing is not counted: they would all begin once that is lifted. Before long they
    // would be a backlog, which is counted.
    let crowd =
        [all, (When::Step(0), Happening::Pause(Covers::EVERYTHING)), (When::Step(400), Happening::Resume)];
    let played = all_hold([
        made(&[begin, (When::Step(100), Happening::Hold(0)), (When::Step(900), Happening::Release(0))]),
        made(&[begin, used, (parked, Happening::Waive(0, false))]),
        made(&[begin, used, (parked, Happening::Lock(0, false)), (parked, Happening::Retry(0))]),
        made(&[begin, used, (parked, Happening::Undefine(0)), (parked, Happening::Waive(0, true))]),
        made(&[begin, (recycled, Happening::Recreate(0)), (recycled, Happening::Delete(0, 0))]),
        made(&[1_500, 2_500, 3_500].map(|step| (When::Step(step), Happening::AnswerCanary))),
        made(&[&[begin][..], &pauses].concat()),
        made(&[&[begin][..], &emptied].concat()),
        made(&[&[begin][..], &lost].concat()),
        Script { machines: 4, ..made(&stopped) },
        Script { machines: 3, allowed: Some(one_of(vec![Stage::Hard])), ..made(&crowd) },
    ]);
    came(&played, tally::seldom());
}

#[test]
fn a_request_whose_process_dies_at_any_moment_is_done_once() {
    let asked = |fate: Fate| {
        let ask = |step: u64, wish: Wish| (When::Step(step), Happening::Request(wish, 0, fate));
        let pause = Wish::Pause(Covers { subsystem: Some("notifier"), ..Covers::EVERYTHING });
        made(&[ask(0, Wish::Delete(0)), ask(300, Wish::Hold), ask(600, pause), ask(1_500, Wish::Cancel)])
    };
    let fates = [Fate::Answered].into_iter().chain((1..=9).map(Fate::Dies));
    let begin = (When::Step(0), Happening::Delete(0, 0));
    // Whoever is taken for dead at any of these moments goes on when another attempt was answered. The machine is to go already, for
    // its record would come too late for a hold; in runs of its own, what makes the record stalls.
    let slow = |moment: u32| {
        let ask =
            |step: u64, wish: Wish| (When::Step(step), Happening::Request(wish, 0, Fate::Stalls(moment)));
        let resume = (When::Step(3_000), Happening::Resume);
        made(&[begin, ask(100, Wish::Hold), ask(150, Wish::Pause(Covers::EVERYTHING)), resume])
    };
    let slowly_made =
        |moment: u32| made(&[(When::Step(0), Happening::Request(Wish::Delete(0), 0, Fate::Stalls(moment)))]);
    let late = (When::HardDue(0), Happening::Request(Wish::Cancel, 0, Fate::Answered));
    let (used, parked) = ((When::Decisions(5), Happening::Lock(0, true)), When::Parked(0));
    let again = Happening::Request(Wish::Retry, 0, Fate::Answered);
    let others =
        [made(&[begin, late]), made(&[begin, used, (parked, Happening::Lock(0, false)), (parked, again)])];
    let slow = (2..=6).map(slow).chain((2..=5).map(slowly_made));
    let played = all_hold(fates.map(asked).chain(slow).chain(others));
    came(&played, tally::requests().chain([tally::DIED_MIDWAY, tally::ASKED_AGAIN]));
}

#[test]
fn an_approval_whose_process_dies_at_any_moment_is_given_once() {
    // Of machines that are due together one may begin, so a batch of them waits before each stage that is counted. Somebody looks
    // now and then, and asks for an approval of what they saw, also of what waits no more.
    let asked = |fates: [Fate; 2]| {
        let ask = |(n, fate): (u64, Fate)| {
            let asks = Happening::Request(Wish::Approve(Person::Auditor), 0, fate);
            [(When::Step(n * 300), Happening::LookAtBatch), (When::Step(n * 300 + 1), asks)]
        };
        let all = (When::Step(0), Happening::DeleteAll(Person::Ops, 0));
        let asks = (1..=8).zip(fates.into_iter().cycle()).flat_map(ask);
        let items: Vec<_> = [all].into_iter().chain(asks).collect();
        let allowed = one_of(vec![Stage::Announce, Stage::Hard, Stage::Purge]);
        Script { machines: 3, allowed: Some(allowed), ..made(&items) }
    };
    let dies = (1..=7).map(|moment| [moment, moment + 7].map(Fate::Dies));
    let stalls = (2..=3).map(|moment| [moment, moment + 2].map(Fate::Stalls));
    let played = all_hold(dies.chain(stalls).map(asked));
    came(&played, tally::approvals());
}

#[test]
fn a_seed_plays_the_same_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let template = template(folder.path());
    // Of any sort; with canaries; with budgets and censuses; with all of them; with what has no haste.
    let canaries = first(1, |script| script.canaries && script.allowed.is_none());
    let counted = first(1, |script| script.counts() && !script.canaries);
    let both = first(1, |script| script.counts() && script.canaries);
    let tending = first(1, |script| script.tends && script.counts());
    let sorted = canaries.chain(counted).chain(both).chain(tending);
    for script in std::iter::once(Script::of(3)).chain(sorted) {
        let [one, other] = [0, 1].map(|_| play(&script, Some(&template)));
        for (line, again) in one.history.iter().zip(&other.history) {
            assert_eq!(line, again, "seed {}", script.seed);
        }
        tells_what_chance_did(&one);
        let sizes = |played: &Played| (played.steps, played.history.len());
        assert_eq!((sizes(&one), &one.happened), (sizes(&other), &other.happened), "seed {}", script.seed);
    }
}

/// All that went wrong by chance is in the history, as often as it did. Who was stopped where is not: it lets others go first.
fn tells_what_chance_did(played: &Played) {
    for trouble in Trouble::ALL.into_iter().filter(|trouble| *trouble != Trouble::Stop) {
        let begins = format!("{}: ", trouble.word());
        let tells = |line: &&String| line.split_once(": ").is_some_and(|(_, what)| what.starts_with(&begins));
        let told = played.history.iter().filter(tells).count() as u64;
        let came = played.happened.get(trouble.word()).copied().unwrap_or_default();
        assert_eq!(told, came, "{trouble:?}");
    }
}

#[test]
fn of_what_fails_only_what_makes_it_fail_is_left_and_fails_the_same_way_again() {
    let folder = tempfile::tempdir().unwrap();
    let template = template(folder.path());
    // There is no such consumer: whatever else happens, the run panics then.
    let wrong = (When::Step(100), Happening::KillConsumer(usize::MAX, 0));
    let script = Script {
        machines: 3,
        weather: Weather::FAIR.with(Trouble::Stop, 300).with(Trouble::Delay, 100),
        ..made(&[
            (When::Step(0), Happening::DeleteAll(Person::Ops, 0)),
            (When::Step(30), Happening::Hold(0)),
            wrong,
            (When::Step(60), Happening::Pause(Covers::EVERYTHING)),
            (When::Step(90), Happening::Resume),
        ])
    };
    let (least, played) = shrink(&script, Some(&template), 5 * SHRINKING);
    assert_eq!(played.violation.as_ref().map(|violation| violation.invariant), Some(PANIC));
    assert_eq!(least, Script { weather: Weather::FAIR, ..made(&[wrong]) }, "of {script}");
    let again = play(&least, Some(&template));
    assert_eq!((&played.history, played.violation), (&again.history, again.violation));
}
