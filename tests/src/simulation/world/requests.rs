//! What people ask for by requests under keys, as the API carries them out: the key is held, the change is made by the attempt's
//! handle of the job table, and the answer is kept. The process may die between any two of these, and at every moment at which a
//! handler of a coordinator could be stopped, or stall there until it is taken for dead; whoever is not answered asks again under the
//! same key.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sexton_coordinator::Engine;
use sexton_ledger::sqlite::SqliteLedger;
use sexton_ledger::{
    Approval, BatchView, DeletionView, Held, Intent, Keys as _, Ledger, LedgerError, NewDeletion, NotDone,
};
use sexton_model::audit::What;
use sexton_model::belts::PauseSelector;
use sexton_model::decide::{Event, Refusal};
use sexton_model::request_key::{KeptAnswer, Keyed, request_hash};
use sexton_model::{Actor, Timestamp};

use super::{COORDINATORS, World, held};
use crate::simulation::check::budgets::Seen;
use crate::simulation::check::{Made, Violation};
use crate::simulation::gates::APPROVES;
use crate::simulation::script::{Fate, Happening, Person, Wish};
use crate::simulation::tally::{ASKED_AGAIN, DIED_MIDWAY, FORGOTTEN, NOTED, OVERTAKEN, TOO_LATE};
use crate::simulation::weather::Dice;

/// Whoever was not answered asks again after so many milliseconds.
const AGAIN_MS: u64 = 10_000;
/// A process that died is started again within so many milliseconds.
const DOWN_MS: usize = 8_000;
/// Longer than a key is kept, in milliseconds.
const LONG_AFTER_MS: i64 = 8 * 24 * 3_600_000;
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
    /// That this batch goes, as it was seen, by this one's approval.
    Approve(Seen, Person),
}

/// A request, answered or not.
pub(in crate::simulation) struct Request {
    number: u64,
    wish: Wish,
    body: Body,
    /// Since when it is asked for.
    since: Timestamp,
    /// What becomes of the next attempt.
    fate: Fate,
    /// How often it was sent.
    sent: u32,
    /// When it is sent next.
    pub(super) ask_at: Timestamp,
    /// Whether it was done, once an attempt has answered it and nobody has heard of that yet. Each attempt that is at work has a
    /// copy of it.
    answer: Arc<Mutex<Option<bool>>>,
    /// Whether it was done, as whoever asked has heard.
    done: bool,
}

impl Request {
    fn keyed(&self) -> Keyed {
        let key = format!("request-{}", self.number).parse().unwrap();
        let said = self.number.to_be_bytes();
        let request = request_hash(&[said.as_slice()]);
        let by = if let Body::Approve(_, by) = self.body { by } else { Person::Ops };
        Keyed { actor: by.actor(), key, request }
    }

    /// Whether some attempt at it may still do something: also one that was taken for dead, while another one answered.
    fn at_work(&self) -> bool {
        Arc::strong_count(&self.answer) > 1
    }
}

/// What the request of this number gives as its reason: no other has it.
pub(in crate::simulation) fn reason(number: u64) -> String {
    format!("as request {number} says")
}

/// In whose name the request of this number has something decided about a record: in no other's, for some decisions have no reason.
pub(in crate::simulation) fn asker(number: u64) -> Actor {
    format!("request-{number}").parse().unwrap()
}

impl World {
    /// The number of the next request.
    pub(in crate::simulation) fn next_request(&mut self) -> u64 {
        self.asked += 1;
        self.asked
    }

    /// Send this from now on, until it is answered.
    pub(in crate::simulation) fn send(&mut self, number: u64, (wish, body): (Wish, Body), fate: Fate) {
        let (since, answer) = (self.time.now(), Arc::default());
        let (sent, ask_at, done) = (0, since, false);
        self.requests.push(Request { number, wish, body, since, fate, sent, ask_at, answer, done });
    }

