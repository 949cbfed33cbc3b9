//! Which fault comes when. All of it is drawn before anything begins, but for what comes instead of what came to nothing; how
//! long each takes is up to the machine.
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
/// So often a fault comes to nothing before another one comes instead: what it needs may not be there at the end of a run.
const IN_VAIN_MOST: usize = 2;
/// Without which there is no installation.
const SERVERS: [Server; 2] = [Server::Broker, Server::Database];

/// What came of a run, by what it is counted under.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// How often each sort of fault came.
    pub faults: BTreeMap<String, usize>,
    /// How often one of each sort came to nothing.
    pub in_vain: BTreeMap<String, usize>,
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
        faults.extend(self.consumers().into_iter().map(Fault::QueuesFull));
        faults
    }

    /// The processes of each consumer.
    fn consumers(&self) -> Vec<Vec<String>> {
        let mut consumers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        // Of all services they alone are called after an instance.
        for service in self.services.iter().filter(|service| service.contains('.')) {
            let instance = service.split_once('+').map_or(service.as_str(), |(instance, _)| instance);
            consumers.entry(instance).or_default().push(service.clone());
        }
        consumers.into_values().collect()
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
        faults.extend(self.consumers().choose(random).cloned().map(Fault::QueuesFull));
        faults
    }

    /// What is there once.
    fn servers(&self) -> Vec<Fault> {
        let mut faults = vec![Fault::BrokerKilled, Fault::DatabaseKilled, Fault::Purged, Fault::Flooded];
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

    /// Nearly always something comes of it.
    fn kill(&self, random: &mut StdRng) -> Fault {
        Fault::Killed(self.services.choose(random).unwrap().clone())
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
                rest.extend(self.consumers().choose(random).cloned().map(Fault::QueuesFull));
                rest.choose(random).unwrap().clone()
            }
        }
    }
}

/// A fault that is to come.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planned {
    fault: Fault,
    /// How often it, or what it comes instead of, came to nothing.
    in_vain: usize,
}

impl Planned {
    fn new(fault: Fault) -> Self {
        Self { fault, in_vain: 0 }
    }

    /// What comes instead, since it came to nothing: the same once more, or a kill.
    fn instead(&self, breakable: &Breakable, random: &mut StdRng) -> Self {
        let in_vain = self.in_vain + 1;
        let fault = if in_vain < IN_VAIN_MOST { self.fault.clone() } else { breakable.kill(random) };
        Self { fault, in_vain }
    }
}

/// A fault that has begun.
struct Broken {
    planned: Planned,
    until: Instant,
    /// The traces that there were before, if it is by them that it counts.
    before: Option<usize>,
}

/// What is still to come, and what came of the rest.
struct Course {
    breakable: Breakable,
    random: StdRng,
    /// The last one first.
    planned: Vec<Planned>,
    tally: Tally,
}

impl Course {
    fn draw(size: &Size, breakable: Breakable) -> Self {
        let mut random = StdRng::seed_from_u64(size.seed);
        let drawn = draw(size, &breakable, &mut random);
        let planned = drawn.into_iter().map(Planned::new).collect();
        Self { breakable, random, planned, tally: Tally::default() }
    }

    /// Count it if something came of it, else plan what comes instead.
    fn settle(&mut self, planned: &Planned, came: bool, notes: &Notes) {
        let sort = planned.fault.sort();
        if came {
            notes.count_fault();
            notes.say(format!("that was fault {}: {sort}", notes.faults()));
            *self.tally.faults.entry(sort).or_default() += 1;
            return;
        }
        let instead = planned.instead(&self.breakable, &mut self.random);
        notes.say(format!("nothing came of it: {sort}; behind all others comes {:?}", instead.fault));
        *self.tally.in_vain.entry(sort).or_default() += 1;
        self.planned.insert(0, instead);
    }
}

/// Break one thing after the other, and mend it, until so much was broken as is wanted, or all is over.
pub fn break_things(size: &Size, site: &mut Site<'_>, notes: &Notes) -> Tally {
    let _over = OverIfPanicking(notes);
    let mut course = Course::draw(size, Breakable::of(site));
    let mut broken: Vec<Broken> = Vec::new();
    let mut next = Instant::now();
    while !(notes.is_over() || course.planned.is_empty() && broken.is_empty()) {
        for (planned, came) in mend(site, &mut broken, notes, |until| until <= Instant::now()) {
            course.settle(&planned, came, notes);
        }
        if Instant::now() >= next
            && broken.len() < size.at_once
            && let Some(planned) = take(&mut course.planned, &broken)
        {
            let lasts = planned.fault.lasts(size.short, &mut course.random);
            notes.say(format!("{:?} for {} ms", planned.fault, lasts.as_millis()));
            let before = planned.fault.traces(site);
            let began = planned.fault.begin(site);
            if !began || before.is_none() {
                course.settle(&planned, began, notes);
            }
            if began {
                broken.push(Broken { planned, until: Instant::now() + lasts, before });
            }
            let [short, long] = GAP_MS;
            let gap = course.random.random_range(if size.short { short } else { long });
            next = Instant::now() + Duration::from_millis(gap);
        }
        site.services.supervise();
        std::thread::sleep(TICK);
    }
    for (planned, came) in mend(site, &mut broken, notes, |_| true) {
        course.settle(&planned, came, notes);
    }
    notes.say("nothing is broken any more");
    while !notes.is_over() {
        site.services.supervise();
        std::thread::sleep(TICK);
    }
    let mut tally = course.tally;
    tally.ended.clone_from(&site.services.ended);
    tally.answers = site.answers_lost();
    tally
}

