//! Batches that exceed a budget: listed, shown, approved.
use std::collections::BTreeMap;

use sexton_api::{ApproveRequest, BatchDetails, BatchInfo, Client, CrowdInfo, MEMBERS_SHOWN, StoppedDetails};
use sexton_model::belts::budget::APPROVED_DAYS;
use sexton_model::belts::one_shot::OneShot;

use crate::arguments::Format;
use crate::output::{counted, moment, table, write};

/// List them, or show one.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn show(client: &Client, format: Format, batch: Option<i64>) -> anyhow::Result<()> {
    match batch {
        Some(batch) => write(format, &client.batch(batch).await?, details),
        None => write(format, &client.batches().await?, |batches| list(batches)),
    }
}

/// Approve one: exactly the set that was looked at.
///
/// # Errors
/// If the coordinator refuses or cannot be asked.
pub async fn approve(
    client: &Client,
    format: Format,
    batch: i64,
    body: ApproveRequest,
) -> anyhow::Result<()> {
    let approved = client.approve(batch, &body).await?;
    write(format, &approved, |approved| {
        format!("batch {batch} is approved: {} of it go on", counted(approved.members, "deletion"))
    })
}

/// All of them, a line each.
pub fn list(batches: &[BatchInfo]) -> String {
    if batches.is_empty() {
        return "nothing exceeds a budget".to_owned();
    }
    let lines = batches.iter().map(|b| {
        let next = if b.needs_approval { "needs approval" } else { "waits for its turn" };
        [
            b.batch.to_string(),
            b.group.scope.to_string(),
            b.group.kind.to_string(),
            b.group.stage.to_string(),
            b.waiting.to_string(),
            moment(Some(b.since)),
            next.to_owned(),
            b.why.clone(),
        ]
    });
    let heading = ["batch", "scope", "kind", "before", "waiting", "since (UTC)", "", "when it was frozen"];
    let mut text = table(heading, lines);
    for b in batches.iter().filter(|b| !b.stopped_by.is_empty()) {
        let (number, why) = (b.batch, b.stopped_by.join("; "));
        text += &format!("\nbatch {number} does not begin, approved or not: {why}");
    }
    text
}

/// One that was just given.
pub fn overridden(given: &OneShot) -> String {
    let OneShot { id, deletion, stage, belt, until, .. } = given;
    format!(
        "{stage} of {deletion} may pass the {belt}, if it begins before {} UTC. sexton override --take-back {id}",
        moment(Some(*until))
    )
}

/// Those of the last week.
pub fn overrides(all: &[OneShot]) -> String {
    if all.is_empty() {
        return "no belt is overridden, and none was within a week".to_owned();
    }
    let lines = all.iter().map(|one| {
        [
            one.id.to_string(),
            one.deletion.to_string(),
            one.stage.to_string(),
            one.belt.to_string(),
            one.by.to_string(),
            moment(Some(one.since)),
            moment(Some(one.until)),
            glass(one),
            one.reason.clone(),
        ]
    });
    let heading =
        ["override", "record", "stage", "belt", "by", "since (UTC)", "good until (UTC)", "", "reason"];
    table(heading, lines)
}

/// Whether it was given by whoever asked for the deletion. It is shown for a day although it was taken back.
fn glass(one: &OneShot) -> String {
    match (one.break_glass, &one.taken_back) {
        (true, Some(back)) => format!("GLASS BROKEN, taken back by {}", back.by),
        (true, None) => "GLASS BROKEN".to_owned(),
        (false, _) => String::new(),
    }
}

/// What would go on if a pause were lifted, or a ceiling raised.
pub fn stopped(stopped: &StoppedDetails) -> String {
    let StoppedDetails { groups, crowd } = stopped;
    if groups.is_empty() {
        return "nothing that is due is stopped by it; nothing would go on by itself".to_owned();
    }
    let lines = groups.iter().map(|s| {
        let batch = s.batch.as_ref().map(|why| format!("held as a batch: {why}"));
        let crowd = s.crowd.as_ref().map(|why| format!("at once, which needs approval: {why}"));
        // Of a stage that no budget counts what has piled up is a batch, and the rest goes on at once.
        let next: Vec<String> = batch.into_iter().chain(crowd).collect();
        [
            s.group.scope.to_string(),
            s.group.kind.to_string(),
            s.group.stage.to_string(),
            s.held.to_string(),
            s.midway.to_string(),
            next.join("; "),
        ]
    });
    let mut text = table(["scope", "kind", "stage", "would begin", "would go on", ""], lines);
    if let Some(crowd) = crowd {
        text += "\n\n";
        text += &of_crowd(crowd);
    }
    text
}

