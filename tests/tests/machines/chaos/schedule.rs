//! Which fault comes when. All of it is drawn before anything begins; how long each takes is up to the machine.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::Size;
use super::fault::{Fault, Server};
use super::notes::{Notes, OverIfPanicking};
use super::site::Site;

const TICK: Duration = Duration::from_millis(100);
/// Time between the beginnings of two faults, in milliseconds: in a short run, and in a long one.
const GAP_MS: [std::ops::Range<u64>; 2] = [500..1_500, 1_000..4_000];
/// So many faults for each time the database is put back to a copy.
const PER_PUT_BACK: usize = 200;
/// A run with fewer faults does not put it back.
const PUT_BACK_FROM: usize = 50;
const SERVERS: [Server; 2] = [Server::Broker, Server::Database];

/// Break one thing after the other, and mend it, until so much was broken as is wanted, or all is over. How often what.
pub fn break_things(size: &Size, site: &mut Site<'_>, notes: &Notes) -> BTreeMap<String, usize> {
    let _over = OverIfPanicking(notes);
    let mut random = StdRng::seed_from_u64(size.seed);
    let mut planned = draw(size, site, &mut random);
    let mut broken: Vec<(Fault, Instant)> = Vec::new();
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    let mut next = Instant::now();
    while !(notes.is_over() || planned.is_empty() && broken.is_empty()) {
        mend(site, &mut broken, notes, |until| until <= Instant::now());
        if Instant::now() >= next
            && broken.len() < size.at_once
            && let Some(fault) = take(&mut planned, &broken)
        {
            let lasts = fault.lasts(size.short, &mut random);
            notes.say(format!("{fault:?} for {} ms", lasts.as_millis()));
            if fault.begin(site) {
                notes.count_fault();
                notes.say(format!("that was fault {}", notes.faults()));
                *tally.entry(fault.sort()).or_default() += 1;
                broken.push((fault, Instant::now() + lasts));
            } else {
                notes.say("nothing came of it: it comes once more, behind all others");
                planned.insert(0, fault);
            }
            let [short, long] = GAP_MS;
            let gap = random.random_range(if size.short { short } else { long });
            next = Instant::now() + Duration::from_millis(gap);
        }
        site.services.supervise();
        std::thread::sleep(TICK);
    }
    mend(site, &mut broken, notes, |_| true);
    notes.say("nothing is broken any more");
    while !notes.is_over() {
        site.services.supervise();
        std::thread::sleep(TICK);
    }
    for (service, times) in &site.services.ended {
        *tally.entry(format!("{service} ended by itself")).or_default() += times;
    }
    tally
}

/// End what has lasted long enough. Before the database is put back everything else ends: those who have to accept that
/// have to be there.
fn mend(
    site: &mut Site<'_>,
    broken: &mut Vec<(Fault, Instant)>,
    notes: &Notes,
    lasted: impl Fn(Instant) -> bool,
) {
    let put_back = broken.iter().any(|(fault, until)| *fault == Fault::PutBack && lasted(*until));
    let (mut ending, going_on): (Vec<_>, Vec<_>) =
        std::mem::take(broken).into_iter().partition(|(_, until)| put_back || lasted(*until));
    *broken = going_on;
    ending.sort_by_key(|(fault, _)| *fault == Fault::PutBack);
    for (fault, _) in ending {
        fault.end(site);
        notes.say(format!("mended: {fault:?}"));
    }
}

/// The next one that touches nothing that is broken already.
fn take(planned: &mut Vec<Fault>, broken: &[(Fault, Instant)]) -> Option<Fault> {
    let whole = |next: &Fault| broken.iter().all(|(fault, _)| fault.touches() != next.touches());
    let at = planned.iter().rposition(whole)?;
    Some(planned.remove(at))
}

/// All faults, the last one first.
fn draw(size: &Size, site: &Site<'_>, random: &mut StdRng) -> Vec<Fault> {
    let mut planned = if size.short { one_of_each(site, random) } else { every(site) };
    planned.shuffle(random);
    planned.truncate(size.faults);
    while planned.len() < size.faults {
        planned.push(any(site, random));
    }
    planned.shuffle(random);
    if !size.short && size.faults >= PUT_BACK_FROM {
        let times = (size.faults / PER_PUT_BACK).max(1);
        for nth in 1..=times {
            // Evenly, so that between two of them most of what is deleted is over.
            planned[nth * size.faults / (times + 1)] = Fault::PutBack;
        }
    }
    planned
}

/// Each sort once. Of what is there several times, one.
fn one_of_each(site: &Site<'_>, random: &mut StdRng) -> Vec<Fault> {
    let services = site.services.names();
    let (coordinators, mut consumers): (Vec<_>, Vec<_>) = services
        .iter()
        .filter(|name| *name != "scheduler")
        .cloned()
        .partition(|name| name.starts_with("coordinator"));
    let mut faults: Vec<Fault> = coordinators.iter().cloned().map(Fault::Killed).collect();
    faults.push(Fault::Killed("scheduler".into()));
    consumers.shuffle(random);
    faults.extend(consumers.iter().take(2).cloned().map(Fault::Killed));
    faults.extend(consumers.last().cloned().map(Fault::Stopped));
    faults.extend(coordinators.choose(random).cloned().map(Fault::Stopped));
    faults.extend(servers(site));
    faults.extend(SERVERS.choose(random).copied().map(Fault::Stalled));
    faults
}

/// Everything that can break, once.
fn every(site: &Site<'_>) -> Vec<Fault> {
    let services = site.services.names();
    let mut faults: Vec<Fault> = services.iter().cloned().map(Fault::Killed).collect();
    faults.extend(services.iter().cloned().map(Fault::Stopped));
    faults.extend(servers(site));
    faults.extend(SERVERS.map(Fault::Stalled));
    faults
}

/// What is there once.
fn servers(site: &Site<'_>) -> Vec<Fault> {
    let mut faults =
        vec![Fault::BrokerKilled, Fault::DatabaseKilled, Fault::Purged, Fault::QueuesFull, Fault::Flooded];
    if site.broker.is_cluster() {
        faults.push(Fault::LeaderKilled);
    }
    faults.extend(SERVERS.map(Fault::Cut));
    faults.extend(SERVERS.map(Fault::AnswersLost));
    if site.network.is_some() {
        faults.push(Fault::CutOff);
    }
    faults
}

/// One fault, as it comes: half of them meet a process.
fn any(site: &Site<'_>, random: &mut StdRng) -> Fault {
    let services = site.services.names();
    let service = services.choose(random).unwrap().clone();
    match random.random_range(0..20) {
        0..9 => Fault::Killed(service),
        9..11 => Fault::Stopped(service),
        _ => {
            let mut rest = servers(site);
            rest.extend(SERVERS.map(Fault::Stalled));
            rest.choose(random).unwrap().clone()
        }
    }
}
