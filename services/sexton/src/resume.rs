//! `sexton resume` and `sexton ceiling`: what would go on if a pause were lifted or a ceiling raised, and doing it.
use std::io::{BufRead as _, IsTerminal as _, Write as _};

use anyhow::Context as _;
use sexton_api::{CeilingQuery, CeilingRequest, CeilingTo, Client, ResumeQuery, StoppedDetails, StoppedInfo};
use sexton_model::Scope;
use sexton_model::belts::budget::{Group, stopped_by};
use sexton_model::belts::ceiling::Ceilings;

use crate::arguments::Format;
use crate::output::{counted, warn, write};
use crate::{batches, show};

/// How it is to be done.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Only show what would go on.
    pub dry_run: bool,
    /// It is meant.
    pub yes: bool,
    /// That exactly the crowd of this digest begins at once.
    pub approve: Option<String>,
}

/// Show what would go on, and unless that is all that is wanted, lift the pause: at once if nothing would, else once
/// somebody has said that it is meant. And say what else holds of it then.
///
/// # Errors
/// If nobody says that it is meant, or the coordinator refuses or cannot be asked.
pub async fn resume(client: &Client, format: Format, pause: i64, asked: Asked) -> anyhow::Result<()> {
    let stopped = client.stopped_by(pause).await?;
    if asked.dry_run {
        return write(format, &stopped, batches::stopped);
    }
    let number = pause.to_string();
    let digest = asked.confirm(
        &stopped,
        ("the number of the pause", "to lift it", number.as_str()),
        &format!("pause {pause} was not lifted"),
    )?;
    let answer = client.resume(pause, ResumeQuery { digest }).await?;
    let still = match format {
        // It is lifted, whatever comes of looking.
        Format::Table => still_held(client, &stopped)
            .await
            .unwrap_or_else(|error| vec![format!("what else holds of it could not be looked at: {error:#}")]),
        Format::Json => Vec::new(),
    };
    write(format, &answer, |_| {
        let lifted = format!("pause {pause} is lifted; of what it stopped, what nothing else holds goes on");
        [vec![lifted], still].concat().join("\n")
    })
}

/// What a pause has stopped and something else holds, now that it is lifted: other pauses, ceilings, and budgets. A line for each
/// scope, kind and stage. What each record waits for beside that (a hold, working hours) its coordinator finds when it looks.
async fn still_held(client: &Client, stopped: &StoppedDetails) -> anyhow::Result<Vec<String>> {
    if stopped.groups.is_empty() {
        return Ok(Vec::new());
    }
    let pauses = client.pauses().await?;
    let ceilings: Ceilings = client.ceilings().await?.into_iter().collect();
    let line = |one: &StoppedInfo| {
        let Group { scope, kind, stage } = &one.group;
        let by = stopped_by(&one.group, &pauses, &ceilings);
        if !by.is_empty() {
            let by = by.join("; ");
            return Some(format!(
                "STILL HELD  {kind} in {scope} before {stage}: {by} (but for what an override lets go on)"
            ));
        }
        // What has begun the stage is in no batch, and of what would begin it some may do so at once.
        let batch = one.batch.as_ref()?;
        let members = one.held.saturating_sub(one.at_once.saturating_sub(one.midway));
        (members > 0).then(|| {
            format!("STILL HELD  {members} of {kind} in {scope} before {stage}, as a batch: {batch}")
        })
    };
    Ok(stopped.groups.iter().filter_map(line).collect())
}

/// Show what would go on under another ceiling, and unless that is all that is wanted, set it: at once if nothing would, else
/// once somebody has said that it is meant.
///
/// # Errors
/// If nobody says that it is meant, or the coordinator refuses or cannot be asked.
pub async fn ceiling(
    client: &Client,
    format: Format,
    (scope, everywhere): (Option<Scope>, bool),
    (to, reason): (CeilingTo, Option<String>),
    asked: Asked,
) -> anyhow::Result<()> {
    let query = CeilingQuery { scope, everywhere, to };
    let stopped = client.stopped_by_ceiling(&query).await?;
    if asked.dry_run {
        return write(format, &stopped, batches::stopped);
    }
    let reason = reason.context("--reason: say why")?;
    let word = String::from(to);
    let digest =
        asked.confirm(&stopped, ("how far", "to set it", word.as_str()), "the ceiling was not set")?;
    let CeilingQuery { scope, everywhere, to } = query;
    let all = client.set_ceiling(&CeilingRequest { scope, everywhere, to, reason, digest }).await?;
    warn(format, all.iter().find_map(|ceiling| ceiling.warning.as_deref()));
    write(format, &all, |ceilings| {
        let said: Vec<_> = ceilings.iter().map(|ceiling| ceiling.said.clone()).collect();
        let covered = ceilings.iter().find_map(|ceiling| ceiling.covered);
        let covered = covered.map(|there| format!("\nit covers {there}")).unwrap_or_default();
        show::ceilings(&said) + &covered
    })
}

impl Asked {
    /// That it is meant, if anything would go on: said, or typed now. `typed`: what that is, and what for, in words, and
    /// itself. What of it is approved to begin at once: what was named, or what is shown now to somebody who types that.
    fn confirm(
        self,
        stopped: &StoppedDetails,
        (what, to, word): (&str, &str, &str),
        otherwise: &str,
    ) -> anyhow::Result<Option<String>> {
        let sums = stopped.groups.iter();
        let (held, midway) = sums.fold((0, 0), |(held, midway), s| (held + s.held, midway + s.midway));
        if self.yes || (held == 0 && midway == 0) {
            return Ok(self.approve);
        }
        let shown = format!(
            "{}\n{} would begin, {midway} would go on",
            batches::stopped(stopped),
            counted(held, "deletion")
        );
        let crowd = stopped.crowd.as_ref().filter(|_| self.approve.is_none());
        if !std::io::stdin().is_terminal() {
            let approve =
                crowd.map_or("", |_| ", and --approve DIGEST if you approve that they begin at once");
            anyhow::bail!("{shown}. Say --yes if that is meant{approve}");
        }
        let (ask, expected) = match crowd {
            None => (format!("{what} {to}"), word.to_owned()),
            Some(crowd) => (
                format!(
                    "\"approve {word}\" {to}, and to approve that exactly these {} begin at once",
                    crowd.total
                ),
                format!("approve {word}"),
            ),
        };
        eprint!("{shown}. Type {ask}: ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer)?;
        anyhow::ensure!(answer.trim() == expected, "{otherwise}");
        Ok(self.approve.or_else(|| crowd.map(|crowd| crowd.digest.clone())))
    }
}