    /// One of them is sent to some coordinator that runs.
    pub(super) fn ask_for(&mut self, place: usize) {
        let running: Vec<usize> =
            (0..COORDINATORS).filter(|number| self.coordinators[*number].is_ok()).collect();
        let Some(process) = running.get(self.dice.below(running.len())).copied() else { return };
        let Ok(one) = &self.coordinators[process] else { return };
        let engine = one.engine.clone();
        let handler = self.next_handler(process, "a request");
        let again_at = self.time.now().plus_ms(AGAIN_MS);
        let Some(request) = self.requests.get_mut(place) else { return };
        if request.sent > 0 {
            self.dice.count(ASKED_AGAIN);
        }
        (request.sent, request.ask_at) = (request.sent + 1, again_at);
        match std::mem::replace(&mut request.fate, Fate::Answered) {
            Fate::Answered => {}
            Fate::Dies(moment) => self.gates.doom(handler, moment),
            Fate::Stalls(moment) => self.gates.stall(handler, moment),
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
    /// If it was not done just once, or is done although it was refused; or was refused and must not be.
    pub(super) async fn hear_answers(&mut self) -> Result<(), Violation> {
        let Some(ledger) = self.ledger.clone() else { return Ok(()) };
        for mut request in std::mem::take(&mut self.requests) {
            let answer = held(&request.answer).take();
            let Some(done) = answer else {
                self.requests.push(request);
                continue;
            };
            let number = request.number;
            self.say(format!("request {number} is answered: {}", if done { "done" } else { "refused" }));
            if done {
                self.dice.count(request.wish.word());
            }
            request.done = done;
            self.once(&ledger, &request).await?;
            self.refused_rightly(&request)?;
            self.answered.push(request);
        }
        Ok(())
    }

    /// An approval is not refused that may be given. Whatever makes it right to refuse one stays, unless the job table is put back.
    fn refused_rightly(&mut self, request: &Request) -> Result<(), Violation> {
        let at = self.store.shown();
        match (&request.body, &mut self.checker.budgets) {
            (Body::Approve(seen, by), Some(budgets))
                if !request.done && self.checker.epoch.1 < request.since =>
            {
                budgets.approval(seen, *by, (at, None))
            }
            _ => Ok(()),
        }
    }

    /// What has waited until an attempt at a request for its approval has committed, and waits no more, was approved by that:
    /// nothing else goes on meanwhile. Whoever died right after the commit has told nobody.
    ///
    /// # Errors
    /// If it must not be.
    pub(super) fn see_approved(
        &mut self,
        waiting: &[(BatchView, Vec<DeletionView>)],
    ) -> Result<(), Violation> {
        let (at, came) = (self.store.shown(), self.gates.take_approving());
        let all = self.requests.iter().chain(&self.answered);
        for request in all.filter(|request| came.contains(&request.number)) {
            let (Body::Approve(seen, by), Some(budgets)) = (&request.body, &mut self.checker.budgets) else {
                continue;
            };
            let still = waiting.iter().any(|(view, _)| view.row.batch == seen.batch);
            if still || !budgets.waits(seen.batch) {
                continue;
            }
            budgets.let_go(seen, *by, (at, request.number))?;
            self.checker.approved += 1;
            self.dice.count(Happening::Approve(*by).word());
        }
        Ok(())
    }

    /// Whether everybody was answered, and no attempt is at work any more.
    pub(in crate::simulation) fn all_answered(&self) -> bool {
        self.requests.is_empty() && !self.answered.iter().any(Request::at_work)
    }

    /// What was not answered, or is still worked at, in words.
    pub(in crate::simulation) fn unanswered(&self) -> impl Iterator<Item = String> {
        let late = self.answered.iter().filter(|request| request.at_work());
        let late = late.map(|request| format!("an attempt at request {}", request.number));
        self.requests.iter().map(|request| format!("request {}", request.number)).chain(late)
    }

    /// All that was answered stands as it was answered: whoever was taken for dead may have done it since.
    ///
    /// # Errors
    /// What does not.
    pub(in crate::simulation) async fn all_once(&self, ledger: &SqliteLedger) -> Result<(), Violation> {
        for request in &self.answered {
            self.once(ledger, request).await?;
        }
        Ok(())
    }

    /// Whoever was not answered may ask again for a week, which is longer than any run.
    ///
    /// # Errors
    /// If a key was forgotten.
    pub(super) fn nothing_is_forgotten(&self) -> Result<(), Violation> {
        match self.forgotten.load(Ordering::SeqCst) {
            0 => Ok(()),
            many => {
                let what =
                    format!("{many} keys of requests were forgotten, and whoever asks again needs them");
                Err(Violation { invariant: "once", what })
            }
        }
    }

    /// Everything is over, and it is long after it by the job table's clock: all keys are forgotten.
    ///
    /// # Errors
    /// If some are left, or were missing.
    pub(in crate::simulation) async fn forget_all(&self, ledger: &SqliteLedger) -> Result<(), Violation> {
        if !self.script.tends {
            return Ok(());
        }
        self.store.set_ahead(LONG_AFTER_MS);
        let gone = ledger.forget_keys().await.unwrap();
        let left = ledger.forget_keys().await.unwrap();
        // What was asked for before the job table was put back may be in none any more.
        let there =
            self.answered.iter().filter(|request| self.checker.epoch.1 < request.since).count() as u64;
        if left > 0 || gone < there || gone > self.answered.len() as u64 {
            let all = self.answered.len();
            let what =
                format!("of {all} keys, {there} of which must be there, {gone} are forgotten, then {left}");
            return Err(Violation { invariant: "once", what });
        }
        if gone > 0 {
            self.dice.count(FORGOTTEN);
        }
        Ok(())
    }

    /// What is answered as done was done once, and what is refused was not.
    async fn once(&self, ledger: &SqliteLedger, request: &Request) -> Result<(), Violation> {
        let times = self.times_done(ledger, request).await;
        let Request { number, done, since, .. } = request;
        // What was done may be in no job table any more.
        let lost = self.checker.epoch.1 >= *since;
        let right = if *done { times == 1 || (times == 0 && lost) } else { times == 0 };
        if right {
            return Ok(());
        }
        let what = format!("request {number} is done {times} times, and was answered {done}");
        Err(Violation { invariant: "once", what })
    }

    /// How often what is asked for was done.
    async fn times_done(&self, ledger: &SqliteLedger, request: &Request) -> usize {
        let reason = reason(request.number);
        match &request.body {
            Body::Decide(intent) => {
                let view = ledger.deletion(intent.deletion).await.unwrap();
                let rows = view.iter().flat_map(|view| &view.audit);
                let by = asker(request.number);
                // Whose hold was asked for takes it back in the same name, which is another decision.
                let done = |what: What| match &intent.event {
                    Event::PlaceHold { .. } => what == What::HoldPlaced,
                    Event::ReleaseHold { .. } => what == What::HoldReleased,
                    _ => matches!(what, What::Cancelled | What::Retried),
                };
                rows.filter(|row| done(row.event.what) && row.event.by == by.as_str()).count()
            }
            Body::Create(_) => {
                let all = self.all().await;
                all.iter().filter(|view| view.deletion.record.reason == reason).count()
            }
            // Those that were lifted, too.
            Body::Pause(_) => self.checker.pauses.placed_because(&reason),
            // A batch goes once and never waits again.
            Body::Approve(..) => {
                let budgets = self.checker.budgets.as_ref();
                usize::from(budgets.is_some_and(|budgets| budgets.has_let_go(request.number)))
            }
        }
    }

    /// Take note of the records that were made because they were asked for.
    pub(super) async fn see_created(&mut self, ledger: &SqliteLedger) {
        let late = self.answered.iter().filter(|request| request.at_work());
        for request in self.requests.iter().chain(late) {
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

    /// Whether somebody has asked for a pause, so that at any moment there may be one more. Whoever places it may be at work no
    /// more when everything is looked at.
    pub(super) fn pause_was_asked_for(&self) -> bool {
        self.requests.iter().chain(&self.answered).any(|request| matches!(request.body, Body::Pause(_)))
    }
}

/// A coordinator forgets what is old, of surveys and keys of requests; how many of these is added.
pub(super) async fn forget(engine: &Engine, forgotten: &AtomicU64) -> Result<(), LedgerError> {
    engine.ledger.forget_surveys().await?;
    let gone = engine.ledger.forget_keys().await?;
    forgotten.fetch_add(gone, Ordering::SeqCst);
    Ok(())
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
        match change(engine, &*ledger, (number, body), dice).await {
            // Nobody had heard of this attempt for so long that another one has begun.
            Err(LedgerError::Overtaken) => {
                dice.count(OVERTAKEN);
                return Ok(None);
            }
            done => done?,
        }
    };
    let answer = KeptAnswer { status: if done { DONE } else { REFUSED }, body: "{}".to_owned() };
    // If another one has begun meanwhile, its answer is what counts.
    let kept = engine.ledger.keep_answer(&attempt, answer).await?;
    Ok(kept.then_some(done))
}

/// The one change of an attempt. Whether it was not refused.
async fn change(
    engine: &Engine,
    ledger: &dyn Ledger,
    (number, body): (u64, Body),
    dice: &Dice,
) -> Result<bool, LedgerError> {
    match body {
        Body::Decide(intent) => {
            let done = engine.run_by(ledger, vec![intent], Vec::new()).await?;
            if done.iter().any(|one| matches!(one, Err(NotDone::Refused(Refusal::TooLate { .. })))) {
                dice.count(TOO_LATE);
            }
            Ok(done.iter().all(Result::is_ok))
        }
        Body::Create(new) => Ok(ledger.create(vec![new]).await?.iter().all(Result::is_ok)),
        Body::Pause(covers) => {
            ledger.pause(covers, &Person::Ops.actor(), &reason(number)).await?;
            engine.beacon().await?;
            Ok(true)
        }
        Body::Approve(Seen { batch, digest, .. }, by) => {
            let approval = Approval { batch, digest, by: by.actor(), reason: reason(number) };
            let approved = APPROVES.scope(number, engine.approve_by(ledger, approval)).await?;
            Ok(approved.is_ok())
        }
    }
}
