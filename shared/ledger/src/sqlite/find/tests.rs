//! What a look at the job table touches, by the plans of its statements: the file is as the migrations leave it, as no
//! ledger of this kind is ever analysed.
use sexton_model::belts::Policy;
use sexton_model::time::Day;

use super::*;
use crate::sqlite::{SqliteLedger, admitting, behind, below, lifting, watched};
use crate::{Limits, Options};

/// What grows with what is stored, by the names that the statements give it.
const GROWS: [&str; 11] =
    ["jobs", "j", "records", "r", "deletions", "d", "resources", "x", "t", "admissions", "a"];
/// Indexes on what is few, read whole: credit bounds what is locked, and what is held is gone through in pieces.
const FEW: [&str; 2] = ["the_lock", "jobs_held"];
/// Of one rank of a line only what is due: what stands behind it may be all that is stored.
const DUE: &str = "the_queue (wants=? AND rank=? AND due_at<?)";

#[tokio::test]
async fn what_is_looked_for_is_found_without_touching_all_there_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let options = Options { day: Day::Calendar, limits: Limits::default(), policy: Policy::default() };
    let _ledger = SqliteLedger::open(&file, options).await.unwrap();
    let db = Db::open(&file, "PRAGMA query_only = ON").unwrap();
    for (what, sql, index) in [
        ("the lines", lines(), "the_queue"),
        ("what is due", IN_LINE, DUE),
        ("the restores of a line", restores::IN_LINE, DUE),
        ("leases and back-offs", OVER, "the_lock"),
        ("what is held", HELD, "jobs_held"),
        ("what is stuck", STUCK, "the_lock"),
        ("what a pause stopped", STOPPED, "the_lock"),
        ("how many wait", waiting_sql(), DUE),
        ("what is admitted together", admitting::due_sql(), DUE),
        ("what is held before it is announced", admitting::HELD_ANNOUNCED, "jobs_held"),
        ("who is stopped by a pause", lifting::MEMBERS, "jobs_held"),
        ("what stands behind a piece", behind::KEPT, "jobs_held"),
        ("what a digest says is held", watched::HELD, "jobs_held"),
        ("what a digest says is held between two steps", watched::HELD, "the_lock"),
        ("by what it is held", watched::HELD_BY, "jobs_held"),
        ("by what it is held between two steps", watched::HELD_BY, "the_lock"),
        ("what may alarm by its date", watched::WATCHED, "records_watched (deletion_id>?)"),
        ("what may alarm by its state", watched::WATCHED, "the_lock"),
        ("what comes back", watched::RESTORING, "the_lock"),
        ("deletions of some scopes", below::DELETIONS, "records_by_scope (scope=? AND "),
        ("which scopes of deletions there are", below::DELETIONS, "records_by_scope (scope>? AND scope<?)"),
        ("resources of some scopes", below::RESOURCES, "resources_by_scope (scope=? AND id>?)"),
        ("which scopes of resources there are", below::RESOURCES, "resources_by_scope (scope>? AND scope<?)"),
    ] {
        let steps = plan(&db, sql);
        assert!(steps.iter().any(|step| step.contains(&format!("INDEX {index}"))), "{what}: {steps:#?}");
        for step in &steps {
            assert!(bounded(step), "{what} walks over all there is: {step}\n{steps:#?}");
        }
    }
    // The measure itself: what would be said of statements that do walk.
    for sql in [
        "SELECT id FROM jobs WHERE state = ?",
        "SELECT id FROM jobs WHERE id > ? AND state = 2 ORDER BY id LIMIT 9",
        "SELECT count(*) FROM jobs AS j WHERE j.queued",
        "SELECT id FROM jobs WHERE queued AND wants = ? AND rank = ? AND +due_at <= ? ORDER BY due_at, id LIMIT ?",
        "SELECT count(*) FROM jobs WHERE queued AND wants = ?",
    ] {
        let steps = plan(&db, sql);
        assert!(!steps.iter().all(|step| bounded(step)), "{sql}: {steps:#?}");
    }
}

fn plan(db: &Db, sql: &str) -> Vec<String> {
    let mut bind = Bind::default();
    for _ in 0..8 {
        bind.add(0_i64);
    }
    let sql: &'static str = format!("EXPLAIN QUERY PLAN {sql}").leak();
    let steps = rows(db, "asking for a plan", sql, bind).unwrap();
    steps.iter().map(|step| step.try_get(3).unwrap()).collect()
}

/// Whether a step of a plan touches only what it looks for, or what is few.
fn bounded(step: &str) -> bool {
    let mut words = step.split_whitespace();
    let (how, of) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let few = FEW.iter().any(|index| step.contains(&format!("INDEX {index}")));
    match how {
        "SCAN" => few || !GROWS.contains(&of),
        // A part of the numbers of all rows there are is as good as all of them, and so is a line with what is not due.
        "SEARCH" => {
            let line = step.contains("INDEX the_queue (wants=?");
            !step.contains("(rowid>?)") && (!line || step.contains("due_at<?"))
        }
        _ => true,
    }
}
