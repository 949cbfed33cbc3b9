//! Processes begin, die, and go on.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sexton_bus::Bus as _;
use sexton_consumer::{Consumer, Options as ConsumerOptions};
use sexton_coordinator::{Canaries, Engine, Witness};
use sexton_model::Timestamp;
use sexton_protocol::Holder;
use tokio_util::sync::CancellationToken;

use super::turn::Watched;
use super::{
    ANSWERED_WITHIN_MS, COORDINATORS, COPIES, Coordinator, INBOXES, ROUNDS, Round, SUBSYSTEMS, World, held,
};
use crate::simulation::check::canaries;
use crate::simulation::hands::PAST_LEASE;
use crate::simulation::platform::SimulatedDriver;

impl World {
    async fn start_coordinator(&mut self, number: usize) {
        let ledger = self.ledger.clone().unwrap();
        let witness = self.folder.path().join(format!("witness{number}"));
        let new = !witness.exists();
        let (clock, began) = (self.time.clone(), Instant::now());
        let now = Arc::new(move || began + clock.passed());
        let witness = Witness::open_at(&witness, &*ledger, new, now).await.unwrap();
        let engine = Engine::new(sexton_coordinator::Options {
            ledger,
            bus: self.stormy(number, None, Arc::default()),
            keyring: self.keyring.clone(),
            signer: self.signer.clone(),
            unpacked: Vec::new(),
            witness: Arc::new(witness),
        });
        let asked = vec![canaries::resource()];
        let canaries = Canaries::new(self.plans[0].clone(), asked, ANSWERED_WITHIN_MS);
        let engine = engine.with_canaries(self.script.canaries.then_some(canaries));
        let lists = self.script.takes_censuses().then(|| self.plans[0].clone());
        let engine = engine.with_censuses(lists);
        let engine = engine.signing(self.script.tends.then(|| self.attester(number)));
        let mut inboxes = Vec::new();
        for queue in &INBOXES {
            inboxes.push(self.bus.consume(queue, 64).await.unwrap());
        }
        let now = self.time.now();
        let rounds = ROUNDS.into_iter().filter(|round| round.of(&self.script));
        let rounds = rounds.filter(|round| self.counting || *round != Round::Censuses);
        let mut rounds: BTreeMap<Round, Timestamp> = rounds.map(|round| (round, now)).collect();
        // Consumers that are started with it have to hear a beacon before.
        if let Some(at) = rounds.get_mut(&Round::Censuses) {
            *at = now.plus_ms(Round::Censuses.every_ms());
        }
        self.coordinators[number] =
            Ok(Coordinator { engine: Arc::new(engine), inboxes, rounds, handlers: Vec::new() });
    }

    /// All of them, at once.
    pub(in crate::simulation) async fn start_all_coordinators(&mut self) {
        for number in 0..COORDINATORS {
            self.start_coordinator(number).await;
        }
    }

    /// From now on coordinators take no census that nobody asks for.
    pub(in crate::simulation) fn stop_counting(&mut self) {
        self.counting = false;
        for one in self.coordinators.iter_mut().flatten() {
            one.rounds.remove(&Round::Censuses);
        }
    }

    /// It is gone from one moment to the next, with all that it was about to do. Whether it ran.
    pub(in crate::simulation) async fn kill_coordinator(
        &mut self,
        number: usize,
        again_at: Timestamp,
    ) -> bool {
        let ran = self.coordinators[number].is_ok();
        // Only whoever takes a census asks for its pages.
        if self.census.as_ref().is_some_and(|census| census.by == number) {
            self.census = None;
        }
        if let Ok(coordinator) = &mut self.coordinators[number] {
            for (_, _, running) in coordinator.handlers.drain(..) {
                running.abort();
                running.await.ok();
            }
        }
        self.coordinators[number] = Err(again_at);
        ran
    }

    fn start_consumer(&mut self, number: usize) {
        let one = &self.consumers[number];
        let (subsystem, actions) = SUBSYSTEMS[number / COPIES];
        let process = COORDINATORS + number;
        let driver = SimulatedDriver {
            subsystem: subsystem.parse().unwrap(),
            process,
            truth: self.truth.clone(),
            gates: self.gates.clone(),
            dice: self.dice.clone(),
            time: self.time.clone(),
            store: self.store.clone(),
            hands: one.hands.clone(),
            others: Mutex::default(),
            absent: Mutex::default(),
            lies: Mutex::default(),
            newest: Mutex::default(),
        };
        let consumer = Consumer {
            instance: one.instance.clone(),
            driver: Arc::new(driver),
            actions: sexton_model::catalogue::SubsystemActions::parse(subsystem, actions).unwrap(),
            bus: self.stormy(process, Some(&one.instance.to_string()), one.frozen.clone()),
            keyring: Arc::new(self.keyring.only(&Holder::Instance(one.instance.clone()))),
            verifier: self.signer.verifier(),
            clock: one.clock.clone(),
            metrics: Arc::default(),
            version: "simulated".to_owned(),
            options: ConsumerOptions::default(),
        };
        let watched =
            Watched { who: format!("consumer {number}"), defects: self.defects.clone(), done: None };
        let running = tokio::spawn(async move {
            let ended = consumer.run(CancellationToken::new()).await;
            held(&watched.defects).push(format!("{} ended: {ended:?}", watched.who));
        });
        let one = &mut self.consumers[number];
        (one.running, one.again_at) = (Some(running), None);
    }

    /// It is gone from one moment to the next; what it had not acked comes again. Whether it ran.
    pub(in crate::simulation) async fn kill_consumer(&mut self, number: usize, again_at: Timestamp) -> bool {
        let one = &mut self.consumers[number];
        let ran = one.running.is_some();
        one.hands.drop_all();
        if let Some(running) = one.running.take() {
            running.abort();
            running.await.ok();
        }
        one.again_at = Some(again_at);
        one.thaws_at = None;
        one.frozen.thaw();
        ran
    }

    /// The job table's process ends, with everything that runs on it.
    pub(in crate::simulation) async fn close_ledger(&mut self, again_at: Timestamp) {
        for number in 0..COORDINATORS {
            self.kill_coordinator(number, again_at).await;
        }
        if let Some((_, _, running)) = self.scheduling.take() {
            running.abort();
            running.await.ok();
        }
        self.ledger = None;
        // Its writer ends by itself once nobody can ask it any more, and gives up the lock.
        let mut lock = self.file().into_os_string();
        lock.push(".lock");
        let lock = std::fs::File::open(lock).unwrap();
        lock.lock().unwrap();
    }

    /// Whoever was down for long enough is started, and whoever was stopped goes on.
    pub(super) async fn start_whoever_is_due(&mut self) {
        let now = self.time.now();
        if !self.end_being_down(now).await {
            return;
        }
        for number in 0..COORDINATORS {
            if self.ledger.is_some() && matches!(self.coordinators[number], Err(at) if at <= now) {
                self.start_coordinator(number).await;
                self.say(format!("coordinator {number} starts"));
            }
        }
        for number in 0..self.consumers.len() {
            if self.consumers[number].again_at.is_some_and(|at| at <= now) {
                self.start_consumer(number);
            }
            if self.consumers[number].thaws_at.is_some_and(|at| at <= now) {
                self.consumers[number].thaws_at = None;
                let late =
                    self.consumers[number].hands.go_on(self.store.shown(), &held(&self.traffic.orders));
                for _ in 0..late {
                    self.dice.count(PAST_LEASE);
                }
                self.consumers[number].frozen.thaw();
                self.say(format!("consumer {number} goes on"));
                self.time.wake();
            }
        }
    }
}
