//! Who goes on next: one at a time, by the dice.
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sexton_bus::{Bus as _, Queue};
use sexton_ledger::{DueReader, LedgerError};
use sexton_protocol::Holder;
use sexton_scheduler::{Looks, Scheduler};
use tokio::task::JoinHandle;

use super::requests::forget;
use super::signed::sign;
use super::{COORDINATORS, Coordinator, INBOXES, ROUND_MS, Round, SCHEDULER, World, held};
use crate::simulation::bus::about;
use crate::simulation::check::Violation;
use crate::simulation::gates::{HANDLER, Handler};
use crate::simulation::weather::Trouble;

/// Handlers that one coordinator works on at once.
const HANDLERS: usize = 3;
/// Quiet is when nothing moved for so many turns of everybody.
const QUIET: u32 = 10;
/// Nobody has moved for so long, in real time, though somebody is at work: they wait for what never comes.
const HUNG_AFTER: Duration = Duration::from_secs(60);
/// No more than this counts of what passes between two looks: whoever stops this process, or takes the machine from it, hangs
/// nobody.
const COUNTED: Duration = Duration::from_millis(100);

/// A handler that was begun, whether it is done, and its task.
pub(super) type Begun = (Handler, Arc<AtomicBool>, JoinHandle<()>);

fn begin(
    handler: Handler,
    defects: &Defects,
    work: impl Future<Output = Finished> + Send + 'static,
) -> Begun {
    let done = Arc::new(AtomicBool::new(false));
    let watched = Watched { who: format!("{handler:?}"), defects: defects.clone(), done: Some(done.clone()) };
    let running = tokio::spawn(HANDLER.scope(handler, async move {
        if let Err(error) = work.await
            && !matches!(error, LedgerError::WentBack(_))
        {
            held(&watched.defects).push(format!("{}: {error:?}", watched.who));
        }
        drop(watched);
    }));
    (handler, done, running)
}

/// What a handler ends with.
type Finished = Result<(), LedgerError>;

/// What must never happen, in words.
pub(super) type Defects = Arc<Mutex<Vec<String>>>;

/// Tells when whoever holds it ends, and whether it panicked.
pub(super) struct Watched {
    pub(super) who: String,
    pub(super) defects: Defects,
    pub(super) done: Option<Arc<AtomicBool>>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            held(&self.defects).push(format!("{} panicked", self.who));
        }
        if let Some(done) = &self.done {
            done.store(true, Ordering::SeqCst);
        }
    }
}

/// How long nobody has moved, in real time. It decides nothing but when a run is given up.
#[derive(Debug)]
struct Stillness {
    looked: Instant,
    lasts: Duration,
}

impl Stillness {
    /// Somebody moves now.
    fn begins(now: Instant) -> Self {
        Self { looked: now, lasts: Duration::ZERO }
    }

    /// Nobody has moved since. Whether nobody will.
    fn goes_on(&mut self, now: Instant) -> bool {
        self.lasts += now.saturating_duration_since(self.looked).min(COUNTED);
        self.looked = now;
        self.lasts >= HUNG_AFTER
    }
}

/// What a coordinator takes messages from, in a word.
fn word_of(inbox: &Queue) -> &'static str {
    match inbox {
        Queue::Outcomes => "outcomes",
        Queue::StageDue => "what is due",
        Queue::Pulses => "pulses",
        _ => "canaries",
    }
}

impl Round {
    fn word(self) -> &'static str {
        match self {
            Self::Beacon => "beacon",
            Self::Checkpoint => "checkpoint",
            Self::Refill => "refill",
            Self::Wake => "wake",
            Self::Admit => "admit",
            Self::Canaries => "tend canaries",
            Self::Forget => "forget",
            Self::Sign => "sign",
            Self::Censuses => "tend censuses",
        }
    }
}

impl Coordinator {
    /// Whether it is in the midst of this.
    pub(super) fn is_at(&self, round: Round) -> bool {
        let mut at = self.handlers.iter().filter(|(handler, ..)| handler.doing == round.word());
        at.any(|(_, done, _)| !done.load(Ordering::SeqCst))
    }
}

/// Something that could go on.
#[derive(Debug, Clone, Copy)]
enum Choice {
    /// Somebody at a gate.
    Open(u64),
    /// A coordinator takes messages.
    Take(usize, usize),
    /// A coordinator does one of its rounds.
    Round(usize, Round),
    /// The scheduler looks.
    Schedule,
    /// Whoever takes a census looks what has come.
    Census,
    /// Somebody asks for something.
    Ask(usize),
    /// A message that was late arrives.
    Deliver(usize),
}

