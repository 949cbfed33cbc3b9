//! What breaks while the machines are deleted.
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

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
const BROKER: &str = "rabbitmq";

/// Kill one after the other, until nobody holds the other end of `over`; at least so often as was promised.
pub fn kill_things(seed: u64, installation: &Installation, over: &Receiver<()>) -> Vec<&'static str> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut planned: Vec<&str> = [[COORDINATOR; TIMES], [CONSUMER; TIMES]].concat();
    planned.push(BROKER);
    planned.shuffle(&mut random);
    let mut killed = Vec::new();
    let mut is_over = false;
    while !is_over || !planned.is_empty() {
        let gap = Duration::from_millis(random.random_range(GAP_MS));
        is_over = over.recv_timeout(gap) == Err(RecvTimeoutError::Disconnected);
        let Some(victim) = planned.pop().or_else(|| [COORDINATOR, CONSUMER].choose(&mut random).copied())
        else {
            break;
        };
        match victim {
            BROKER => {
                installation.kill_server(BROKER);
                installation.start_server(BROKER);
            }
            service => installation.crash(service),
        }
        killed.push(victim);
    }
    for victim in [COORDINATOR, CONSUMER] {
        assert!(killed.iter().filter(|k| **k == victim).count() >= TIMES, "{victim}: {killed:?}");
    }
    killed
}
