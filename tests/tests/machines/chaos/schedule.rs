//! Which fault comes when. All of it is drawn before anything begins; how long each takes is up to the machine.
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::fault::{Fault, Server};
use super::ground::INSTANCES;
use super::notes::{Notes, OverIfPanicking};
use super::site::Site;
use super::{COPIES, Size};

const TICK: Duration = Duration::from_millis(100);
/// Time between the beginnings of two faults, in milliseconds: in a short run, and in a long one.
const GAP_MS: [std::ops::Range<u64>; 2] = [500..1_500, 1_000..4_000];
/// So many faults for each time the database is put back to a copy.
const PER_PUT_BACK: usize = 200;
/// A run with fewer faults does not put it back.
const PUT_BACK_FROM: usize = 50;
/// Without which there is no installation.
const SERVERS: [Server; 2] = [Server::Broker, Server::Database];

/// What came of a run, by what it is counted under.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// How often each sort of fault came.
    pub faults: BTreeMap<String, usize>,
    /// How often a service ended that nobody had killed.
    pub ended: BTreeMap<String, usize>,
    /// How many pieces of answers were lost, by who had answered.
    pub answers: BTreeMap<String, usize>,
}

/// What there is that can break.
#[derive(Debug, Clone)]
pub struct Breakable {
    services: Vec<String>,
    /// Subsystems whose answers a proxy loses.
    ///
    /// They are not stalled: neither Kea nor the hooked services hold a fence, so what is done there rests upon calls that
    /// come to their server no later than their driver states.
    subsystems: Vec<Server>,
    /// Whether the broker is a cluster.
    cluster: bool,
    /// Whether one consumer has a network of its own.
    apart: bool,
}

impl Breakable {
    fn of(site: &Site<'_>) -> Self {
        Self {
            services: site.services.names().to_vec(),
            subsystems: site.ground.proxies().keys().copied().collect(),
            cluster: site.broker.is_cluster(),
            apart: site.network.is_some(),
        }
    }

    /// All that breaks in a long run, unless somebody has left some of it out.
    pub fn in_a_long_run() -> Self {
        let copies = COPIES.split(' ').map(|service| format!("{service}+2"));
        let single = ["coordinator", "scheduler"].into_iter().chain(INSTANCES).map(str::to_owned);
        Self {
            services: single.chain(copies).collect(),
            subsystems: vec![Server::Kea, Server::Hooks],
            cluster: true,
            apart: true,
        }
    }

    /// What a long run's faults are counted under.
    pub fn sorts(&self) -> BTreeSet<String> {
        self.every().iter().chain([&Fault::PutBack]).map(Fault::sort).collect()
    }

    /// Everything that can break, once.
    fn every(&self) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.services.iter().cloned().map(Fault::Killed).collect();
        faults.extend(self.services.iter().cloned().map(Fault::Stopped));
        faults.extend(self.servers());
        faults.extend(SERVERS.map(Fault::Stalled));
        faults
    }

    /// Each sort once. Of what is there several times, one.
    fn one_of_each(&self, random: &mut StdRng) -> Vec<Fault> {
        let (coordinators, mut consumers): (Vec<_>, Vec<_>) = self
            .services
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
        faults.extend(self.servers());
        faults.extend(SERVERS.choose(random).copied().map(Fault::Stalled));
        faults
    }

    /// What is there once.
    fn servers(&self) -> Vec<Fault> {
        let mut faults = vec![
            Fault::BrokerKilled,
            Fault::DatabaseKilled,
            Fault::Purged,
            Fault::QueuesFull,
            Fault::Flooded,
        ];
        if self.cluster {
            faults.push(Fault::LeaderKilled);
        }
        faults.extend(SERVERS.map(Fault::Cut));
        faults.extend(SERVERS.map(Fault::AnswersLost));
        faults.extend(self.subsystems.iter().copied().map(Fault::AnswersLost));
        if self.apart {
            faults.push(Fault::CutOff);
        }
        faults
    }

    /// One fault, as it comes: half of them meet a process.
    fn any(&self, random: &mut StdRng) -> Fault {
        let service = self.services.choose(random).unwrap().clone();
        match random.random_range(0..20) {
            0..9 => Fault::Killed(service),
            9..11 => Fault::Stopped(service),
            _ => {
                let mut rest = self.servers();
                rest.extend(SERVERS.map(Fault::Stalled));
                rest.choose(random).unwrap().clone()
            }
        }
    }
}

/// Break one thing after the other, and mend it, until so much was broken as is wanted, or all is over.
pub fn break_things(size: &Size, site: &mut Site<'_>, notes: &Notes) -> Tally {
    let _over = OverIfPanicking(notes);
    let mut random = StdRng::seed_from_u64(size.seed);
    let mut planned = draw(size, &Breakable::of(site), &mut random);
    let mut broken: Vec<(Fault, Instant)> = Vec::new();
    let mut tally = Tally::default();
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
                *tally.faults.entry(fault.sort()).or_default() += 1;
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
    tally.ended.clone_from(&site.services.ended);
    tally.answers = site.answers_lost();
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
fn draw(size: &Size, breakable: &Breakable, random: &mut StdRng) -> Vec<Fault> {
    let put_back = !size.short && size.faults >= PUT_BACK_FROM;
    let put_back = if put_back { (size.faults / PER_PUT_BACK).max(1) } else { 0 };
    let others = size.faults - put_back;
    let mut planned = if size.short { breakable.one_of_each(random) } else { breakable.every() };
    planned.shuffle(random);
    planned.truncate(others);
    while planned.len() < others {
        planned.push(breakable.any(random));
    }
    planned.shuffle(random);
    for nth in 1..=put_back {
        // Evenly, so that between two of them most of what is deleted is over.
        planned.insert(nth * size.faults / (put_back + 1), Fault::PutBack);
    }
    planned
}

#[test]
fn a_long_run_draws_each_sort_of_fault() {
    let size = Size { faults: 500, short: false, ..Size::of_a_test() };
    let breakable = Breakable::in_a_long_run();
    for seed in 0..20 {
        let drawn = draw(&size, &breakable, &mut StdRng::seed_from_u64(seed));
        assert_eq!(drawn.len(), 500);
        assert_eq!(drawn.iter().map(Fault::sort).collect::<BTreeSet<_>>(), breakable.sorts(), "{seed}");
        assert_eq!(drawn.iter().filter(|fault| **fault == Fault::PutBack).count(), 2);
    }
}