impl World {
    /// Until nobody can go on without the world. Whoever is at work, and moves no more, ends the run.
    pub(in crate::simulation) async fn quiet(&self) {
        let mut still = 0;
        let mut stillness = Stillness::begins(Instant::now());
        let mut seen = self.gates.moves.load(Ordering::SeqCst);
        while still < QUIET && held(&self.hung).is_none() {
            tokio::task::yield_now().await;
            let at_work = self.at_work();
            let busy = !at_work.is_empty();
            let moves = self.gates.moves.load(Ordering::SeqCst);
            if busy {
                // The job table's own threads are at work.
                std::thread::yield_now();
            }
            if moves != seen {
                stillness = Stillness::begins(Instant::now());
            } else if busy && stillness.goes_on(Instant::now()) {
                let what = format!("for {HUNG_AFTER:?} nobody has moved, and these are at work: {at_work:?}");
                *held(&self.hung) = Some(what);
            }
            still = if busy || moves != seen { 0 } else { still + 1 };
            if still == QUIET && self.gates.next_turn() {
                still = 0;
            }
            seen = moves;
        }
    }

    /// Handlers that are neither done nor at a gate.
    fn at_work(&self) -> Vec<Handler> {
        let handlers = self.coordinators.iter().flatten().flat_map(|one| &one.handlers);
        let begun = handlers.chain(&self.scheduling);
        let at_work =
            begun.filter(|(handler, done, _)| !done.load(Ordering::SeqCst) && !self.gates.holds(*handler));
        at_work.map(|(handler, ..)| *handler).collect()
    }

    /// One thing goes on; then everything is looked at.
    ///
    /// # Errors
    /// The invariant that does not hold any more.
    pub async fn go_on(&mut self) -> Result<(), Violation> {
        self.step += 1;
        self.hear_answers().await?;
        self.start_whoever_is_due().await;
        self.quiet().await;
        self.let_one_go_on().await?;
        self.quiet().await;
        self.bury().await;
        self.look().await
    }

    async fn let_one_go_on(&mut self) -> Result<(), Violation> {
        let now = self.time.now();
        let mut choices: Vec<Choice> = Vec::new();
        let frozen = self.frozen();
        choices.extend(self.gates.open_to(now, &frozen).into_iter().flat_map(|gate| [Choice::Open(gate); 3]));
        for (number, one) in self.coordinators.iter_mut().enumerate() {
            let Ok(one) = one else { continue };
            one.handlers.retain(|(_, done, _)| !done.load(Ordering::SeqCst));
            if one.handlers.len() >= HANDLERS {
                continue;
            }
            for (inbox, queue) in INBOXES.iter().enumerate() {
                if self.bus.depth(queue).await.unwrap_or(0) > 0 {
                    choices.extend([Choice::Take(number, inbox); 3]);
                }
            }
            choices.extend(
                one.rounds
                    .iter()
                    // Of one coordinator nobody signs beside another, who has its file locked.
                    .filter(|(round, at)| **at <= now && !(**round == Round::Sign && one.is_at(Round::Sign)))
                    .map(|(round, _)| Choice::Round(number, *round)),
            );
        }
        let scheduling = self.scheduling.as_ref().is_some_and(|(_, done, _)| !done.load(Ordering::SeqCst));
        if self.ledger.is_some() && !scheduling && self.scheduler_at <= now {
            choices.push(Choice::Schedule);
        }
        if self.census.as_ref().is_some_and(|census| census.look_at <= now) {
            choices.push(Choice::Census);
        }
        if self.coordinators.iter().any(Result::is_ok) {
            let asks = self.requests.iter().enumerate().filter(|(_, request)| request.ask_at <= now);
            choices.extend(asks.map(|(place, _)| Choice::Ask(place)));
        }
        choices.extend((0..held(&self.traffic.late).len()).map(Choice::Deliver));
        if choices.is_empty() || self.dice.below(12) == 0 {
            self.pass_time(choices.is_empty());
            return Ok(());
        }
        let choice = choices[self.dice.below(choices.len())];
        self.carry_out(choice).await
    }

    /// Time passes: a little, or until something can go on.
    fn pass_time(&self, until_something: bool) {
        let now = self.time.now();
        if !until_something {
            return self.time.advance_to(now.plus_ms(1 + self.dice.below(150) as u64));
        }
        let rounds = self.coordinators.iter().map(|one| match one {
            Ok(one) => one.rounds.values().min().copied().unwrap_or(now),
            Err(again_at) => *again_at,
        });
        let processes = self.consumers.iter().flat_map(|one| one.again_at.into_iter().chain(one.thaws_at));
        let looks = self.census.as_ref().map(|census| census.look_at);
        let asks = self.requests.iter().map(|request| request.ask_at);
        let up = self.down.map(|(_, until)| until);
        let ends = self.gates.next_end(now, self.frozen());
        let wakes = self.time.next_wake();
        let next = rounds
            .chain(processes)
            .chain(looks)
            .chain(asks)
            .chain(up)
            .chain(ends)
            .chain(wakes)
            .filter(|at| *at > now)
            .min();
        self.time.advance_to(next.unwrap_or(now).max(now.plus_ms(1)));
    }

