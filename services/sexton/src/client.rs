//! The commands that speak to a coordinator.
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::CommandFactory;
use secrecy::ExposeSecret;
use sexton_api::{
    AcceptReview, ApproveRequest, AuditInfo, AuditQuery, Client, ClientError, Delete, DeletionLine,
    HoldRequest, ListQuery, OverrideRequest, PAGE_MAX, Page, PauseRequest, PreviewRequest, Register, Rescue,
    Waive,
};
use sexton_model::access::PREFIX;
use sexton_model::belts::PauseSelector;
use sexton_model::deletion::{RecordStatus, WaiverClaim};
use sexton_model::{Actor, DeletionId};

use crate::arguments::{AlarmsCommand, Arguments, Command, Format, ListArguments};
#[cfg(feature = "serve")]
use crate::arguments::{KeysArguments, KeysCommand};
use crate::output::{counted, moment, say, table, write};
use crate::verify::verify;
use crate::{
    alarms, batches, canaries, cancel, census, drills, holds, import, inventory, plan, resume, show, tokens,
};

/// How often `watch` looks again.
const WATCH_EVERY: Duration = Duration::from_secs(1);

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
        Command::Register { file } => register(client, format, &file).await?,
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
        Command::List(which) if which.archived => list_archived(client, format, which).await?,
        Command::List(which) => list(client, format, which).await?,
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
        Command::Waive { what, absent, may_remain: _, belongs, evidence } => {
            let (claim, done) = match (absent, &belongs) {
                (true, _) => (WaiverClaim::Absent, "the step is let pass"),
                (false, Some(_)) => (WaiverClaim::Belongs, "it is read again, and joins what is deleted"),
                (false, None) => (WaiverClaim::MayRemain, "the step is let pass"),
            };
            let id = id_of(client, &what).await?;
            let outcome = client.waive(id, &Waive { claim, mark: belongs, evidence }).await?;
            write(format, &outcome, |_| format!("{id}: {done}"))?;
        }
        Command::Acknowledge { what, reason } => {
            let id = id_of(client, &what).await?;
            let outcome = client.acknowledge(id, &reason).await?;
            write(format, &outcome, |_| {
                format!("{id}: the notice counts as delivered; its period begins now")
            })?;
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
        Command::Watch { what } => watch(client, format, what).await?,
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
async fn id_of(client: &Client, what: &str) -> anyhow::Result<DeletionId> {
    match what.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(client.deletion(what).await?.id),
    }
}

async fn register(client: &Client, format: Format, file: &Path) -> anyhow::Result<()> {
    let doing = || format!("reading {}", file.display());
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).with_context(doing)?
    } else {
        std::fs::read_to_string(file).with_context(doing)?
    };
    let resource =
        import::resource(text.as_bytes()).map_err(|why| anyhow::anyhow!("{}: {why}", file.display()))?;
    let id = resource.id.clone();
    let body = Register { resources: vec![resource], whole: true, dry_run: false };
    let registered = client.register(&body).await?;
    if let Some(why) = registered.results.first().and_then(Option::as_ref) {
        anyhow::bail!("{id} is not registered: {why}");
    }
    write(format, &registered, |_| format!("{id} is registered"))
}

async fn list(client: &Client, format: Format, which: ListArguments) -> anyhow::Result<()> {
    let query = ListQuery {
        status: which.status,
        state: which.state,
        scope: which.scope,
        kind: which.kind,
        after: None,
        limit: None,
    };
    let page = pages(client, query, which.limit as usize).await?;
    write(format, &page, |page| {
        let more = page.next.as_ref().map_or("", |_| "\n(there are more: raise --limit)");
        lines(&page.items) + more
    })
}

async fn list_archived(client: &Client, format: Format, which: ListArguments) -> anyhow::Result<()> {
    let limit = which.limit as usize;
    let mut query = ListQuery { status: which.status, kind: which.kind, ..ListQuery::default() };
    let mut all = Page { items: Vec::new(), next: None };
    while all.items.len() < limit {
        query.limit = Some(u32::try_from((limit - all.items.len()).min(PAGE_MAX as usize))?);
        let page = client.all_archived(&query).await?;
        all.items.extend(page.items);
        all.next = page.next;
        if all.next.is_none() {
            break;
        }
        query.after.clone_from(&all.next);
    }
    write(format, &all, |page| {
        let more = page.next.as_ref().map_or("", |_| "\n(there are more: raise --limit)");
        show::all_archived(&page.items) + more
    })
}

/// Up to `limit` records, page by page, as one.
async fn pages(client: &Client, mut query: ListQuery, limit: usize) -> anyhow::Result<Page<DeletionLine>> {
    let mut all = Page { items: Vec::new(), next: None };
    loop {
        let left = (limit - all.items.len()).min(PAGE_MAX as usize);
        query.limit = Some(u32::try_from(left)?);
        let page = client.deletions(&query).await?;
        all.items.extend(page.items.into_iter().take(left));
        all.next = page.next;
        if all.next.is_none() || all.items.len() >= limit {
            return Ok(all);
        }
        query.after.clone_from(&all.next);
    }
}

fn lines(items: &[DeletionLine]) -> String {
    table(
        [
            "record",
            "resource",
            "scope",
            "status",
            "at",
            "state",
            "due (UTC)",
            "cancel (UTC, at least)",
            "why",
        ],
        items.iter().map(|d| {
            [
                d.id.to_string(),
                d.resource.to_string(),
                d.scope.to_string(),
                d.status.word().to_owned(),
                d.job.map(|j| j.to_string()).unwrap_or_default(),
                d.state.map(|s| s.to_string()).unwrap_or_default(),
                moment(d.due_at),
                cancel(d),
                d.why.clone(),
            ]
        }),
    )
}

/// What a cancel would restore, and until when; nothing if none would be taken.
fn cancel(line: &DeletionLine) -> String {
    if !line.cancel {
        return String::new();
    }
    let until = line.cancel_until.map(|at| format!("until {}: ", moment(Some(at)))).unwrap_or_default();
    until + &line.undo
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
    write(format, &paused, |p| {
        let out = counted(p.orders_out, "order");
        format!(
            "pause {0} is in force; still out: {out}. sexton resume {0} shows what it stops, and lifts it",
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

async fn watch(client: &Client, format: Format, what: Option<String>) -> anyhow::Result<()> {
    let mut last = String::new();
    loop {
        let (text, same, over) = match &what {
            Some(what) => {
                let info = client.deletion(what).await?;
                let text = match format {
                    Format::Json => serde_json::to_string(&info)?,
                    Format::Table => show::deletion(&info, false),
                };
                (text, serde_json::to_string(&show::without_estimates(&info))?, !info.status.live())
            }
            None => {
                let mut live = Vec::new();
                for status in [RecordStatus::Restoring, RecordStatus::Live] {
                    let query = ListQuery { status: Some(status), ..ListQuery::default() };
                    live.extend(pages(client, query, usize::MAX).await?.items);
                }
                let text = match format {
                    Format::Json => serde_json::to_string(&live)?,
                    Format::Table => lines(&live),
                };
                // As of one record: a date that moves with the clock alone is no change.
                for line in &mut live {
                    line.cancel_until = None;
                }
                (text, serde_json::to_string(&live)?, live.is_empty())
            }
        };
        if same != last {
            if !say(&text)? {
                return Ok(());
            }
            last = same;
        }
        if over {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(WATCH_EVERY) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}
