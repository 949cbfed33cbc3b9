//! How a script follows from its seed.
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sexton_model::job::Stage;

use super::{Covers, Fate, Happening, Item, KINDS, PLANS, Person, STORM_STEPS, Script, When, Wish};
use crate::simulation::allowed::{Allowed, SCOPES};
use crate::simulation::check::DAY_MS;
use crate::simulation::weather::{Trouble, Weather};
use crate::simulation::world::{COPIES, SUBSYSTEMS};

/// Processes of consumers.
const CONSUMERS: usize = COPIES * SUBSYSTEMS.len();
/// For so many days everything is down, if it is.
const DAYS_DOWN: (u64, u64) = (2, 11);
/// The process that carries out a request dies at one of so many moments: the last ones are behind the answer.
const MOMENTS: u32 = 9;
/// An approval has more of them: its members are looked at again behind the commit, and some of them begin.
const MOMENTS_OF_APPROVALS: u32 = 14;
/// In one of so many runs coordinators do what has no haste, too: whether they do is no matter of the dice, so that all others are as
/// they would be without.
const TENDS: u64 = 4;
/// A clock gains or loses so many millionths, at most.
const DRIFTS: i64 = 10_000;

impl Script {
    /// That of a seed.
    pub fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5EED);
        let allowed = match rng.random_range(0..6) {
            0 => Some(Allowed::draw(&mut rng, false)),
            1 | 2 => Some(Allowed::draw(&mut rng, true)),
            _ => None,
        };
        // Of the first kind alone a subsystem lists all.
        let counts = allowed.as_ref().is_some_and(|allowed| allowed.percent.is_some());
        let machines = match (rng.random_range(0..12), &allowed) {
            (0, _) => rng.random_range(5..=8),
            (_, Some(_)) => rng.random_range(2..=5),
            (_, None) => rng.random_range(1..=4),
        };
        let mut script = Self {
            seed,
            machines,
            kinds: if !counts && rng.random_range(0..4) == 0 { KINDS.len() } else { 1 },
            scopes: if allowed.is_some() { rng.random_range(1..=SCOPES.len()) } else { 1 },
            allowed,
            patience: rng.random_range(0..3),
            canaries: rng.random_range(0..3) == 0,
            tends: seed % TENDS == 2,
            weather: weather(&mut rng),
            items: Vec::new(),
        };
        let straight = script.allowed.is_none() && rng.random_range(0..2) == 0;
        let many = rng.random_range(6..=28);
        script.items = (0..many)
            .map(|_| {
                let when = match rng.random_range(0..3) {
                    0 => When::Step(rng.random_range(0..STORM_STEPS)),
                    _ => When::Decisions(rng.random_range(1..120)),
                };
                Item { when, what: happening(&mut rng, &script) }
            })
            .collect();
        if straight {
            script.items.retain(|item| !in_the_way(item.what));
        } else if rng.random_range(0..2) == 0 {
            script.items.push(pause_of_a_subsystem(&mut rng));
        } else {
            // At the last moment: whoever is asked may find that it is too late while they are at it.
            let some = (0..script.machines).filter(|_| rng.random_range(0..2) == 0);
            let late = some.map(|number| {
                let what = Happening::Request(Wish::Cancel, number, Fate::Answered);
                Item { when: When::HardDue(number), what }
            });
            script.items.extend(late.collect::<Vec<_>>());
        }
        // Something is to go in any case, early.
        let first = if script.allowed.is_some() || rng.random_range(0..4) == 0 {
            Happening::DeleteAll(requester(&mut rng), 0)
        } else {
            Happening::Delete(0, 0)
        };
        script.items.push(Item { when: When::Step(rng.random_range(0..200)), what: first });
        if counts {
            // Early, so that something is counted before much is due; and now and then.
            let early = When::Step(rng.random_range(0..600));
            script.items.push(Item { when: early, what: Happening::TakeCensus(0) });
            for _ in 0..rng.random_range(2..5) {
                let when = When::Step(rng.random_range(0..STORM_STEPS));
                let what = Happening::TakeCensus(rng.random_range(0..=script.scopes));
                script.items.push(Item { when, what });
            }
        }
        if script.allowed.is_some() {
            let looked = rng.random_range(300..STORM_STEPS / 2);
            let approved = looked + rng.random_range(1..1_500);
            script.items.push(Item { when: When::Step(looked), what: Happening::LookAtBatch });
            let what = approval(Person::Auditor, &mut rng);
            script.items.push(Item { when: When::Step(approved), what });
        }
        if !straight && rng.random_range(0..5) == 0 {
            let first = rng.random_range(1..60);
            let second = first + rng.random_range(1..40);
            script.items.push(Item { when: When::Decisions(first), what: Happening::Backup });
            script.items.push(Item { when: When::Decisions(second), what: Happening::RestoreBackup });
        }
        if rng.random_range(0..2) == 0 {
            let when = When::Decisions(rng.random_range(10..80));
            script.items.push(Item { when, what: Happening::Redeliver });
        }
        script.items = with_sleepers((seed, straight), script.items, &mut rng);
        if !straight {
            script.items.extend(with_a_lock(&mut rng));
        }
        script.items.extend(retries(script.machines, &mut rng));
        if straight || rng.random_range(0..8) == 0 {
            let recycled = |what: Happening| Item { when: When::Recycled(0), what };
            script.items.extend([recycled(Happening::Recreate(0)), recycled(Happening::Delete(0, 0))]);
        }
        script.items.extend(in_turn((seed, straight), &mut rng));
        draw_fates_of_approvals(&mut script.items, &mut rng);
        script
    }
}

