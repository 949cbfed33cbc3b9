//! Listings.
use std::collections::BTreeSet;

use async_trait::async_trait;
use sexton_model::belts::census::Census;
use sexton_model::belts::census::daily::{Attempt, Seen};
use sexton_model::belts::census::listing::{Heard, LEFT_US, Listing, NewListing, Page};
use sexton_model::canary::Came;
use sexton_model::survey::Numbers;
use sexton_model::{Actor, Fence, Instance, Timestamp};

use super::connection::{Bind, Db, Row, change_one, execute, rows, store};
use super::memory::{self, Memory, Staged};
use super::writer::{Answer, Work};
use super::{SqliteLedger, census, codes, mixed_up};
use crate::listing::{self, Listings};
use crate::rules::text;
use crate::{Counted, LedgerError, NotDone};

const DOING: &str = "keeping listings";
const LEFT: &str = "DELETE FROM listings WHERE answer_by <= ?";
const OPEN: &str = "SELECT id, body FROM listings WHERE answer_by > ? ORDER BY id";
const ALL: &str = "SELECT id, body FROM listings ORDER BY id";
const INSERT: &str = "INSERT INTO listings (id, answer_by, body) VALUES (?, ?, ?)";
const PAGE: &str = "INSERT INTO listing_pages (listing, instance, page, body) VALUES (?, ?, ?, ?)";
const PAGES: &str = "SELECT instance, body FROM listing_pages WHERE listing = ? ORDER BY instance, page";

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Ask {
    Begin(NewListing),
    Hear(Instance, Fence, Came),
    End(i64),
    NotTaken(Attempt),
}

/// What it answers, in the same order.
#[derive(Debug)]
pub(super) enum Done {
    Begin(Box<Result<Listing, NotDone>>),
    Hear(Option<Box<Listing>>),
    End,
    NotTaken(bool),
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
        Ask::Hear(from, fence, came) => {
            Done::Hear(hear(db, memory, now, (from, *fence, came))?.map(Box::new))
        }
        Ask::End(id) => {
            execute(db, DOING, "DELETE FROM listings WHERE id = ?", Bind::of([*id]))?;
            Done::End
        }
        Ask::NotTaken(attempt) => Done::NotTaken(census::not_taken(db, now, attempt)?),
    })
}

fn begin(
    db: &Db,
    memory: &mut Memory,
    now: Timestamp,
    new: &NewListing,
) -> Result<Result<Listing, NotDone>, LedgerError> {
    execute(db, DOING, LEFT, Bind::of([now.0 - LEFT_US]))?;
    let beside = listing::judged_beside(new, now);
    let open = parsed(&rows(db, DOING, OPEN, Bind::of([beside.0]))?)?;
    let by_now = match new.seen {
        Some(_) => Some(Seen::of(census::latest_of(db, (&new.kind, &new.scope))?.as_ref())),
        None => None,
    };
    let ledger = memory::standing(db)?;
    if let Err(why) = listing::judge(new, ledger.review, &open, by_now) {
        return Ok(Err(why));
    }
    let first_fence = memory.fences(new.instances.len());
    let numbers = Numbers { now, epoch: ledger.epoch, revision: ledger.revision, first_fence };
    let begun = new.clone().numbered(numbers);
    let mut bind = Bind::default();
    bind.add(begun.id).add(begun.answer_by.0).add(text(&begun)?);
    change_one(db, (DOING, "listings"), INSERT, bind)?;
    Ok(Ok(begun))
}

fn hear(
    db: &Db,
    memory: &mut Memory,
    now: Timestamp,
    (from, fence, came): (&Instance, Fence, &Came),
) -> Result<Option<Listing>, LedgerError> {
    let kept = parsed(&rows(db, DOING, OPEN, Bind::of([now.0]))?)?;
    let Some(standing) = listing::waiting(kept, fence) else { return Ok(None) };
    let heard = standing.hear((from, fence), came, now);
    let Some(Heard { mut listing, page, more }) = heard else { return Ok(None) };
    if more {
        listing = listing.number(fence, memory.fences(1));
    }
    let mut bind = Bind::default();
    bind.add(text(&listing)?).add(listing.id);
    change_one(db, (DOING, "listings"), "UPDATE listings SET body = ? WHERE id = ?", bind)?;
    if let Some((instance, number, page)) = page {
        let mut bind = Bind::default();
        bind.add(listing.id).add(instance.to_string()).add(i64::from(number)).add(text(&page)?);
        change_one(db, (DOING, "listing_pages"), PAGE, bind)?;
    }
    Ok(Some(listing))
}

