//! What breaks while the machines are deleted.
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use crate::installation::Installation;

/// Time between two faults.
const GAP_MS: std::ops::Range<u64> = 4_000..10_000;
/// How often each process dies at least.
const TIMES: usize = 3;
const COORDINATOR: &str = "coordinator";
const CONSUMER: &str = "hypervisor.main";
const BROKER: &str = "broker";

/// Kill one after the other, until `over`; at least so often as was promised.
pub fn kill_things(seed: u64, installation: &Installation, over: &AtomicBool) -> Vec<&'static str> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut planned: Vec<&str> = [[COORDINATOR; TIMES], [CONSUMER; TIMES]].concat();
    planned.push(BROKER);
    planned.shuffle(&mut random);
    let mut killed = Vec::new();
    while !over.load(Ordering::Acquire) || !planned.is_empty() {
        let next = Instant::now() + Duration::from_millis(random.random_range(GAP_MS));
        while Instant::now() < next && !over.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let Some(victim) = planned.pop().or_else(|| [COORDINATOR, CONSUMER].choose(&mut random).copied())
        else {
            break;
        };
        match victim {
            BROKER => installation.crash_broker(),
            service => installation.crash(service),
        }
        killed.push(victim);
    }
    for victim in [COORDINATOR, CONSUMER] {
        assert!(killed.iter().filter(|k| **k == victim).count() >= TIMES, "{victim}: {killed:?}");
    }
    killed
}