/// What keeps the first machine from its end, or lets it wait there: in some runs nothing does, so that it is gone, and made anew,
/// while things still happen. Nor is the job table put back in these, for a person has to review it then, nor does anybody else use
/// the machine.
fn in_the_way(what: Happening) -> bool {
    let number = match what {
        Happening::Pause(_) | Happening::Request(Wish::Pause(_), ..) => return true,
        Happening::Request(Wish::Cancel | Wish::Hold, number, _)
        | Happening::Cancel(number)
        | Happening::Hold(number)
        | Happening::Protect(number, true)
        | Happening::Waive(number, _)
        | Happening::Recreate(number)
        | Happening::Start(number) => number,
        // Whoever answers one falsely has paused everything.
        Happening::AnswerCanary => return true,
        _ => return false,
    };
    number == 0
}

/// One subsystem, and nothing else: what stops more hides whether that does. People lift it a while after.
fn pause_of_a_subsystem(rng: &mut StdRng) -> Item {
    let subsystem = Some(SUBSYSTEMS[rng.random_range(0..SUBSYSTEMS.len())].0);
    let what = Happening::Pause(Covers { subsystem, ..Covers::EVERYTHING });
    Item { when: When::Decisions(rng.random_range(1..50)), what }
}

/// Of every second machine whose record waits for a person somebody has it tried again.
fn retries(machines: usize, rng: &mut StdRng) -> Vec<Item> {
    let some = (0..machines).filter(|_| rng.random_range(0..2) == 0);
    some.map(|number| Item { when: When::Parked(number), what: Happening::Retry(number) }).collect()
}

