//! The one task that writes: it drains what waits, decides all of it in one transaction, commits once, and
//! only then answers.
use std::collections::VecDeque;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};

use sexton_model::belts::{Pause, PauseSelector};
use sexton_model::checkpoint::{Behind, Checkpoint, Mark, Review};
use sexton_model::resource::Resource;
use sexton_model::{Actor, DeletionId};
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};

use super::chunk::{close, store};
use super::clock::Clock;
use super::memory::{self, Memory, OutCounts, Staged};
use super::run::Setting;
use super::{inventory, pausing, reviewing, run};
use crate::known::Known;
use crate::{Alive, Decided, Intent, LedgerError, NewDeletion, NotDone, Paused};

/// Commands that may wait: as many as there are callers at once in a busy coordinator; more of them wait in
/// their callers.
pub(super) const WAITING: usize = 256;

/// Commands in one transaction: keeps a commit, and so the longest wait for an answer, short.
const GROUP: usize = 64;

/// Intents that neighbouring batches are joined to: enough for the fixed cost of a batch not to matter, and few
/// enough for one to be decided while another is written.
const MERGED: usize = 128;

/// Intents in one transaction, unless a single batch has more: many enough for the sync of a commit not to matter, and
/// few enough for consumers to work on some answers while the next ones are written. With all that is out in one
/// transaction, whoever writes and whoever works would wait for each other in turn.
const INTENTS: usize = 512;

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Work {
    Run(Arc<Vec<Intent>>),
    Register(Vec<Resource>, Actor, bool),
    Create(Vec<NewDeletion>),
    Pause(PauseSelector, Actor, String),
    Resume(i64, Actor),
    Pulse(Vec<Alive>),
    Checkpoint,
    Confront(Checkpoint),
    Accept(u32, Actor, String),
    Compare,
}

/// What it answers, in the same order.
#[derive(Debug)]
pub(super) enum Answer {
    Run(Vec<Result<Decided, NotDone>>),
    Register(Vec<Result<(), NotDone>>),
    Create(Vec<Result<DeletionId, NotDone>>),
    Pause(Paused),
    Resume(Option<Pause>),
    Pulse,
    Checkpoint(Result<Mark, Behind>),
    Confront(Option<Review>, Mark),
    Accept(bool),
    Compare(Result<(), String>),
}

type Reply = oneshot::Sender<Result<Answer, LedgerError>>;

/// One command.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) work: Work,
    pub(super) reply: Reply,
}

/// Everything the writer owns.
pub(super) struct Writer {
    pub(super) db: SqliteConnection,
    pub(super) memory: Memory,
    pub(super) clock: Arc<Clock>,
    pub(super) setting: Arc<Setting>,
    /// Orders out as of the last commit, for whoever asks for free credit.
    pub(super) out: Arc<Mutex<OutCounts>>,
    /// What was committed, for whoever asks what is known.
    pub(super) known: Arc<Known>,
    /// Locked: no other process writes this file.
    pub(super) lock: File,
}

/// Commands that are decided as one: a single one, or neighbouring batches.
struct Item {
    work: Work,
    replies: Vec<(Reply, usize)>,
}

impl Writer {
    /// Write until every handle is gone.
    pub(super) async fn work(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut waiting = Vec::with_capacity(GROUP);
        while commands.recv_many(&mut waiting, GROUP).await > 0 {
            let items = merge(waiting.drain(..));
            self.answer(items).await;
        }
        close(self.db).await;
        drop(self.lock);
    }

    /// One transaction for all; if it fails, one for each, so that only the bad one fails.
    async fn answer(&mut self, items: Vec<Item>) {
        let mut todo = groups(items);
        while let Some(group) = todo.pop_front() {
            let answers = self.transaction(&group).await;
            if answers.is_err() {
                self.memory.forget();
            }
            match answers {
                Ok(answers) => {
                    for (item, answer) in group.into_iter().zip(answers) {
                        reply(item.replies, answer);
                    }
                }
                Err(error) if group.len() == 1 && group[0].replies.len() <= 1 => {
                    if let Some((reply, _)) = group.into_iter().flat_map(|item| item.replies).next() {
                        reply.send(Err(error)).ok();
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %error, items = group.len(), "a group failed, each is tried alone");
                    for item in group.into_iter().flat_map(apart).rev() {
                        todo.push_front(vec![item]);
                    }
                }
            }
        }
    }

    async fn transaction(&mut self, group: &[Item]) -> Result<Vec<Answer>, LedgerError> {
        let mut tx = self.db.begin_with("BEGIN IMMEDIATE").await.map_err(store("beginning to write"))?;
        let mut staged = self.memory.stage(self.clock.now());
        let with = (&self.setting, &*self.known);
        let done = all(&mut tx, &mut self.memory, &mut staged, with, group).await;
        let answers = match done {
            Ok(answers) => answers,
            Err(error) => {
                // What was loaded for this transaction is dropped with `staged`. If the rollback failed, the
                // next BEGIN would, too, and say so.
                if let Err(failed) = tx.rollback().await {
                    tracing::error!(error = %failed, "a transaction could not be rolled back");
                }
                return Err(error);
            }
        };
        tx.commit().await.map_err(store("committing"))?;
        self.known.note_fence(self.memory.last_fence);
        self.memory.take_over(staged);
        self.out.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&self.memory.out);
        Ok(answers)
    }
}