/// End what has lasted long enough. Before the database is put back everything else ends: those who have to accept that
/// have to be there. Of which it is known only now: whether something came of it.
fn mend(
    site: &mut Site<'_>,
    broken: &mut Vec<Broken>,
    notes: &Notes,
    lasted: impl Fn(Instant) -> bool,
) -> Vec<(Planned, bool)> {
    let back = |one: &Broken| one.planned.fault == Fault::PutBack;
    let put_back = broken.iter().any(|one| back(one) && lasted(one.until));
    let (mut ending, going_on): (Vec<_>, Vec<_>) =
        std::mem::take(broken).into_iter().partition(|one| put_back || lasted(one.until));
    *broken = going_on;
    ending.sort_by_key(back);
    let mut known = Vec::new();
    for ended in ending {
        if !ended.planned.fault.end(site) {
            notes.say(format!("cannot be mended yet: {:?}", ended.planned.fault));
            broken.push(ended);
            continue;
        }
        notes.say(format!("mended: {:?}", ended.planned.fault));
        if let (Some(before), Some(after)) = (ended.before, ended.planned.fault.traces(site)) {
            notes.say(format!("its traces: {}", after.saturating_sub(before)));
            known.push((ended.planned, after > before));
        }
    }
    known
}

/// The next one that touches nothing that is broken already.
fn take(planned: &mut Vec<Planned>, broken: &[Broken]) -> Option<Planned> {
    let touched: BTreeSet<&str> = broken.iter().flat_map(|one| one.planned.fault.touches()).collect();
    let whole = |next: &Planned| next.fault.touches().iter().all(|what| !touched.contains(what));
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

#[test]
fn a_queue_that_is_full_has_nobody_who_takes_from_it() {
    let breakable = Breakable::in_a_long_run();
    let both = ["hypervisor.main", "hypervisor.main+2"].map(str::to_owned);
    let consumers = breakable.consumers();
    assert_eq!(consumers.len(), INSTANCES.len(), "{consumers:?}");
    assert_eq!(consumers.iter().filter(|one| one.contains(&both[0])).collect::<Vec<_>>(), [&both]);
    let drawn = breakable.one_of_each(&mut StdRng::seed_from_u64(1));
    assert_eq!(drawn.iter().filter(|fault| matches!(fault, Fault::QueuesFull(_))).count(), 1, "{drawn:?}");

    // Of either of its processes nothing else breaks meanwhile, nor of the broker.
    let full = Fault::QueuesFull(both.to_vec());
    let broken = [Broken { planned: Planned::new(full.clone()), until: Instant::now(), before: None }];
    let [first, second] = both;
    let waits = [Fault::Killed(first), Fault::Stopped(second), Fault::Purged];
    let mut planned: Vec<Planned> = waits.into_iter().map(Planned::new).collect();
    assert_eq!(take(&mut planned, &broken), None);
    planned.push(Planned::new(Fault::Killed("dns.main".into())));
    assert_eq!(take(&mut planned, &broken), Some(Planned::new(Fault::Killed("dns.main".into()))));
}

#[test]
fn what_came_to_nothing_comes_once_more_and_then_a_kill_instead() {
    let mut course = Course::draw(&Size { faults: 1, ..Size::of_a_test() }, Breakable::in_a_long_run());
    let notes = Notes::begin(None);
    let purged = Planned::new(Fault::Purged);
    course.settle(&purged, false, &notes);
    // Behind the one that was drawn.
    let again = course.planned.remove(0);
    assert_eq!(again, Planned { fault: Fault::Purged, in_vain: 1 });
    course.settle(&again, false, &notes);
    let instead = course.planned.remove(0);
    assert!(matches!(instead.fault, Fault::Killed(_)), "{instead:?}");
    assert_eq!((notes.faults(), course.tally.faults.len()), (0, 0), "nothing came of either");
    assert_eq!(course.tally.in_vain, BTreeMap::from([(Fault::Purged.sort(), 2)]));
    course.settle(&instead, true, &notes);
    assert_eq!((notes.faults(), course.planned.len()), (1, 1));
}
