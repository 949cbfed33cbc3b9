//! What people ask for by requests under keys, as the API carries them out: the key is held, the change is made by the attempt's
//! handle of the job table, and the answer is kept. The process may die between any two of these, and at every moment at which a
//! handler of a coordinator could be stopped; whoever is not answered asks again under the same key.
use std::sync::{Arc, Mutex};

use sexton_coordinator::Engine;
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{Held, Intent, Ledger, LedgerError, NewDeletion};
use sexton_model::Timestamp;
use sexton_model::audit::What;
use sexton_model::belts::PauseSelector;
use sexton_model::request_key::{KeptAnswer, Keyed, request_hash};

use super::{COORDINATORS, World, held};
use crate::simulation::check::{Made, Violation};
use crate::simulation::script::Person;
use crate::simulation::tally::{ASKED_AGAIN, DIED_MIDWAY, NOTED};
use crate::simulation::weather::Dice;

/// Whoever was not answered asks again after so many milliseconds.
const AGAIN_MS: u64 = 10_000;
/// A process that died is started again within so many milliseconds.
const DOWN_MS: usize = 8_000;
/// What is answered when it is done.
const DONE: u16 = 200;
/// And when it is refused.
const REFUSED: u16 = 409;

/// What is asked for.
#[derive(Debug, Clone)]
pub(in crate::simulation) enum Body {
    /// That this is decided.
    Decide(Intent),
    /// A record.
    Create(NewDeletion),
    /// A pause.
    Pause(PauseSelector),
}

/// A request that is not answered yet.
pub(in crate::simulation) struct Request {
    number: u64,
    body: Body,
    /// At the so manyth moment of the first attempt its process dies; it does not if this is nothing.
    dies_at: u32,
    /// How often it was sent.
    sent: u32,
    /// When it is sent next.
    pub(super) ask_at: Timestamp,
    /// Whether it was done, once it is answered.
    answer: Arc<Mutex<Option<bool>>>,
}

impl Request {
    fn keyed(&self) -> Keyed {
        let key = format!("request-{}", self.number).parse().unwrap();
        let said = self.number.to_be_bytes();
        let request = request_hash(&[said.as_slice()]);
        Keyed { actor: Person::Ops.actor(), key, request }
    }
}

/// What the request of this number gives as its reason: no other has it.
pub(in crate::simulation) fn reason(number: u64) -> String {
    format!("as request {number} says")
}