/// In four of five runs the machines of all consumers are suspended while something is in hand: while everything is paused, and
/// they hear of that when they wake up or do not; past the deadlines of what they have in hand; while the job table goes back
/// in time. Nothing is paused, nor put back, if nothing is to be in the way.
fn with_sleepers((seed, straight): (u64, bool), mut items: Vec<Item>, rng: &mut StdRng) -> Vec<Item> {
    let sleep = |when: When, for_ms: u64, deaf: bool| {
        let all = (0..CONSUMERS).map(move |number| Happening::Freeze(number, for_ms, true));
        // No beacon reaches them for a while after they have woken up.
        let all = all.chain(deaf.then_some(Happening::Deaf(for_ms + 30_000)));
        all.map(move |what| Item { when, what })
    };
    let at = rng.random_range(5..60);
    let when = When::Changing(at);
    let deaf = rng.random_range(0..4) == 0;
    match seed % 5 {
        sort @ (1 | 2) if !straight => {
            items.extend(sleep(when, rng.random_range(25_000..40_000), sort == 2));
            items.push(Item { when, what: Happening::Pause(Covers::EVERYTHING) });
            let resumed = When::Step(rng.random_range(3_000..STORM_STEPS));
            items.push(Item { when: resumed, what: Happening::Resume });
        }
        4 if !straight => {
            let goes_back =
                |items: &[Item]| items.iter().position(|item| item.what == Happening::RestoreBackup);
            let place = goes_back(&items).unwrap_or_else(|| {
                let copied = When::Decisions(at - rng.random_range(1..5));
                items.push(Item { when: copied, what: Happening::Backup });
                items.push(Item { when, what: Happening::RestoreBackup });
                items.len() - 1
            });
            if let When::Decisions(at) = items[place].when {
                items[place].when = When::Changing(at);
            }
            let (when, for_ms) = (items[place].when, rng.random_range(10_000..40_000));
            items.splice(place..place, sleep(when, for_ms, deaf));
        }
        // Longer than any lease but those of what takes long in purge.
        1..=4 => items.extend(sleep(when, rng.random_range(100_000..140_000), deaf)),
        _ => {}
    }
    items
}

/// In some runs somebody else uses the first machine. When it cannot be undefined a person says that it may remain; or has them
/// leave it, and it tried again; or they undefine it themselves, and a person says that it is gone.
fn with_a_lock(rng: &mut StdRng) -> Vec<Item> {
    if rng.random_range(0..4) != 0 {
        return Vec::new();
    }
    let when = When::Decisions(rng.random_range(1..20));
    let parked = |what: Happening| Item { when: When::Parked(0), what };
    let mut items = vec![Item { when, what: Happening::Lock(0, true) }];
    match rng.random_range(0..4) {
        0 => items.extend([parked(Happening::Lock(0, false)), parked(Happening::Retry(0))]),
        1 => items.extend([parked(Happening::Undefine(0)), parked(Happening::Waive(0, true))]),
        _ => items.push(parked(Happening::Waive(0, false))),
    }
    items
}

/// Of what is drawn seldom, and always comes when it is, each seed has one sort in turn: so it needs no luck to meet it. A job table
/// is not put back if nothing is to be in the way.
fn in_turn((seed, straight): (u64, bool), rng: &mut StdRng) -> Vec<Item> {
    let for_ms = rng.random_range(0..8_000);
    let what = match seed % 13 {
        0 => {
            let when = When::Step(rng.random_range(0..STORM_STEPS / 2));
            let (one, gains) = (rng.random_range(0..CONSUMERS), rng.random_range(-DRIFTS..DRIFTS));
            return vec![
                Item { when, what: Happening::Drift(rng.random_range(-DRIFTS..DRIFTS)) },
                Item { when, what: Happening::DriftConsumer(one, gains) },
            ];
        }
        1 => Happening::SetTime(rng.random_range(500..90_000), false),
        2 => Happening::SetTime(rng.random_range(-60_000..0), true),
        3 => Happening::Reopen(for_ms),
        4 => Happening::Purge,
        5 => Happening::Deaf(for_ms),
        6 => Happening::Down(rng.random_range(DAYS_DOWN.0..DAYS_DOWN.1) * DAY_MS),
        7 => Happening::SetClock(rng.random_range(0..CONSUMERS), rng.random_range(-12_000..12_000)),
        8 => Happening::Freeze(rng.random_range(0..CONSUMERS), for_ms, true),
        9 => Happening::Freeze(rng.random_range(0..CONSUMERS), for_ms, false),
        10 => Happening::ChangePlans(rng.random_range(1..PLANS)),
        11 => {
            // Two at any instant, and one while something is in hand.
            let at = [0, 1].map(|_| When::Step(rng.random_range(0..STORM_STEPS / 2)));
            let at = at.into_iter().chain([When::Changing(rng.random_range(1..40))]);
            return at.map(|when| Item { when, what: Happening::LoseAll }).collect();
        }
        _ if straight => return Vec::new(),
        _ => {
            let copied = rng.random_range(1..25);
            let back = When::Decisions(copied + rng.random_range(1..15));
            return vec![
                Item { when: When::Decisions(copied), what: Happening::Backup },
                Item { when: back, what: Happening::RestoreBackup },
            ];
        }
    };
    vec![Item { when: When::Step(rng.random_range(0..STORM_STEPS / 2)), what }]
}