/// Do everything in order; neighbouring batches together.
async fn all(
    db: &mut SqliteConnection,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, known): (&Arc<Setting>, &Known),
    group: &[Item],
) -> Result<Vec<Answer>, LedgerError> {
    let mut answers = Vec::with_capacity(group.len());
    let mut batches: Vec<&Arc<Vec<Intent>>> = Vec::new();
    for item in group {
        if let Work::Run(batch) = &item.work {
            batches.push(batch);
            continue;
        }
        let before = run::run(db, memory, staged, setting, &std::mem::take(&mut batches)).await?;
        answers.extend(before.into_iter().map(Answer::Run));
        answers.push(one(db, memory, staged, (setting, known), &item.work).await?);
    }
    let rest = run::run(db, memory, staged, setting, &batches).await?;
    answers.extend(rest.into_iter().map(Answer::Run));
    staged.write_counts(db).await?;
    memory.write_fences(db).await?;
    Ok(answers)
}

async fn one(
    db: &mut SqliteConnection,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, known): (&Arc<Setting>, &Known),
    work: &Work,
) -> Result<Answer, LedgerError> {
    Ok(match work {
        Work::Run(batch) => {
            let mut results = run::run(db, memory, staged, setting, &[batch]).await?;
            Answer::Run(results.pop().unwrap_or_default())
        }
        Work::Register(resources, by, whole) => {
            Answer::Register(inventory::register(db, memory, staged, (resources, by, *whole)).await?)
        }
        Work::Create(new) => Answer::Create(inventory::create(db, staged, setting.day, new).await?),
        Work::Pause(covers, by, reason) => {
            Answer::Pause(pausing::pause(db, memory, staged, (covers, by, reason)).await?)
        }
        Work::Resume(pause, by) => Answer::Resume(pausing::resume(db, memory, staged, (*pause, by)).await?),
        Work::Pulse(alive) => {
            pausing::pulse(db, memory, staged, (alive, setting.limits.down_after_us())).await?;
            Answer::Pulse
        }
        Work::Checkpoint => Answer::Checkpoint(reviewing::checkpoint(db, staged, &known.seen()).await?),
        Work::Confront(seen) => {
            let (review, mark) = reviewing::confront(db, memory, staged, seen).await?;
            Answer::Confront(review, mark)
        }
        Work::Accept(epoch, by, reason) => {
            Answer::Accept(reviewing::accept(db, memory, staged, (*epoch, by, reason)).await?)
        }
        Work::Compare => {
            staged.write_counts(db).await?;
            Answer::Compare(memory::compare(db, memory, staged).await?)
        }
    })
}

/// What goes into one transaction each, in order.
fn groups(items: Vec<Item>) -> VecDeque<Vec<Item>> {
    let mut groups = VecDeque::new();
    let (mut group, mut intents) = (Vec::new(), 0);
    for item in items {
        let more = if let Work::Run(batch) = &item.work { batch.len() } else { 0 };
        if !group.is_empty() && intents + more > INTENTS {
            groups.push_back(std::mem::take(&mut group));
            intents = 0;
        }
        intents += more;
        group.push(item);
    }
    groups.push_back(group);
    groups
}

/// Join neighbouring batches.
fn merge(commands: impl Iterator<Item = Command>) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for Command { work, reply } in commands {
        match (work, items.last_mut()) {
            (Work::Run(more), Some(Item { work: Work::Run(batch), replies }))
                if batch.len() + more.len() <= MERGED =>
            {
                replies.push((reply, more.len()));
                Arc::make_mut(batch).extend(Arc::unwrap_or_clone(more));
            }
            (work, _) => {
                let count = if let Work::Run(batch) = &work { batch.len() } else { 0 };
                items.push(Item { work, replies: vec![(reply, count)] });
            }
        }
    }
    items
}

/// The batches an item was joined from.
fn apart(item: Item) -> Vec<Item> {
    match item {
        Item { work: Work::Run(batch), replies } if replies.len() > 1 => {
            let mut batch = Arc::unwrap_or_clone(batch);
            let own = |(reply, count)| {
                let own = batch.drain(..count).collect();
                Item { work: Work::Run(Arc::new(own)), replies: vec![(reply, count)] }
            };
            replies.into_iter().map(own).collect()
        }
        whole => vec![whole],
    }
}

/// Hand out the answers after the commit. Whoever asked may be gone; what was decided stays decided.
fn reply(replies: Vec<(Reply, usize)>, answer: Answer) {
    match answer {
        Answer::Run(results) => {
            let mut results = results.into_iter();
            for (reply, count) in replies {
                reply.send(Ok(Answer::Run(results.by_ref().take(count).collect()))).ok();
            }
        }
        answer => {
            if let Some((reply, _)) = replies.into_iter().next() {
                reply.send(Ok(answer)).ok();
            }
        }
    }
}
