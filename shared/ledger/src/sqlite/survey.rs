//! Surveys.
use std::ops::Range;

use async_trait::async_trait;
use sexton_model::canary::Came;
use sexton_model::survey::{AGAIN_US, KEPT_MAX, KEPT_US, NewSurvey, Numbers, Survey};
use sexton_model::{Fence, Instance, Timestamp};

use super::connection::{Bind, Db, Row, change_one, execute, row, rows, store};
use super::memory::{self, Memory, Staged};
use super::writer::{Answer, Work};
use super::{SqliteLedger, canary, codes, mixed_up, views};
use crate::rules::text;
use crate::survey::{self, Begun, MINUTE_US, Standing, Surveys};
use crate::{LedgerError, NotDone};

const DOING: &str = "keeping surveys";
const COUNTED: &str = "SELECT count(*) FILTER (WHERE open AND answer_by > ?1), \
     count(*) FILTER (WHERE begun_at > ?2) FROM surveys";
/// What nobody has answered in time is over.
const CLOSE: &str = "UPDATE surveys SET open = 0 WHERE open AND answer_by <= ?";
const OF_RESOURCE: &str = "SELECT id, body FROM surveys WHERE open AND resource = ?";
const INSERT: &str = "INSERT INTO surveys (id, resource, begun_at, answer_by, sent_at, looks, open, body) \
     VALUES (?, ?, ?, ?, ?, ?, 1, ?)";
const TOO_MANY: &str = "DELETE FROM surveys WHERE id IN (SELECT id FROM surveys WHERE NOT open ORDER BY id DESC LIMIT -1 OFFSET ?)";
const OF_ORDER: &str = "SELECT id, body FROM surveys WHERE open AND id <= ?1 AND id + looks > ?1";
const TO_SEND: &str = "SELECT id, body FROM surveys WHERE open AND answer_by > ?1 AND sent_at <= ?2";
const OLD: &str = "SELECT 1 FROM surveys WHERE begun_at <= ? LIMIT 1";
const FORGET: &str = "DELETE FROM surveys WHERE begun_at <= ?";

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Begin(Box<NewSurvey>),
    Hear(Instance, Fence, Came),
    Send,
    Forget,
}

/// What it answers, in the same order.
#[derive(Debug)]
pub(super) enum Done {
    Begin(Box<Result<Begun, NotDone>>),
    Hear(Option<Box<Survey>>),
    Send(Vec<Survey>),
    Forget(u64),
}

/// Do it.
pub(super) fn carry_out(
    db: &Db,
    memory: &mut Memory,
    staged: &Staged,
    ask: &Ask,
) -> Result<Done, LedgerError> {
    let now = staged.now;
    Ok(match ask {
        Ask::Begin(new) => Done::Begin(Box::new(begin(db, memory, now, new)?)),
        Ask::Hear(from, fence, came) => Done::Hear(hear(db, now, (from, *fence), came)?.map(Box::new)),
        Ask::Send => Done::Send(send(db, now)?),
        Ask::Forget => Done::Forget(execute(db, DOING, FORGET, Bind::of([now.0 - KEPT_US]))?),
    })
}

fn begin(
    db: &Db,
    memory: &mut Memory,
    now: Timestamp,
    new: &NewSurvey,
) -> Result<Result<Begun, NotDone>, LedgerError> {
    execute(db, DOING, CLOSE, Bind::of([now.0]))?;
    let ledger = memory::standing(db)?;
    match survey::judge(new, standing(db, new, (now, ledger.review))?) {
        Ok(None) => {}
        Ok(Some(open)) => return Ok(Ok(Begun::Before(Box::new(open)))),
        Err(why) => return Ok(Err(why)),
    }
    let first_fence = memory.fences(new.looks.len());
    let numbers = Numbers { now, epoch: ledger.epoch, revision: ledger.revision, first_fence };
    let begun = new.clone().numbered(numbers);
    let mut bind = Bind::default();
    bind.add(begun.id).add(begun.about.resource.id.to_string());
    bind.add(begun.begun_at.0).add(begun.answer_by.0).add(begun.begun_at.0);
    bind.add(i64::try_from(begun.looks.len()).unwrap_or(i64::MAX)).add(text(&begun)?);
    change_one(db, (DOING, "surveys"), INSERT, bind)?;
    execute(db, DOING, TOO_MANY, Bind::of([KEPT_MAX]))?;
    Ok(Ok(Begun::Now(Box::new(begun))))
}

