//! What is kept of a run that failed, for whoever has to find out why: everything about the records, the
//! configuration, and the logs of services and servers. Keys stay out of it.
//!
//! The records are read from the job table itself: a coordinator may be what has failed, or was killed just then, and
//! one that was started now would go on with the work.
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sexton_ledger::postgres::PgLedger;
use sexton_ledger::{DeletionFilter, DeletionRow, DeletionView, Ledger, Limits, Options};
use sexton_model::belts::Policy;
use sexton_model::time::Day;

/// A database that does not answer must not keep the test from ending.
const PATIENCE: Duration = Duration::from_secs(30);
/// A page of records: as many as the ledger gives at once.
const PAGE: u32 = 1000;

/// Copies what is below `dev`, the folder of `scripts/dev`, to a folder of the test that runs now; which one.
pub fn keep(runtime: &tokio::runtime::Runtime, dev: &Path, day_ms: u64) -> PathBuf {
    let test = std::thread::current().name().unwrap_or("a_test").replace("::", "-");
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("machines").join(test);
    let _ = std::fs::remove_dir_all(&kept);
    // What goes wrong here must not keep the rest from being kept, nor the processes from being stopped.
    let _ = std::fs::create_dir_all(kept.join("records"));
    for part in ["log", "sexton.toml", "postgres/postgres.log", "rabbitmq/rabbitmq.log", "rabbitmq/log"] {
        let to = kept.join(part.replace('/', "-"));
        // Some are missing if it did not come that far.
        let _ = Command::new("cp").arg("-r").arg(dev.join(part)).arg(to).output();
    }
    let read = async {
        tokio::time::timeout(PATIENCE, records(dev, day_ms, &kept.join("records")))
            .await
            .map_err(|e| e.to_string())?
    };
    if let Err(why) = runtime.block_on(read) {
        eprintln!("the records could not be read: {why}");
    }
    kept
}

/// A file for each record, and one that lists them all.
async fn records(dev: &Path, day_ms: u64, to: &Path) -> Result<(), String> {
    let ledger = job_table(dev, day_ms).await?;
    let all = DeletionFilter { limit: PAGE, ..DeletionFilter::default() };
    let rows = ledger.deletions(&all).await.map_err(|e| format!("{e:?}"))?.items;
    let list: String = rows.iter().map(line).collect();
    std::fs::write(to.join("all.txt"), list).map_err(|e| e.to_string())?;
    for row in rows {
        let chain = ledger.verify_chain(row.id).await;
        let text = match ledger.deletion(row.id).await {
            Ok(Some(view)) => everything(&row, &view, &format!("{chain:?}")),
            other => format!("{other:?}\n"),
        };
        let file = format!("{}-{}.txt", row.resource.to_string().replace('/', "-"), row.id);
        std::fs::write(to.join(file), text).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// The job table itself, as its owner, whatever stands between services and database.
pub async fn job_table(dev: &Path, day_ms: u64) -> Result<PgLedger, String> {
    let url = std::fs::read_to_string(dev.join("owner.url")).map_err(|e| format!("owner.url: {e}"))?;
    let options = Options {
        day: Day::Rehearsal { length_ms: day_ms },
        limits: Limits::default(),
        policy: Policy::default(),
    };
    PgLedger::open(url.trim(), options).await.map_err(|e| format!("{e:?}"))
}

fn line(row: &DeletionRow) -> String {
    format!("{} {} {:?} {:?}\n", row.resource, row.id, row.status, row.at)
}

fn everything(row: &DeletionRow, view: &DeletionView, chain: &str) -> String {
    let deletion = &view.deletion;
    let mut text = line(row);
    writeln!(text, "chain: {chain}\nprotected: {}", deletion.protected).unwrap();
    writeln!(text, "{}", serde_json::to_string_pretty(&*deletion.record).unwrap()).unwrap();
    for job in &deletion.jobs {
        writeln!(text, "{job:?}").unwrap();
    }
    for hold in &deletion.holds {
        writeln!(text, "{hold:?}").unwrap();
    }
    for waiver in &deletion.waivers {
        writeln!(text, "{waiver:?}").unwrap();
    }
    for (instance, targets) in &view.targets {
        writeln!(text, "targets of {instance}: {targets}").unwrap();
    }
    for row in &view.audit {
        writeln!(text, "{:>4} {}", row.seq, serde_json::to_string(&row.event).unwrap()).unwrap();
    }
    text
}