    async fn carry_out(&mut self, choice: Choice) -> Result<(), Violation> {
        match choice {
            Choice::Open(gate) => {
                self.gates.open(gate);
            }
            Choice::Take(number, inbox) => {
                let most = 1 + self.dice.below(8);
                let handler = self.next_handler(number, word_of(&INBOXES[inbox]));
                let (gates, dice, time) = (self.gates.clone(), self.dice.clone(), self.time.clone());
                let Ok(one) = &mut self.coordinators[number] else { return Ok(()) };
                let deliveries = one.inboxes[inbox].next_batch(most, Duration::ZERO).await;
                let (engine, acker) = (one.engine.clone(), one.inboxes[inbox].acker());
                self.traffic.took(&acker, &deliveries);
                let work = async move {
                    let done = match INBOXES[inbox] {
                        Queue::Outcomes => engine.on_reports(&deliveries).await,
                        Queue::StageDue => engine.on_stage_due(&deliveries).await,
                        Queue::Pulses => engine.on_pulses(&deliveries).await,
                        _ => engine.on_rejections(&deliveries).await.map(|()| Vec::new()),
                    };
                    // All of it is done, and nobody knows that yet.
                    if dice.happens(Trouble::Stop) {
                        gates.wait(number, "ack", time.now()).await;
                    }
                    let tags = deliveries.into_iter().map(|delivery| delivery.tag);
                    match &done {
                        Ok(again) => {
                            acker.ack(tags.filter(|tag| !again.contains(tag)).collect()).await;
                            acker.nack(again.clone()).await;
                        }
                        Err(_) => acker.nack(tags.collect()).await,
                    }
                    done.map(drop)
                };
                self.handle(number, handler, work);
            }
            Choice::Round(number, round) => {
                let handler = self.next_handler(number, round.word());
                let again_at = self.time.now().plus_ms(round.every_ms());
                self.tending |= round == Round::Censuses;
                let Ok(one) = &mut self.coordinators[number] else { return Ok(()) };
                one.rounds.insert(round, again_at);
                let (engine, forgotten) = (one.engine.clone(), self.forgotten.clone());
                let work = async move {
                    match round {
                        Round::Beacon => engine.beacon().await,
                        Round::Checkpoint => engine.checkpoint().await,
                        Round::Refill => engine.refill().await.map(drop),
                        Round::Wake => engine.wake().await.map(drop),
                        Round::Admit => engine.admit_what_waits().await,
                        Round::Canaries => engine.tend_canaries().await,
                        Round::Forget => forget(&engine, &forgotten).await,
                        Round::Sign => sign(&engine).await,
                        Round::Censuses => engine.tend_censuses().await,
                    }
                };
                self.handle(number, handler, work);
            }
            Choice::Schedule => {
                self.scheduler_at = self.time.now().plus_ms(ROUND_MS);
                let due: Arc<dyn DueReader> = self.ledger.clone().unwrap();
                let bus = self.stormy(COORDINATORS + self.consumers.len(), Some(SCHEDULER), Arc::default());
                let keyring = Arc::new(self.keyring.only(&Holder::Scheduler));
                let every = Duration::from_millis(ROUND_MS);
                let scheduler = Scheduler { due, bus, keyring, every, looks: Arc::new(Looks::default()) };
                let handler = self.next_handler(COORDINATORS + self.consumers.len(), "schedule");
                let work = async move { scheduler.tick().await.map(drop) };
                self.scheduling = Some(begin(handler, &self.defects, work));
            }
            Choice::Census => self.look_at_census().await?,
            Choice::Ask(place) => self.ask_for(place),
            Choice::Deliver(place) => {
                let (bus, message) = held(&self.traffic.late).swap_remove(place);
                self.say(format!("what was delayed comes {}", about(&message)));
                bus.publish(vec![message]).await;
            }
        }
        Ok(())
    }

    pub(super) fn next_handler(&mut self, process: usize, doing: &'static str) -> Handler {
        self.handlers += 1;
        Handler { process, number: self.handlers, doing }
    }

    pub(super) fn handle(
        &mut self,
        number: usize,
        handler: Handler,
        work: impl Future<Output = Finished> + Send + 'static,
    ) {
        if let Ok(one) = &mut self.coordinators[number] {
            one.handlers.push(begin(handler, &self.defects, work));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_hangs_who_moves_or_was_stopped() {
        let begun = Instant::now();
        let mut stillness = Stillness::begins(begun);
        let hour = Duration::from_secs(3_600);
        assert!(!stillness.goes_on(begun + hour), "the process was stopped");
        let looks = (1..=600).map(|look| begun + hour + COUNTED * look);
        let hung: Vec<Instant> = looks.filter(|look| stillness.goes_on(*look)).collect();
        assert_eq!(hung.first(), Some(&(begun + hour + COUNTED * 599)), "one look counts of that hour");
    }
}