fn parsed(rows: &[Row]) -> Result<Vec<Listing>, LedgerError> {
    rows.iter().map(parse).collect()
}

fn parse(row: &Row) -> Result<Listing, LedgerError> {
    let id: i64 = row.try_get(0).map_err(store(DOING))?;
    codes::body("listings", id, row.try_get(1).map_err(store(DOING))?)
}

fn page(row: &Row) -> Result<(Instance, Page), LedgerError> {
    let instance: &str = row.try_get(0).map_err(store(DOING))?;
    let from = instance.parse().map_err(|_| codes::corrupt("listing_pages", instance, "not an instance"))?;
    Ok((from, codes::body("listing_pages", instance, row.try_get(1).map_err(store(DOING))?)?))
}

#[async_trait]
impl Listings for SqliteLedger {
    async fn begin_listing(&self, new: NewListing) -> Result<Result<Listing, NotDone>, LedgerError> {
        listing::bounded(&new)?;
        match self.ask(Work::Listing(Ask::Begin(new))).await? {
            Answer::Listing(Done::Begin(begun)) => Ok(*begun),
            other => Err(mixed_up(&other)),
        }
    }

    async fn hear_listing(
        &self,
        from: &Instance,
        fence: Fence,
        came: &Came,
    ) -> Result<Option<Listing>, LedgerError> {
        match self.ask(Work::Listing(Ask::Hear(from.clone(), fence, came.clone()))).await? {
            Answer::Listing(Done::Hear(heard)) => Ok(heard.map(|heard| *heard)),
            other => Err(mixed_up(&other)),
        }
    }

    async fn listing_orders(&self) -> Result<BTreeSet<i64>, LedgerError> {
        let kept = self.reads.read(|db| parsed(&rows(db, DOING, ALL, Bind::default())?)).await?;
        Ok(listing::orders(&kept))
    }

    async fn listings(&self) -> Result<Vec<Listing>, LedgerError> {
        self.reads.read(|db| parsed(&rows(db, DOING, ALL, Bind::default())?)).await
    }

    async fn note_not_taken(&self, attempt: Attempt) -> Result<bool, LedgerError> {
        match self.ask(Work::Listing(Ask::NotTaken(attempt))).await? {
            Answer::Listing(Done::NotTaken(noted)) => Ok(noted),
            other => Err(mixed_up(&other)),
        }
    }

    async fn listing(&self, id: i64) -> Result<Option<Listing>, LedgerError> {
        let sql = "SELECT id, body FROM listings WHERE id = ?";
        self.reads.read(move |db| rows(db, DOING, sql, Bind::of([id]))?.first().map(parse).transpose()).await
    }

    async fn listed(&self, id: i64) -> Result<Vec<(Instance, Page)>, LedgerError> {
        self.reads.read(move |db| rows(db, DOING, PAGES, Bind::of([id]))?.iter().map(page).collect()).await
    }

    async fn take_listed(
        &self,
        id: i64,
        census: Census,
        by: &Actor,
    ) -> Result<Option<Result<Counted, NotDone>>, LedgerError> {
        match self.ask(Work::Listed(id, Box::new(census), by.clone())).await? {
            Answer::Listed(judged) => Ok(judged.map(|judged| *judged)),
            other => Err(mixed_up(&other)),
        }
    }

    async fn end_listing(&self, id: i64) -> Result<(), LedgerError> {
        match self.ask(Work::Listing(Ask::End(id))).await? {
            Answer::Listing(Done::End) => Ok(()),
            other => Err(mixed_up(&other)),
        }
    }
}
