//! One record, the pauses, the ceilings: as people read them.
use sexton_api::{ArchivedInfo, Created, DeletionInfo, JobInfo, WaiverInfo};
use sexton_model::ResourceId;
use sexton_model::audit::AuditEvent;
use sexton_model::belts::Pause;
use sexton_model::belts::ceiling::{self, ScopeCeiling};
use sexton_model::deletion::WaiverClaim;
use sexton_model::job::{JobKind, Stage, StateName};
use sexton_model::step::Mode;
use sexton_model::targets::NAMED_MAX;

use crate::output::{counted, moment, short, table};

mod health;
mod review;

pub use self::health::health;
pub use self::review::{REVIEWING, lost, review};

/// How much of an event's detail the trail shows, in characters: `-o json` has all of it.
const DETAIL_MAX: usize = 80;

/// A record: what it is, its timeline, its next step, what can still be undone and until when.
pub fn deletion(info: &DeletionInfo, trail: bool) -> String {
    let mut text = format!(
        "{} deletes {} ({}), due {} {}\nstatus      {}\nasked by    {} at {}: {}\n",
        info.id,
        info.resource.id,
        info.resource.scope,
        info.due,
        info.zone.0.name(),
        info.status.word(),
        info.requested_by,
        moment(Some(info.created_at)),
        info.reason,
    );
    if let Some(why) = &info.unannounced {
        text += &format!("told        nobody in time to say no: {why}\n");
    }
    if let Some(gone_by) = info.gone_by {
        text += &format!("gone by     {gone_by}\n");
    }
    for hold in &info.holds {
        text += &format!(
            "hold {:<6} {}: {} (since {})\n",
            hold.id,
            hold.origin,
            hold.reason,
            moment(Some(hold.since))
        );
    }
    text += &crate::holds::lines(&info.resource_holds);
    text.extend(info.waivers.iter().map(stated));
    text += &drift(info);
    text += &format!("undo        {}\n", info.undo);
    if let Some(until) = info.cancel_until {
        let hard = info.jobs.iter().find(|job| job.job == JobKind::Stage(Stage::Hard)).map(|job| job.state);
        let word = match hard {
            Some(StateName::Scheduled | StateName::Held) | None => "cancel",
            Some(_) => "rescue",
        };
        text += &format!("{word:<12}at least until {} UTC\n", moment(Some(until)));
    }
    if let Some(receipt) = &info.receipt {
        text += &format!("receipt     {receipt}\n");
    }
    text += &timeline(info);
    if let Some(next) = info.jobs.iter().find(|job| !job.state.over()) {
        text += &format!("\nnext        {}\n", self::next(next));
        if next.state == StateName::Parked {
            text += &parked(info, next);
        } else if let Some(mark) = &info.mark {
            text += &format!(
                "mark        {mark}\nways out    once everybody was told otherwise: sexton acknowledge {} --mark {mark} --reason …\n",
                info.id
            );
        }
    }
    let chain = format!("\naudit       {}, chain {}\n", counted(info.trail.len(), "event"), info.chain);
    if trail { text + &chain + &self::trail(info) } else { text + &chain }
}

/// What somebody has stated of a step.
fn stated(waiver: &WaiverInfo) -> String {
    let step = waiver.step.as_deref().unwrap_or("all that was waived");
    let (job, claim, by) = (waiver.job, waiver.claim.words(), &waiver.by);
    let (at, why) = (moment(Some(waiver.at)), &waiver.evidence);
    match waiver.claim {
        WaiverClaim::Untold => format!("untold      {step} ({job}): failed first at {at}: {why}\n"),
        WaiverClaim::Bounced => format!("came back   {step} ({job}) at {at}, says {by}: {why}\n"),
        WaiverClaim::Absent | WaiverClaim::MayRemain | WaiverClaim::Belongs | WaiverClaim::Told => {
            format!("waived      {step} ({job}) as \"{claim}\" by {by}: {why}\n")
        }
    }
}

/// What a person has to look at before something is let pass: the step that is parked, and why, with all that has
/// appeared; or of whom it was said that the notice came back.
pub fn looked_at(info: &DeletionInfo) -> String {
    let mut text = format!("record      {} of {}\n", info.id, info.resource.id);
    if let Some(job) = info.jobs.iter().find(|job| job.state == StateName::Parked) {
        text += &format!("{}next        {}\nparked      {}\n", drift(info), next(job), job.why);
    } else {
        let since = info.waivers.iter().rev().take_while(|waiver| waiver.claim != WaiverClaim::Told);
        text.extend(since.filter(|waiver| waiver.claim == WaiverClaim::Bounced).map(stated));
    }
    text + &format!("mark        {}\n", info.mark.as_deref().unwrap_or_default())
}