/// What goes wrong by chance, with the most of it when it does now and then, and when it does often.
const CHANCES: [(Trouble, u32, u32); 11] = [
    (Trouble::Lose, 10, 100),
    (Trouble::Repeat, 20, 300),
    (Trouble::Delay, 20, 300),
    (Trouble::Unconfirmed, 10, 60),
    (Trouble::FailBefore, 20, 150),
    (Trouble::FailAfter, 60, 200),
    (Trouble::Lie, 60, 400),
    (Trouble::Stale, 20, 200),
    (Trouble::Unknown, 20, 400),
    (Trouble::Hang, 5, 40),
    (Trouble::Truncate, 300, 700),
];

/// Fair in some runs; else everything goes wrong now and then, and up to four things often: what needs two of them at once
/// would else hardly ever come.
fn weather(rng: &mut StdRng) -> Weather {
    let fair = rng.random_range(0..4) == 0;
    let often: Vec<usize> =
        (0..rng.random_range(0..=4)).map(|_| rng.random_range(0..CHANCES.len())).collect();
    let mut weather = Weather::FAIR.with(Trouble::Stop, rng.random_range(150..450));
    for (number, (trouble, seldom, most)) in CHANCES.into_iter().enumerate().filter(|_| !fair) {
        let most = if often.contains(&number) { most } else { seldom };
        weather = weather.with(trouble, rng.random_range(0..=most));
    }
    weather
}

fn happening(rng: &mut StdRng, script: &Script) -> Happening {
    if script.allowed.is_some() && rng.random_range(0..4) == 0 {
        return about_many(rng);
    }
    if rng.random_range(0..10) == 0 {
        return about_everything(rng, script.canaries);
    }
    let machine = rng.random_range(0..script.machines);
    let while_ms = if rng.random_range(0..4) == 0 { 200_000 } else { 8_000 };
    let for_ms = rng.random_range(0..while_ms);
    let what = match rng.random_range(0..100) {
        0..25 => Happening::Delete(machine, rng.random_range(0..20_000)),
        25..27 => Happening::DeleteAll(requester(rng), rng.random_range(0..20_000)),
        27..38 => Happening::Cancel(machine),
        38..43 => Happening::Hold(machine),
        43..49 => Happening::Release(machine),
        49..51 => Happening::Protect(machine, true),
        51..54 => Happening::Protect(machine, false),
        54..59 => Happening::Pause(covers(rng, script)),
        59..64 => Happening::Resume,
        64..69 => Happening::Retry(machine),
        69..71 => Happening::Waive(machine, rng.random_range(0..2) == 0),
        71..73 => Happening::Recreate(machine),
        73..75 => Happening::Start(machine),
        75..81 => Happening::KillCoordinator(rng.random_range(0..2), for_ms),
        81..88 => Happening::KillConsumer(rng.random_range(0..CONSUMERS), for_ms),
        88..94 => Happening::Freeze(rng.random_range(0..CONSUMERS), for_ms, rng.random_range(0..2) == 0),
        94..96 => Happening::SetClock(rng.random_range(0..CONSUMERS), rng.random_range(-12_000..12_000)),
        96 => Happening::Purge,
        97 => Happening::LoseAll,
        _ => Happening::Down(rng.random_range(DAYS_DOWN.0..DAYS_DOWN.1) * DAY_MS),
    };
    by_request(what, rng)
}

/// In a third of all cases people ask for it under a key, and may have to ask again.
fn by_request(what: Happening, rng: &mut StdRng) -> Happening {
    let (wish, machine) = match what {
        Happening::Delete(machine, in_ms) => (Wish::Delete(in_ms), machine),
        Happening::Cancel(machine) => (Wish::Cancel, machine),
        Happening::Hold(machine) => (Wish::Hold, machine),
        Happening::Pause(covers) => (Wish::Pause(covers), 0),
        Happening::Retry(machine) => (Wish::Retry, machine),
        _ => return what,
    };
    if rng.random_range(0..3) != 0 {
        return what;
    }
    Happening::Request(wish, machine, fate(MOMENTS, rng))
}

