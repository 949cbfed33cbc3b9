//! The commands that speak to a coordinator.
use std::process::{ExitCode, Stdio};

use anyhow::Context;
use clap::CommandFactory;
use secrecy::ExposeSecret;
use sexton_api::{
    AcceptReview, ApproveRequest, AuditInfo, AuditQuery, Client, ClientError, Delete, HoldRequest,
    OverrideRequest, PauseRequest, PreviewRequest, Rescue,
};
use sexton_model::access::PREFIX;
use sexton_model::belts::PauseSelector;
use sexton_model::deletion::WaiverClaim;
use sexton_model::{Actor, DeletionId};

use crate::arguments::{AlarmsCommand, Arguments, Command, Format};
#[cfg(feature = "serve")]
use crate::arguments::{KeysArguments, KeysCommand};
use crate::output::{counted, rehearsal, say, warn, write};
use crate::verify::verify;
use crate::{
    alarms, batches, canaries, cancel, census, drills, findings, holds, inventory, looked, plan, records,
    resume, show, tokens,
};

/// Do what was asked.
///
/// # Errors
/// What went wrong, with what can be done about it.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "sexton", &mut script);
            say(String::from_utf8(script)?.trim_end())?;
            return Ok(ExitCode::SUCCESS);
        }
        #[cfg(feature = "serve")]
        Command::Serve { config, new_witness } => {
            return crate::serve::serve(&config, new_witness).await.map(|()| ExitCode::SUCCESS);
        }
        #[cfg(feature = "serve")]
        Command::Demo { folder } => return crate::demo::demo(folder.as_deref(), arguments.output).await,
        #[cfg(feature = "serve")]
        Command::Sandbox { folder, machines, describe, stop } => {
            match describe {
                _ if stop => crate::demo::stop(&folder, arguments.output).await?,
                Some(name) => crate::demo::describe(&folder, &name)?,
                None => crate::demo::sandbox(&folder, machines, arguments.output)?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        Command::Archived { file, key, trail } => {
            let good = crate::archived::check((&file, &key), arguments.output, trail)?;
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        #[cfg(feature = "serve")]
        Command::Keys { make, command } => {
            return keys(arguments.output, make, command).map(|()| ExitCode::SUCCESS);
        }
        Command::Verify { receipt: Some(receipt), key, .. } => {
            let good = crate::receipt::check((&receipt, &key), arguments.output)?;
            return Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Verify { file: Some(file), key, offline: true, chain, .. } => {
            return verify(None, arguments.output, (&file, &key), chain.as_deref()).await;
        }
        _ => {}
    }
    let token = arguments.token_file.as_deref().map(sexton_service::secret::read).transpose()?;
    let own = token.as_ref().is_some_and(|token| token.expose_secret().starts_with(PREFIX));
    let actor = match arguments.actor.or_else(|| if own { None } else { login_name() }) {
        Some(actor) => Some(actor),
        // The coordinator knows whose token that is.
        None if own => None,
        // Only what is changed is written down with a name.
        None if arguments.command.only_reads() => Some("unknown".parse()?),
        None => anyhow::bail!(
            "who are you? The audit trail needs a name, and your user has none: give --actor or SEXTON_ACTOR"
        ),
    };
    let client = Client::new(&arguments.url, token, actor).context("--url or SEXTON_URL")?;
    let client = match arguments.idempotency_key {
        Some(key) => client.with_key(key),
        None => client,
    };
    // These say it in what they write, where a program reads it, too.
    let says_itself = matches!(arguments.command, Command::Health | Command::Digest);
    let client = match arguments.output {
        Format::Table if !says_itself => client.telling_rehearsal(rehearsal),
        Format::Table | Format::Json => client,
    };
    command(&client, arguments.output, arguments.command).await.map_err(|error| match error.downcast_ref() {
        Some(ClientError::Unreachable { url, .. }) => {
            let hint = format!("is it running at {url}? --url or SEXTON_URL says where");
            error.context(hint)
        }
        Some(_) | None => error,
    })
}

#[cfg(feature = "serve")]
fn keys(format: Format, make: Option<KeysArguments>, command: Option<KeysCommand>) -> anyhow::Result<()> {
    match (command, make) {
        (Some(KeysCommand::Rotate { holder, folder }), _) => {
            anyhow::ensure!(
                folder.join("mac/coordinator.toml").exists(),
                "{}: no keys lie in that folder; --folder FOLDER says which one `sexton keys` made",
                folder.display()
            );
            write(format, &crate::serve::keys::rotate(&folder, &holder)?, ToString::to_string)
        }
        (None, Some(KeysArguments { folder, instances, vhost })) => {
            let made = crate::serve::keys::make(&folder, &instances, vhost.as_deref())?;
            write(format, &made, ToString::to_string)
        }
        (None, None) => anyhow::bail!("expected a folder and --instances, or rotate"),
    }
}

/// The name of whoever is logged in: of the environment, or of the user that this process runs as, whom cron and
/// containers often start without one. `id` asks where the system keeps its users, which need not be a file.
fn login_name() -> Option<Actor> {
    let named = ["USER", "LOGNAME"].into_iter().filter_map(|variable| std::env::var(variable).ok());
    named.filter_map(|name| name.parse().ok()).next().or_else(|| {
        let answer = std::process::Command::new("id").arg("-un").stderr(Stdio::null()).output().ok()?;
        let name = String::from_utf8(answer.stdout).ok()?;
        answer.status.success().then(|| name.trim().parse().ok()).flatten()
    })
}

async fn command(client: &Client, format: Format, command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Register { file } => inventory::register(client, format, &file).await?,
        Command::Import { file, skip_bad, dry_run } => {
            return inventory::import(client, format, &file, (skip_bad, dry_run)).await;
        }
        Command::Delete { resource, on, reason, zone, gone_by } => {
            let body = Delete { resource: resource.clone(), on, zone, gone_by, reason };
            let created = client.delete(&body).await?;
            write(format, &created, |created| show::created(created, &resource))?;
        }
        Command::Plan { resource, on, zone, gone_by, no_look, within } => {
            let request = PreviewRequest { resource, on, zone, gone_by };
            plan::plan(client, format, request, (!no_look, within)).await?;
        }
        Command::List(which) if which.archived => records::list_archived(client, format, which).await?,
        Command::List(which) => records::list(client, format, which).await?,
        Command::Show { what, trail } => match client.deletion(&what).await {
            Err(error) if error.is_gone() => {
                write(format, &client.archived(&what).await?, show::archived)?;
            }
            info => write(format, &info?, |info| show::deletion(info, trail))?,
        },
        Command::Cancel { what: None, scope, dry_run, yes, reason } => {
            let scope = scope.context("expected a record, a resource, or --scope")?;
            return cancel::scope(client, format, &scope, (dry_run, yes), reason).await;
        }
        Command::Cancel { what: Some(what), dry_run, reason, .. } => {
            cancel::one(client, format, &what, reason.filter(|_| !dry_run)).await?;
        }
        Command::Priority { resource, priority } => {
            let info = client.prioritize(&resource, priority).await?;
            write(format, &info, |info| {
                format!("{resource} has priority {}: lower is restored first", info.resource.priority)
            })?;
        }
        Command::Hold { what, resource: true, origin, reason } => {
            holds::hold(client, format, &what, HoldRequest { origin, reason }).await?;
        }
        Command::Hold { what, resource: false, reason, .. } => {
            let id = id_of(client, &what).await?;
            client.hold(id, &reason).await?;
            let info = client.deletion(&id.to_string()).await?;
            write(format, &info.holds, |holds| {
                let last = holds.last().map(|h| h.id).unwrap_or_default();
                let holds = counted(holds.len(), "hold");
                format!("{id} is held ({holds}). sexton release {id} {last}")
            })?;
        }
        Command::Release { what, hold, resource: true, origin } => {
            holds::release(client, format, &what, (hold, origin)).await?;
        }
        Command::Release { what, hold, resource: false, .. } => release(client, format, &what, hold).await?,
        Command::Pause { stage, kind, scope, subsystem, reason } => {
            let covers = PauseSelector { stage, kind, scope, subsystem };
            pause(client, format, covers, reason).await?;
        }
        Command::Ceiling { scope, everywhere, to: Some(to), reason, dry_run, yes, approve } => {
            anyhow::ensure!(scope.is_some() || everywhere, "--scope: say which, or --everywhere");
            let asked = resume::Asked { dry_run, yes, approve };
            resume::ceiling(client, format, (scope, everywhere), (to, reason), asked).await?;
        }
        Command::Ceiling { scope, everywhere, to: None, .. } => {
            anyhow::ensure!(scope.is_none() && !everywhere, "--to: say how far");
            write(format, &client.ceilings().await?, |ceilings| show::ceilings(ceilings))?;
        }
        Command::Batches { batch } => batches::show(client, format, batch).await?,
        Command::Approve { batch, digest, reason } => {
            batches::approve(client, format, batch, ApproveRequest { digest, reason }).await?;
        }
        Command::Override {
            what: Some(what),
            stage: Some(stage),
            belt: Some(belt),
            reason: Some(reason),
            break_glass,
            ..
        } => {
            let deletion = id_of(client, &what).await?;
            let body = OverrideRequest { deletion, stage, belt, reason, break_glass };
            write(format, &client.override_belt(&body).await?, batches::overridden)?;
        }
        Command::Override { take_back: Some(id), .. } => {
            let answer = client.take_back_override(id).await?;
            write(format, &answer, |_| format!("override {id} is taken back"))?;
        }
        Command::Override { .. } => {
            write(format, &client.overrides().await?, |all| batches::overrides(all))?;
        }
        Command::Canaries { command } => return canaries::canaries(client, format, command).await,
        Command::Drill { command } => return drills::drills(client, format, command).await,
        Command::Census { command: Some(command), .. } => census::take(client, format, command).await?,
        Command::Census { file, command: None } => census::census(client, format, file.as_deref()).await?,
        Command::Findings { kind, scope } => findings::list(client, format, (kind, scope)).await?,
        Command::Resume { pause, dry_run, yes, approve } => {
            resume::resume(client, format, pause, resume::Asked { dry_run, yes, approve }).await?;
        }
        Command::Park { what, reason } => {
            let id = id_of(client, &what).await?;
            let outcome = client.park(id, &reason).await?;
            write(format, &outcome, |_| format!("{id} is parked. sexton retry {id}, or sexton waive {id}"))?;
        }
        Command::Review { accept, reason } => review(client, format, reason.filter(|_| accept)).await?,
        Command::Audit { of: Some(what), .. } => {
            let id = id_of(client, &what).await?;
            write(format, &client.chain(id).await?, |copy| {
                let events = counted(copy.events.len(), "event");
                format!(
                    "{}: {events}. sexton audit --of {id} -o json > FILE, then sexton verify CHECKPOINTS --key … --offline --chain FILE",
                    copy.chain
                )
            })?;
        }
        Command::Audit { access: true, of: None } => return tokens::log(client, format).await,
        Command::Audit { access: false, of: None } => return audit(client, format).await,
        Command::Token { command } => tokens::command(client, format, command).await?,
        Command::Whoami => tokens::whoami(client, format).await?,
        Command::Verify { file, key, .. } => {
            let file = file.context("expected a file of signed checkpoints")?;
            return verify(Some(client), format, (&file, &key), None).await;
        }
        Command::Receipt { what } => {
            let id = id_of(client, &what).await?;
            crate::receipt::show(&client.receipt(id).await?, format)?;
        }
        Command::Retry { what } => {
            let id = id_of(client, &what).await?;
            let outcome = client.retry(id).await?;
            write(format, &outcome, |_| format!("{id} is tried again"))?;
        }
        Command::Waive { what, absent, may_remain: _, belongs, mark, evidence } => {
            let claim = match (absent, &belongs) {
                (true, _) => WaiverClaim::Absent,
                (false, Some(_)) => WaiverClaim::Belongs,
                (false, None) => WaiverClaim::MayRemain,
            };
            looked::waive(client, format, &what, (claim, belongs.or(mark)), evidence).await?;
        }
        Command::Acknowledge { what, mark, reason } => {
            looked::acknowledge(client, format, &what, mark, reason).await?;
        }
        Command::Bounced { what, reason } => {
            let id = id_of(client, &what).await?;
            let outcome = client.bounced(id, &reason).await?;
            write(format, &outcome, |_| {
                format!("{id}: the notice does not count as delivered; soft waits for an acknowledgement")
            })?;
        }
        Command::Rescue { what, evidence } => {
            let id = id_of(client, &what).await?;
            let outcome = client.rescue(id, &Rescue { evidence }).await?;
            write(format, &outcome, |_| format!("{id} is over: rescued"))?;
        }
        Command::Watch { what } => records::watch(client, format, what).await?,
        Command::Name { resource } => {
            let info = client.name(&resource).await?;
            write(format, &info, |i| match &i.taken_by {
                None => format!("{resource} is free"),
                Some(by) => format!("{resource} is taken by {by}"),
            })?;
            return Ok(if info.free { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Alarms { command: Some(AlarmsCommand::Acknowledge { id, reason }), .. } => {
            alarms::acknowledge(client, format, id, &reason).await?;
        }
        Command::Alarms { all, limit, command: None } => alarms::list(client, format, (all, limit)).await?,
        Command::Digest => write(format, &client.digest().await?, ToString::to_string)?,
        Command::Health => {
            let health = client.health().await?;
            write(format, &health, show::health)?;
        }
        Command::Completions { .. } | Command::Archived { .. } => {}
        #[cfg(feature = "serve")]
        Command::Serve { .. } | Command::Demo { .. } | Command::Keys { .. } | Command::Sandbox { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// The record that is meant: `d-17`, or the live one of `vm/web01`.
///
/// # Errors
/// If there is none, or the coordinator cannot be asked.
pub async fn id_of(client: &Client, what: &str) -> anyhow::Result<DeletionId> {
    match what.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(client.deletion(what).await?.id),
    }
}

async fn release(client: &Client, format: Format, what: &str, hold: Option<i64>) -> anyhow::Result<()> {
    let info = client.deletion(what).await?;
    let hold = match (hold, info.holds.as_slice()) {
        (Some(hold), _) => hold,
        (None, [only]) => only.id,
        (None, []) => anyhow::bail!("{} is not held", info.id),
        (None, many) => {
            let numbers: Vec<_> =
                many.iter().map(|h| format!("{} ({}: {})", h.id, h.origin, h.reason)).collect();
            anyhow::bail!("{} has several holds, name one: {}", info.id, numbers.join(", "));
        }
    };
    let outcome = client.release(info.id, hold).await?;
    write(format, &outcome, |_| format!("hold {hold} of {} is released", info.id))
}

async fn pause(
    client: &Client,
    format: Format,
    covers: PauseSelector,
    reason: Option<String>,
) -> anyhow::Result<()> {
    let Some(reason) = reason else {
        anyhow::ensure!(covers == PauseSelector::default(), "--reason: say why");
        let review = client.review().await?.review;
        return write(format, &client.pauses().await?, |pauses| {
            review.as_ref().map(show::review).unwrap_or_default() + &show::pauses(pauses)
        });
    };
    let paused = client.pause(&PauseRequest { covers, reason }).await?;
    warn(format, paused.warning.as_deref());
    write(format, &paused, |p| {
        let out = counted(p.orders_out, "order");
        let covered = p.covered.map(|there| format!("; it covers {there}")).unwrap_or_default();
        format!(
            "pause {0} is in force{covered}; still out: {out}. sexton resume {0} shows what it stops, and lifts it",
            p.pause.id
        )
    })
}

async fn review(client: &Client, format: Format, reason: Option<String>) -> anyhow::Result<()> {
    let mut info = client.review().await?;
    if let Some(reason) = reason {
        let open = info.review.context("there is nothing to accept: no review is open")?;
        info = client.accept_review(&AcceptReview { epoch: open.epoch, reason }).await?;
        return write(format, &info, |_| format!("accepted: it goes on in epoch {}", open.epoch));
    }
    write(format, &info, |info| match &info.review {
        Some(open) => {
            show::review(open) + &info.lost.as_ref().map(show::lost).unwrap_or_default() + show::REVIEWING
        }
        None => "no review is open: the job table is not known to have gone back in time".to_owned(),
    })
}

async fn audit(client: &Client, format: Format) -> anyhow::Result<ExitCode> {
    let mut all = AuditInfo { checked: 0, broken: Vec::new(), next: None };
    let mut query = AuditQuery::default();
    loop {
        let page = client.audit(&query).await?;
        all.checked += page.checked;
        all.broken.extend(page.broken);
        query.after = page.next;
        if query.after.is_none() {
            break;
        }
    }
    write(format, &all, |all| {
        let mut text = String::new();
        for broken in &all.broken {
            text += &format!("BROKEN {}: {}\n", broken.chain, broken.why);
        }
        text + &format!("{} checked, {} broken", counted(all.checked, "chain"), all.broken.len())
    })?;
    Ok(if all.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
