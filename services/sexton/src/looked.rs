//! `sexton waive` and `sexton acknowledge`: what is stated is stated of what was looked at.
//!
//! Contract: what is sent names the mark of what whoever states it has seen, never of what is only there now. Either that
//! mark is given (`sexton show` gives it), or what stands there is shown, and somebody types its mark. Reading the record and
//! sending what was read would be no better than naming nothing: the next step may be parked by now.
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use sexton_api::{Acknowledge, Client, Waive};
use sexton_model::DeletionId;
use sexton_model::deletion::WaiverClaim;

use crate::arguments::Format;
use crate::client::id_of;
use crate::output::write;
use crate::show;

/// Let the step of a parked job pass, or state that what has appeared belongs to the deletion. `seen`: the mark that was
/// named, if any was.
///
/// # Errors
/// If nobody says what is meant, or the coordinator refuses or cannot be asked.
pub async fn waive(
    client: &Client,
    format: Format,
    what: &str,
    (claim, seen): (WaiverClaim, Option<String>),
    evidence: String,
) -> anyhow::Result<()> {
    let (id, mark) = meant(client, what, seen, "nothing was waived").await?;
    let outcome = client.waive(id, &Waive { claim, mark, evidence }).await?;
    let done = match claim {
        WaiverClaim::Belongs => "it is read again, and joins what is deleted",
        WaiverClaim::Absent
        | WaiverClaim::MayRemain
        | WaiverClaim::Untold
        | WaiverClaim::Told
        | WaiverClaim::Bounced => "the step is let pass",
    };
    write(format, &outcome, |_| format!("{id}: {done}"))
}

/// State that everybody was told otherwise, whom the notice did not reach.
///
/// # Errors
/// As [`waive`].
pub async fn acknowledge(
    client: &Client,
    format: Format,
    what: &str,
    seen: Option<String>,
    reason: String,
) -> anyhow::Result<()> {
    let (id, mark) = meant(client, what, seen, "nothing was acknowledged").await?;
    let outcome = client.acknowledge(id, &Acknowledge { mark, reason }).await?;
    write(format, &outcome, |_| format!("{id}: the notice counts as delivered; its period begins now"))
}

/// Which record is meant, and the mark of what was looked at: what was named, or what is shown now to somebody who types it.
async fn meant(
    client: &Client,
    what: &str,
    seen: Option<String>,
    otherwise: &str,
) -> anyhow::Result<(DeletionId, String)> {
    if let Some(mark) = seen {
        return Ok((id_of(client, what).await?, mark));
    }
    let info = client.deletion(what).await?;
    // Nothing is there to be looked at: the coordinator says why nothing can be stated. It takes no empty mark.
    let Some(mark) = &info.mark else { return Ok((info.id, String::new())) };
    let shown = show::looked_at(&info);
    anyhow::ensure!(std::io::stdin().is_terminal(), "{shown}Say --mark {mark} if that is meant: {otherwise}");
    eprint!("{shown}Type the mark if that is meant: ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    anyhow::ensure!(answer.trim() == mark, "{otherwise}");
    Ok((info.id, mark.clone()))
}