/// Most members of a crowd that are shown as lines; `-o json` shows more.
const CROWD_LINES: usize = 20;

/// Who would begin, or go on, at once.
fn of_crowd(crowd: &CrowdInfo) -> String {
    let CrowdInfo { digest, total, members } = crowd;
    let lines = members.iter().take(CROWD_LINES).map(|m| {
        [
            m.stage.to_string(),
            m.deletion.to_string(),
            m.resource.to_string(),
            m.requested_by.to_string(),
            moment(m.cancel_until),
            m.undo.clone(),
        ]
    });
    let mut text = "these would begin, or go on, at once:\n".to_owned();
    let heading =
        ["stage", "record", "resource", "requested by", "cancel at least until (UTC)", "what can be undone"];
    text += &table(heading, lines);
    let more = total.saturating_sub(members.len().min(CROWD_LINES) as u64);
    if more > 0 {
        text += &format!("\nand {more} more (-o json names up to {MEMBERS_SHOWN})");
    }
    text += &untold(members.iter().map(|m| m.unannounced.as_deref()), *total);
    text += &format!("\n\ndigest of all {total}: {digest}");
    text += "\nnothing is lifted before somebody who requested none of them approves exactly this set:";
    text += &format!("\n  --yes --approve {digest}");
    text + "\nwho does not belong in it leaves it by sexton cancel"
}

/// Of how many of these nobody is told in time to say no, and why: a line for each reason. Nobody has looked at the rest of
/// all, which are not named either.
fn untold<'a>(members: impl ExactSizeIterator<Item = Option<&'a str>>, all: u64) -> String {
    let looked_at = members.len();
    let of = if all > looked_at as u64 { format!("the first {looked_at}") } else { "these".to_owned() };
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for why in members.flatten() {
        *reasons.entry(why).or_default() += 1;
    }
    reasons
        .iter()
        .map(|(why, many)| format!("\nof {many} of {of} nobody is told in time to say no: {why}"))
        .collect()
}

fn details(batch: &BatchDetails) -> String {
    let BatchDetails { info, digest, members } = batch;
    let mut text = list(std::slice::from_ref(info)) + "\n\n";
    text += &table(
        ["record", "resource", "requested by", "cancel at least until (UTC)", "what can be undone"],
        members.iter().map(|m| {
            [
                m.deletion.to_string(),
                m.resource.to_string(),
                m.requested_by.to_string(),
                moment(m.cancel_until),
                m.undo.clone(),
            ]
        }),
    );
    if info.waiting > MEMBERS_SHOWN as u64 {
        text += &format!("\nand {} more", info.waiting - MEMBERS_SHOWN as u64);
    }
    text += &untold(members.iter().map(|m| m.unannounced.as_deref()), info.waiting);
    let number = info.batch;
    text += &format!("\n\ndigest of all {}: {digest}", info.waiting);
    if info.needs_approval {
        text += "\nnothing of it begins before somebody who requested none of it approves exactly this set:";
    } else {
        text += "\nit begins by itself when there is room; at once, if somebody who requested none of it approves it:";
    }
    text += &format!("\n  sexton approve {number} --digest {digest} --reason …");
    if !info.stopped_by.is_empty() {
        text += &format!(
            "\nwhat stops it besides has to end while that approval is good, for {APPROVED_DAYS} days; else it is approved anew"
        );
    }
    text + "\nwho does not belong in it leaves it by sexton cancel"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_approves_is_told_of_whom_nobody_is_told() {
        let members =
            [Some("only operators use it"), None, Some("only operators use it"), Some("nobody owns it")];
        let nobody = "nobody is told in time to say no";
        assert_eq!(
            untold(members.into_iter(), 4),
            format!(
                "\nof 1 of these {nobody}: nobody owns it\nof 2 of these {nobody}: only operators use it"
            )
        );
        assert_eq!(untold([None, None].into_iter(), 2), "");
        let only = untold([Some("nobody owns it"), None].into_iter(), 1_001);
        assert_eq!(only, format!("\nof 1 of the first 2 {nobody}: nobody owns it"));
    }
}
