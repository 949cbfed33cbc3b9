//! What breaks while the machines are deleted.
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use sexton_api::DeletionInfo;
use sexton_model::Timestamp;
use sexton_model::job::{JobKind, Stage, StateName};

use crate::installation::Installation;

/// Time between two faults.
const GAP_MS: std::ops::Range<u64> = 4_000..10_000;
/// How often the coordinator and the consumer die at least, while there is something for them to do.
const TIMES: usize = 3;
const COORDINATOR: &str = "coordinator";
const CONSUMER: &str = "hypervisor.main";
const BROKER: &str = "rabbitmq";

/// Who was killed.
#[derive(Debug, Clone, Copy)]
pub struct Killed {
    pub who: &'static str,
    /// It was dead by then.
    at: Timestamp,
}

/// Kill one after the other, until nobody holds the other end of `over`.
pub fn kill_things(seed: u64, installation: &Installation, over: &Receiver<()>) -> Vec<Killed> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut planned = drawn(&mut random).into_iter();
    let mut killed = Vec::new();
    loop {
        let gap = Duration::from_millis(random.random_range(GAP_MS));
        if over.recv_timeout(gap) == Err(RecvTimeoutError::Disconnected) {
            return killed;
        }
        let more = [COORDINATOR, CONSUMER];
        let who = planned.next().unwrap_or_else(|| more.choose(&mut random).copied().unwrap());
        match who {
            BROKER => installation.kill_server(BROKER),
            service => installation.kill(service),
        }
        killed.push(Killed { who, at: Timestamp::from(SystemTime::now()) });
        match who {
            BROKER => installation.start_server(BROKER),
            service => installation.start_again(service, ""),
        }
    }
}

/// In which order they die that have to. Whatever is drawn, each has something to do then. The broker is among the first
/// three, and no purge is over before 35 s have passed. The consumer is three times among the first six, and a machine
/// that was being stopped when it was cancelled (`cancels`) is brought back a minute later. Until a record is recycled
/// almost two minutes pass.
fn drawn(random: &mut StdRng) -> Vec<&'static str> {
    let mut first = [BROKER, COORDINATOR, CONSUMER];
    let mut then = [COORDINATOR, CONSUMER, CONSUMER];
    first.shuffle(random);
    then.shuffle(random);
    [&first[..], &then[..], &[COORDINATOR][..]].concat()
}

/// When there was nothing left to do.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// The last purge was over.
    purges: Timestamp,
    /// The last step of all was done, of a purge or of a restore.
    steps: Timestamp,
    /// The last record was over.
    records: Timestamp,
}

impl Ends {
    /// Of these records, which are over.
    pub fn of(records: &[DeletionInfo]) -> Self {
        let last = |kinds: &[JobKind]| {
            let jobs = records.iter().flat_map(|record| &record.jobs);
            // A stage that was cancelled has an end as well.
            let done = jobs.filter(|job| job.state == StateName::Done && kinds.contains(&job.job));
            done.filter_map(|job| job.ended_at).max().unwrap_or_default()
        };
        let [purge, recycle] = [Stage::Purge, Stage::Recycle].map(JobKind::Stage);
        Self {
            purges: last(&[purge]),
            steps: last(&[purge, JobKind::Restore]),
            records: last(&[recycle, JobKind::Restore]),
        }
    }
}

/// A line for each that was not killed as often as was promised while there was something for it to do.
pub fn missed(killed: &[Killed], ends: Ends) -> Vec<String> {
    let promised =
        [(BROKER, 1, ends.purges), (CONSUMER, TIMES, ends.steps), (COORDINATOR, TIMES, ends.records)];
    let missed = promised.into_iter().filter_map(|(who, times, until)| {
        let found = killed.iter().filter(|one| one.who == who && one.at < until).count();
        (found < times)
            .then(|| format!("{who} was killed {found} times before {until}, not {times}: {killed:?}"))
    });
    missed.collect()
}

#[test]
fn whoever_dies_when_there_is_nothing_left_to_do_does_not_count() {
    let ends = Ends { purges: Timestamp(10), steps: Timestamp(20), records: Timestamp(30) };
    let at = |who: &'static str, moments: &[i64]| -> Vec<Killed> {
        moments.iter().map(|at| Killed { who, at: Timestamp(*at) }).collect()
    };
    let (consumer, coordinator) = (at(CONSUMER, &[1, 2, 19]), at(COORDINATOR, &[3, 4, 29]));
    let in_time = [at(BROKER, &[9]), consumer.clone(), coordinator.clone()].concat();
    assert_eq!(missed(&in_time, ends), Vec::<String>::new());
    for (idle, who) in [
        ([at(BROKER, &[10]), consumer.clone(), coordinator.clone()], BROKER),
        ([at(BROKER, &[9]), at(CONSUMER, &[1, 2, 20]), coordinator], CONSUMER),
        ([at(BROKER, &[9]), consumer, at(COORDINATOR, &[3, 4, 30])], COORDINATOR),
    ] {
        let missed = missed(&idle.concat(), ends);
        assert!(missed.len() == 1 && missed[0].starts_with(who), "{who}: {missed:?}");
    }
}