/// A record without the dates that move with the clock alone, by which one tells whether anything has changed.
pub fn without_estimates(info: &DeletionInfo) -> DeletionInfo {
    let mut info = info.clone();
    // The date of the hard stage: once it is certain, its job has it too.
    info.cancel_until = None;
    for job in info.jobs.iter_mut().filter(|job| job.estimated) {
        job.due_at = None;
    }
    info
}

/// A record that was just made.
pub fn created(created: &Created, resource: &ResourceId) -> String {
    let id = created.deletion;
    let mut text = match (created.on, created.zone) {
        (Some(on), Some(zone)) => format!("{id} will delete {resource} on {on} ({})\n", zone.0.name()),
        _ => format!("{id} will delete {resource}\n"),
    };
    for late in &created.late {
        text += &format!("WARNING     {late}\n");
    }
    for (what, at) in [("off from", created.soft_at), ("data gone", created.purge_at)] {
        if at.is_some() {
            text += &format!("{what:<12}{} UTC at the earliest\n", moment(at));
        }
    }
    if let Some(crowd) = &created.crowd {
        text +=
            &format!("WARNING     {crowd}: they are held until there is room, or somebody approves them\n");
    }
    for pause in &created.pauses {
        text += &format!("PAUSED      {pause}\n");
    }
    if let Some(ceiling) = &created.ceiling {
        text += &format!("ceiling     {ceiling}\n");
    }
    let until = match created.cancel_until {
        Some(at) => {
            format!("brings it back until the hard stage begins: {} UTC at the earliest", moment(Some(at)))
        }
        None => "brings it back until the hard stage begins".to_owned(),
    };
    text + &format!("sexton show {id}\nsexton cancel {id} --reason …   ({until})")
}

/// What stays of a record that was archived.
pub fn archived(info: &ArchivedInfo) -> String {
    format!(
        "{} of {} is over ({}) since {}, and was archived at {}\nfile        {}\nsha256      {}\naudit       {} \
         events, the last with the hash {}\nsignature   {} (key {})\n\nsexton archived FILE --key … tells its story\n",
        info.id,
        info.resource,
        info.status.word(),
        moment(Some(info.ended_at)),
        moment(Some(info.archived_at)),
        info.file,
        info.sha256,
        info.events,
        info.head,
        info.signed,
        info.key_id,
    )
}

/// A listing of the archive.
pub fn all_archived(items: &[ArchivedInfo]) -> String {
    table(
        ["record", "resource", "status", "ended (UTC)", "archived (UTC)", "file"],
        items.iter().map(|a| {
            [
                a.id.to_string(),
                a.resource.to_string(),
                a.status.word().to_owned(),
                moment(Some(a.ended_at)),
                moment(Some(a.archived_at)),
                a.file.clone(),
            ]
        }),
    )
}

/// What has appeared since the targets were pinned, as it was when they were last read again before each stage.
fn drift(info: &DeletionInfo) -> String {
    let mut last: Vec<&AuditEvent> = Vec::new();
    for event in info.trail.iter().map(|line| &line.event).filter(|event| event.mode == Some(Mode::Reread)) {
        last.retain(|other| other.step != event.step);
        last.push(event);
    }
    let shown = last.into_iter().filter(|event| !event.drift.is_empty());
    shown
        .map(|event| {
            let step = event.step.as_deref().unwrap_or_default();
            // Each on a line of its own: a person who states that they belong has to look at all of them.
            let things = event.drift.join("\n            ");
            format!("drift       {step}: appeared since the targets were pinned:\n            {things}\n")
        })
        .collect()
}

fn next(job: &JobInfo) -> String {
    match (&job.step, job.job) {
        (Some(step), _) => format!("{step} ({})", job.job),
        (None, JobKind::Stage(Stage::Recycle)) => "recycle: the name becomes free".to_owned(),
        (None, _) => format!("{}: it has no steps", job.job),
    }
}

