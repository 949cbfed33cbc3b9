//! What people do meanwhile: they ask for deletions, cancel some, hold others for a while, approve what is too many, stop
//! everything once, and look after what waits for a person.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use sexton_api::{Delete, DeletionLine, Waive};
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::job::StateName;

use super::Size;
use super::boss::Boss;
use super::notes::Notes;
use crate::cancels::{Cancel, Moment};
use crate::installation::{Answer, Installation};
use crate::machine::{Fate, Machine};
use crate::waiting::wait_for;
use crate::{DUE_DAYS, date};

/// Time between two looks of a person at the same parked job.
const PATIENCE: Duration = Duration::from_secs(5);
/// Time between two lines that say how far it is.
const SAID_EVERY: Duration = Duration::from_secs(20);

/// Between two looks of whoever holds a deletion whether that stops it.
const HELD_LOOK: Duration = Duration::from_secs(1);
/// Why they hold it.
const DOUBT: &str = "is it really no longer needed?";

/// One machine's deletion.
struct Task<'a> {
    machine: &'a Machine,
    cancel: Option<Cancel<'a>>,
    doubt: Option<Doubt>,
}

/// Somebody is in doubt about a deletion, and holds it for a while.
struct Doubt {
    /// So long after its record was seen first it is held,
    after: Duration,
    /// and so long after that moment it is let go on.
    until: Duration,
    seen: Option<Instant>,
    /// Whether that was answered.
    placed: bool,
    looked: Option<Instant>,
}

/// Until every record is over, and so much was broken as is wanted. Deletions are asked for at the pace of the faults: each
/// is under way while something breaks.
pub fn delete_and_cancel(size: &Size, installation: &Installation, machines: &[Machine], notes: &Notes) {
    let mut random = StdRng::seed_from_u64(size.seed);
    let deleted = machines.iter().filter(|machine| machine.fate != Fate::LeftAlone);
    let mut tasks: Vec<Task> = deleted
        .map(|machine| {
            let moment = Moment::any(&mut random);
            let cancel = Cancel::after(moment, machine, size.day_ms, &mut random);
            // Every second one of those that are to be gone in the end.
            let doubted = machine.fate == Fate::Retired && machine.number.is_multiple_of(2);
            let doubt = doubted.then(|| Doubt::any(size.day_ms, &mut random));
            Task { machine, cancel: (machine.fate == Fate::Cancelled).then_some(cancel), doubt }
        })
        .collect();
    tasks.shuffle(&mut random);
    let (mut operator, mut boss) = (Operator::default(), Boss::of(size));
    let mut said = Instant::now();
    wait_for(size.patience, || {
        assert!(!notes.is_over(), "whoever breaks things has failed");
        let faults = notes.faults();
        let asked_for = asked_for(faults, size.faults, tasks.len());
        let lines = installation.lines().ok_or("no coordinator answers")?;
        let mut left = Vec::new();
        for task in &mut tasks[..asked_for] {
            let line = lines.get(&task.machine.resource());
            if !task.go_on(installation, line, notes) {
                left.push(line.map_or(task.machine.name.clone(), |line| format!("{line:?}")));
            }
        }
        operator.look(installation, &lines, notes);
        boss.look(installation, notes);
        if said.elapsed() >= SAID_EVERY {
            said = Instant::now();
            let over = asked_for - left.len();
            notes.say(format!(
                "{faults} faults; of {} deletions {asked_for} were asked for, {over} are over",
                tasks.len()
            ));
        }
        if asked_for == tasks.len() && faults >= size.faults && left.is_empty() && boss.is_done() {
            return Ok(());
        }
        Err(format!("{faults} faults, {asked_for} of {} deletions; not over: {left:#?}", tasks.len()))
    });
}

/// How many deletions are asked for after so many faults: some at once, all a while before the last fault.
fn asked_for(faults: usize, of: usize, tasks: usize) -> usize {
    let head_start = (of / 10).max(5);
    (tasks * (faults + head_start)).div_ceil(of).min(tasks)
}

impl Task<'_> {
    /// Do what is to be done, as the record stands now. Whether it is over.
    fn go_on(&mut self, installation: &Installation, line: Option<&DeletionLine>, notes: &Notes) -> bool {
        let Some(line) = line else {
            self.ask_for_deletion(installation, notes);
            return false;
        };
        match line.status {
            RecordStatus::Live => {
                // Not remembered: a job table that was put back may have forgotten it.
                if let Some(cancel) = &mut self.cancel
                    && cancel.is_due(installation, line)
                {
                    cancel.taken(installation, line);
                }
                if let Some(doubt) = &mut self.doubt {
                    doubt.go_on(installation, line, notes);
                }
                false
            }
            RecordStatus::Restoring => false,
            RecordStatus::Cancelled | RecordStatus::Recycled | RecordStatus::Rescued => true,
        }
    }

    fn ask_for_deletion(&self, installation: &Installation, notes: &Notes) {
        let body = Delete {
            resource: self.machine.resource().parse().unwrap(),
            on: sexton_api::date::parse(&date(DUE_DAYS)).unwrap(),
            zone: None,
            gone_by: None,
            reason: "contract ended".to_owned(),
        };
        let asked = installation.ask(|client| {
            let body = body.clone();
            async move { client.delete(&body).await.map(drop) }
        });
        if let Answer::Refused(why) = asked {
            // Mostly: it was made before, and the answer was lost. Else there will never be a record.
            notes.say(format!("{}: {why}", self.machine.name));
        }
    }
}