impl World {
    /// The number of the next request.
    pub(in crate::simulation) fn next_request(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Send this from now on, until it is answered.
    pub(in crate::simulation) fn send(&mut self, number: u64, body: Body, dies_at: u32) {
        let (ask_at, answer) = (self.time.now(), Arc::default());
        self.requests.push(Request { number, body, dies_at, sent: 0, ask_at, answer });
    }

    /// One of them is sent to some coordinator that runs.
    pub(super) fn ask_for(&mut self, place: usize) {
        let running: Vec<usize> =
            (0..COORDINATORS).filter(|number| self.coordinators[*number].is_ok()).collect();
        let Some(process) = running.get(self.dice.below(running.len())).copied() else { return };
        let Ok(one) = &self.coordinators[process] else { return };
        let engine = one.engine.clone();
        let handler = self.next_handler(process);
        let again_at = self.time.now().plus_ms(AGAIN_MS);
        let Some(request) = self.requests.get_mut(place) else { return };
        if request.sent > 0 {
            self.dice.count(ASKED_AGAIN);
        }
        (request.sent, request.ask_at) = (request.sent + 1, again_at);
        let dies_at = std::mem::take(&mut request.dies_at);
        if dies_at > 0 {
            self.gates.doom(handler, dies_at);
        }
        let (number, keyed, body) = (request.number, request.keyed(), request.body.clone());
        let (answer, dice) = (request.answer.clone(), self.dice.clone());
        let work = async move {
            let came = carry_out(&engine, (number, keyed, body), &dice).await;
            came.map(|done| {
                if done.is_some() {
                    *held(&answer) = done;
                }
            })
        };
        self.handle(process, handler, work);
    }

    /// Processes that have died in the midst of a request are gone, with all that they were about to do.
    pub(super) async fn bury(&mut self) {
        for handler in self.gates.take_dead() {
            let again_at = self.time.now().plus_ms(self.dice.below(DOWN_MS) as u64);
            self.dice.count(DIED_MIDWAY);
            self.say(format!("coordinator {} dies in the midst of a request", handler.process));
            self.kill_coordinator(handler.process, again_at).await;
        }
    }

    /// Whoever is answered asks no more.
    ///
    /// # Errors
    /// If it was done more than once, or is done although it was refused.
    pub(super) async fn hear_answers(&mut self) -> Result<(), Violation> {
        let Some(ledger) = self.ledger.clone() else { return Ok(()) };
        for request in std::mem::take(&mut self.requests) {
            let answer = held(&request.answer).take();
            let Some(done) = answer else {
                self.requests.push(request);
                continue;
            };
            let number = request.number;
            self.say(format!("request {number} is answered: {}", if done { "done" } else { "refused" }));
            let times = self.times_done(&ledger, &request).await;
            if times > 1 || (times > 0 && !done) {
                let what = format!("request {number} is done {times} times, and was answered {done}");
                return Err(Violation { invariant: "once", what });
            }
        }
        Ok(())
    }

    /// How often what is asked for was done, as far as that still shows.
    async fn times_done(&self, ledger: &SqliteLedger, request: &Request) -> usize {
        let reason = reason(request.number);
        match &request.body {
            Body::Decide(intent) => {
                let view = ledger.deletion(intent.deletion).await.unwrap();
                let rows = view.iter().flat_map(|view| &view.audit);
                let done = |what: What| matches!(what, What::Cancelled | What::HoldPlaced);
                rows.filter(|row| done(row.event.what) && row.event.detail == reason).count()
            }
            Body::Create(_) => {
                let all = self.all().await;
                all.iter().filter(|view| view.deletion.record.reason == reason).count()
            }
            Body::Pause(_) => {
                let pauses = ledger.pauses().await.unwrap();
                pauses.iter().filter(|pause| pause.reason == reason).count()
            }
        }
    }

    /// Take note of the records that were made because they were asked for.
    pub(super) async fn see_created(&mut self, ledger: &SqliteLedger) {
        for request in &self.requests {
            let Body::Create(new) = &request.body else { continue };
            let Some(id) = ledger.deletion_of(&new.resource).await.unwrap() else { continue };
            if self.checker.knows(id) {
                continue;
            }
            let view = ledger.deletion(id).await.unwrap();
            // Another request may ask for the same machine, by another plan.
            if view.is_some_and(|view| view.deletion.record.reason == reason(request.number)) {
                let as_it_was = held(&self.truth).of(&new.resource);
                let made = Made { as_it_was, plan: new.plan.clone(), by: Person::Ops };
                self.checker.created(id, &new.resource, made);
            }
        }
    }

    /// Whether somebody asks for a pause, so that at any moment there may be one more.
    pub(super) fn pause_is_asked_for(&self) -> bool {
        self.requests.iter().any(|request| matches!(request.body, Body::Pause(_)))
    }
}

/// One attempt. Whether it was done, if it is answered.
async fn carry_out(
    engine: &Engine,
    (number, keyed, body): (u64, Keyed, Body),
    dice: &Dice,
) -> Result<Option<bool>, LedgerError> {
    let (attempt, note) = match engine.ledger.hold_key(keyed).await? {
        Held::By(attempt, note) => (attempt, note),
        Held::Answered(answer) => return Ok(Some(answer.status == DONE)),
        Held::Busy => return Ok(None),
        Held::Other | Held::TooMany => panic!("request {number} is taken for another one"),
    };
    let done = if note.is_some() {
        dice.count(NOTED);
        true
    } else {
        let ledger = engine.ledger.under(attempt.clone());
        match change(engine, &*ledger, (number, body)).await {
            // Nobody had heard of this attempt for so long that another one has begun.
            Err(LedgerError::Overtaken) => return Ok(None),
            done => done?,
        }
    };
    let answer = KeptAnswer { status: if done { DONE } else { REFUSED }, body: "{}".to_owned() };
    engine.ledger.keep_answer(&attempt, answer).await?;
    Ok(Some(done))
}

/// The one change of an attempt. Whether it was not refused.
async fn change(
    engine: &Engine,
    ledger: &dyn Ledger,
    (number, body): (u64, Body),
) -> Result<bool, LedgerError> {
    match body {
        Body::Decide(intent) => {
            let done = engine.run_by(ledger, vec![intent], Vec::new()).await?;
            Ok(done.iter().all(Result::is_ok))
        }
        Body::Create(new) => Ok(ledger.create(vec![new]).await?.iter().all(Result::is_ok)),
        Body::Pause(covers) => {
            ledger.pause(covers, &Person::Ops.actor(), &reason(number)).await?;
            engine.beacon().await?;
            Ok(true)
        }
    }
}