/// What a person can do about a parked job.
fn parked(info: &DeletionInfo, job: &JobInfo) -> String {
    let (id, mark) = (info.id, info.mark.as_deref().unwrap_or("MARK"));
    let gone = format!("sexton waive {id} --absent --mark {mark} --evidence …");
    let remains = format!("sexton waive {id} --may-remain --mark {mark} --evidence …");
    let untold = |step: &String| {
        info.waivers.iter().any(|w| w.claim == WaiverClaim::Untold && w.step.as_ref() == Some(step))
    };
    let mut ways = match &job.step {
        Some(step) if job.job == JobKind::Stage(Stage::Announce) && untold(step) => format!(
            "sexton retry {id} · after three days, once everybody was told otherwise: sexton acknowledge {id} --mark {mark} --reason …"
        ),
        // Which steps read targets again is written in their names.
        Some(step) if step.contains('@') => {
            format!("sexton retry {id} · sexton waive {id} --belongs {mark} --evidence … · {remains}")
        }
        Some(_) => format!("sexton retry {id} · {gone} · {remains}"),
        None => format!("once somebody has seen that it is gone: {gone}"),
    };
    ways += &match job.job {
        JobKind::Stage(Stage::Announce | Stage::Soft) | JobKind::Restore => String::new(),
        JobKind::Stage(Stage::Hard) => format!(
            "\n            cancel is over; once it is saved by hand, until purge begins: sexton rescue {id} --evidence …"
        ),
        JobKind::Stage(Stage::Purge | Stage::Recycle) => {
            "\n            cancel and rescue are over".to_owned()
        }
    };
    // First, since it is the way that loses nothing.
    if matches!(job.job, JobKind::Stage(Stage::Announce | Stage::Soft)) {
        ways = format!("sexton cancel {id} --reason … · {ways}");
    }
    format!("parked      {}\nmark        {mark}\nways out    {ways}\n", job.why)
}

fn timeline(info: &DeletionInfo) -> String {
    table(
        ["", "state", "due (UTC)", "ended (UTC)", "steps", "why"],
        info.jobs.iter().map(|job| {
            let about = if job.estimated && job.state == StateName::Scheduled { "~" } else { "" };
            [
                job.job.to_string(),
                job.state.to_string(),
                format!("{about}{}", moment(job.due_at)),
                moment(job.ended_at),
                format!("{}/{}", job.steps.0, job.steps.1),
                job.why.clone(),
            ]
        }),
    )
}

/// The audit trail.
pub fn trail(info: &DeletionInfo) -> String {
    table(
        ["#", "at (UTC)", "what", "by", "job", "step", "presence", "state", "detail"],
        info.trail.iter().map(|line| {
            let event = &line.event;
            [
                line.seq.to_string(),
                moment(Some(event.at)),
                word(&event.what),
                event.by.clone(),
                event.job.map(|j| j.to_string()).unwrap_or_default(),
                event.step.clone().unwrap_or_default(),
                event.presence.as_ref().map(word).unwrap_or_default(),
                event.state.map(|s| s.to_string()).unwrap_or_default(),
                detail(event),
            ]
        }),
    )
}

/// What is said of an event, shortened, and what the coordinator did itself on the way.
fn detail(event: &AuditEvent) -> String {
    let mut said = short(&event.detail, DETAIL_MAX);
    if !event.drift.is_empty() {
        let first: Vec<&str> = event.drift.iter().map(String::as_str).take(NAMED_MAX).collect();
        let more = if event.drift.len() > NAMED_MAX { "; …" } else { "" };
        said = format!("drift: {}{more}; {said}", first.join("; "));
    }
    if let Some(why) = &event.unannounced {
        said = format!("{said}; nobody is told in time: {}", short(why, DETAIL_MAX));
    }
    match (event.own.join(", "), said.is_empty()) {
        (own, _) if own.is_empty() => said,
        (own, true) => format!("did {own}"),
        (own, false) => format!("{said}; did {own}"),
    }
}

fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// The pauses in force.
pub fn pauses(pauses: &[Pause]) -> String {
    if pauses.is_empty() {
        return "nothing is paused".to_owned();
    }
    table(
        ["pause", "covers", "by", "since (UTC)", "reason"],
        pauses.iter().map(|p| {
            [
                p.id.to_string(),
                p.covers.to_string(),
                p.by.to_string(),
                moment(Some(p.since)),
                p.reason.clone(),
            ]
        }),
    )
}

/// How far deletions may go.
pub fn ceilings(ceilings: &[ScopeCeiling]) -> String {
    let unsaid = match ceilings.iter().any(|c| c.scope.is_none()) {
        true => String::new(),
        false => "every scope that is not listed is only observed\n".to_owned(),
    };
    if ceilings.is_empty() {
        return "every scope is only observed: nothing is done. Raise it: sexton ceiling --everywhere --to announce \
                --reason …"
            .to_owned();
    }
    let lines = ceilings.iter().map(|c| {
        [
            ceiling::of(c.scope.as_ref()),
            c.ceiling.to_string(),
            c.by.to_string(),
            moment(Some(c.since)),
            c.reason.clone(),
        ]
    });
    unsaid + &table(["deletions of", "go as far as", "said by", "since (UTC)", "reason"], lines)
}

#[cfg(test)]
mod tests;
