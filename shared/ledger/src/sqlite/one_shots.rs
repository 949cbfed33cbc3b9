//! Overrides. Like ceilings they are read with what is in force, and written down in the same chain.
use sexton_model::belts::one_shot::{BROKEN_GLASS_MAX, NewOneShot, OneShot, TakenBack};
use sexton_model::{Actor, Timestamp};

use super::codes;
use super::connection::{Bind, Db, change_one, row, rows, store};
use super::memory::{Memory, Staged};
use super::pausing::{event, link};
use super::run::Setting;
use crate::rules::text;
use crate::{LedgerError, NotDone};

const DOING: &str = "keeping overrides";
const GOOD: &str = "SELECT id, body FROM one_shots WHERE NOT ended ORDER BY id";
/// By two partial indexes: of those that are over there are as many as there ever were.
const BROKEN_GLASS: &str = "SELECT id, body FROM ( \
       SELECT id, ended, body FROM one_shots WHERE NOT ended \
       UNION ALL SELECT id, ended, body FROM one_shots WHERE ended AND good_until > ?1) \
     WHERE instr(body, '\"break_glass\":true') > 0 ORDER BY ended, id LIMIT ?2";
const TAKE_BACK: &str = "UPDATE one_shots SET ended = 1, body = ? WHERE id = ? AND NOT ended";

/// Those that were not taken back and whose stage is not over.
pub(super) fn good(db: &Db) -> Result<Vec<OneShot>, LedgerError> {
    read(db, GOOD, Bind::default())
}

/// Those for which the glass was broken, also if they were taken back, until nothing could have begun by them any more.
pub(super) fn broken_glass(db: &Db, now: Timestamp) -> Result<Vec<OneShot>, LedgerError> {
    let mut bind = Bind::default();
    bind.add(now.0).add(i64::try_from(BROKEN_GLASS_MAX).unwrap_or(i64::MAX));
    read(db, BROKEN_GLASS, bind)
}

fn read(db: &Db, sql: &'static str, bind: Bind) -> Result<Vec<OneShot>, LedgerError> {
    let found = rows(db, DOING, sql, bind)?;
    let parse = |row: &super::connection::Row| {
        let id: i64 = row.try_get(0).map_err(store(DOING))?;
        codes::body("one_shots", id, row.try_get(1).map_err(store(DOING))?)
    };
    found.iter().map(parse).collect()
}

/// Let one stage of one deletion pass one belt.
pub(super) fn give(
    db: &Db,
    memory: &mut Memory,
    staged: &mut Staged,
    (setting, new): (&Setting, &NewOneShot),
) -> Result<Result<OneShot, NotDone>, LedgerError> {
    let (id, now) = (new.deletion, staged.now);
    let found = memory.deletions(db, staged, [id].into_iter())?;
    let d = found.get(&id).map(|(d, _)| d.clone());
    staged.deletions.extend(found);
    let Some(d) = d else { return Ok(Err(NotDone::NoSuchDeletion(id))) };
    let mut there = good(db)?;
    for over in crate::rules::one_shots_over(&mut there, now) {
        end(db, over)?;
    }
    if let Err(why) = new.check(&d, &there, now) {
        return Ok(Err(why.into()));
    }
    let last: i64 = row(db, DOING, "SELECT coalesce(max(id), 0) FROM one_shots", Bind::default())?
        .try_get(0)
        .map_err(store(DOING))?;
    let given = new.clone().from(last + 1, now, &d, setting.day);
    let mut bind = Bind::default();
    bind.add(given.id).add(given.until.0).add(text(&given)?);
    let sql = "INSERT INTO one_shots (id, good_until, body) VALUES (?, ?, ?)";
    change_one(db, (DOING, "one_shots"), sql, bind)?;
    memory.in_force = None;
    let what = if given.break_glass { "glass_broken" } else { "overridden" };
    link(db, &event(staged, what, &given.by, &given)?)?;
    Ok(Ok(given))
}

fn end(db: &Db, id: i64) -> Result<(), LedgerError> {
    let mut bind = Bind::default();
    bind.add(id);
    change_one(db, (DOING, "one_shots"), "UPDATE one_shots SET ended = 1 WHERE id = ? AND NOT ended", bind)
}

/// Take one back. `false` if there is none of that number that is good.
pub(super) fn take_back(
    db: &Db,
    memory: &mut Memory,
    staged: &Staged,
    (id, by): (i64, &Actor),
) -> Result<bool, LedgerError> {
    let Some(given) = good(db)?.into_iter().find(|given| given.id == id) else { return Ok(false) };
    // What it is from now on is kept, since whoever has broken the glass is told of all the same.
    let back = TakenBack { by: by.clone(), at: staged.now };
    let mut bind = Bind::default();
    bind.add(text(&OneShot { taken_back: Some(back), ..given.clone() })?).add(id);
    change_one(db, (DOING, "one_shots"), TAKE_BACK, bind)?;
    memory.in_force = None;
    link(db, &event(staged, "override_taken_back", by, &given)?)?;
    Ok(true)
}