fn fate(moments: u32, rng: &mut StdRng) -> Fate {
    match rng.random_range(0..=moments) {
        0 => Fate::Answered,
        // Around the change: it is overtaken only if it was about to make it.
        _ if rng.random_range(0..3) == 0 => Fate::Stalls(rng.random_range(2..6)),
        moment => Fate::Dies(moment),
    }
}

/// In a third of all cases people ask for that under a key, too.
fn approval(by: Person, rng: &mut StdRng) -> Happening {
    if rng.random_range(0..3) == 0 {
        Happening::Request(Wish::Approve(by), 0, Fate::Answered)
    } else {
        Happening::Approve(by)
    }
}

/// What becomes of requests for an approval is drawn last: so nothing else of a seed is drawn otherwise because of it.
fn draw_fates_of_approvals(items: &mut [Item], rng: &mut StdRng) {
    for item in items {
        if let Happening::Request(Wish::Approve(_), _, becomes) = &mut item.what {
            *becomes = fate(MOMENTS_OF_APPROVALS, rng);
        }
    }
}

/// Everything in half of all cases; else what fits one or two of these.
fn covers(rng: &mut StdRng, script: &Script) -> Covers {
    let mut covers = Covers::EVERYTHING;
    if rng.random_range(0..2) == 0 {
        return covers;
    }
    for _ in 0..rng.random_range(1..=2) {
        match rng.random_range(0..4) {
            0 => covers.stage = Some(Stage::ALL[rng.random_range(0..Stage::ALL.len())]),
            1 => covers.kind = Some(KINDS[rng.random_range(0..script.kinds)]),
            2 => covers.scope = Some(SCOPES[rng.random_range(0..SCOPES.len())]),
            _ => covers.subsystem = Some(SUBSYSTEMS[rng.random_range(0..SUBSYSTEMS.len())].0),
        }
    }
    covers
}

/// What people do where many are to go.
fn about_many(rng: &mut StdRng) -> Happening {
    match rng.random_range(0..8) {
        0..3 => Happening::LookAtBatch,
        3..7 => {
            let by = match rng.random_range(0..5) {
                0 => requester(rng),
                _ => Person::Auditor,
            };
            approval(by, rng)
        }
        _ => Happening::DeleteAll(requester(rng), rng.random_range(0..20_000)),
    }
}

fn requester(rng: &mut StdRng) -> Person {
    if rng.random_range(0..2) == 0 { Person::Ops } else { Person::Dev }
}

/// What concerns no machine of its own.
fn about_everything(rng: &mut StdRng, canaries: bool) -> Happening {
    match rng.random_range(0..10) {
        0..4 => Happening::ChangePlans(rng.random_range(0..PLANS)),
        4..7 => {
            let ahead_ms = match rng.random_range(0..4) {
                0 => 0,
                1 => rng.random_range(-60_000..0),
                2 => rng.random_range(500..6_000),
                _ => rng.random_range(6_000..90_000),
            };
            Happening::SetTime(ahead_ms, rng.random_range(0..2) == 0)
        }
        7 => {
            let gains = rng.random_range(-DRIFTS..DRIFTS);
            match rng.random_range(0..=CONSUMERS) {
                CONSUMERS => Happening::Drift(gains),
                one => Happening::DriftConsumer(one, gains),
            }
        }
        8 if canaries => Happening::AnswerCanary,
        _ => Happening::Reopen(rng.random_range(0..20_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_some_runs_nothing_keeps_the_first_machine_from_its_end() {
        let stops = |item: &Item| match item.what {
            Happening::Backup | Happening::RestoreBackup | Happening::Lock(0, _) => true,
            what => {
                in_the_way(what)
                    && !(matches!(what, Happening::Recreate(0)) && item.when == When::Recycled(0))
            }
        };
        let straight = (1..400).map(Script::of).filter(|script| !script.items.iter().any(stops)).count();
        assert!(straight >= 70, "in {straight} of 400");
    }
}