fn standing(db: &Db, new: &NewSurvey, (now, review): (Timestamp, bool)) -> Result<Standing, LedgerError> {
    let id = &new.about.resource.id;
    let mut bind = Bind::default();
    bind.add(id.to_string());
    let open = rows(db, DOING, OF_RESOURCE, bind)?.first().map(parse).transpose()?;
    let counted = row(db, DOING, COUNTED, Bind::of([now.0, now.0 - MINUTE_US]))?;
    Ok(Standing {
        review,
        resource: views::resource(db, id)?,
        open,
        canaries: canary::look_at(db, id)?,
        open_in_all: counted.try_get(0).map_err(store(DOING))?,
        begun_lately: counted.try_get(1).map_err(store(DOING))?,
    })
}

fn hear(
    db: &Db,
    now: Timestamp,
    (from, fence): (&Instance, Fence),
    came: &Came,
) -> Result<Option<Survey>, LedgerError> {
    let found = rows(db, DOING, OF_ORDER, Bind::of([fence.number]))?;
    let Some(standing) = found.first().map(parse).transpose()? else { return Ok(None) };
    let Some(heard) = standing.hear((from, fence), came, now) else { return Ok(None) };
    let mut bind = Bind::default();
    bind.add(text(&heard)?).add(heard.is_open(now)).add(heard.id);
    change_one(db, (DOING, "surveys"), "UPDATE surveys SET body = ?, open = ? WHERE id = ?", bind)?;
    Ok(Some(heard))
}

fn send(db: &Db, now: Timestamp) -> Result<Vec<Survey>, LedgerError> {
    let found = to_send(db, now)?;
    for survey in &found {
        let sql = "UPDATE surveys SET sent_at = ? WHERE id = ?";
        change_one(db, (DOING, "surveys"), sql, Bind::of([now.0, survey.id]))?;
    }
    Ok(found)
}

fn to_send(db: &Db, now: Timestamp) -> Result<Vec<Survey>, LedgerError> {
    rows(db, DOING, TO_SEND, Bind::of([now.0, now.0 - AGAIN_US]))?.iter().map(parse).collect()
}

fn parse(row: &Row) -> Result<Survey, LedgerError> {
    let id: i64 = row.try_get(0).map_err(store(DOING))?;
    codes::body("surveys", id, row.try_get(1).map_err(store(DOING))?)
}

#[async_trait]
impl Surveys for SqliteLedger {
    async fn begin_survey(&self, new: NewSurvey) -> Result<Result<Begun, NotDone>, LedgerError> {
        survey::bounded(&new)?;
        match self.ask(Work::Survey(Ask::Begin(Box::new(new)))).await? {
            Answer::Survey(Done::Begin(begun)) => Ok(*begun),
            other => Err(mixed_up(&other)),
        }
    }

    async fn hear_survey(
        &self,
        from: &Instance,
        fence: Fence,
        came: &Came,
    ) -> Result<Option<Survey>, LedgerError> {
        match self.ask(Work::Survey(Ask::Hear(from.clone(), fence, came.clone()))).await? {
            Answer::Survey(Done::Hear(heard)) => Ok(heard.map(|heard| *heard)),
            other => Err(mixed_up(&other)),
        }
    }

    async fn survey_orders(&self) -> Result<Vec<Range<i64>>, LedgerError> {
        self.reads
            .read(|db| {
                let span = |row: &Row| {
                    Ok(row.try_get(0).map_err(store(DOING))?..row.try_get(1).map_err(store(DOING))?)
                };
                let sql = "SELECT id, id + looks FROM surveys WHERE open";
                rows(db, DOING, sql, Bind::default())?.iter().map(span).collect()
            })
            .await
    }

    async fn surveys_to_send(&self) -> Result<Vec<Survey>, LedgerError> {
        // Mostly there are none, and then nobody has to write.
        let now = self.clock.now();
        if self.reads.read(move |db| to_send(db, now)).await?.is_empty() {
            return Ok(Vec::new());
        }
        match self.ask(Work::Survey(Ask::Send)).await? {
            Answer::Survey(Done::Send(surveys)) => Ok(surveys),
            other => Err(mixed_up(&other)),
        }
    }

    async fn survey(&self, id: i64) -> Result<Option<Survey>, LedgerError> {
        let since = self.clock.now().0 - KEPT_US;
        let sql = "SELECT id, body FROM surveys WHERE id = ? AND begun_at > ?";
        self.reads
            .read(move |db| rows(db, DOING, sql, Bind::of([id, since]))?.first().map(parse).transpose())
            .await
    }

    async fn forget_surveys(&self) -> Result<u64, LedgerError> {
        let before = self.clock.now().0 - KEPT_US;
        if self.reads.read(move |db| rows(db, DOING, OLD, Bind::of([before]))).await?.is_empty() {
            return Ok(0);
        }
        match self.ask(Work::Survey(Ask::Forget)).await? {
            Answer::Survey(Done::Forget(gone)) => Ok(gone),
            other => Err(mixed_up(&other)),
        }
    }
}
