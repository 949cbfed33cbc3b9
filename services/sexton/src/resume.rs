//! `sexton resume`: what would go on if a pause were lifted, and lifting it.
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use sexton_api::{Client, ResumeQuery, StoppedInfo};

use crate::arguments::Format;
use crate::batches;
use crate::output::{counted, write};

/// Show what would go on, and unless that is all that is wanted, lift the pause: at once if nothing would, else once
/// somebody has said that it is meant. `approve`: that as many begin at once as were shown.
///
/// # Errors
/// If nobody says that it is meant, or the coordinator refuses or cannot be asked.
pub async fn resume(
    client: &Client,
    format: Format,
    pause: i64,
    (dry_run, yes, approve): (bool, bool, bool),
) -> anyhow::Result<()> {
    let stopped = client.stopped_by(pause).await?;
    if dry_run {
        return write(format, &stopped, |stopped| batches::stopped(stopped));
    }
    if !yes && stopped.iter().any(|s| s.held > 0 || s.midway > 0) {
        confirm(pause, &stopped)?;
    }
    let crowd: u64 = stopped.iter().filter(|s| s.crowd.is_some()).map(|s| s.held).sum();
    let query = ResumeQuery { at_once: approve.then_some(crowd).filter(|crowd| *crowd > 0) };
    let answer = client.resume(pause, query).await?;
    write(format, &answer, |_| format!("pause {pause} is lifted; what it stopped goes on"))
}

fn confirm(pause: i64, stopped: &[StoppedInfo]) -> anyhow::Result<()> {
    let (held, midway) = stopped.iter().fold((0, 0), |(held, midway), s| (held + s.held, midway + s.midway));
    let what = format!(
        "{}\n{} would begin, {midway} would go on",
        batches::stopped(stopped),
        counted(held, "deletion")
    );
    anyhow::ensure!(std::io::stdin().is_terminal(), "{what}. Say --yes if that is meant");
    eprint!("{what}. Type the number of the pause to lift it: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    anyhow::ensure!(answer.trim() == pause.to_string(), "pause {pause} was not lifted");
    Ok(())
}