impl Doubt {
    /// Within a day of the record, for one to three days.
    fn any(day_ms: u64, random: &mut StdRng) -> Self {
        let after = random.random_range(0..day_ms);
        let until = after + random.random_range(day_ms..3 * day_ms);
        let [after, until] = [after, until].map(Duration::from_millis);
        Self { after, until, seen: None, placed: false, looked: None }
    }

    /// Place a hold, once; and once it is over, release it whenever it stops something: a job table that was put back may have it
    /// again.
    fn go_on(&mut self, installation: &Installation, line: &DeletionLine, notes: &Notes) {
        let seen = self.seen.get_or_insert_with(Instant::now).elapsed();
        if !self.placed && seen >= self.after {
            let id = line.id;
            match installation.ask(|client| async move { client.hold(id, DOUBT).await.map(drop) }) {
                Answer::Done(()) => self.placed = true,
                Answer::Refused(why) => {
                    self.placed = true;
                    notes.say(format!("{} is not held: {why}", line.resource));
                }
                // It may have been placed all the same: then there will be two.
                Answer::Unknown => {}
            }
        }
        let stopped = matches!(line.state, Some(StateName::Held | StateName::Ready));
        let due = self.looked.is_none_or(|looked| looked.elapsed() >= HELD_LOOK);
        if self.placed && seen >= self.until && stopped && due {
            self.looked = Some(Instant::now());
            release(installation, line, notes);
        }
    }
}

fn release(installation: &Installation, line: &DeletionLine, notes: &Notes) {
    let Some(record) = installation.record(&line.resource.to_string()) else { return };
    for hold in record.holds.iter().filter(|hold| hold.reason == DOUBT) {
        let (id, hold) = (line.id, hold.id);
        let asked = installation.ask(|client| async move { client.release(id, hold).await.map(drop) });
        if let Answer::Refused(why) = asked {
            // Mostly: it was released before, and the answer was lost.
            notes.say(format!("{} is not let go on: {why}", line.resource));
        }
    }
}

/// Whoever looks after what is parked.
#[derive(Default)]
struct Operator {
    /// How often it was looked at, and when last.
    looked: BTreeMap<String, (usize, Instant)>,
}

impl Operator {
    fn look(&mut self, installation: &Installation, lines: &BTreeMap<String, DeletionLine>, notes: &Notes) {
        let lost = notes.lost();
        for line in lines.values().filter(|line| line.state == Some(StateName::Parked)) {
            let resource = line.resource.to_string();
            let before = self.looked.get(&resource).copied();
            if before.is_some_and(|(_, at)| at.elapsed() < PATIENCE) {
                continue;
            }
            let times = before.map_or(1, |(times, _)| times + 1);
            self.looked.insert(resource.clone(), (times, Instant::now()));
            let job = line.job.map(|job| job.to_string()).unwrap_or_default();
            notes.parked(format!("{resource}: {job}: {}", line.why));
            // Nothing is wrong with any machine. Only what was done and then forgotten may be found otherwise.
            let forgotten = lost.contains(line.resource.name.as_str());
            if line.why.contains(" refused: ") && !forgotten {
                notes.mistake(format!("{resource}: {job}: {}", line.why));
            }
            let id = line.id;
            let evidence = "done before the job table went back, says its owner".to_owned();
            // What was listed, and nothing that is parked by now.
            let mark = line.mark.clone().unwrap_or_default();
            let body = Waive { claim: WaiverClaim::Absent, mark, evidence };
            let waive = forgotten && times.is_multiple_of(2);
            // A waiver takes somebody who has requested nothing of it.
            let done = installation.ask_as_another(|client| {
                let body = body.clone();
                async move {
                    let done = if waive { client.waive(id, &body).await } else { client.retry(id).await };
                    done.map(drop)
                }
            });
            if let Answer::Refused(why) = done {
                notes.say(format!("{resource}: {why}"));
            }
        }
    }
}

#[test]
fn all_deletions_are_asked_for_before_the_last_fault() {
    assert_eq!(asked_for(0, 18, 10), 3);
    assert_eq!(asked_for(13, 18, 10), 10);
    assert_eq!(asked_for(0, 500, 270), 27);
    assert!(asked_for(440, 500, 270) < 270);
    assert_eq!(asked_for(450, 500, 270), 270);
    assert_eq!(asked_for(1, 1, 270), 270, "a single fault");
}
